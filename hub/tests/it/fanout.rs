//! Many sessions of one topic, by each way of flushing.

use std::sync::Arc;

use common::config::Bytes;
use hub::config::Flush;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    order::{offset, take_in_order},
    support::{Client, Handshake, TestHub, publisher, token},
};

const SESSIONS: usize = 120;
const PUBLISHERS: u64 = 16;
const EACH: u64 = 20;

/// Broadcasts in flight together reach everyone once and in order, while single users get their own messages, and some do
/// not read for a while.
async fn reaches_everyone(flush: Flush) {
    let hub = Arc::new(
        TestHub::with(|setup| {
            setup.config.workers = 1;
            setup.config.flush = flush;
            // Small, so that the queue is used; its bound is never met, however late a reader is served.
            setup.config.send_buffer = Bytes(8 * 1024);
        })
        .await,
    );
    let mut stalled = Vec::new();
    for number in 0..4 {
        let mut handshake = Handshake::v1(&token(&format!("stalled{number}"), |_| ()));
        handshake.receive_buffer = 4096;
        stalled.push(Client::open(hub.public, &handshake).await.welcomed().await);
    }
    let mut readers = JoinSet::new();
    for number in 0..SESSIONS {
        let mut client = hub.user(&format!("u{number}")).await;
        readers.spawn(async move {
            let mut own = 0;
            let mut all = 0;
            while own < EACH || all < PUBLISHERS * EACH {
                let frame = client.expect("message").await;
                if frame["topic"] == "user" {
                    own += 1;
                    assert_eq!(offset(&frame), own);
                } else {
                    all += 1;
                    assert_eq!(offset(&frame), all);
                }
            }
            assert!(client.until_pong().await.is_empty());
        });
    }
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let hub = Arc::clone(&hub);
        publishers.spawn(async move {
            for _ in 0..EACH {
                hub.publish(&json!({"to":{"tenant":true},"data":"x".repeat(1000)}))
                    .await;
            }
        });
    }
    for number in 0..SESSIONS {
        let users = json!({"users":[format!("u{number}")]});
        let messages: Vec<_> = (0..EACH).map(|n| json!({"to":users,"data":n})).collect();
        let answer = hub
            .post(
                "/api/v1/publish/batch",
                &publisher(),
                &json!({"messages":messages}),
            )
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    publishers.join_all().await;
    readers.join_all().await;
    // What waited for those that did not read comes whole and in order when they do.
    for mut client in stalled {
        take_in_order(&mut client, 0, PUBLISHERS * EACH).await;
        assert!(client.until_pong().await.is_empty());
    }
    assert!(
        hub.metric("hub_outbound_queued_total") > 0.0,
        "nothing ever waited"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_write_for_each_socket() {
    reaches_everyone(Flush::Write).await;
}

/// Where the kernel has no `io_uring`, this is the fall-back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_for_many_sockets() {
    reaches_everyone(Flush::IoUring).await;
}
