#!/usr/bin/env bash
# Holds a running server to its own OpenAPI documents: schemathesis makes requests from them, and each answer has to be one
# that the document names, of the shape that it gives, and no 5xx.
#
#   scripts/check-openapi.sh
#   EXAMPLES=200 scripts/check-openapi.sh
#
# EXAMPLES  random requests for each operation, beside those at the bounds of each value (10)
# SERVER    the binary (target/debug/carillon)
set -euo pipefail
cd "$(dirname "$0")/.."

target="${CARGO_TARGET_DIR:-$PWD/target}"
server="${SERVER:-$target/debug/carillon}"
tool="$target/tools/openapi/bin/schemathesis"
[ -x "$tool" ] || { echo "check-openapi: run scripts/setup.sh openapi first" >&2; exit 2; }

folder="$(mktemp -d)"
pid=""
finish() {
    if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi
    rm -rf "$folder"
}
trap finish EXIT

cat >"$folder/config.toml" <<'TOML'
[auth]
secret = "a secret of a contract test that guards nothing at all"
[limits]
user_requests_per_minute = 100000000
service_requests_per_second = 100000000
[log]
level = "warn"
TOML
read -r public internal < <(python3 -c '
import socket
held = [socket.socket() for _ in range(2)]
for one in held: one.bind(("127.0.0.1", 0))
print(*("127.0.0.1:%d" % one.getsockname()[1] for one in held))')
"$server" --config "$folder/config.toml" --data-dir "$folder/data" --listen "$public" --internal-listen "$internal" --grpc-listen 127.0.0.1:0 \
    >"$folder/log" 2>&1 &
pid=$!
for _ in $(seq 300); do
    if curl --silent --fail --output /dev/null "http://$public/ready"; then break; fi
    kill -0 "$pid" || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done

token() {
    "$server" token --config "$folder/config.toml" --data-dir "$folder/data" --user contract --scope "$1"
}
all="$(token "service publish control metrics notifications:write notifications:broadcast notifications:admin templates:write \
channels:write contacts:write inbox:any audit:read keys:write rules:write platform:admin")"

# Left out: what answers for as long as somebody listens, and sockets.
endless='/sse$|/poll$|/ws$|websocket/connect$|control/trace$|publish/stream$|audit/export$'
check() {
    # It leaves what it remembers in the folder where it runs.
    (cd "$folder" && "$tool" run "http://$1/openapi.json" --header "Authorization: Bearer $2" --max-examples "${EXAMPLES:-10}" --workers 1 \
        --exclude-path-regex "$endless" --phases coverage,fuzzing --continue-on-failure --suppress-health-check all \
        --request-timeout 10 --seed 7 --no-color \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,response_headers_conformance)
}
failed=""
echo "check-openapi: the public listener"
check "$public" "$all" || failed=1
echo "check-openapi: the internal listener"
check "$internal" "$all" || failed=1
echo "check-openapi: the public listener, as a reader without scopes"
check "$public" "$(token "")" || failed=1
if grep -q '"level":"ERROR"\| ERROR ' "$folder/log"; then
    echo "check-openapi: the server logged errors" >&2
    grep '"level":"ERROR"\| ERROR ' "$folder/log" | head -20 >&2
    exit 1
fi
[ -z "$failed" ]
