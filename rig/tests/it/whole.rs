//! Everything together, and the command that starts it.

use std::{path::PathBuf, process::Command, time::Duration};

use rig::{
    folder::Folder,
    http,
    process::Process,
    redis::{Engine, Options, Plan},
    wait::{self, ensure},
    whole::{self, Whole},
};
use rustix::process::Signal;

use super::support::{edge, stand_in};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn nodes_know_redis_nginx_knows_nodes_and_all_end_in_order() {
    let (folder, source) = (Folder::new("test").unwrap(), edge());
    let whole = Whole::start(&whole::Options {
        redis: Plan::Single(Options::default()),
        hubs: 2,
        hub_port: None,
        postgres: Some(rig::postgres::Options::fast()),
        dispatchers: 2,
        dispatcher_port: None,
        edge: Some((source.path().to_owned(), rig::nginx::Options::default())),
        program: Some(stand_in(&folder)),
        environment: Vec::new(),
    })
    .unwrap();
    let Engine::Single(server) = whole.redis() else {
        panic!("{whole:?}")
    };
    let postgres = whole.postgres().unwrap();
    let dispatchers = whole.dispatchers();
    let logs = whole
        .hubs()
        .iter()
        .chain(dispatchers)
        .map(rig::carillon::Node::log);
    for log in logs {
        let lines = [
            "kind = \"servers\"",
            &format!("urls = [\"{}\"]", server.url()),
            &format!("[database]\nurl = \"{}\"", postgres.url("carillon")),
            whole.secret(),
        ];
        assert!(lines.iter().all(|line| log.contains(line)), "{log}");
    }
    let nginx = whole.edge().unwrap().address();
    let [first, second] = whole.hubs() else {
        panic!("{whole:?}")
    };
    let [dispatcher, another] = dispatchers else {
        panic!("{whole:?}")
    };
    let behind = format!(
        "{} {} for {} {} ",
        first.address(),
        second.address(),
        dispatcher.address(),
        another.address()
    );
    assert_eq!(http::get(nginx, "/hubs", SOON).unwrap().body, behind);

    assert!(whole.ended().is_empty());
    first.kill().unwrap();
    let ended: Vec<_> = whole.ended().into_iter().map(|(address, _)| address).collect();
    assert_eq!(ended, [first.address()]);
    let left = [
        second.pid(),
        dispatcher.pid(),
        another.pid(),
        server.pid(),
        postgres.pid(),
    ];
    whole.stop().unwrap();
    for pid in left {
        assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "{pid} is left");
    }
}

#[test]
fn sqlite_is_one_dispatcher_s() {
    let refused = Whole::start(&whole::Options {
        redis: Plan::Single(Options::default()),
        hubs: 1,
        hub_port: None,
        postgres: None,
        dispatchers: 2,
        dispatcher_port: None,
        edge: None,
        program: None,
        environment: Vec::new(),
    })
    .unwrap_err();
    assert!(refused.to_string().contains("PostgreSQL"), "{refused}");
}

#[test]
fn the_command_shows_where_everything_is_until_it_is_interrupted() {
    let (folder, source) = (Folder::new("test").unwrap(), edge());
    stand_in(&folder);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rig"));
    command
        .current_dir(folder.path())
        .args(["cluster", "--redis", "single", "--any-ports", "--nginx"])
        .arg(source.path())
        // Relative to where the command runs, not to where its processes do.
        .args(["--carillon", "./carillon"]);
    let rig = Process::start("rig", command, &folder.path().join("log")).unwrap();
    wait::until("all runs", SOON, || {
        rig.check()?;
        ensure(rig.log().contains("Ctrl-C ends it all"), || rig.log())
    })
    .unwrap();
    let log = rig.log();
    for what in [
        "hub 1",
        "hub 2",
        "dispatcher 2",
        "postgres",
        "nginx",
        "redis",
        "TOKEN=",
        "curl -N",
    ] {
        assert!(log.contains(what), "{log}");
    }
    rig.signal(Signal::INT).unwrap();
    assert_eq!(rig.wait(SOON).unwrap().code(), Some(0), "{}", rig.log());
}
