//! What sockets said is stored, whoever is killed or stopped in between.

use std::time::Duration;

use rig::{
    carillon::{Node, Service},
    redis::{Options, Server},
};
use serde_json::json;

use crate::support::{
    client::Client,
    cluster::{Common, post, token},
    eventually,
    socket::Socket,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Where Redis keeps what it took when its process is killed, and what a dispatcher left is taken over soon.
fn cluster() -> (Server, Common) {
    let redis = Server::start(&Options::default().line("appendonly yes")).unwrap();
    let common = Common::on(&redis).set("CARILLON_REDIS__RECEIPTS_CLAIM_AFTER", "500ms");
    (redis, common)
}

async fn unread_becomes(dispatcher: &Node, reader: &str, number: u64) {
    eventually(&format!("{number} unread"), PATIENCE, async || {
        let mut client = Client::connect(dispatcher.address()).await.ok()?;
        let answer = client
            .get("/api/v1/notifications/unread-count", Some(reader))
            .await
            .ok()?;
        (answer.json()["unread_count"] == number).then_some(())
    })
    .await;
}

/// Creates notifications for u1; gives their ids.
async fn created(dispatcher: &Node, number: usize) -> Vec<String> {
    let sender = token(dispatcher, "billing", "notifications:write service");
    let mut ids = Vec::new();
    for _ in 0..number {
        let body = json!({"to":{"user":"u1"},"title":"t","content":"c"});
        let created = post(dispatcher.address(), "/api/v1/notifications", &sender, &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        ids.push(created.json()["id"].as_str().unwrap().to_owned());
    }
    ids
}

#[tokio::test]
async fn a_dispatcher_that_is_killed_while_it_reads_loses_nothing() {
    let (_redis, common) = cluster();
    let (hub, dispatcher) = (common.start(Service::Hub), common.start(Service::Dispatcher));
    let reader = token(&hub, "u1", "");
    let ids = created(&dispatcher, 60).await;
    unread_becomes(&dispatcher, &reader, 60).await;

    let mut socket = Socket::open(hub.address(), &reader).await;
    for (number, id) in ids.iter().enumerate() {
        socket.send(&json!({"type":"read","ids":[id]})).await;
        // The hub has taken it, and the dispatcher may be anywhere with it.
        socket.until_pong().await;
        if number % 20 == 10 {
            dispatcher.kill().unwrap();
        }
        if number % 20 == 15 {
            dispatcher.restart().unwrap();
        }
    }
    unread_becomes(&dispatcher, &reader, 0).await;
}

#[tokio::test]
async fn a_hub_that_stops_hands_on_what_it_was_told() {
    let (redis, common) = cluster();
    let (hub, dispatcher) = (common.start(Service::Hub), common.start(Service::Dispatcher));
    let reader = token(&hub, "u1", "");
    let ids = created(&dispatcher, 5).await;
    unread_becomes(&dispatcher, &reader, 5).await;
    dispatcher.kill().unwrap();
    for id in &ids {
        let read = json!({"type":"read","ids":[id]});
        let said = post(hub.address(), "/api/v1/commands", &reader, &read).await;
        assert_eq!(said.status, 204, "{said:?}");
    }
    hub.terminate().unwrap();
    assert!(hub.wait(PATIENCE).unwrap(), "{}", hub.log());
    redis.restart(rig::redis::Restart::WithData).unwrap();
    dispatcher.restart().unwrap();
    unread_becomes(&dispatcher, &reader, 0).await;
}
