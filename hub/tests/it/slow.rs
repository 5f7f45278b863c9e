//! A reader that does not read.

use std::time::Duration;

use common::config::{Bytes, Span};
use serde_json::json;

use crate::{
    order::{offset, take_in_order},
    support::{Client, Frame, Handshake, TestHub, token},
};

const MESSAGES: u64 = 200;

async fn hub() -> TestHub {
    TestHub::with(|setup| {
        setup.config.workers = 1;
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_bytes = Bytes(64 * 1024);
        setup.config.max_publish = Bytes(32 * 1024);
        setup.config.close_timeout = Span(Duration::from_secs(60));
    })
    .await
}

async fn stalled(hub: &TestHub, user: &str) -> Client {
    let mut handshake = Handshake::v1(&token(user, |_| ()));
    handshake.receive_buffer = 4096;
    Client::open(hub.public, &handshake).await.welcomed().await
}

#[tokio::test]
async fn it_is_evicted_and_nobody_else_notices() {
    let hub = hub().await;
    let mut slow = stalled(&hub, "slow").await;
    let mut quick = hub.user("quick").await;
    let reading = tokio::spawn(async move {
        take_in_order(&mut quick, 0, MESSAGES).await;
        quick
    });
    for _ in 0..MESSAGES {
        hub.publish(&json!({"to":{"tenant":true},"data":"x".repeat(16 * 1024)}))
            .await;
    }
    let mut quick = reading.await.unwrap();
    hub.metric_reaches(r#"hub_sessions_closed_total{reason="slow_consumer"}"#, 1.0)
        .await;
    assert!(hub.metric("hub_outbound_queued_total") >= 1.0);

    // Now it reads: whole frames, in order, then why it was closed, and the end.
    let mut last = slow.position("tenant");
    let mut got = 0;
    let (code, reason) = loop {
        match slow.frame().await {
            Frame::Text(text) => {
                let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
                got += 1;
                assert_eq!(offset(&frame), got);
                last = frame["position"].as_str().unwrap().to_owned();
            }
            Frame::Close(code, reason) => break (code, reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((code, reason.as_str()), (Some(4008), "slow consumer"));
    assert_eq!(slow.frame().await, Frame::End);
    assert!(got < MESSAGES, "it was not slow");

    // It comes back and gets all it missed.
    let mut again = Client::open(hub.public, &Handshake::v1(&token("slow", |_| ())))
        .await
        .welcomed()
        .await;
    let mut evictions = 1.0;
    loop {
        again
            .send(&json!({"type":"resume","positions":{"tenant":last}}))
            .await;
        let end = loop {
            match again.frame().await {
                Frame::Text(text) => {
                    let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
                    if frame["type"] == "recovered" {
                        break true;
                    }
                    got += 1;
                    assert_eq!(offset(&frame), got);
                    last = frame["position"].as_str().unwrap().to_owned();
                }
                // So much at once may be too much for a queue this small; what came counts.
                Frame::Close(Some(4008), _) => break false,
                other => panic!("{other:?}"),
            }
        };
        if end {
            break;
        }
        evictions += 1.0;
        again = hub.user("slow").await;
    }
    assert_eq!(got, MESSAGES);
    assert_eq!(
        hub.metric(r#"hub_sessions_closed_total{reason="slow_consumer"}"#),
        evictions
    );
    assert!(quick.until_pong().await.is_empty());
}

#[tokio::test]
async fn age_evicts_as_well_as_size() {
    let hub = TestHub::with(|setup| {
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_age = Span(Duration::from_secs(1));
    })
    .await;
    let slow = stalled(&hub, "slow").await;
    for _ in 0..20 {
        hub.publish(&json!({"to":{"user":"slow"},"data":"x".repeat(100_000)}))
            .await;
    }
    hub.metric_reaches(r#"hub_sessions_closed_total{reason="slow_consumer"}"#, 1.0)
        .await;
    assert_eq!(slow.closed().await.0, Some(4008));
}

#[tokio::test]
async fn one_that_never_reads_again_is_dropped() {
    let hub = TestHub::with(|setup| {
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_bytes = Bytes(256 * 1024);
        setup.config.close_timeout = Span(Duration::from_secs(1));
    })
    .await;
    let mut slow = stalled(&hub, "slow").await;
    for _ in 0..20 {
        hub.publish(&json!({"to":{"user":"slow"},"data":"x".repeat(100_000)}))
            .await;
    }
    crate::support::eventually("the session is gone", async || {
        (hub.metric("websocket_connections_active") == 0.0).then_some(())
    })
    .await;
    assert_eq!(hub.hub.tenant_count(&crate::support::tenant("t1")).connections, 0);
    // The socket is closed too, though its last bytes were never taken: what comes for it is refused. One that was still
    // open would fill up, and the write would wait.
    let refused = async { while slow.try_raw(&[0; 1024]).await.is_ok() {} };
    crate::support::soon("the socket ends", refused).await;
}

#[tokio::test]
async fn who_pings_and_never_reads_is_evicted() {
    let hub = TestHub::with(|setup| {
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_bytes = Bytes(256 * 1024);
        setup.config.inbound_per_second = 1_000_000;
    })
    .await;
    let mut slow = stalled(&hub, "slow").await;
    let pings = crate::malformed::masked(0x89, &[b'x'; 125]).repeat(1000);
    let evicted = async {
        while hub.metric(r#"hub_sessions_closed_total{reason="slow_consumer"}"#) < 1.0 {
            slow.raw(&pings).await;
        }
    };
    crate::support::soon("the eviction", evicted).await;
}
