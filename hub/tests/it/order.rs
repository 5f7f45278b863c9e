//! Every session gets every message once, in the order of its topic.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Client, TestHub};

/// The offset of a frame of a topic.
pub(crate) fn offset(frame: &Value) -> u64 {
    let position = frame["position"]
        .as_str()
        .unwrap_or_else(|| panic!("no position: {frame}"));
    position.split(':').nth(1).unwrap().parse().unwrap()
}

/// Takes `count` messages and asserts that their offsets go on from `after` without a gap.
pub(crate) async fn take_in_order(client: &mut Client, after: u64, count: u64) {
    for number in 1..=count {
        let frame = client.expect("message").await;
        assert_eq!(offset(&frame), after + number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_publishers_fifty_sessions() {
    const EACH: u64 = 250;
    let hub = Arc::new(TestHub::start().await);
    let mut readers = JoinSet::new();
    for number in 0..50 {
        let mut client = hub.user(&format!("u{number}")).await;
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
        readers.spawn(async move {
            take_in_order(&mut client, 0, 4 * EACH).await;
            assert!(client.until_pong().await.is_empty());
        });
    }
    let mut publishers = JoinSet::new();
    for publisher in 0..4 {
        let hub = Arc::clone(&hub);
        publishers.spawn(async move {
            let mut offsets = Vec::new();
            for number in 0..EACH {
                let body = json!({"to":{"topic":"public.a"},"data":{"publisher":publisher,"number":number}});
                offsets.push(hub.publish(&body).await["offset"].as_u64().unwrap());
            }
            assert!(offsets.is_sorted(), "a publisher's messages keep their order");
            offsets
        });
    }
    let mut offsets = publishers.join_all().await.concat();
    offsets.sort_unstable();
    assert!(offsets.into_iter().eq(1..=4 * EACH));
    readers.join_all().await;
    assert_eq!(hub.metric("hub_deliveries_total"), 50.0 * 4.0 * EACH as f64);
    assert_eq!(hub.metric("hub_messages_dropped_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_that_come_in_the_middle_miss_nothing_behind_their_welcome() {
    let hub = Arc::new(TestHub::start().await);
    let publisher = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move {
            for number in 0..600 {
                hub.publish(&json!({"to":{"tenant":true},"data":number})).await;
            }
        }
    });
    let mut readers = JoinSet::new();
    while !publisher.is_finished() {
        let mut client = hub.user(&format!("u{}", readers.len())).await;
        let start: u64 = client
            .position("tenant")
            .split(':')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        readers.spawn(async move { take_in_order(&mut client, start, 600 - start).await });
    }
    publisher.await.unwrap();
    assert!(readers.len() > 3);
    readers.join_all().await;
}
