//! Queues that overflow inside the node: dropped, counted, and healed from history.

use common::{message::FrameKind, topic::TopicKey};
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    order::take_in_order,
    support::{TestHub, name, tenant, user_key},
};

const BURST: u64 = 500;

/// A burst that nothing holds back, with sessions that must get all of it although queues overflow.
async fn heals(hub: TestHub) {
    let topic = TopicKey::topic(&tenant("t1"), &name("public.a"));
    let mut readers = JoinSet::new();
    for number in 0..20 {
        let user = format!("u{number}");
        let mut client = hub.user(&user).await;
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
        readers.spawn(async move {
            for round in 0..3 {
                take_in_order(&mut client, round * BURST, BURST).await;
            }
            // And its own topic, on which nothing comes behind the burst.
            take_in_order(&mut client, 0, 10).await;
            assert!(client.until_pong().await.is_empty());
        });
    }
    for _ in 0..3 {
        for _ in 0..BURST {
            // Nothing in here waits, so the hub's tasks fall behind.
            hub.put(&topic, FrameKind::Message, true, |_| ()).await;
        }
        tokio::task::yield_now().await;
    }
    hub.metric_reaches("hub_messages_dropped_total", 1.0).await;
    // The bursts have to be through before another topic's messages, which keep no order with them.
    hub.metric_reaches("hub_deliveries_total", (20 * 3 * BURST) as f64)
        .await;
    for number in 0..20 {
        for _ in 0..10 {
            hub.put(&user_key(&format!("u{number}")), FrameKind::Message, true, |_| ())
                .await;
        }
    }
    while let Some(read) = readers.join_next().await {
        read.unwrap();
    }
    assert!(hub.metric("hub_gaps_healed_total") >= 1.0);
    assert_eq!(hub.metric("hub_resyncs_total"), 0.0);
}

#[tokio::test]
async fn a_worker_s_queue_heals() {
    heals(TestHub::with(|setup| setup.config.worker_queue = 4).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_s_queue_heals_on_many_threads() {
    heals(TestHub::with(|setup| setup.config.worker_queue = 4).await).await;
}

#[tokio::test]
async fn the_node_s_queue_heals() {
    heals(TestHub::with(|setup| setup.node_queue = 4).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_node_s_queue_heals_on_many_threads() {
    heals(TestHub::with(|setup| setup.node_queue = 4).await).await;
}

#[tokio::test]
async fn what_history_no_longer_has_is_a_resync() {
    let hub = TestHub::with(|setup| {
        setup.config.worker_queue = 4;
        setup.history.count = 10;
    })
    .await;
    let mut client = hub.user("u1").await;
    let mut seeds = hub.seeds("/ws", &crate::support::token("u1", |_| ())).await;
    for _ in 0..BURST {
        hub.put(&user_key("u1"), FrameKind::Message, true, |_| ()).await;
    }
    let mut last = 0;
    let mut resyncs = 0;
    while last < BURST {
        let frame = client.json().await;
        if frame["type"] == "resync" {
            assert_eq!(frame["topics"], json!(["user"]));
            resyncs += 1;
        } else {
            let offset = crate::order::offset(&frame);
            assert!(
                offset == last + 1 || (offset > last && resyncs > 0),
                "a gap that nobody told"
            );
            last = offset;
        }
    }
    assert!(resyncs > 0);
    // The seeds' dialect has no such frame.
    while crate::order::offset(&seeds.expect("message").await) < BURST {}
}
