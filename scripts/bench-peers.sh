#!/usr/bin/env bash
# Measures Carillon, the floor (what the kernel alone costs) and other push servers side by side on this machine, and
# writes docs/benchmarks.md. Server on core 0, client on core 1, loopback only, all of it in a network namespace of
# its own where the machine allows one.
#
#   scripts/bench-peers.sh                     install what can be had, measure everything, write the document
#   scripts/bench-peers.sh install             only install
#   PEERS="carillon floor bun" WORKLOADS="k1 k4" RUNS=1 scripts/bench-peers.sh
#
# PEERS      carillon carillon-uring carillon-deflate floor floor-uring bun nchan ws nats socketio centrifugo sockudo
# WORKLOADS  k1, k4, k16 (broadcasts in flight), paced (10/s), unicast (one POST each, 32 connections),
#            deflate (k1 with 1 KB, Carillon without compression and with it),
#            slow (1 % of the sockets never read, 4 KB, 128 KB of send buffer; before that without them)
# RUNS       rounds, the median counts (3); k1 of the close ones (CLOSE), and k4 of Carillon and Bun, is run CLOSE_RUNS (5)
#            times, so that a ratio near 1 can be taken from alternating pairs; slow is run SLOW_RUNS (1) times
# DURATION   seconds of a run (6), SLOW_DURATION of one with stalled readers (40: 4 KB ten times a second take so long
#            to fill a queue of 1 MB and the kernel's buffers before it)
# SOCKETS    10000
# OUT        where results go and are kept (target/bench-peers); RESUME=1 runs only what is not there yet
# BUILD      0: the release build is there already
# WRITE      0: leave docs/benchmarks.md alone
set -euo pipefail
cd "$(dirname "$0")/.."

target_dir="${CARGO_TARGET_DIR:-$PWD/target}"
here=loadtest/peers
tools="$PWD/$here/.tools"
out="${OUT:-$target_dir/bench-peers}"
runs="${RUNS:-3}" slow_runs="${SLOW_RUNS:-1}"
close_runs="${CLOSE_RUNS:-$((runs == 3 ? 5 : runs))}"
duration="${DURATION:-6}" slow_duration="${SLOW_DURATION:-40}" sockets="${SOCKETS:-10000}"
read -r -a peers <<<"${PEERS:-carillon carillon-uring carillon-deflate floor floor-uring bun nchan ws nats socketio centrifugo sockudo}"
read -r -a workloads <<<"${WORKLOADS:-k1 k4 k16 paced unicast deflate slow}"
read -r -a close <<<"${CLOSE:-carillon carillon-uring floor floor-uring bun}"
# `floor` lies beside `loadtest`; nginx lives in sbin, which an ordinary user's PATH leaves out on Debian.
export PATH="$target_dir/release:$tools/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf 'bench-peers: %s\n' "$*"; }
missing() { # name reason
    say "$1 cannot be measured here: $2"
    printf '%s\t%s\n' "$1" "$2" >>"$out/missing.tsv"
}
has() { # word list…
    local word="$1" one
    shift
    for one in "$@"; do [ "$one" = "$word" ] && return 0; done
    return 1
}

# --- what can be had ---------------------------------------------------------------------------------------------

# A Debian package's files, unpacked beside this checkout: nothing is installed on the system, no service starts.
debian() { # package file-that-it-brings
    [ -e "$tools/$2" ] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    mkdir -p "$tools/deb"
    (cd "$tools/deb" && timeout 120 apt-get -q download "$1" >/dev/null 2>&1) || return 1
    local archive
    for archive in "$tools/deb/$1"_*.deb; do dpkg-deb -x "$archive" "$tools"; done
    dpkg-deb -f "$archive" Version >"$tools/$1.version"
    [ -e "$tools/$2" ]
}

npm_packages() {
    local stamp="$here/node_modules/.carillon-lock" sum
    command -v npm >/dev/null || return 1
    sum="$(sha256sum <"$here/package-lock.json")"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$sum" ] && return
    (cd "$here" && timeout 300 npm ci --no-audit --no-fund --loglevel=error </dev/null) || return 1
    printf '%s\n' "$sum" >"$stamp"
}

install_peer() {
    case "$1" in
    carillon | carillon-uring | carillon-deflate | floor | floor-uring) ;;
    bun | ws | socketio) npm_packages || missing "$1" "npm does not give its packages" ;;
    nchan)
        if ! command -v nginx >/dev/null; then
            missing nchan "there is no nginx (make setup installs it)"
        elif ! debian libnginx-mod-nchan usr/lib/nginx/modules/ngx_nchan_module.so; then
            missing nchan "there is no Debian package libnginx-mod-nchan to download"
        fi
        ;;
    nats) debian nats-server usr/sbin/nats-server || missing nats "there is no Debian package nats-server to download" ;;
    centrifugo)
        [ -x "$tools/bin/centrifugo" ] && return
        if ! command -v go >/dev/null; then
            missing centrifugo "there is no Go toolchain"
        elif ! GOBIN="$tools/bin" timeout 600 go install github.com/centrifugal/centrifugo/v6@latest 2>"$out/centrifugo.log"; then
            missing centrifugo "go install: $(tail -n 1 "$out/centrifugo.log" | tr -d '\t' | cut -c 1-160)"
        fi
        ;;
    sockudo)
        [ -x "$tools/bin/sockudo" ] && return
        local package
        if ! command -v protoc >/dev/null; then
            for package in protobuf-compiler libprotoc32 libprotobuf32 libprotobuf-dev; do
                debian "$package" "usr/share/doc/$package" || true
            done
            export PROTOC="$tools/usr/bin/protoc" PROTOC_INCLUDE="$tools/usr/include"
            if ! LD_LIBRARY_PATH="$(echo "$tools"/usr/lib/*-linux-gnu)" "$PROTOC" --version >/dev/null 2>&1; then
                missing sockudo "its build needs protoc (Debian: protobuf-compiler)"
                return
            fi
        fi
        say "building sockudo, which takes some minutes"
        if ! LD_LIBRARY_PATH="$(echo "$tools"/usr/lib/*-linux-gnu)" nice timeout 3000 "${CARGO:-cargo}" install sockudo \
            --version 5.2.0 --locked --root "$tools" --target-dir "$tools/build" 2>"$out/sockudo.log"; then
            missing sockudo "cargo install: $(grep -m 1 '^error' "$out/sockudo.log" | cut -c 1-160)"
        fi
        rm -rf "$tools/build"
        ;;
    *)
        say "there is no peer called $1"
        exit 2
        ;;
    esac
}

if [ "${1:-all}" != measure ]; then
    mkdir -p "$out" "$tools/bin"
    : >"$out/missing.tsv"
    if [ "${BUILD:-1}" != 0 ]; then
        say "building carillon, loadtest and floor"
        "${CARGO:-cargo}" build ${CI:+--locked} --release -p carillon -p loadtest
    fi
    for peer in "${peers[@]}"; do install_peer "$peer"; done
    [ "${1:-all}" = install ] && exit
    # In a network namespace of its own nothing else is on the loopback, and two settings can be chosen without touching
    # the machine's: congestion control (for all servers alike) and the largest send buffer (for stalled readers).
    if unshare --net true 2>/dev/null && command -v ip >/dev/null; then
        exec unshare --net "$0" measure own-network
    fi
    say "no network namespace to be had (not root?): congestion control and send buffers stay as the machine has them"
    exec "$0" measure
fi

# --- measuring ---------------------------------------------------------------------------------------------------

network="the machine's loopback, its congestion control ($(cat /proc/sys/net/ipv4/tcp_congestion_control)) and buffers"
send_buffer=/proc/sys/net/ipv4/tcp_wmem
own_network=""
if [ "${2:-}" = own-network ]; then
    ip link set lo up
    for net in 127.0.0.0/8 127.0.0.1; do
        ip route change local "$net" dev lo proto kernel scope host src 127.0.0.1 table local congctl cubic
    done
    own_network=1
    network="a network namespace of its own, loopback, congestion control cubic; for stalled readers send buffers of at most 128 KB"
fi

# The scenario of a workload, as loadtest is told it.
scenario() {
    case "$1" in
    k1 | k4 | k16) echo "broadcast --in-flight ${1#k} --seconds $duration --size 128" ;;
    paced) echo "broadcast --rate 10 --seconds $duration --size 128" ;;
    unicast) echo "unicast --lanes 32 --seconds $duration --size 128" ;;
    deflate) echo "broadcast --in-flight 1 --seconds $duration --size 1024" ;;
    slow) echo "slow --rate 10 --before-seconds 10 --seconds $slow_duration --size 4096" ;;
    *)
        say "there is no workload called $1" >&2
        return 2
        ;;
    esac
}

# What is worth measuring: compression is held against its absence; the floor bounds nothing and, like those that write message by message, gains nothing by more
# broadcasts in flight; Sockudo takes one publish at a time, as it closes the connection behind each answer.
wanted() { # peer workload round
    case "$1.$2" in
    carillon.deflate | carillon-deflate.deflate) ;;
    *.deflate | carillon-deflate.*) return 1 ;;
    carillon-uring.paced | carillon-uring.unicast | carillon-uring.slow | floor.k16 | floor.slow) return 1 ;;
    floor-uring.k4 | floor-uring.k16 | floor-uring.paced | floor-uring.unicast | floor-uring.slow) return 1 ;;
    nchan.k16 | ws.k16 | socketio.k16 | sockudo.k4 | sockudo.k16 | sockudo.slow) return 1 ;;
    esac
    local rounds="$runs"
    case "$2" in
    slow) rounds="$slow_runs" ;;
    k1) if has "$1" "${close[@]}"; then rounds="$close_runs"; fi ;;
    # Here only Carillon and Bun are near each other.
    k4) case "$1" in carillon | bun) rounds="$close_runs" ;; esac ;;
    esac
    [ "$3" -le "$rounds" ]
}

description() {
    case "$1" in
    # Nobody waits for a load balancer here.
    carillon) echo "--set CARILLON_HUB__LAME_DUCK=100ms" ;;
    carillon-uring) echo "--set CARILLON_HUB__LAME_DUCK=100ms --set CARILLON_HUB__FLUSH=io_uring" ;;
    carillon-deflate) echo "--set CARILLON_HUB__LAME_DUCK=100ms --set CARILLON_HUB__COMPRESSION=true --deflate" ;;
    floor) echo "--describe $here/floor/plain.toml" ;;
    floor-uring) echo "--describe $here/floor/uring.toml" ;;
    *) echo "--describe $here/$1/target.toml" ;;
    esac
}

measure() { # peer workload round
    local result="$out/$3.$2.$1.json" log="$out/$3.$2.$1.log" began=$SECONDS buffers="" bound=$((90 + 3 * duration))
    [ -n "${RESUME:-}" ] && [ -s "$result" ] && return
    rm -f "$result"
    [ "$2" != slow ] || bound=$((120 + 2 * slow_duration))
    if [ "$2" = slow ] && [ -n "$own_network" ]; then
        buffers="$(cat "$send_buffer")"
        echo "4096 16384 131072" >"$send_buffer"
    fi
    # Words, not one word each: options.
    # shellcheck disable=SC2046
    timeout --kill-after=10 "$bound" \
        loadtest $(scenario "$2") $(description "$1") --name "$1" --json "$result" "${common[@]}" >"$log" 2>&1 </dev/null ||
        true
    [ -z "$buffers" ] || echo "$buffers" >"$send_buffer"
    if [ -s "$result" ]; then
        say "round $3, $2, $1: $((SECONDS - began)) s"
    else
        missing "$1, $2, round $3" "$(tail -n 1 "$log" | tr '\t' ' ' | cut -c 1-160)"
    fi
}

common=(--sockets "$sockets" --server-core 0 --client-core 1 --spin)
[ -n "${RESUME:-}" ] || rm -f "$out"/*.json
json() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$1"; }
{
    printf '{"began": %s, "commit": %s,\n' "$(json "$(date -u +%FT%TZ)")" \
        "$(json "$(git describe --always --dirty 2>/dev/null || echo unknown)")"
    printf ' "sockets": %d, "seconds": %d, "slow_seconds": %d,\n' "$sockets" "$duration" "$slow_duration"
    printf ' "network": %s,\n "commands": {' "$(json "$network")"
    separator=""
    for workload in "${workloads[@]}"; do
        printf '%s%s: %s' "$separator" "$(json "$workload")" \
            "$(json "loadtest $(scenario "$workload") ${common[*]} --describe …")"
        separator=", "
    done
    printf '}}\n'
} >"$out/pass.json"

began=$SECONDS
rounds=$((runs > close_runs ? runs : close_runs))
rounds=$((rounds > slow_runs ? rounds : slow_runs))
for ((round = 1; round <= rounds; round++)); do
    # There and back, so that a machine that grows slower or faster favours nobody.
    order=("${peers[@]}")
    if ((round % 2 == 0)); then
        order=()
        for peer in "${peers[@]}"; do order=("$peer" "${order[@]}"); done
    fi
    for workload in "${workloads[@]}"; do
        for peer in "${order[@]}"; do
            grep -q "^$peer"$'\t' "$out/missing.tsv" && continue
            if wanted "$peer" "$workload" "$round"; then measure "$peer" "$workload" "$round"; fi
        done
    done
done
say "measured for $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
if [ "${WRITE:-1}" != 0 ]; then
    loadtest table "$out"
    say "wrote docs/benchmarks.md"
else
    loadtest table "$out" --markdown "$out/benchmarks.md" --data "$out/results.data"
    say "wrote $out/benchmarks.md"
fi
