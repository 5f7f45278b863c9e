//! PgBouncer before PostgreSQL.

use std::time::Duration;

use rig::{
    Error,
    link::Link,
    pgbouncer::{Options, Pgbouncer},
    postgres::{Connection, shared},
};

use super::support::log_in;

const SOON: Duration = Duration::from_secs(30);

fn value(connection: &mut Connection, sql: &str) -> String {
    connection.value(sql).unwrap().unwrap()
}

#[test]
fn clients_share_connections_from_transaction_to_transaction() {
    let server = shared().unwrap();
    let database = server.database("pooled").unwrap();
    let one = Options {
        connections: 1,
        ..Options::default()
    };
    let pooler = Pgbouncer::start(server, &one).unwrap();
    let url = database.url_through(pooler.address());
    let [mut first, mut second] = [(); 2].map(|()| log_in(&url, SOON).unwrap());
    let pid = "SELECT pg_backend_pid()";
    assert_eq!(value(&mut first, pid), value(&mut second, pid));
    // What a dispatcher must not build upon: settings of a session are the next one's.
    first.query("SET statement_timeout = 4321").unwrap();
    assert_eq!(value(&mut second, "SHOW statement_timeout"), "4321ms");
    first.query("BEGIN; SET LOCAL statement_timeout = 1234").unwrap();
    assert_eq!(value(&mut first, "SHOW statement_timeout"), "1234ms");
    first.query("COMMIT").unwrap();
    assert_eq!(value(&mut second, "SHOW statement_timeout"), "4321ms");
    assert!(!pooler.console().unwrap().query("SHOW POOLS").unwrap().is_empty());

    pooler.restart().unwrap();
    first.query("SELECT 1").unwrap_err();
    assert_ne!(value(&mut log_in(&url, SOON).unwrap(), pid), "");
    pooler.stop().unwrap();
    log_in(&url, SOON).unwrap_err();
}

#[test]
fn it_loses_its_server_and_finds_it_again() {
    let server = shared().unwrap();
    let database = server.database("pooled").unwrap();
    let link = Link::to(server.address()).unwrap();
    let options = Options {
        // It asks a server anew only every 15 s by default.
        settings: vec![("server_login_retry".to_owned(), "0".to_owned())],
        ..Options::default()
    };
    let pooler = Pgbouncer::start_before(server, link.address(), &options).unwrap();
    let url = database.url_through(pooler.address());
    let mut client = log_in(&url, SOON).unwrap();
    client.query("BEGIN; SELECT 1").unwrap();
    link.cut();
    client.query("COMMIT").unwrap_err();
    assert_eq!(value(&mut log_in(&url, SOON).unwrap(), "SELECT 1"), "1");
}

#[test]
fn settings_that_it_refuses_are_told_with_its_words() {
    let options = Options {
        mode: "no_such_mode".to_owned(),
        ..Options::default()
    };
    let refused = Pgbouncer::start(shared().unwrap(), &options).unwrap_err();
    assert!(matches!(refused, Error::Ended { .. }), "{refused:?}");
    assert!(refused.to_string().contains("no_such_mode"), "{refused}");
}
