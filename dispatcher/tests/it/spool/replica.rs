//! Reads while the primary is away, and what follows when a replica takes its place.

use dispatcher::{
    config::DispatcherConfig,
    store::{Place, Server as Database, StoreConfig},
};
use rig::postgres;
use secrecy::SecretString;
use serde_json::json;

use super::*;
use crate::{
    api::{Answer, Api, Who},
    support::quick,
};

fn with_replica(primary: String, replica: String) -> StoreConfig {
    StoreConfig::at(Place::Server(Database {
        replica: Some(SecretString::from(replica)),
        ..Database::new(primary)
    }))
}

/// Readers ask again and again until the database is back.
fn asked_often() -> DispatcherConfig {
    let mut config = quick();
    config.limits.user_requests_per_minute = 100_000;
    config
}

fn is_stale(answer: &Answer) -> bool {
    answer.header("x-carillon-stale") == Some("replica")
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_reads_go_to_a_replica_and_writes_into_redis_until_the_primary_is_back() {
    let redis = durable();
    let shared = Shared::on(&redis);
    let primary = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let url = primary.create_database("carillon").unwrap();
    let replica = postgres::Server::replica(&primary).unwrap();
    let config = with_replica(url, replica.url("carillon"));
    let mut world = World::open(config).await;
    world.spool = Some(shared.node("a").await);
    let api = Api::on(world, asked_often()).await;
    let (service, user) = (Who::service(), Who::user("u1"));
    let body = |title: &str| json!({"to": {"user": "u1"}, "title": title, "content": "c"});
    for title in ["1", "2"] {
        api.post(&service, "/api/v1/notifications", &body(title))
            .await
            .expect(201);
    }
    let list = api.get(&user, "/api/v1/notifications").await;
    assert!(!is_stale(&list));
    let id = list.expect(200)[0]["id"].as_str().unwrap().to_owned();
    let cursor = list.header("x-next-cursor").unwrap().to_owned();
    replica.catch_up(&primary).unwrap();

    primary.kill().unwrap();
    let list = api.get(&user, "/api/v1/notifications").await;
    assert_eq!(list.expect(200).as_array().unwrap().len(), 2, "{}", list.text);
    assert!(is_stale(&list));
    // Somebody who was never seen before is served as well.
    for (who, path) in [
        (&user, "/api/v1/notifications/unread-count".to_owned()),
        (&Who::user("u2"), "/api/v1/notifications".to_owned()),
        (&user, format!("/api/v1/notifications/{id}")),
        (&service, format!("/api/v1/notifications/{id}/status")),
    ] {
        let answer = api.get(who, &path).await;
        answer.expect(200);
        assert!(is_stale(&answer), "{path}");
    }
    let spooled = api
        .post(&service, "/api/v1/notifications", &body("3"))
        .await
        .expect(202);
    assert_eq!(spooled["status"], "spooled");
    // A write is no read, and a feed goes on where it was.
    let read = api.put(&user, &format!("/api/v1/notifications/{id}/read")).await;
    assert_eq!(read.problem().0, 503);
    let changes = format!("/api/v1/inbox/changes?after={cursor}");
    assert_eq!(api.get(&user, &changes).await.problem().0, 503);
    let ready = api.get(&user, "/ready").await;
    assert_eq!(ready.status, 200, "{}", ready.text);

    primary.restart().unwrap();
    eventually("the primary answers", async || {
        let list = api.get(&user, "/api/v1/notifications").await;
        (!is_stale(&list) && list.json().as_array().is_some_and(|list| list.len() == 3)).then_some(())
    })
    .await;
    assert_eq!(api.titles(&user).await, ["3", "2", "1"]);
    assert_eq!(
        api.get(&user, &changes).await.expect(200)["changes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_template_that_was_used_before_is_used_while_the_database_is_away() {
    let redis = durable();
    let shared = Shared::on(&redis);
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let url = server.create_database("carillon").unwrap();
    let mut world = World::open(StoreConfig::server(url)).await;
    world.spool = Some(shared.node("a").await);
    let api = Api::on(world, asked_often()).await;
    let writer = Who::service().scope("templates:write");
    for name in ["used", "unused"] {
        let template = json!({"name": name, "title": "T {{ a }}", "content": "C"});
        api.post(&writer, "/api/v1/templates", &template)
            .await
            .expect(201);
    }
    let body = |name: &str| json!({"to": {"user": "u1"}, "template": name, "variables": {"a": 1}});
    api.post(&writer, "/api/v1/notifications", &body("used"))
        .await
        .expect(201);
    server.kill().unwrap();
    let spooled = api
        .post(&writer, "/api/v1/notifications", &body("used"))
        .await
        .expect(202);
    assert_eq!(spooled["title"], "T 1");
    let unknown = api.post(&writer, "/api/v1/notifications", &body("unused")).await;
    assert_eq!(unknown.problem().0, 503);
    assert!(unknown.header("retry-after").is_some());
    server.restart().unwrap();
    eventually("it is stored", async || {
        let list = api.get(&Who::user("u1"), "/api/v1/notifications").await;
        (list.status == 200 && list.json().as_array().unwrap().len() == 2).then_some(())
    })
    .await;
}
