//! The end of a node.

use std::time::Duration;

use common::config::Span;

use crate::support::{Client, Handshake, PATIENCE, TestHub, token};

#[tokio::test]
async fn sessions_are_sent_away_and_new_ones_refused() {
    let hub = TestHub::start().await;
    assert!(hub.hub.ready());
    assert!(hub.hub.unready().is_empty());
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(hub.user(&format!("u{number}")).await);
    }
    hub.hub.begin_leaving();
    assert!(!hub.hub.ready());
    assert_eq!(hub.hub.unready(), ["stopping"]);
    // The lame duck still serves.
    clients.push(hub.user("late").await);
    let draining = tokio::spawn({
        let hub = hub.hub.clone();
        async move { hub.drain(PATIENCE, true).await }
    });
    for client in clients {
        let (code, reason) = client.closed().await;
        assert_eq!(code, Some(1012));
        let after: u32 = reason
            .strip_prefix("restart; retry_after_ms=")
            .unwrap()
            .parse()
            .unwrap();
        assert!(after < 2000);
    }
    assert!(draining.await.unwrap());
    // The workers have ended, as they should.
    assert_eq!(hub.hub.unready(), ["stopping"]);
    let answer = Client::attempt(hub.public, &Handshake::v1(&token("u1", |_| ())))
        .await
        .answer;
    answer.problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(hub.metric("websocket_connections_active"), 0.0);
}

#[tokio::test]
async fn a_drain_is_spread_over_its_window() {
    let hub = TestHub::with(|setup| setup.config.drain_window = Span(Duration::from_secs(2))).await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..40 {
        clients.spawn(hub.user(&format!("u{number}")).await.closed());
    }
    let began = tokio::time::Instant::now();
    assert!(hub.hub.drain(PATIENCE, true).await);
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "all were sent away at once"
    );
    while let Some(closed) = clients.join_next().await {
        assert_eq!(closed.unwrap().0, Some(1012));
    }
}

#[tokio::test]
async fn a_client_that_never_answers_is_dropped_in_time() {
    let hub = TestHub::with(|setup| setup.config.close_timeout = Span(Duration::from_secs(1))).await;
    let _silent = hub.user("u1").await;
    assert!(hub.hub.drain(PATIENCE, true).await);
}

#[tokio::test]
async fn the_deadline_holds() {
    let hub = TestHub::with(|setup| setup.config.close_timeout = Span(Duration::from_secs(3600))).await;
    let _silent = hub.user("u1").await;
    let began = tokio::time::Instant::now();
    assert!(!hub.hub.drain(Duration::from_millis(300), true).await);
    assert!(began.elapsed() < Duration::from_secs(10));
}
