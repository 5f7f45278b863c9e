#!/bin/sh
# Writes this folder's configuration to another one, with what differs from place to place taken from the environment:
#
#   CARILLON_HUBS="10.0.0.11:8000 10.0.0.12:8000" CARILLON_DISPATCHERS=10.0.0.21:9005 nginx/render.sh /etc/nginx
#
# README.md lists the variables. Without any the result is this folder, for a standalone server on this machine. Needs
# nothing but a POSIX shell with sed and awk, so it also runs inside of nginx's images. An impossible value is named and
# nothing is written.
set -eu

die() {
    printf 'render: %s\n' "$*" >&2
    exit 1
}

[ $# -eq 1 ] || die "usage: render.sh FOLDER"
source="$(cd "$(dirname "$0")" && pwd)"

# A * in a name is no file name.
set -f
# Values end up in a configuration file: only what such a value needs may stand in it.
#   check NAME VALUE PATTERN-OF-A-WORD
check() {
    case "$2" in *"
"*) die "$1: has to be one line" ;; esac
    for word in $2; do
        printf '%s\n' "$word" | grep -Eqx -- "$3" || die "$1: cannot use \`$word\`"
    done
}
# As check, and exactly one word.
one() {
    check "$1" "$2" "$3"
    [ "$(printf '%s\n' "$2" | wc -w)" -eq 1 ] || die "$1: needs one value, not \`$2\`"
}

address='(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}|unix:/[A-Za-z0-9._/-]+'
listen="$address"'|[0-9]{1,5}'
network='[0-9a-fA-F.:]+(/[0-9]{1,3})?|unix:'
path='/[A-Za-z0-9._/-]+'
number='[1-9][0-9]{0,8}'

hubs="${CARILLON_HUBS:-127.0.0.1:8000}"
# Standalone: the same process.
dispatchers="${CARILLON_DISPATCHERS:-$hubs}"
certificate="${CARILLON_NGINX_CERTIFICATE:-}"
key="${CARILLON_NGINX_KEY:-}"
name="${CARILLON_NGINX_NAME:-_}"
balancers="${CARILLON_NGINX_BALANCERS:-}"
unlimited="${CARILLON_NGINX_UNLIMITED:-}"
connections="${CARILLON_NGINX_CONNECTIONS:-4000}"
handshakes="${CARILLON_NGINX_HANDSHAKES:-100}"
requests="${CARILLON_NGINX_REQUESTS:-200}"
shutdown="${CARILLON_NGINX_SHUTDOWN:-10m}"
workers="${CARILLON_NGINX_WORKERS:-auto}"
files="${CARILLON_NGINX_FILES:-}"
log="${CARILLON_NGINX_LOG:-/var/log/nginx}"
run="${CARILLON_NGINX_RUN:-}"
if [ -n "$certificate" ]; then
    public="${CARILLON_NGINX_LISTEN:-443}"
    plain="${CARILLON_NGINX_PLAIN_LISTEN-80}"
else
    public="${CARILLON_NGINX_LISTEN:-80}"
    plain=""
fi

check CARILLON_HUBS "$hubs" "$address"
check CARILLON_DISPATCHERS "$dispatchers" "$address"
check CARILLON_NGINX_LISTEN "$public" "$listen"
check CARILLON_NGINX_PLAIN_LISTEN "$plain" "$listen"
check CARILLON_NGINX_NAME "$name" '[A-Za-z0-9._*-]+'
check CARILLON_NGINX_BALANCERS "$balancers" "$network"
check CARILLON_NGINX_UNLIMITED "$unlimited" "$network"
one CARILLON_NGINX_CONNECTIONS "$connections" "$number"
one CARILLON_NGINX_HANDSHAKES "$handshakes" "$number"
one CARILLON_NGINX_REQUESTS "$requests" "$number"
one CARILLON_NGINX_SHUTDOWN "$shutdown" '[0-9]{1,6}(ms|s|m|h)'
one CARILLON_NGINX_WORKERS "$workers" "auto|$number"
[ -z "$files" ] || one CARILLON_NGINX_FILES "$files" '[1-9][0-9]{3,6}'
one CARILLON_NGINX_LOG "$log" "$path"
[ -z "$run" ] || one CARILLON_NGINX_RUN "$run" "$path"
if [ -n "$certificate$key" ]; then
    [ -n "$certificate" ] && [ -n "$key" ] ||
        die "CARILLON_NGINX_CERTIFICATE and CARILLON_NGINX_KEY belong together"
    one CARILLON_NGINX_CERTIFICATE "$certificate" "$path"
    one CARILLON_NGINX_KEY "$key" "$path"
fi

set +f
mkdir -p "$1/conf.d" "$1/snippets"
folder="$(cd "$1" && pwd)"
[ "$folder" != "$source" ] || die "the folder to write to is the one to read from"
cp "$source"/nginx.conf "$folder/"
cp "$source"/conf.d/*.conf "$folder/conf.d/"
cp "$source"/snippets/*.conf "$folder/snippets/"

# edit FILE COMMAND...: COMMAND reads the file and its output takes the file's place.
edit() {
    file="$folder/$1"
    shift
    "$@" <"$file" >"$file.new"
    mv "$file.new" "$file"
}

# One line for each address, with the parameters that stand in the file.
edit conf.d/upstreams.conf awk -v hubs="$hubs" -v dispatchers="$dispatchers" '
    $1 == "upstream" { list = $2 == "carillon_dispatcher" ? dispatchers : hubs }
    $1 == "server" {
        rest = $0
        sub(/^ *server [^ ;]+/, "", rest)
        count = split(list, addresses, " ")
        for (i = 1; i <= count; i++) print "    server " addresses[i] rest
        next
    }
    { print }'

# Values are words of the patterns above: none of them holds a #, a & or a backslash.
edit nginx.conf sed \
    -e "s#^worker_processes .*#worker_processes $workers;#" \
    -e "s#^worker_shutdown_timeout .*#worker_shutdown_timeout $shutdown;#" \
    -e "s#/var/log/nginx/#$log/#"
if [ -n "$files" ]; then
    # Some for logs, listeners and the shared files.
    edit nginx.conf sed \
        -e "s#^worker_rlimit_nofile .*#worker_rlimit_nofile $files;#" \
        -e "s#^\( *worker_connections \).*#\1$((files - 200));#"
fi
if [ -n "$run" ]; then
    edit nginx.conf awk -v run="$run" '
        { print }
        $1 == "worker_shutdown_timeout" { print "pid " run "/nginx.pid;" }
        $1 == "http" {
            split("client_body proxy fastcgi uwsgi scgi", kinds, " ")
            for (i = 1; i <= 5; i++) print "    " kinds[i] "_temp_path " run "/" kinds[i] ";"
        }'
fi

lines() {
    for word in $1; do printf '%s%s%s\n' "$2" "$word" "$3"; done
}
lines "$balancers" 'set_real_ip_from ' ';' >>"$folder/conf.d/client_address.conf"
edit conf.d/limits.conf awk -v unlimited="$unlimited" '
    { print }
    $1 == "default" && !done {
        count = split(unlimited, networks, " ")
        for (i = 1; i <= count; i++) print "    " networks[i] " 1;"
        done = 1
    }'
edit conf.d/limits.conf sed \
    -e "s#\(zone=carillon_handshakes:.*rate=\)[0-9]*#\1$handshakes#" \
    -e "s#\(zone=carillon_requests:.*rate=\)[0-9]*#\1$requests#"
for what in handshakes requests; do
    edit "snippets/limit_$what.conf" sed -e "s#\(limit_conn carillon_connections \)[0-9]*#\1$connections#"
done
# What a whole office does at once after a cut: five seconds of the rate.
edit snippets/limit_handshakes.conf sed -e "s#burst=[0-9]*#burst=$((handshakes * 5))#"
edit snippets/limit_requests.conf sed -e "s#burst=[0-9]*#burst=$((requests * 5))#"

# One listen line for each address, in the place of the one in the file.
listeners() {
    awk -v file_has="$1" -v list="$2" '
        $1 == "listen" && $2 == file_has {
            rest = $0
            sub(/^ *listen [^ ;]+/, "", rest)
            count = split(list, addresses, " ")
            for (i = 1; i <= count; i++) print "    listen " addresses[i] rest
            next
        }
        { print }'
}
if [ -n "$certificate" ]; then
    edit nginx.conf sed -e 's#include conf.d/server.conf#include conf.d/tls.conf#'
    edit conf.d/tls.conf listeners 443 "$public"
    edit conf.d/tls.conf sed \
        -e "s#^\( *server_name\) carillon.example.com;#\1 $name;#" \
        -e "s#^\( *ssl_certificate \).*#\1$certificate;#" \
        -e "s#^\( *ssl_certificate_key \).*#\1$key;#"
    if [ -n "$plain" ]; then
        edit conf.d/tls.conf listeners 80 "$plain"
    else
        # Without a plain listener its server block goes: the first one of the file.
        edit conf.d/tls.conf awk '/^server/ { block++ } block != 1 { print }'
    fi
else
    edit conf.d/server.conf listeners 80 "$public"
    edit conf.d/server.conf sed -e "s#^\( *server_name\) _;#\1 $name;#"
fi
