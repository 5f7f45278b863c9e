//! Users come and go once, on however many nodes.

use std::time::Duration;

use common::config::Span;
use serde_json::{Value, json};

use super::{Island, bus, cluster_with, quick, sees};
use crate::{
    policies::policies,
    support::{Client, Setup, TestHub},
};

/// Topics with presence and a short grace; nodes that die are noticed soon.
fn rooms(setup: &mut Setup) {
    quick(setup);
    setup.policies = policies("[[topics]]\npattern = \"topic:public.room*\"\npresence = true\n");
    setup.config.presence_grace = Span(Duration::from_secs(1));
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

#[tokio::test]
async fn a_user_joins_with_the_first_node_and_leaves_with_the_last() {
    let hubs = cluster_with(3, &bus(), rooms).await;
    let mut watchers = [enter(&hubs[0], "watcher").await, enter(&hubs[1], "watcher").await];
    let ann = [enter(&hubs[1], "ann").await, enter(&hubs[2], "ann").await];
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("join", "ann"));
    }
    // What comes next is not another join.
    let bob = enter(&hubs[2], "bob").await;
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("join", "bob"));
    }
    let [first, second] = ann;
    first.close().await;
    // Bob's leave stands behind ann's grace on the first node, and she has not left.
    bob.close().await;
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("leave", "bob"));
    }
    second.close().await;
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("leave", "ann"));
    }
}

#[tokio::test]
async fn who_moves_to_another_node_was_never_away() {
    let hubs = cluster_with(2, &bus(), |setup| {
        rooms(setup);
        setup.config.presence_grace = Span(Duration::from_secs(2));
    })
    .await;
    let mut watcher = enter(&hubs[0], "watcher").await;
    let mut ann = enter(&hubs[1], "ann").await;
    assert_eq!(watcher.json().await, event("join", "ann"));
    for moved in 0..4 {
        ann.close().await;
        ann = enter(&hubs[moved % 2], "ann").await;
    }
    // What ends is told behind all that was not: bob's grace begins behind ann's last one elsewhere.
    let bob = enter(&hubs[0], "bob").await;
    assert_eq!(watcher.json().await, event("join", "bob"));
    bob.close().await;
    assert_eq!(watcher.json().await, event("leave", "bob"));
    ann.close().await;
    assert_eq!(watcher.json().await, event("leave", "ann"));
}

#[tokio::test]
async fn users_of_a_node_that_dies_leave_once() {
    let bus = bus();
    let hubs = cluster_with(2, &bus, rooms).await;
    let island = Island::start(&bus, rooms).await;
    sees(&hubs[0], 3).await;
    let mut watchers = [enter(&hubs[0], "watcher").await, enter(&hubs[1], "watcher").await];
    let dying = [enter(&island.hub, "ann").await, enter(&island.hub, "bob").await];
    let also = enter(&hubs[1], "bob").await;
    for watcher in &mut watchers {
        let mut joined = [watcher.json().await, watcher.json().await];
        joined.sort_unstable_by_key(|frame| frame["user"].to_string());
        assert_eq!(joined, [event("join", "ann"), event("join", "bob")]);
    }
    island.kill();
    drop(dying);
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("leave", "ann"), "bob is elsewhere");
    }
    also.close().await;
    for watcher in &mut watchers {
        assert_eq!(watcher.json().await, event("leave", "bob"));
    }
}

/// The grace of a dead node's users is longer than it takes to notice that it died.
#[tokio::test]
async fn who_comes_back_from_a_dead_node_was_never_away() {
    let bus = bus();
    let slow = |setup: &mut Setup| {
        rooms(setup);
        setup.config.presence_grace = Span(Duration::from_secs(3));
    };
    let hubs = cluster_with(1, &bus, slow).await;
    let island = Island::start(&bus, slow).await;
    sees(&hubs[0], 2).await;
    let mut watcher = enter(&hubs[0], "watcher").await;
    let _ann = enter(&island.hub, "ann").await;
    assert_eq!(watcher.json().await, event("join", "ann"));
    let _bob = enter(&island.hub, "bob").await;
    assert_eq!(watcher.json().await, event("join", "bob"));
    island.kill();
    sees(&hubs[0], 1).await;
    let back = enter(&hubs[0], "ann").await;
    assert_eq!(watcher.json().await, event("leave", "bob"), "ann is back");
    back.close().await;
    assert_eq!(watcher.json().await, event("leave", "ann"));
}

#[tokio::test]
async fn users_of_a_node_that_ends_may_come_back_elsewhere() {
    let hubs = cluster_with(2, &bus(), rooms).await;
    let mut watcher = enter(&hubs[0], "watcher").await;
    let ann = enter(&hubs[1], "ann").await;
    let bob = enter(&hubs[1], "bob").await;
    for user in ["ann", "bob"] {
        assert_eq!(watcher.json().await, event("join", user));
    }
    assert!(hubs[1].hub.drain(Duration::from_secs(10), false).await);
    let back = enter(&hubs[0], "bob").await;
    assert_eq!(watcher.json().await, event("leave", "ann"), "bob is back");
    drop((ann, bob));
    back.close().await;
    assert_eq!(watcher.json().await, event("leave", "bob"));
}

/// Others took it for dead and told that its users left; then it goes on.
#[tokio::test]
async fn users_of_a_node_that_stood_still_join_again() {
    let bus = bus();
    let hubs = cluster_with(1, &bus, rooms).await;
    let island = Island::start(&bus, rooms).await;
    sees(&hubs[0], 2).await;
    let mut watcher = enter(&hubs[0], "watcher").await;
    let ann = enter(&island.hub, "ann").await;
    assert_eq!(watcher.json().await, event("join", "ann"));
    let paused = island.pause().await;
    assert_eq!(watcher.json().await, event("leave", "ann"));
    drop(paused);
    assert_eq!(watcher.json().await, event("join", "ann"));
    ann.close().await;
    assert_eq!(watcher.json().await, event("leave", "ann"));
}

/// Nobody was there when the node died; who has the topic next finds what it left.
#[tokio::test]
async fn what_a_dead_node_left_is_found_later() {
    let bus = bus();
    let island = Island::start(&bus, rooms).await;
    let mut also = enter(&island.hub, "watcher").await;
    let _ann = enter(&island.hub, "ann").await;
    assert_eq!(also.json().await, event("join", "ann"));
    island.kill();
    let hubs = cluster_with(1, &bus, rooms).await;
    let mut watcher = enter(&hubs[0], "watcher").await;
    assert_eq!(watcher.json().await, event("leave", "ann"));
    let ann = enter(&hubs[0], "ann").await;
    assert_eq!(watcher.json().await, event("join", "ann"));
    ann.close().await;
}
