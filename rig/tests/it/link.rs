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

#[test]
fn a_request_is_done_and_its_answer_is_lost() {
    let server = Server::start(&Options::default()).unwrap();
    let link = Link::to(server.address()).unwrap();
    let open = || Connection::open(link.address(), SOON).unwrap();
    let (mut one, mut other) = (open(), open());
    link.swallow_answer(b"INCR");
    assert!(pings(&mut one));
    one.call(&["INCR", "n"]).unwrap_err();
    assert_eq!(link.swallowed(), 1);
    assert_eq!(other.call(&["INCR", "n"]).unwrap().as_integer(), Some(2));
}

#[test]
fn it_leads_elsewhere() {
    let [one, other] = [1, 2].map(|_| Server::start(&Options::default()).unwrap());
    let link = Link::to(one.address()).unwrap();
    let mut connection = Connection::open(link.address(), SOON).unwrap();
    assert!(pings(&mut connection));
    link.lead_to(other.address());
    assert!(!pings(&mut connection));
    Connection::open(link.address(), SOON)
        .unwrap()
        .call(&["SET", "a", "1"])
        .unwrap();
    assert_eq!(other.command(&["DBSIZE"]).unwrap().as_integer(), Some(1));
}
