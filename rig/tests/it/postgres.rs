//! PostgreSQL.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rig::{
    Error,
    folder::Folder,
    link::Link,
    postgres::{OWNER, Options, Server, shared},
    process::Process,
    wait,
};

use super::support::log_in;

const SOON: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

fn code(refused: &Error) -> &str {
    match refused {
        Error::Postgres { code, .. } => code,
        other => panic!("{other}"),
    }
}

fn has_ended(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // A zombie has ended; somebody else is to reap it.
    !status
        .lines()
        .any(|line| line.starts_with("State:") && !line.contains('Z'))
}

fn processes(server: &Server) -> Vec<String> {
    let pid = server.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_ascii_whitespace().map(str::to_owned);
    children.chain([pid.to_string()]).collect()
}

#[test]
fn a_test_has_a_database_of_its_own_and_is_no_superuser_there() {
    let server = shared().unwrap();
    let [first, second] = [(); 2].map(|()| server.database("its own").unwrap());
    assert_ne!(first.name(), second.name());
    let mut owner = log_in(&first.url(), SOON).unwrap();
    owner
        .query("CREATE TABLE a (b bigint); INSERT INTO a VALUES (1), (NULL)")
        .unwrap();
    let rows = owner.query("SELECT b FROM a ORDER BY b").unwrap();
    assert_eq!(rows, [[Some("1".to_owned())], [None]]);
    let refused = log_in(&second.url(), SOON)
        .unwrap()
        .query("SELECT b FROM a")
        .unwrap_err();
    assert_eq!(code(&refused), "42P01", "{refused}");
    let refused = owner.query("CREATE ROLE another SUPERUSER").unwrap_err();
    assert_eq!(code(&refused), "42501", "{refused}");
    assert_eq!(
        owner.value("SELECT current_user").unwrap().as_deref(),
        Some(OWNER)
    );

    let url = first.url();
    drop(first);
    wait::until("the database is gone", SOON, || {
        let refused = log_in(&url, SOON).map(drop);
        let gone = refused.as_ref().is_err_and(|refused| code(refused) == "3D000");
        wait::ensure(gone, || format!("{refused:?}"))
    })
    .unwrap();
    owner.query("SELECT 1").unwrap_err();
    assert!(std::ptr::eq(server, shared().unwrap()));
}

#[test]
fn a_crash_takes_all_its_processes_and_nothing_that_was_committed() {
    let server = Server::start(&Options::default().setting("max_connections", "20")).unwrap();
    assert_eq!(
        server.query("SHOW max_connections").unwrap(),
        [[Some("20".to_owned())]]
    );
    assert_eq!(server.query("SHOW fsync").unwrap(), [[Some("on".to_owned())]]);
    let url = server.create_database("kept").unwrap();
    let mut client = log_in(&url, SOON).unwrap();
    client.query("CREATE TABLE a (b bigint)").unwrap();
    client.query("INSERT INTO a VALUES (1)").unwrap();
    client.query("BEGIN; INSERT INTO a VALUES (2)").unwrap();
    let (address, all) = (server.address(), processes(&server));
    assert!(all.len() > 4, "{all:?}");
    server.kill().unwrap();
    assert!(!server.is_running());
    assert!(all.iter().all(|pid| has_ended(pid)), "{all:?}");
    client.query("COMMIT").unwrap_err();
    assert!(matches!(server.query("SELECT 1"), Err(Error::Ended { .. })));

    server.restart().unwrap();
    assert_eq!(server.address(), address);
    assert!(
        server.log().contains("not properly shut down"),
        "{}",
        server.log()
    );
    let mut client = log_in(&url, SOON).unwrap();
    assert_eq!(
        client.value("SELECT sum(b) FROM a").unwrap().as_deref(),
        Some("1")
    );

    server.stop().unwrap();
    client.query("SELECT 1").unwrap_err();
    server.restart().unwrap();
    let mut client = log_in(&url, SOON).unwrap();
    assert_eq!(
        client.value("SELECT sum(b) FROM a").unwrap().as_deref(),
        Some("1")
    );
    let all = processes(&server);
    drop(server);
    assert!(all.iter().all(|pid| has_ended(pid)), "{all:?}");
}

#[test]
fn settings_that_it_refuses_are_told_with_its_words() {
    let refused = Server::start(&Options::fast().setting("no_such_setting", "1")).unwrap_err();
    assert!(matches!(refused, Error::Ended { .. }), "{refused:?}");
    assert!(refused.to_string().contains("no_such_setting"), "{refused}");
}

#[test]
fn a_paused_one_is_silent_until_it_is_resumed() {
    let server = Server::start(&Options::fast()).unwrap();
    let url = server.superuser_url("postgres");
    let mut client = log_in(&url, SHORT).unwrap();
    server.pause().unwrap();
    assert!(server.is_running());
    client.query("SELECT 1").unwrap_err();
    log_in(&url, SHORT).unwrap_err();
    server.resume().unwrap();
    server.query("SELECT 1").unwrap();
    // A paused one ends all the same.
    server.pause().unwrap();
    let all = processes(&server);
    drop(server);
    assert!(all.iter().all(|pid| has_ended(pid)), "{all:?}");
}

#[test]
fn a_replica_follows_is_read_only_and_takes_over() {
    let primary = Server::start(&Options::fast()).unwrap();
    let url = primary.create_database("followed").unwrap();
    let replica = Server::replica(&primary).unwrap();
    let mut client = log_in(&url, SOON).unwrap();
    client
        .query("CREATE TABLE a (b bigint); INSERT INTO a VALUES (1)")
        .unwrap();
    replica.catch_up(&primary).unwrap();
    let mut reader = log_in(&replica.url("followed"), SOON).unwrap();
    assert_eq!(reader.value("SELECT b FROM a").unwrap().as_deref(), Some("1"));
    let refused = reader.query("INSERT INTO a VALUES (2)").unwrap_err();
    assert_eq!(code(&refused), "25006", "{refused}");

    // What it misses comes later.
    replica.kill().unwrap();
    client.query("INSERT INTO a VALUES (4)").unwrap();
    replica.restart().unwrap();
    replica.catch_up(&primary).unwrap();

    primary.kill().unwrap();
    replica.promote().unwrap();
    let mut writer = log_in(&replica.url("followed"), SOON).unwrap();
    writer.query("INSERT INTO a VALUES (5)").unwrap();
    assert_eq!(
        writer.value("SELECT sum(b) FROM a").unwrap().as_deref(),
        Some("10")
    );
}

#[test]
fn copies_have_what_their_original_had_and_change_apart() {
    let server = shared().unwrap();
    let original = server.database("original").unwrap();
    // By its owner, whom the copies are to belong to.
    let mut owner = log_in(&original.url(), SOON).unwrap();
    owner
        .query("CREATE TABLE a (b bigint); INSERT INTO a VALUES (1)")
        .unwrap();
    drop(owner);
    let copies = [(); 2].map(|()| server.copy(original.name(), "copy").unwrap());
    for copy in &copies {
        let mut owner = log_in(&copy.url(), SOON).unwrap();
        owner
            .query("INSERT INTO a VALUES (2); ALTER TABLE a ADD c text")
            .unwrap();
        assert_eq!(owner.value("SELECT sum(b) FROM a").unwrap().as_deref(), Some("3"));
    }
}

#[test]
fn a_link_before_it_is_cut_stalls_and_heals() {
    let database = shared().unwrap().database("linked").unwrap();
    let link = Link::to(shared().unwrap().address()).unwrap();
    let open = |within| log_in(&database.url_through(link.address()), within);
    let mut client = open(SOON).unwrap();
    client.query("CREATE TABLE a (b bigint)").unwrap();
    link.cut();
    client.query("SELECT 1").unwrap_err();

    let mut silent = open(SHORT).unwrap();
    link.stall();
    silent.query("INSERT INTO a VALUES (1)").unwrap_err();
    let mut beside = database.connect().unwrap();
    assert_eq!(
        beside.value("SELECT count(*) FROM a").unwrap().as_deref(),
        Some("0")
    );
    link.heal();
    wait::until("what was held back arrives", SOON, || {
        let count = beside.value("SELECT count(*) FROM a")?;
        wait::ensure(count.as_deref() == Some("1"), || format!("{count:?}"))
    })
    .unwrap();
    link.refuse();
    open(SOON).unwrap_err();
    link.heal();
    open(SOON).unwrap().query("SELECT 1").unwrap();
}

/// This very test binary runs again, without its destructors.
#[test]
fn nothing_of_it_outlives_a_killed_owner() {
    const OWNER: &str = "RIG_TEST_POSTGRES_NOTES";
    if let Some(notes) = std::env::var_os(OWNER) {
        let server = shared().unwrap();
        let folder = server.query("SHOW data_directory").unwrap()[0][0]
            .clone()
            .unwrap();
        std::fs::write(&notes, format!("{folder}\n{}", processes(server).join("\n"))).unwrap();
        std::process::abort();
    }
    let folder = Folder::new("test").unwrap();
    let notes = folder.path().join("notes");
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner
        .args(["--exact", "postgres::nothing_of_it_outlives_a_killed_owner"])
        .env(OWNER, &notes);
    let owner = Process::start("the owner", owner, &folder.path().join("log")).unwrap();
    assert!(!owner.wait(SOON).unwrap().success(), "{}", owner.log());
    let notes = std::fs::read_to_string(notes).unwrap();
    let mut lines = notes.lines();
    let data = PathBuf::from(lines.next().unwrap());
    let pids: Vec<_> = lines.collect();
    assert!(pids.len() > 4, "{notes}");
    wait::until("its processes and folder are gone", SOON, || {
        let gone = pids.iter().all(|pid| has_ended(pid)) && !data.parent().is_some_and(Path::exists);
        wait::ensure(gone, || notes.clone())
    })
    .unwrap();
}
