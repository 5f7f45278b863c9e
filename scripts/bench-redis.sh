#!/usr/bin/env bash
# Measures the bus over real Redis servers on this machine, beside redis-benchmark in the same run, and puts the medians
# into docs/measurements.md. Redis on core 0, publisher and redis-benchmark on core 1, loopback only. It wants a quiet
# machine, and takes some ten minutes.
#
#   scripts/bench-redis.sh
#   RUNS=1 PARTS=c1,c7 WRITE=0 scripts/bench-redis.sh
#
# RUNS      times that everything is measured (3)
# PARTS     c1 to c7 with commas between (all); loadtest/README.md says what each is
# DURATION  seconds of a measurement (6)
# OUT       where the result goes as JSON (target/bench-redis.json)
# BUILD     0: the release build is there already
# WRITE     0: leave docs/measurements.md alone
set -euo pipefail
cd "$(dirname "$0")/.."

target_dir="${CARGO_TARGET_DIR:-$PWD/target}"
arguments=(bus --runs "${RUNS:-3}" --seconds "${DURATION:-6}" --json "${OUT:-$target_dir/bench-redis.json}")
[ -z "${PARTS:-}" ] || arguments+=(--only "$PARTS")
if [ "$(nproc)" -gt 1 ]; then
    arguments+=(--server-core 0 --client-core 1)
fi
if [ "${WRITE:-1}" != 0 ]; then
    arguments+=(--markdown docs/measurements.md)
fi
for program in redis-server redis-benchmark taskset; do
    command -v "$program" >/dev/null || {
        echo "bench-redis: $program is not installed (scripts/setup.sh)" >&2
        exit 2
    }
done
if [ "${BUILD:-1}" != 0 ]; then
    cargo build --locked --release -p carillon -p loadtest
fi
exec "$target_dir/release/loadtest" "${arguments[@]}"
