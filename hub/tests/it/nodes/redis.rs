//! The same over real Redis: nodes with connections of their own, which break and come back.

use std::time::Duration;

use common::{
    bus::RedisBus,
    config::Span,
    ids::NodeId,
    redis::{RedisConfig, RedisKind},
};
use rig::redis::{Cluster, ClusterOptions, Options, Server};
use serde_json::{Value, json};

use super::{Island, root, sees};
use crate::{
    control::{get, operator, order},
    policies::policies,
    support::{Client, Setup, TestHub, eventually},
    trace::Lines,
};

/// Where Redis is, under a prefix of one test.
fn config(kind: RedisKind, urls: &[String]) -> RedisConfig {
    RedisConfig::for_test(kind, urls, &format!("t{}", NodeId::generate()))
}

fn rooms(setup: &mut Setup) {
    setup.config.announce = Span(Duration::from_millis(300));
    setup.config.presence_grace = Span(Duration::from_secs(1));
    setup.policies = policies("[[topics]]\npattern = \"topic:public.room*\"\npresence = true\n");
}

async fn node(config: &RedisConfig) -> TestHub {
    let bus = RedisBus::for_test(config);
    TestHub::with(|setup| {
        setup.bus = Some(bus);
        rooms(setup);
    })
    .await
}

async fn enter(hub: &TestHub, user: &str) -> Client {
    let mut client = hub.user(user).await;
    client
        .send(&json!({"type":"subscribe","topic":"public.room"}))
        .await;
    client.expect("subscribed").await;
    client
}

fn event(kind: &str, user: &str) -> Value {
    json!({"type":kind,"user":user,"topic":"topic:public.room"})
}

/// Two nodes and one that dies: who is there, what is asked, what is done, joins and leaves.
async fn several_nodes_are_one(config: &RedisConfig) {
    let hubs = [node(config).await, node(config).await];
    // The connections belong to the runtime that dies.
    let its = config.clone();
    let island = Island::start_with(move || RedisBus::for_test(&its), rooms).await;
    for hub in [&hubs[0], &hubs[1], &island.hub] {
        sees(hub, 3).await;
    }
    let mut watchers = [enter(&hubs[0], "watcher").await, enter(&hubs[1], "watcher").await];
    let _dying = enter(&island.hub, "ann").await;
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("join", "ann"));
    }
    let mut lines = Lines::begin(hubs[1].internal, "topic=public.room").await;
    hubs[0].metric_reaches("hub_traces", 1.0).await;
    hubs[0]
        .publish(&json!({"to":{"topic":"public.room"},"data":1}))
        .await;
    let mut seen = 0;
    while seen < 3 {
        seen += usize::from(lines.next().await["event"] == "sent");
    }
    drop(lines);
    for watcher in &mut watchers {
        watcher.expect("message").await;
    }
    for (to, sessions, nodes) in [
        (json!({"topic":"public.room"}), 3, 3),
        (json!({"user":"ann"}), 1, 2),
        (json!({"user":"nobody"}), 0, 1),
        (json!({"users":["ann","watcher"]}), 3, 3),
    ] {
        let answer = order(&hubs[0], "presence", &json!({"to":to})).await;
        assert_eq!(answer.body["sessions"], sessions, "{to}: {answer:?}");
        assert_eq!(answer.body["nodes"], nodes, "{to}: {answer:?}");
        assert_eq!(answer.body["complete"], true, "{to}: {answer:?}");
    }
    let answer = get(&hubs[1], "stats", &operator()).await;
    assert_eq!(
        (&answer.body["connections"], &answer.body["nodes"]),
        (&json!(3), &json!(3))
    );
    island.kill();
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("leave", "ann"));
    }
    for hub in &hubs {
        sees(hub, 2).await;
    }
    let answer = order(
        &hubs[0],
        "disconnect",
        &json!({"to":{"user":"watcher"},"code":4200}),
    )
    .await;
    assert_eq!(answer.body, json!({"sessions":2,"nodes":2,"complete":true}));
    for watcher in watchers {
        assert_eq!(watcher.closed().await.0, Some(4200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_are_one_over_one_server() {
    let server = Server::start(&Options::default()).unwrap();
    several_nodes_are_one(&config(RedisKind::Servers, &[server.url()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_are_one_over_a_cluster() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    several_nodes_are_one(&config(RedisKind::Cluster, &cluster.urls())).await;
}

/// While Redis is away nobody disappears and nobody leaves; answers are incomplete, in time.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_disappears_while_redis_is_away() {
    let server = Server::start(&Options::default()).unwrap();
    let config = config(RedisKind::Servers, &[server.url()]);
    let hubs = [node(&config).await, node(&config).await];
    sees(&hubs[0], 2).await;
    sees(&hubs[1], 2).await;
    let mut watcher = enter(&hubs[0], "watcher").await;
    let ann = enter(&hubs[1], "ann").await;
    assert_eq!(watcher.json().await, event("join", "ann"));
    server.pause().unwrap();
    // Longer than it takes to be gone.
    let began = tokio::time::Instant::now();
    eventually("three announcements are missing", async || {
        let answer = get(&hubs[0], "nodes", &root()).await;
        assert_eq!(answer.body["nodes"].as_array().unwrap().len(), 2, "{answer:?}");
        (began.elapsed() > Duration::from_millis(1500)).then_some(())
    })
    .await;
    let asked = tokio::time::Instant::now();
    let answer = order(&hubs[0], "presence", &json!({"to":{"user":"ann"}})).await;
    assert_eq!(answer.body["complete"], false, "{answer:?}");
    assert!(asked.elapsed() < Duration::from_secs(2), "it has its deadline");
    let answer = get(&hubs[0], "nodes", &root()).await;
    assert_eq!(answer.body["complete"], false, "{answer:?}");
    server.resume().unwrap();
    sees(&hubs[0], 2).await;
    sees(&hubs[1], 2).await;
    eventually("it answers again", async || {
        let answer = order(&hubs[0], "presence", &json!({"to":{"user":"ann"}})).await;
        (answer.body["sessions"] == 1 && answer.body["complete"] == true).then_some(())
    })
    .await;
    // Nothing was told of ann until she really leaves.
    ann.close().await;
    assert_eq!(watcher.json().await, event("leave", "ann"));
}
