//! nginx with a configuration of its own; the repository's is tested where it lies.

use std::{net::SocketAddr, time::Duration};

use rig::{
    Error, http,
    nginx::{Nginx, Options},
    wait::{self, ensure},
};

use super::support::edge;

const SOON: Duration = Duration::from_secs(20);

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn it_serves_reloads_and_ends() {
    let source = edge();
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
    let source = edge();
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
