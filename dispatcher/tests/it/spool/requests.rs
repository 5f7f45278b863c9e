//! Requests while the database is away: none of them waits for it but the first ones.

use dispatcher::store::StoreConfig;
use rig::postgres;
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::{
    api::{Api, Who},
    support::quick,
};

/// What is looked at until somebody found out, and what is far less than any time-out of a database.
const FOUND_OUT: Duration = Duration::from_secs(5);
const AT_ONCE: Duration = Duration::from_secs(1);

/// Every kind of request that needs the database.
const NEEDS_IT: [(&str, &str); 10] = [
    ("GET", "/api/v1/notifications/history"),
    ("GET", "/api/v1/notifications/stats"),
    ("GET", "/api/v1/notifications"),
    ("GET", "/api/v1/dead-letters"),
    ("GET", "/api/v1/schedules"),
    ("GET", "/api/v1/queue/pauses"),
    ("POST", "/api/v1/queue/pauses"),
    ("GET", "/api/v1/templates"),
    (
        "GET",
        "/api/v1/notifications/0198c2a0-0000-7000-8000-000000000000/status",
    ),
    (
        "POST",
        "/api/v1/notifications/0198c2a0-0000-7000-8000-000000000000/cancel",
    ),
];

async fn all_are_refused(api: &Api, others: &[(&str, serde_json::Value)]) {
    let who = Who::user("op").scope("notifications:admin");
    let service = Who::service();
    for round in 0..2 {
        for (at, (method, path)) in NEEDS_IT.into_iter().enumerate() {
            let began = Instant::now();
            let answer = api.json(method, &who, path, "{}").await;
            let took = began.elapsed();
            assert_eq!(answer.status, 503, "{method} {path}: {}", answer.text);
            assert!(answer.header("retry-after").is_some());
            let most = if (round, at) == (0, 0) { FOUND_OUT } else { AT_ONCE };
            assert!(took < most, "{method} {path} took {took:?} in round {round}");
        }
        for (path, body) in others {
            let began = Instant::now();
            let answer = api.post(&service, path, body).await;
            assert_eq!(answer.status, 503, "{path}: {}", answer.text);
            assert!(began.elapsed() < AT_ONCE, "{path} took {:?}", began.elapsed());
        }
    }
    let health = api.get(&who, "/health").await;
    assert_eq!(health.status, 200, "{}", health.text);
}

fn creations() -> [(&'static str, serde_json::Value); 3] {
    let path = "/api/v1/notifications";
    [
        (path, json!({"to": {"user": "u1"}, "title": "t", "content": "c"})),
        (
            path,
            json!({"to": {"user": "u1"}, "title": "t", "content": "c", "channels": ["email"]}),
        ),
        (path, json!({"to": {"user": "u1"}, "template": "none"})),
    ]
}

async fn answers_again(api: &Api) {
    eventually("the database is found again", async || {
        let list = api.get(&Who::user("u1"), "/api/v1/notifications").await;
        (list.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_a_database_that_refuses_makes_no_request_wait() {
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let world = World::open(StoreConfig::server(server.create_database("carillon").unwrap())).await;
    let api = Api::on(world, quick()).await;
    answers_again(&api).await;
    server.kill().unwrap();
    all_are_refused(&api, &creations()).await;
    server.restart().unwrap();
    answers_again(&api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_a_database_that_hangs_makes_only_the_first_request_wait() {
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let world = World::open(StoreConfig::server(server.create_database("carillon").unwrap())).await;
    let api = Api::on(world, quick()).await;
    answers_again(&api).await;
    server.pause().unwrap();
    all_are_refused(&api, &creations()).await;
    server.resume().unwrap();
    answers_again(&api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_with_a_spool_no_request_waits_and_a_batch_is_spooled() {
    let redis = durable();
    let shared = Shared::on(&redis);
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let mut world = World::open(StoreConfig::server(server.create_database("carillon").unwrap())).await;
    world.spool = Some(shared.node("a").await);
    let api = Api::on(world, quick()).await;
    answers_again(&api).await;
    server.kill().unwrap();
    all_are_refused(&api, &[]).await;
    let batch = json!({"user_ids": ["u1", "u2"], "title": "t", "content": "c"});
    let path = "/api/v1/notifications/batch";
    let spooled = api.post(&Who::service(), path, &batch).await.expect(202);
    assert_eq!(
        (&spooled["status"], &spooled["total_users"]),
        (&json!("spooled"), &json!(2))
    );
    server.restart().unwrap();
    eventually("it is stored", async || {
        let list = api.get(&Who::user("u2"), "/api/v1/notifications").await;
        (list.status == 200 && list.json().as_array().is_some_and(|list| list.len() == 1)).then_some(())
    })
    .await;
}
