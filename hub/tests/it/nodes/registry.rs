//! Which nodes there are.

use std::time::Duration;

use common::{
    bus::Publication,
    config::Span,
    ids::{MessageId, NodeId},
    message::{FrameKind, Header},
    topic::TopicKey,
};
use serde_json::{Value, json};

use super::{Island, bus, cluster, cluster_with, quick, root, sees};
use crate::{
    control::{get, operator},
    support::{TestHub, eventually, publisher, tenant},
};

fn ids(nodes: &Value) -> Vec<&str> {
    let nodes = nodes["nodes"].as_array().unwrap();
    nodes.iter().map(|node| node["node"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn nodes_say_what_they_are() {
    let hubs = cluster_with(3, &bus(), |setup| setup.config.region = "north".to_owned()).await;
    for hub in &hubs {
        let nodes = sees(hub, 3).await;
        let mut there = ids(&nodes);
        assert_eq!(
            there[0],
            hub.hub.node().as_str(),
            "the one that answers is the first"
        );
        let mut expected: Vec<&str> = hubs.iter().map(|hub| hub.hub.node().as_str()).collect();
        expected.sort_unstable();
        there.sort_unstable();
        assert_eq!(there, expected);
        for node in nodes["nodes"].as_array().unwrap() {
            assert_eq!(node["region"], "north");
            assert_eq!((&node["ready"], &node["draining"]), (&json!(true), &json!(false)));
            assert!(node["version"].as_str().unwrap().contains('.'), "{node}");
            let started: jiff::Timestamp = node["started_at"].as_str().unwrap().parse().unwrap();
            assert!(started <= jiff::Timestamp::now());
            assert!(node["heard_ms"].as_u64().unwrap() < 30_000);
        }
        assert!(hub.metric("hub_nodes") >= 3.0);
    }
    // What others of the platform have is the platform's to know.
    let answer = get(&hubs[0], "nodes", &operator()).await;
    assert_eq!(answer.body["nodes"][1]["load"], Value::Null);
    let answer = get(&hubs[0], "nodes", &root()).await;
    assert!(
        answer.body["nodes"][0]["load"]["resident_bytes"]
            .as_u64()
            .unwrap()
            > 1_000_000
    );
    get(&hubs[0], "nodes", &publisher())
        .await
        .problem(403, "scope_missing");
    get(&hubs[0], "nodes", "").await.problem(401, "token_missing");
}

#[tokio::test]
async fn announcements_tell_the_load() {
    let hubs = cluster_with(2, &bus(), quick).await;
    let _clients = [
        hubs[1].user("ann").await,
        hubs[1].user("ann").await,
        hubs[1].user("bob").await,
    ];
    eventually("the load is told", async || {
        let answer = get(&hubs[0], "nodes", &root()).await;
        let load = &answer.body["nodes"][1]["load"];
        (load["sessions"] == 3 && load["users"] == 2).then_some(())
    })
    .await;
    hubs[1].publish(&json!({"to":{"user":"ann"},"data":1})).await;
    eventually("the rates are told", async || {
        let answer = get(&hubs[0], "nodes", &root()).await;
        let load = &answer.body["nodes"][1]["load"];
        let rate = |field: &str| load[field].as_f64().unwrap();
        (rate("publishes_per_second") > 0.0 && rate("deliveries_per_second") > 0.0).then_some(())
    })
    .await;
}

/// Announcements are so far apart that only a goodbye can be what removes it.
#[tokio::test]
async fn a_node_that_ends_is_gone_at_once() {
    let hubs = cluster_with(2, &bus(), |setup| {
        setup.config.announce = Span(Duration::from_secs(60));
    })
    .await;
    assert!(hubs[1].hub.drain(Duration::from_secs(10), false).await);
    let left = sees(&hubs[0], 1).await;
    assert_eq!(ids(&left), [hubs[0].hub.node().as_str()]);
}

#[tokio::test]
async fn a_node_that_drains_says_so() {
    let hubs = cluster_with(2, &bus(), quick).await;
    hubs[1].hub.begin_leaving();
    eventually("the node drains", async || {
        let answer = get(&hubs[0], "nodes", &operator()).await;
        (answer.body["nodes"][1]["draining"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_node_that_dies_disappears() {
    let bus = bus();
    let hubs = cluster_with(2, &bus, quick).await;
    let island = Island::start(&bus, quick).await;
    sees(&hubs[0], 3).await;
    island.kill();
    for hub in &hubs {
        sees(hub, 2).await;
    }
    assert!(hubs.iter().all(|hub| hub.metric("hub_nodes") <= 2.0));
}

/// It is not heard, so it is gone; and it is back when it goes on.
#[tokio::test]
async fn a_node_that_stood_still_is_back() {
    let bus = bus();
    let hubs = cluster_with(1, &bus, quick).await;
    let island = Island::start(&bus, quick).await;
    sees(&hubs[0], 2).await;
    let paused = island.pause().await;
    sees(&hubs[0], 1).await;
    drop(paused);
    sees(&hubs[0], 2).await;
    sees(&island.hub, 2).await;
}

async fn put(hub: &TestHub, key: TopicKey, payload: &str, age_ms: i64) {
    let mut header = Header::new(MessageId::generate(), FrameKind::Order);
    header.at -= age_ms;
    let publication = Publication {
        key,
        header,
        payload: payload.to_owned().into(),
        history: false,
        idempotency_key: None,
    };
    hub.bus.publish(publication).await.unwrap();
}

#[tokio::test]
async fn orders_that_a_node_does_not_know_are_left_alone() {
    let hubs = cluster(1).await;
    let hub = &hubs[0];
    let mut ann = hub.user("ann").await;
    let own = TopicKey::node(&NodeId::new(hub.hub.node().as_str()).unwrap());
    let ask = |id: u32| {
        json!({"v":1,"from":"other","order":"ask","body":{"id":id,"within_ms":300,"tenant":"t1","to":{"user":"ann"},
            "deed":{"disconnect":{"farewell":{"code":4100,"text":"bye","advice":"never"},"spread_seconds":0}}}})
    };
    for (payload, age, reason) in [
        (json!({"v":2,"body":{}}), 0, "version"),
        (json!({"v":1,"from":"x","order":"dance","body":{}}), 0, "unknown"),
        (
            json!({"v":1,"from":"x","order":"ask","body":{"id":1}}),
            0,
            "malformed",
        ),
        (ask(1), 60_000, "late"),
    ] {
        for key in [TopicKey::nodes(), own.clone(), TopicKey::tenant(&tenant("t1"))] {
            put(hub, key, &payload.to_string(), age).await;
        }
        hub.metric_reaches(
            &format!(r#"hub_node_orders_ignored_total{{reason="{reason}"}}"#),
            3.0,
        )
        .await;
    }
    // No session gets a word of it.
    assert!(ann.until_pong().await.is_empty());
    // Nor is one that means all tenants in the name of somebody who may not.
    let mut all = ask(3);
    all["body"]["to"] = json!({"everyone":true});
    put(hub, TopicKey::nodes(), &all.to_string(), 0).await;
    assert!(ann.until_pong().await.is_empty());
    // And one that it knows is carried out, so the others could have been.
    put(hub, TopicKey::nodes(), &ask(2).to_string(), 0).await;
    assert_eq!(ann.closed().await, (Some(4100), "bye; reconnect=no".to_owned()));
}

/// A message is an order by its header, which only hubs write; whatever a publisher says stays a message.
#[tokio::test]
async fn publishers_cannot_give_orders() {
    let hubs = cluster(2).await;
    let mut ann = hubs[0].user("ann").await;
    let order = json!({"v":1,"from":"x","order":"leave","body":null});
    let all = json!({"v":1,"from":hubs[1].hub.node().as_str(),"order":"leave","body":null});
    let service = publisher();
    for body in [
        json!({"to":{"user":"ann"},"type":"order","data":order}),
        json!({"to":{"topic":":n"},"data":all}),
        json!({"to":{"topic":"n"},"data":all}),
        json!({"to":{"role":format!(":n:{}", hubs[0].hub.node())},"data":all}),
        json!({"to":{"tenant":true},"kind":"order","data":all}),
    ] {
        let answer = hubs[0].post("/api/v1/publish", &service, &body).await;
        assert!(matches!(answer.status, 200 | 422), "{answer:?}");
    }
    for client_says in ["nodes", ":n", "n:x"] {
        ann.send(&json!({"type":"subscribe","topic":client_says})).await;
    }
    ann.until_pong().await;
    sees(&hubs[0], 2).await;
    assert_eq!(
        hubs[0].metric(r#"hub_node_orders_ignored_total{reason="unknown"}"#),
        0.0
    );
    assert_eq!(
        hubs[0].metric(r#"hub_node_orders_ignored_total{reason="malformed"}"#),
        0.0
    );
}
