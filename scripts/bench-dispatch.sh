#!/usr/bin/env bash
# Measures the dispatcher on SQLite and on a PostgreSQL of its own (fsync on), beside pgbench, a bare commit loop and
# smtp-source in the same run, and puts the medians into docs/benchmarks.md. Database, dispatcher and load share all cores,
# over the loopback. It wants a quiet machine, and takes some fifteen minutes.
#
#   scripts/bench-dispatch.sh
#   PARTS=d1,d2 STORES=postgres WRITE=0 scripts/bench-dispatch.sh
#
# PARTS     d1 to d11 with commas between, hot, readers, store (all); loadtest/README.md says what each is
# STORES    sqlite, postgres (both)
# RUNS      times that loadtest measures everything (1)
# DURATION  seconds of a measurement (8)
# ROWS      rows of all inboxes (1000000)
# PINNED    seconds for which d11 holds a snapshot (600)
# OUT       where the result goes as JSON (target/bench-dispatch.json)
# BUILD     0: the release build is there already
# WRITE     0: leave docs/benchmarks.md alone
set -euo pipefail
cd "$(dirname "$0")/.."

target_dir="${CARGO_TARGET_DIR:-$PWD/target}"
stores="${STORES:-sqlite,postgres}"
out="${OUT:-$target_dir/bench-dispatch.json}"
figures="$(mktemp)"
trap 'rm -f "$figures"' EXIT

wants() {
    [ -z "${PARTS:-}" ] || [[ ",$PARTS," == *",$1,"* ]]
}
# What both programs know, as their --only.
pick() {
    local part found=()
    for part in "$@"; do
        if wants "$part"; then found+=("$part"); fi
    done
    (IFS=, && echo "${found[*]}")
}

for program in pgbench smtp-sink smtp-source; do
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$program" >/dev/null || {
        echo "bench-dispatch: $program is not installed (scripts/setup.sh)" >&2
        exit 2
    }
done
if [ "${BUILD:-1}" != 0 ]; then
    # The bench is built apart, below: its channel in memory is no part of the server.
    cargo build --locked --release -p carillon -p loadtest
fi
more=()
inside="$(pick store readers d3 d7)"
if wants d11 && [[ ",$inside," != *",d3,"* ]]; then
    inside="${inside:+$inside,}d3"
fi
if [ -n "$inside" ]; then
    arguments=(--store "$stores" --only "$inside" --seconds "${DURATION:-8}" --figures "$figures")
    if wants d11; then arguments+=(--pinned-seconds "${PINNED:-600}"); fi
    cargo bench --locked -p benches --bench dispatch -- "${arguments[@]}"
    more=(--more "$figures")
fi
arguments=(dispatch --runs "${RUNS:-1}" --seconds "${DURATION:-8}" --stores "$stores" --rows "${ROWS:-1000000}" --json "$out")
outside="$(pick d1 hot d2 d4 d5 d6 d8 d9 d10)"
if [ "${WRITE:-1}" != 0 ]; then
    arguments+=(--markdown docs/benchmarks.md)
fi
if [ -n "$outside" ]; then
    "$target_dir/release/loadtest" "${arguments[@]}" --only "$outside" "${more[@]}"
fi
