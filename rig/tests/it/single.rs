//! One Redis.

use rig::{
    Error,
    redis::{Options, Restart, Server},
};

#[test]
fn it_restarts_on_its_port_with_its_data_or_without() {
    let server = Server::start(&Options::default()).unwrap();
    let (address, pid) = (server.address(), server.pid());
    server.command(&["SET", "a", "b"]).unwrap();
    server.restart(Restart::WithData).unwrap();
    assert_eq!(server.command(&["GET", "a"]).unwrap().as_str(), "b");
    assert_eq!(server.address(), address);
    assert_ne!(server.pid(), pid);
    server.restart(Restart::Empty).unwrap();
    assert_eq!(server.command(&["DBSIZE"]).unwrap().as_integer(), Some(0));
}

#[test]
fn a_guarded_one_lets_the_administrator_in_and_nobody_else() {
    let server = Server::start(&Options {
        password: Some("p@ss/word".to_owned()),
        users: vec!["bus on >secret ~bus:* &* +@all".to_owned()],
        ..Options::default()
    })
    .unwrap();
    assert_eq!(
        server.url(),
        format!("redis://default:p%40ss%2Fword@{}", server.address())
    );
    assert_eq!(server.command(&["ACL", "WHOAMI"]).unwrap().as_str(), "rig");
    let within = std::time::Duration::from_secs(5);
    let mut stranger = rig::redis::Connection::open(server.address(), within).unwrap();
    let refused = stranger.call(&["GET", "a"]).unwrap_err();
    assert!(
        matches!(&refused, Error::Redis { text, .. } if text.starts_with("NOAUTH")),
        "{refused}"
    );
    stranger.call(&["AUTH", "bus", "secret"]).unwrap();
    assert!(stranger.call(&["GET", "a"]).is_err());
    stranger.call(&["GET", "bus:a"]).unwrap();
}

#[test]
fn options_that_redis_refuses_are_told_with_its_words() {
    let refused = Server::start(&Options::default().line("no-such-option 1")).unwrap_err();
    assert!(matches!(refused, Error::Ended { .. }), "{refused:?}");
    assert!(refused.to_string().contains("no-such-option"), "{refused}");
}

#[test]
fn a_paused_one_does_not_answer_until_it_is_resumed() {
    let server = Server::start(&Options::default()).unwrap();
    server.pause().unwrap();
    assert!(server.is_running() && !server.is_awake());
    let short = std::time::Duration::from_millis(100);
    let mut connection = server.connect(short).unwrap();
    assert!(connection.call(&["PING"]).is_err());
    server.resume().unwrap();
    assert_eq!(server.command(&["PING"]).unwrap().as_str(), "PONG");
}

#[test]
fn a_replica_follows_its_primary() {
    let primary = Server::start(&Options::default().line("repl-diskless-sync-delay 0")).unwrap();
    let replica = Server::start(&Options {
        replica_of: Some(primary.address()),
        ..Options::default()
    })
    .unwrap();
    primary.command(&["SET", "a", "b"]).unwrap();
    let within = std::time::Duration::from_secs(20);
    rig::wait::until("the replica has it", within, || {
        let value = replica.command(&["GET", "a"])?;
        rig::wait::ensure(value.as_str() == "b", || format!("{value:?}"))
    })
    .unwrap();
}

#[test]
fn it_serves_tls_beside() {
    let folder = rig::folder::Folder::new("test").unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::start(&Options {
        tls: Some(rig::redis::Tls {
            certificate: certificate.clone(),
            key,
            client_ca: None,
        }),
        password: Some("secret".to_owned()),
        ..Options::default()
    })
    .unwrap();
    let url = server.tls_url().unwrap();
    assert!(url.starts_with("rediss://default:secret@127.0.0.1:"), "{url}");
    let mut client = std::process::Command::new("redis-cli");
    client
        .args(["--no-auth-warning", "-u", &url, "--cacert"])
        .arg(certificate)
        .arg("PING");
    let output = client.output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "PONG",
        "{output:?}"
    );
}
