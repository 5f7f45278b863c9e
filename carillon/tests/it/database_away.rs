//! A dispatcher that starts before its database: it waits where waiting helps, and says what is wrong where it does not.

use std::time::Duration;

use rig::{
    carillon::{Node, Service},
    postgres::{OWNER, Options, Server},
    redis,
};
use serde_json::json;

use crate::support::{
    client::Client,
    cluster::{Common, post, readiness, token},
    eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn on(redis: &redis::Server, url: &str) -> Common {
    Common::on(redis).set("CARILLON_DATABASE__URL", url)
}

fn not_ready() -> (u16, serde_json::Value) {
    (503, json!({"status":"not_ready","reasons":["storage"]}))
}

async fn waits(dispatcher: &Node) {
    eventually("it answers", PATIENCE, async || dispatcher.ready().ok()).await;
    assert_eq!(readiness(dispatcher), not_ready(), "{}", dispatcher.log());
}

#[tokio::test]
async fn a_dispatcher_waits_for_its_database_and_says_so() {
    let (redis, postgres) = (
        redis::Server::start(&redis::Options::default()).unwrap(),
        Server::start(&Options::fast()).unwrap(),
    );
    let url = postgres.create_database("later").unwrap();
    postgres.kill().unwrap();
    let dispatcher = on(&redis, &url).spawn(Service::Dispatcher);
    waits(&dispatcher).await;
    let sender = token(&dispatcher, "billing", "notifications:write");
    let body = json!({"to":{"user":"u1"},"title":"T","content":"C"});
    let refused = post(dispatcher.address(), "/api/v1/notifications", &sender, &body).await;
    assert_eq!(
        (refused.status, refused.problem().0),
        (503, "unavailable".to_owned())
    );
    assert_eq!(refused.headers["retry-after"], "2");
    for address in [dispatcher.address(), dispatcher.internal()] {
        for (path, status) in [
            ("/live", 200),
            ("/health", 200),
            ("/ready", 503),
            ("/metrics", 503),
        ] {
            let mut client = Client::connect(address).await.unwrap();
            assert_eq!(client.get(path, None).await.unwrap().status, status, "{path}");
        }
    }

    // This one is kept open, and ends with the time of waiting.
    let mut kept = Client::connect(dispatcher.address()).await.unwrap();
    assert_eq!(kept.get("/live", None).await.unwrap().status, 200);
    postgres.restart().unwrap();
    eventually("it is ready", PATIENCE, async || {
        (dispatcher.ready().ok()?.status == 200).then_some(())
    })
    .await;
    kept.get("/live", None).await.unwrap_err();
    let created = post(dispatcher.address(), "/api/v1/notifications", &sender, &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let log = dispatcher.log();
    assert_eq!(log.matches("waiting for the database").count(), 1, "{log}");
    dispatcher.interrupt().unwrap();
    assert!(dispatcher.wait(PATIENCE).unwrap(), "{}", dispatcher.log());
}

#[tokio::test]
async fn a_dispatcher_that_waits_ends_when_it_is_told_to() {
    let (redis, postgres) = (
        redis::Server::start(&redis::Options::default()).unwrap(),
        Server::start(&Options::fast()).unwrap(),
    );
    let url = postgres.create_database("never").unwrap();
    postgres.kill().unwrap();
    let dispatcher = on(&redis, &url).spawn(Service::Dispatcher);
    waits(&dispatcher).await;
    dispatcher.terminate().unwrap();
    assert!(dispatcher.wait(PATIENCE).unwrap(), "{}", dispatcher.log());
}

#[tokio::test]
async fn what_waiting_does_not_help_against_ends_at_once() {
    let redis = redis::Server::start(&redis::Options::default()).unwrap();
    let postgres = Server::start(&Options::fast()).unwrap();
    let good = postgres.create_database("good").unwrap();
    let newer = postgres.create_database("newer").unwrap();
    postgres
        .connect("newer")
        .unwrap()
        .query(&format!(
            "SET ROLE {OWNER}; CREATE TABLE schema_migrations \
               (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL); \
             INSERT INTO schema_migrations VALUES (999999, 'later', 0)"
        ))
        .unwrap();
    let (before, after) = good.split_once('@').unwrap();
    let (role, _) = before.rsplit_once(':').unwrap();
    for (url, says) in [
        (format!("{role}:wrong@{after}"), "password authentication failed"),
        (good.replace("/good", "/absent"), "\"absent\" does not exist"),
        (newer, "newer version (schema 999999"),
    ] {
        let dispatcher = on(&redis, &url).spawn(Service::Dispatcher);
        assert!(!dispatcher.wait(PATIENCE).unwrap(), "{says}");
        let log = dispatcher.log();
        assert!(log.contains(says), "{says}: {log}");
        assert!(!log.contains("waiting for the database"), "{says}: {log}");
        assert!(!log.contains("wrong"), "a password is logged: {log}");
    }
}
