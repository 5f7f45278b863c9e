//! Stand-ins for what this crate cannot build, and a way into a database.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rig::{Error, folder::Folder, postgres::Connection};

/// Ready when the file `red` is not in its folder; ends with 0 on SIGTERM and SIGINT; `token` prints who asks.
const STAND_IN: &str = r#"#!/usr/bin/env python3
import http.server, os, signal, sys
if "token" in sys.argv:
    if "--bad" in sys.argv: sys.exit("no such option")
    print("token of", os.environ["SECRET"]); sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, lambda *_: os._exit(0))
print("config:", open(sys.argv[sys.argv.index("--config") + 1]).read(), "home" if "HOME" in os.environ else "alone", flush=True)
if "refuses" in sys.argv: sys.exit("redis.urls is missing")
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        red = os.path.exists("red")
        body = b"bus" if red else b"ready"
        self.send_response(503 if red else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
host, port = sys.argv[sys.argv.index("--internal-listen") + 1].split(":")
http.server.HTTPServer((host, int(port)), Ready).serve_forever()
"#;

/// Writes a configuration that answers with the first hub's address, so that a reload shows.
const RENDER: &str = r#"#!/bin/sh
[ "$CARILLON_HUBS" != 127.0.0.1:1 ] || { echo "no such hub" >&2; exit 1; }
mkdir -p "$1"
cat >"$1/nginx.conf" <<CONF
pid $CARILLON_NGINX_RUN/nginx.pid;
worker_processes $CARILLON_NGINX_WORKERS;
events {}
http {
    access_log $CARILLON_NGINX_LOG/access.log;
    client_body_temp_path $CARILLON_NGINX_RUN/body;
    proxy_temp_path $CARILLON_NGINX_RUN/proxy;
    fastcgi_temp_path $CARILLON_NGINX_RUN/fastcgi;
    uwsgi_temp_path $CARILLON_NGINX_RUN/uwsgi;
    scgi_temp_path $CARILLON_NGINX_RUN/scgi;
    server {
        listen $CARILLON_NGINX_LISTEN;
        location = /nginx-health { return 200 ok; }
        location = /hubs { return 200 "$CARILLON_HUBS for $CARILLON_DISPATCHERS $MORE"; }
    }
}
CONF
"#;

/// Logs in by the URL of a database.
pub(crate) fn log_in(url: &str, within: Duration) -> Result<Connection, Error> {
    let parts = url
        .strip_prefix("postgres://")
        .and_then(|rest| rest.split_once('@'));
    let (login, place) = parts.unwrap();
    let (role, password) = login.split_once(':').unwrap();
    let (address, database) = place.split_once('/').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    Connection::open(address, role, password, database, within)
}

/// An executable like Carillon's, in this folder.
pub(crate) fn stand_in(folder: &Folder) -> PathBuf {
    let path = folder.path().join("carillon");
    script(&path, STAND_IN);
    path
}

/// A folder like `nginx/`.
pub(crate) fn edge() -> Folder {
    let folder = Folder::new("test").unwrap();
    script(&folder.path().join("render.sh"), RENDER);
    folder
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
