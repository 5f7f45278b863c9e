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

# nginx -t of a rendered folder.
accepts() {
    nginx -q -t -p "$1" -e "$work/log/start.log" -c "$1/nginx.conf"
}

check_nginx() {
    if ! command -v nginx >/dev/null; then
        left_out+=("nginx: not installed (scripts/setup.sh)")
        return
    fi
    # Rendered so that any user can test it: its own logs, pid file and certificate.
    local here=(CARILLON_NGINX_LOG="$work/log" CARILLON_NGINX_RUN="$work")
    mkdir "$work/log"
    # As it is in the repository it is what the script writes without any variable.
    nginx/render.sh "$work/default"
    diff -r --exclude=README.md --exclude=render.sh nginx "$work/default"
    env "${here[@]}" CARILLON_NGINX_LISTEN=127.0.0.1:8080 nginx/render.sh "$work/standalone"
    accepts "$work/standalone"
    say "nginx: the configuration for a standalone server is accepted"

    # Two hubs by name, IPv6, a balancer before it: what a cluster sets. Names are looked up at the start.
    local cluster=(CARILLON_HUBS="localhost:8000 127.0.0.2:8000" CARILLON_DISPATCHERS="127.0.0.1:9005 [::1]:9005"
        CARILLON_NGINX_BALANCERS="10.0.0.0/8 fd00::/8" CARILLON_NGINX_UNLIMITED="192.0.2.0/24"
        CARILLON_NGINX_LISTEN="127.0.0.1:8443 127.0.0.2:8443" CARILLON_NGINX_PLAIN_LISTEN=8080 CARILLON_NGINX_NAME="push.example.com *.example.org"
        CARILLON_NGINX_SHUTDOWN=90s CARILLON_NGINX_HANDSHAKES=20 CARILLON_NGINX_FILES=10000)
    if command -v openssl >/dev/null; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
            -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
        cluster+=(CARILLON_NGINX_CERTIFICATE="$work/cert.pem" CARILLON_NGINX_KEY="$work/key.pem")
        env "${here[@]}" "${cluster[@]}" nginx/render.sh "$work/cluster"
        accepts "$work/cluster"
        env "${here[@]}" "${cluster[@]}" CARILLON_NGINX_PLAIN_LISTEN= \
            nginx/render.sh "$work/tls-only"
        accepts "$work/tls-only"
        # Once for sockets, once for the rest.
        [ "$(grep -c "^ *server 127.0.0.2:8000 max_fails=[01]" "$work/cluster/conf.d/upstreams.conf")" -eq 2 ]
        grep -qx ' *worker_connections 9800;' "$work/cluster/nginx.conf"
        [ "$(grep -c '^ *listen ' "$work/cluster/conf.d/tls.conf")" -eq 3 ]
        [ "$(grep -c '^ *listen ' "$work/tls-only/conf.d/tls.conf")" -eq 2 ]
        say "nginx: the configuration for a cluster, with TLS, is accepted"
    else
        left_out+=("nginx: the configuration with TLS (no openssl)")
    fi

    # What cannot be right is named, and nothing is written.
    local wrong
    for wrong in "CARILLON_HUBS=10.0.0.1" "CARILLON_HUBS=a:1; include /etc/passwd" "CARILLON_NGINX_SHUTDOWN=10" \
        "CARILLON_NGINX_NAME=a#b" "CARILLON_NGINX_REQUESTS=0" "CARILLON_NGINX_FILES=100" "CARILLON_NGINX_CERTIFICATE=/cert.pem" \
        $'CARILLON_NGINX_WORKERS=1\n2'; do
        if env "$wrong" nginx/render.sh "$work/wrong" 2>"$work/wrong.err"; then
            say "render.sh took $wrong"
            return 1
        fi
        grep -q "${wrong%%=*}" "$work/wrong.err"
        [ ! -e "$work/wrong" ]
    done
    say "nginx: render.sh refuses what it cannot use"

    python3 scripts/nginx_proxy_test.py
}

check_helm() {
    local helm validate
    if ! helm="$(obtain helm "$helm_module")"; then
        left_out+=("Helm chart: no helm, and none could be built (needs Go and the network)")
        return
    fi
    # Values of CI: everything optional switched on, so that every template is rendered.
    local values
    for values in minimal full cluster postgres; do
        "$helm" lint --strict helm/carillon -f "helm/carillon/ci/$values.yaml"
        "$helm" template carillon helm/carillon --kube-version "$kubernetes.0" -f "helm/carillon/ci/$values.yaml" \
            >"$work/$values.yaml"
    done
    # What cannot be made up is asked for.
    refused() {
        local what=$1
        shift
        if "$helm" template carillon helm/carillon --kube-version "$kubernetes.0" "$@" >"$work/none.yaml" 2>"$work/none.err"; then
            say "the chart rendered without $what; it must not"
            return 1
        fi
        grep -q "$what" "$work/none.err"
    }
    refused auth.secret
    refused redis.kind -f helm/carillon/ci/minimal.yaml --set cluster.enabled=true
    refused redis.urls -f helm/carillon/ci/minimal.yaml --set cluster.enabled=true --set redis.kind=servers
    refused database.url -f helm/carillon/ci/postgres.yaml --set database.url=
    refused database.kind -f helm/carillon/ci/minimal.yaml --set database.kind=mysql
    # Who has a volume of its own, and how many of it there are.
    kinds() { grep -E '^kind: (Deployment|StatefulSet|PodDisruptionBudget)$' "$work/$1.yaml" | sort | uniq -c | tr -s ' \n' ' '; }
    [ "$(kinds full)" = " 1 kind: StatefulSet " ]
    [ "$(kinds cluster)" = " 1 kind: Deployment 1 kind: PodDisruptionBudget 1 kind: StatefulSet " ]
    [ "$(kinds postgres)" = " 2 kind: Deployment 2 kind: PodDisruptionBudget " ]
    say "Helm: linted, rendered with ci/{minimal,full,cluster,postgres}.yaml, refused without a secret, a cluster without Redis," \
        "PostgreSQL without its address"

    if ! validate="$(obtain kubectl-validate "$validate_module")"; then
        left_out+=("Kubernetes schemas: no kubectl-validate, and none could be built (needs Go and the network)")
        return
    fi
    # ServiceMonitor and PrometheusRule are another project's kinds; their schemas are not built in.
    for values in full cluster postgres; do
        mkdir "$work/objects-$values"
        python3 scripts/split_manifests.py "$work/$values.yaml" "$work/objects-$values"
        "$validate" --version "$kubernetes" "$work/objects-$values" >"$work/validate.log" 2>&1 || {
            cat "$work/validate.log"
            return 1
        }
    done
    say "Helm: rendered objects fit the schemas of Kubernetes $kubernetes"
}

check_nginx
check_helm
if [ ${#left_out[@]} -gt 0 ]; then
    for what in "${left_out[@]}"; do say "LEFT OUT: $what"; done
fi
say "done"
