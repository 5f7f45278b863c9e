#!/usr/bin/env bash
# Checks the deployment files with the tools that will read them: nginx (syntax, and a short run on loopback),
# Helm (lint, rendering), kubectl-validate (rendered objects against the Kubernetes schemas).
# A tool that cannot be had leaves its check out, and the last lines say so; a check that fails, fails.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# Versions that were tried; built with Go when the machine has it, else left out.
helm_module=helm.sh/helm/v3/cmd/helm@v3.19.5
validate_module=sigs.k8s.io/kubectl-validate@v0.0.4
kubernetes=1.30
tools="${CARILLON_TOOLS:-${CARGO_TARGET_DIR:-$PWD/target}/tools}"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
left_out=()

say() { printf 'check-deploy: %s\n' "$*"; }

# A tool from the PATH, from an earlier run, or built now. Prints its path; fails if it cannot be had.
obtain() {
    local name=$1 module=$2
    if command -v "$name"; then return; fi
    if [ ! -x "$tools/$name" ]; then
        command -v go >/dev/null || return 1
        say "building $module (once, takes minutes)" >&2
        mkdir -p "$tools"
        GOBIN="$tools" GOFLAGS="" timeout 900 go install "$module" >&2 </dev/null || return 1
    fi
    printf '%s\n' "$tools/$name"
}

check_nginx() {
    if ! command -v nginx >/dev/null; then
        left_out+=("nginx: not installed (scripts/setup.sh)")
        return
    fi
    # A copy that any user can test: its own logs, pid file and certificate.
    cp -r nginx "$work/nginx"
    mkdir "$work/log"
    sed -i "s#/var/log/nginx/#$work/log/#" "$work/nginx/nginx.conf"
    nginx -q -t -p "$work/nginx" -e "$work/log/start.log" -c "$work/nginx/nginx.conf" -g "pid $work/nginx.pid;"
    say "nginx: nginx.conf is accepted"

    if command -v openssl >/dev/null; then
        openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost \
            -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
        cp -r "$work/nginx" "$work/nginx-tls"
        sed -e "s#/etc/nginx/tls/fullchain.pem#$work/cert.pem#" -e "s#/etc/nginx/tls/privkey.pem#$work/key.pem#" \
            "$work/nginx/conf.d/tls.conf.example" >"$work/nginx-tls/conf.d/tls.conf"
        sed -i 's#conf.d/server.conf#conf.d/tls.conf#' "$work/nginx-tls/nginx.conf"
        nginx -q -t -p "$work/nginx-tls" -e "$work/log/start.log" -c "$work/nginx-tls/nginx.conf" \
            -g "pid $work/nginx.pid;"
        say "nginx: tls.conf.example is accepted"
    else
        left_out+=("nginx: tls.conf.example (no openssl)")
    fi

    python3 scripts/nginx_proxy_test.py
}

check_helm() {
    local helm validate
    if ! helm="$(obtain helm "$helm_module")"; then
        left_out+=("Helm chart: no helm, and none could be built (needs Go and the network)")
        return
    fi
    # Values of CI: everything optional switched on, so that every template is rendered.
    "$helm" lint --strict helm/carillon -f helm/carillon/ci/minimal.yaml
    "$helm" lint --strict helm/carillon -f helm/carillon/ci/full.yaml
    "$helm" template carillon helm/carillon --kube-version "$kubernetes.0" -f helm/carillon/ci/minimal.yaml >"$work/minimal.yaml"
    "$helm" template carillon helm/carillon --kube-version "$kubernetes.0" -f helm/carillon/ci/full.yaml >"$work/full.yaml"
    if "$helm" template carillon helm/carillon --kube-version "$kubernetes.0" >"$work/none.yaml" 2>"$work/none.err"; then
        say "the chart rendered without a secret; it must not"
        return 1
    fi
    grep -q 'auth.secret' "$work/none.err"
    say "Helm: linted, rendered with ci/minimal.yaml and ci/full.yaml, refused without a secret"

    if ! validate="$(obtain kubectl-validate "$validate_module")"; then
        left_out+=("Kubernetes schemas: no kubectl-validate, and none could be built (needs Go and the network)")
        return
    fi
    # ServiceMonitor and PrometheusRule are another project's kinds; their schemas are not built in.
    mkdir "$work/objects"
    python3 scripts/split_manifests.py "$work/full.yaml" "$work/objects"
    "$validate" --version "$kubernetes" "$work/objects" >"$work/validate.log" 2>&1 || {
        cat "$work/validate.log"
        return 1
    }
    say "Helm: rendered objects fit the schemas of Kubernetes $kubernetes"
}

check_nginx
check_helm
if [ ${#left_out[@]} -gt 0 ]; then
    for what in "${left_out[@]}"; do say "LEFT OUT: $what"; done
fi
say "done"
