//! A link to a Redis.

use std::time::Duration;

use rig::{
    link::Link,
    redis::{Connection, Options, Server},
};

const SOON: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

fn pings(connection: &mut Connection) -> bool {
    connection.call(&["PING"]).is_ok()
}

#[test]
fn it_is_cut_stalls_and_heals() {
    let server = Server::start(&Options::default()).unwrap();
    let link = Link::to(server.address()).unwrap();
    let open = |within| Connection::open(link.address(), within);

    let mut first = open(SOON).unwrap();
    assert!(pings(&mut first));
    link.cut();
    assert!(!pings(&mut first));
    assert!(pings(&mut open(SOON).unwrap()));

    link.stall();
    let mut silent = open(SHORT).unwrap();
    silent.call(&["SET", "a", "held back"]).unwrap_err();
    assert_eq!(server.command(&["DBSIZE"]).unwrap().as_integer(), Some(0));
    link.heal();
    rig::wait::until("what was held back arrives", SOON, || {
        let value = server.command(&["GET", "a"])?;
        rig::wait::ensure(value.as_str() == "held back", || format!("{value:?}"))
    })
    .unwrap();

    link.refuse();
    assert!(!open(SOON).is_ok_and(|mut refused| pings(&mut refused)));
    link.heal();
    assert!(pings(&mut open(SOON).unwrap()));
}
