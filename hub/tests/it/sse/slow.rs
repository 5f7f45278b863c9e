//! Event streams that are read too slowly.

use super::*;

fn small(setup: &mut crate::support::Setup) {
    setup.config.workers = 1;
    setup.config.outbound_bytes = Bytes(64 * 1024);
    setup.config.max_publish = Bytes(32 * 1024);
}

async fn stalled(hub: &TestHub) -> Stream {
    let headers = format!("Authorization: Bearer {}\r\n", user("slow"));
    let mut stream = Stream::attempt(hub.public, "", &headers, 4096).await;
    assert_eq!(stream.answer.status, 200);
    stream.expect("welcome").await;
    stream
}

/// Publishes until the reader that does not read is evicted; how many.
async fn overwhelm(hub: &TestHub) -> u64 {
    let mut count = 0;
    while hub.metric(r#"hub_sessions_closed_total{reason="slow_consumer"}"#) < 1.0 {
        hub.publish(&json!({"to":{"user":"slow"},"data":"x".repeat(30 * 1024)}))
            .await;
        count += 1;
        assert!(count < 2000, "it was never evicted");
    }
    count
}

#[tokio::test]
async fn what_a_gap_dropped_comes_with_the_next_stream() {
    let hub = TestHub::with(|setup| {
        small(setup);
        setup.policies = policies("[[topics]]\npattern = \"user:*\"\nslow = \"drop_oldest\"\n");
    })
    .await;
    let mut slow = stalled(&hub).await;
    let mut count = 0;
    while hub.metric("hub_gaps_told_total") < 1.0 {
        hub.publish(&json!({"to":{"user":"slow"},"data":"x".repeat(30 * 1024)}))
            .await;
        count += 1;
        assert!(count < 2000, "nothing was ever dropped");
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut gaps = 0;
    while !seen.contains(&count) {
        let event = slow.event().await;
        if event["type"] == "gap" {
            gaps += 1;
        } else {
            assert!(seen.insert(offset(&event)), "{event}");
        }
    }
    assert!(gaps > 0 && seen.len() < usize::try_from(count).unwrap());
    let mut again = Stream::open(hub.public, &user("slow"), "", &slow.id).await;
    loop {
        let event = again.event().await;
        match event["type"].as_str().unwrap() {
            "message" => drop(seen.insert(offset(&event))),
            "recovered" => break,
            "welcome" => {}
            other => panic!("{other}"),
        }
    }
    assert!(seen.into_iter().eq(1..=count));
}

#[tokio::test]
async fn a_slow_reader_is_evicted_and_may_come_back() {
    let hub = TestHub::with(|setup| {
        small(setup);
        setup.config.close_timeout = Span(Duration::from_secs(60));
    })
    .await;
    let mut slow = stalled(&hub).await;
    let count = overwhelm(&hub).await;
    // Now it reads: whole events, in order, then why it was closed, and the end.
    let mut got = 0;
    let close = loop {
        let event = slow.event().await;
        if event["type"] == "close" {
            break event;
        }
        got += 1;
        assert_eq!(offset(&event), got);
    };
    assert_eq!(
        (&close["code"], &close["reason"]),
        (&json!(4008), &json!("slow consumer"))
    );
    assert_eq!(close["retry_after_ms"], slow.retry);
    assert_eq!(slow.block().await, Block::End);
    assert!(got < count, "it was not slow");
    // It comes back, perhaps more than once, and gets all it missed.
    let mut id = slow.id;
    while got < count {
        let mut again = Stream::open(hub.public, &user("slow"), "", &id).await;
        loop {
            let event = again.event().await;
            match event["type"].as_str().unwrap() {
                "message" => {
                    got += 1;
                    assert_eq!(offset(&event), got);
                }
                "recovered" | "close" => break,
                "welcome" => {}
                other => panic!("{other}"),
            }
        }
        id = again.id;
    }
    assert_eq!(got, count);
}

#[tokio::test]
async fn one_that_never_reads_again_is_hung_up_on() {
    let hub = TestHub::with(|setup| {
        small(setup);
        setup.config.close_timeout = Span(Duration::from_secs(1));
    })
    .await;
    let mut slow = stalled(&hub).await;
    overwhelm(&hub).await;
    eventually("the session is gone", async || {
        (hub.metric("websocket_connections_active") == 0.0).then_some(())
    })
    .await;
    assert_eq!(hub.hub.tenant_count(&tenant("t1")).connections, 0);
    // The connection is closed too, though its last bytes were never taken.
    let refused = async { while slow.try_raw(&[b'x'; 1024]).await.is_ok() {} };
    soon("the connection ends", refused).await;
}
