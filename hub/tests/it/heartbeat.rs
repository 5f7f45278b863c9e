//! Heartbeats and the end of tokens. The hub counts in seconds, so these take some.

use std::time::Duration;

use common::config::Span;
use serde_json::json;

use crate::{
    malformed::masked,
    support::{Client, Frame, Handshake, TestHub, token},
};

async fn hub() -> TestHub {
    TestHub::with(|setup| setup.config.heartbeat = Span(Duration::from_secs(1))).await
}

#[tokio::test]
async fn who_answers_lives_and_who_is_silent_is_closed() {
    let hub = hub().await;
    let mut silent = hub.user("u1").await;
    let mut alive = hub.user("u2").await;
    let answering = tokio::spawn(async move {
        for _ in 0..5 {
            let Frame::Ping(payload) = alive.frame().await else {
                panic!("no ping")
            };
            alive.raw(&masked(0x8A, &payload)).await;
        }
        alive.close().await;
    });
    let mut pings = 0;
    let close = loop {
        match silent.frame().await {
            Frame::Ping(_) => pings += 1,
            other => break other,
        }
    };
    assert_eq!(close, Frame::Close(Some(4009), "heartbeat lost".to_owned()));
    assert_eq!(pings, 2);
    assert_eq!(silent.frame().await, Frame::End);
    answering.await.unwrap();
}

#[tokio::test]
async fn any_sign_of_life_counts() {
    let hub = hub().await;
    let mut client = hub.user("u1").await;
    // It never answers a ping, and says something else instead.
    for _ in 0..5 {
        while !matches!(client.frame().await, Frame::Ping(_)) {}
        client.text("ping").await;
    }
    client.close().await;
}

#[tokio::test]
async fn an_expired_token_closes_and_is_announced() {
    let hub = hub().await;
    let mut client = hub.connect(&token("u1", |new| new.ttl_seconds = 3)).await;
    let expiring = client.expect("expiring").await;
    let left = expiring["at"].as_i64().unwrap() - jiff::Timestamp::now().as_second();
    assert!((0..=3).contains(&left), "{left}");
    loop {
        match client.frame().await {
            Frame::Ping(payload) => client.raw(&masked(0x8A, &payload)).await,
            Frame::Close(code, reason) => {
                assert_eq!((code, reason.as_str()), (Some(4001), "token expired"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn seeds_are_closed_without_a_warning() {
    let hub = hub().await;
    let token = token("u1", |new| new.ttl_seconds = 2);
    let mut client = Client::open(hub.public, &Handshake::seeds("/api/v1/ws", &token)).await;
    loop {
        match client.frame().await {
            Frame::Ping(payload) => client.raw(&masked(0x8A, &payload)).await,
            Frame::Close(code, _) => {
                assert_eq!(code, Some(4001));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_refresh_keeps_the_session() {
    let hub = hub().await;
    let mut client = hub.connect(&token("u1", |new| new.ttl_seconds = 3)).await;
    client.expect("expiring").await;
    client
        .send(&json!({"type":"refresh","token":token("u1", |_| ())}))
        .await;
    client.expect("pong").await;
    // Five heartbeats are longer than the first token lived.
    for _ in 0..5 {
        let Frame::Ping(payload) = client.frame().await else {
            panic!("no ping")
        };
        client.raw(&masked(0x8A, &payload)).await;
    }
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn a_refresh_is_for_the_same_user_and_the_same_rights() {
    let hub = TestHub::start().await;
    for (other, code) in [
        (token("u2", |_| ()), 4002),
        (token("u1", |new| new.tenant = Some("t2".to_owned())), 4002),
        (token("u1", |new| new.roles = vec!["admin".to_owned()]), 4001),
    ] {
        let mut client = hub.user("u1").await;
        client.send(&json!({"type":"refresh","token":other})).await;
        assert_eq!(client.closed().await.0, Some(code));
    }
    // Topics that the new token does not allow are left.
    let mut client = hub
        .connect(&token("u1", |new| new.topics = vec!["desk.*".to_owned()]))
        .await;
    client.send(&json!({"type":"subscribe","topic":"desk.1"})).await;
    client.expect("subscribed").await;
    client
        .send(&json!({"type":"refresh","token":token("u1", |_| ())}))
        .await;
    assert_eq!(client.expect("unsubscribed").await["topic"], "topic:desk.1");
    client.expect("pong").await;
    hub.publish(&json!({"to":{"topic":"desk.1"},"data":1})).await;
    hub.publish(&json!({"to":{"user":"u1"},"data":"end"})).await;
    assert!(client.until_data("end").await.is_empty());
}
