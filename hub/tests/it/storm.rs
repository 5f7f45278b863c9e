//! Everybody comes at once.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::support::{Client, Handshake, TestHub, tenant, token};

/// Far more than the rate lets in.
const HERD: usize = 400;

const RATE: u32 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_is_let_in_at_the_rate_and_told_when_to_come_back() {
    let hub = TestHub::with(|setup| setup.config.handshakes_per_second = RATE).await;
    let mut before = hub.user("before").await;
    let began = Instant::now();
    let mut herd = JoinSet::new();
    for number in 0..HERD {
        let handshake = Handshake::v1(&token(&format!("u{number}"), |_| ()));
        let public = hub.public;
        herd.spawn(async move { Client::attempt(public, &handshake).await });
    }

    let mut inside = Vec::new();
    let mut seconds = BTreeMap::<u64, usize>::new();
    while let Some(client) = herd.join_next().await {
        let client = client.unwrap();
        if client.answer.status == 101 {
            inside.push(client.welcomed().await);
        } else {
            client.answer.problem(429, "handshake_rate");
            assert_eq!(client.answer.header("connection"), Some("close"));
            let after = client.answer.header("retry-after").unwrap();
            let after: u64 = after.parse().unwrap();
            assert!(after >= 1);
            *seconds.entry(began.elapsed().as_secs() + after).or_default() += 1;
        }
        // While the herd stands at the door, those inside are served.
        let number = inside.len() + seconds.values().sum::<usize>();
        if number.is_multiple_of(50) {
            hub.publish(&json!({"to":{"user":"before"},"data":number})).await;
            assert_eq!(before.expect("message").await["data"], number);
        }
    }
    let refused: usize = seconds.values().sum();
    assert_eq!(refused + inside.len(), HERD);
    assert!(refused >= HERD / 2, "{refused}");
    assert_eq!(
        hub.metric(r#"hub_handshakes_refused_total{reason="handshake_rate"}"#),
        refused as f64
    );
    // Those who come back in a second are about as many as are let in then; whole seconds are all that can be told.
    let most = RATE as usize * 3 / 2;
    assert!(seconds.values().all(|count| *count <= most), "{seconds:?}");
    // Nor are they sent away for longer than that takes.
    let span = seconds.keys().last().unwrap() - seconds.keys().next().unwrap();
    assert!((span as usize) < 3 + refused * 2 / RATE as usize, "{seconds:?}");
    assert_eq!(hub.hub.tenant_count(&tenant("t1")).connections, inside.len() + 1);
}

#[tokio::test]
async fn a_full_node_refuses_before_it_looks_at_a_token() {
    let hub = TestHub::with(|setup| setup.config.max_connections = 1).await;
    let _first = hub.user("u1").await;
    let forged = Handshake::seeds("/ws", "no.token.atall");
    let answer = Client::attempt(hub.public, &forged).await.answer;
    answer.problem(503, "unavailable");
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&after), "{after}");
}

#[tokio::test]
async fn an_empty_bucket_refuses_before_it_looks_at_a_token() {
    let hub = TestHub::with(|setup| setup.config.handshakes_per_second = 1).await;
    let _first = hub.user("u1").await;
    let forged = Handshake::seeds("/ws", "no.token.atall");
    Client::attempt(hub.public, &forged)
        .await
        .answer
        .problem(429, "handshake_rate");
}
