//! nginx with a configuration of its own; the repository's is tested where it lies.

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, time::Duration};

use rig::{
    Error,
    folder::Folder,
    http,
    nginx::{Nginx, Options},
    wait::{self, ensure},
};

const SOON: Duration = Duration::from_secs(20);

/// Answers with the first hub's address, so that a reload shows.
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

fn source() -> Folder {
    let folder = Folder::new("test").unwrap();
    let path = folder.path().join("render.sh");
    std::fs::write(&path, RENDER).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn it_serves_reloads_and_ends() {
    let source = source();
    let options = Options {
        hubs: vec![address(2), address(3)],
        dispatchers: vec![address(4)],
        variables: vec![("MORE".to_owned(), "and more".to_owned())],
        ..Options::default()
    };
    let mut nginx = Nginx::start(source.path(), &options).unwrap();
    let hubs = |nginx: &Nginx| http::get(nginx.address(), "/hubs", SOON).map(|answer| answer.body);
    assert_eq!(
        hubs(&nginx).unwrap(),
        "127.0.0.1:2 127.0.0.1:3 for 127.0.0.1:4 and more"
    );
    assert!(nginx.access_log().contains("/hubs"));
    nginx.reload_with(&[address(5)], &[address(6)]).unwrap();
    wait::until("the new configuration holds", SOON, || {
        let hubs = hubs(&nginx)?;
        ensure(hubs == "127.0.0.1:5 for 127.0.0.1:6 and more", || hubs)
    })
    .unwrap();
    nginx.quit().unwrap();
    assert!(nginx.process().wait(SOON).unwrap().success());
}

#[test]
fn what_cannot_be_rendered_is_told() {
    let source = source();
    let refused = Nginx::start(
        source.path(),
        &Options {
            hubs: vec![address(1)],
            ..Options::default()
        },
    );
    let refused = refused.unwrap_err();
    assert!(
        matches!(&refused, Error::Unfit(text) if text == "no such hub"),
        "{refused:?}"
    );
}
