#!/usr/bin/env bash
# Fuzzes what reads input from outside. `scripts/fuzz.sh [SECONDS]`: the time is shared by all targets (default 60).
# Prints the executions and the coverage of each target; ends with 1 when one has a finding, with 2 when it cannot run.
#
# FUZZ_TARGETS="ws_parser targets"  runs these only
# FUZZ_SANITIZER=none               without AddressSanitizer
# What was learnt stays in fuzz/corpus for the next run; findings are left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-60}"
sanitizer="${FUZZ_SANITIZER:-address}"

say() { printf 'fuzz: %s\n' "$*"; }
die() {
    printf 'fuzz: %s\n' "$*" >&2
    exit 2
}

[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || die "usage: scripts/fuzz.sh [SECONDS], a whole number from 1"
command -v rustup >/dev/null || die "rustup is missing; fuzzing needs it to choose the nightly compiler"
rustup toolchain list | grep -q '^nightly' ||
    die "libFuzzer needs a nightly compiler: rustup toolchain install nightly --profile minimal"
if ! command -v cargo-fuzz >/dev/null; then
    say "installing cargo-fuzz (once)"
    cargo install cargo-fuzz --locked || die "cargo-fuzz could not be installed: cargo install cargo-fuzz --locked"
    command -v cargo-fuzz >/dev/null || die "cargo-fuzz was installed, but its folder is not on the PATH"
fi

read -ra targets <<<"${FUZZ_TARGETS:-$(cargo +nightly fuzz list | tr '\n' ' ')}"
[ ${#targets[@]} -gt 0 ] || die "fuzz/Cargo.toml has no targets"
each=$((seconds / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1

# Apart from the project's own target directory, so that neither build throws the other's work away.
export CARGO_TARGET_DIR="$PWD/fuzz/target"
# Freed blocks that AddressSanitizer holds back; its default of 256 MiB looks like a leak in the memory limit.
export ASAN_OPTIONS="quarantine_size_mb=32${ASAN_OPTIONS:+:$ASAN_OPTIONS}"

say "building ${#targets[@]} targets (sanitizer: $sanitizer)"
for target in "${targets[@]}"; do
    cargo +nightly fuzz build --sanitizer "$sanitizer" "$target" || die "$target does not build"
done

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
findings=()
rows=()
for target in "${targets[@]}"; do
    say "$target for $each s"
    corpus=("fuzz/corpus/$target")
    mkdir -p "${corpus[0]}"
    [ ! -d "fuzz/seeds/$target" ] || corpus+=("fuzz/seeds/$target")
    limits=(-max_total_time="$each" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1)
    [ ! -f "fuzz/dictionaries/$target.dict" ] || limits+=("-dict=fuzz/dictionaries/$target.dict")

    # Reading the corpus does not count into libFuzzer's own limit; the outer one is for a target that hangs.
    if timeout $((each + 120)) \
        cargo +nightly fuzz run --sanitizer "$sanitizer" "$target" "${corpus[@]}" -- "${limits[@]}" >"$log" 2>&1; then
        result=ok
    else
        result=FINDING
        findings+=("$target")
        # The cause stands above the long stack trace, the command that reproduces it below.
        grep -m 1 -A 4 -E 'panicked at|ERROR: (AddressSanitizer|libFuzzer)' "$log" || true
        tail -n 25 "$log"
    fi
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)"
    edges="$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)"
    features="$(sed -n 's/.* ft: \([0-9]*\).*/\1/p' "$log" | tail -n 1)"
    rows+=("$(printf '%-16s %12s %10s %10s  %s' "$target" "${runs:-?}" "${edges:-?}" "${features:-?}" "$result")")
done

printf '\n%-16s %12s %10s %10s\n' target executions edges features
printf '%s\n' "${rows[@]}"
if [ ${#findings[@]} -gt 0 ]; then
    say "findings in: ${findings[*]}; the inputs are in fuzz/artifacts"
    exit 1
fi
say "no findings"
