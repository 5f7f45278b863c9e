//! Hubs that are processes of their own know each other, and notice when one is killed.

use std::time::{Duration, Instant};

use rig::{
    carillon::{Node, Service},
    redis::{Options, Server},
};
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    cluster::{Common, post, token},
    eventually,
    socket::Socket,
};

/// A node that dies disappears within this time.
const GONE: Duration = Duration::from_secs(10);

async fn get(node: &Node, path: &str, token: &str) -> Value {
    let mut client = Client::connect(node.internal()).await.unwrap();
    let answer = client.get(path, Some(token)).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Waits until a hub knows of so many nodes.
async fn sees(hub: &Node, nodes: usize, operator: &str) -> Value {
    eventually("the hubs know each other", 2 * GONE, async || {
        let seen = get(hub, "/api/v1/control/nodes", operator).await;
        let there = seen["nodes"].as_array().unwrap().len();
        (there == nodes && seen["complete"] == true).then_some(seen)
    })
    .await
}

#[tokio::test]
async fn a_hub_that_is_killed_disappears_and_its_users_leave() {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis)
        .set("CARILLON_HUB__REGION", "north")
        .set("CARILLON_HUB__PRESENCE_GRACE", "1s")
        .with("[[topics]]\npattern = \"tenant\"\npresence = true\n");
    let hubs = [(); 3].map(|()| common.start(Service::Hub));
    let operator = token(&hubs[0], "operator", "control");
    for hub in &hubs {
        let seen = sees(hub, 3, &operator).await;
        assert!(
            seen["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .all(|node| node["region"] == "north")
        );
    }
    let mut watchers = Vec::new();
    for hub in &hubs[..2] {
        watchers.push(Socket::open(hub.address(), &token(hub, "watcher", "")).await);
    }
    let _ann = Socket::open(hubs[2].address(), &token(&hubs[2], "ann", "")).await;
    let event = |kind: &str| json!({"type":kind,"user":"ann","topic":"tenant"});
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await, event("join"));
    }
    let body = json!({"to":{"user":"ann"}});
    let asked = post(hubs[0].internal(), "/api/v1/control/presence", &operator, &body).await;
    let expected = json!({"users":[{"user":"ann","sessions":1}],"sessions":1,"nodes":2,"complete":true});
    assert_eq!(asked.json(), expected);

    hubs[2].kill().unwrap();
    let killed = Instant::now();
    sees(&hubs[0], 2, &operator).await;
    assert!(killed.elapsed() <= GONE, "{:?}", killed.elapsed());
    for watcher in &mut watchers {
        assert_eq!(watcher.next().await, event("leave"));
        assert_eq!(watcher.until_pong().await, [] as [Value; 0], "it is told once");
    }

    // Who ends says so, when its last session has gone.
    drop(watchers);
    hubs[1].terminate().unwrap();
    let ended = Instant::now();
    assert!(hubs[1].wait(GONE).unwrap(), "the hub ends");
    sees(&hubs[0], 1, &operator).await;
    assert!(ended.elapsed() < GONE / 2, "{:?}", ended.elapsed());
    let stats = get(&hubs[0], "/api/v1/control/stats", &operator).await;
    assert_eq!(
        (&stats["nodes"], &stats["complete"]),
        (&json!(1), &json!(true)),
        "{stats}"
    );
}
