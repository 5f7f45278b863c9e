//! Subscribing, and commands that are refused.

use serde_json::json;

use crate::{
    malformed::masked,
    support::{TestHub, eventually, token},
};

#[tokio::test]
async fn topics_are_allowed_by_token_and_by_configuration() {
    let hub = TestHub::start().await;
    let mut client = hub
        .connect(&token("u1", |new| new.topics = vec!["desk.*".to_owned()]))
        .await;
    for topic in ["desk.7", "public.news"] {
        client.send(&json!({"type":"subscribe","topic":topic})).await;
        assert_eq!(
            client.expect("subscribed").await["topic"],
            format!("topic:{topic}")
        );
        // Once more: told again, delivered once.
        client.send(&json!({"type":"subscribe","topic":topic})).await;
        client.expect("subscribed").await;
        hub.publish(&json!({"to":{"topic":topic},"data":topic})).await;
        assert_eq!(client.expect("message").await["data"], topic);
        assert!(client.until_pong().await.is_empty());
    }
    for topic in ["desk", "other", "x:r:admin", "*", "}"] {
        client.send(&json!({"type":"subscribe","topic":topic})).await;
        assert_eq!(client.expect("error").await["code"], "forbidden_topic", "{topic}");
    }
}

#[tokio::test]
async fn a_session_has_so_many_topics() {
    let hub = TestHub::with(|setup| setup.config.max_topics = 2).await;
    let mut client = hub.user("u1").await;
    let subscribe = |number: u32| json!({"type":"subscribe","topic":format!("public.{number}")});
    for number in 0..2 {
        client.send(&subscribe(number)).await;
        client.expect("subscribed").await;
    }
    client.send(&subscribe(2)).await;
    assert_eq!(client.expect("error").await["code"], "too_many_topics");
    client
        .send(&json!({"type":"unsubscribe","topic":"public.0"}))
        .await;
    assert_eq!(client.expect("unsubscribed").await["topic"], "topic:public.0");
    client.send(&subscribe(2)).await;
    client.expect("subscribed").await;
}

#[tokio::test]
async fn topics_that_are_not_confirmed_yet_count_too() {
    let hub = TestHub::with(|setup| setup.config.max_topics = 2).await;
    let mut client = hub.user("u1").await;
    // All in one write, before the bus can have confirmed the first.
    let mut bytes = Vec::new();
    for number in 0..10 {
        let command = json!({"type":"subscribe","topic":format!("public.{number}")}).to_string();
        bytes.extend(masked(0x81, command.as_bytes()));
    }
    client.raw(&bytes).await;
    let mut subscribed = 0;
    for _ in 0..10 {
        let frame = client.json().await;
        if frame["type"] == "subscribed" {
            subscribed += 1;
        } else {
            assert_eq!(frame["code"], "too_many_topics", "{frame}");
        }
    }
    assert_eq!(subscribed, 2);
}

#[tokio::test]
async fn unsubscribed_is_unsubscribed() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    for round in 0..50 {
        // Both in one write, so that the second overtakes the bus's confirmation of the first.
        let topic = format!("public.{round}");
        let frames = ["subscribe", "unsubscribe"]
            .map(|command| masked(0x81, json!({"type":command,"topic":topic}).to_string().as_bytes()));
        client.raw(&frames.concat()).await;
        loop {
            let frame = client.json().await;
            if frame["type"] == "unsubscribed" {
                break;
            }
            assert_eq!(frame["type"], "subscribed");
        }
        hub.publish(&json!({"to":{"topic":topic},"data":1})).await;
    }
    // Never told is never had: the user's own message comes behind what should not come.
    hub.publish(&json!({"to":{"user":"u1"},"data":"end"})).await;
    assert_eq!(client.until_data("end").await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn the_last_one_who_leaves_unsubscribes_the_node() {
    let hub = TestHub::start().await;
    let nodes = async || {
        let body = json!({"to":{"topic":"public.a"},"data":0,"history":false});
        hub.publish(&body).await["nodes"].as_u64().unwrap()
    };
    assert_eq!(nodes().await, 0);
    let mut first = hub.user("u1").await;
    let mut second = hub.user("u2").await;
    for client in [&mut first, &mut second] {
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
    }
    assert_eq!(nodes().await, 1);
    first.close().await;
    assert_eq!(nodes().await, 1);
    second
        .send(&json!({"type":"unsubscribe","topic":"public.a"}))
        .await;
    eventually("the node unsubscribes", async || {
        (nodes().await == 0).then_some(())
    })
    .await;
    // It comes back.
    second.until_pong().await;
    second.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    second.expect("subscribed").await;
    hub.publish(&json!({"to":{"topic":"public.a"},"data":"again"}))
        .await;
    assert_eq!(second.expect("message").await["data"], "again");
    // And so it goes with the user's own topic.
    second.close().await;
    eventually("the user's topic ends", async || {
        let body = json!({"to":{"user":"u2"},"data":0,"history":false});
        (hub.publish(&body).await["nodes"] == json!(0)).then_some(())
    })
    .await;
    let mut again = hub.user("u2").await;
    hub.publish(&json!({"to":{"user":"u2"},"data":1})).await;
    assert_eq!(again.expect("message").await["data"], 1);
}

#[tokio::test]
async fn coming_and_going_at_once_loses_no_subscription() {
    // Topics linger for a moment only, so that leaves and joins cross each other on the way to the bus.
    let hub = TestHub::with(|setup| setup.config.topic_linger = common::config::Span::default()).await;
    let token = token("u1", |_| ());
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
    let mut round = 0;
    while tokio::time::Instant::now() < until {
        let mut client = hub.connect(&token).await;
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
        let answer = hub
            .publish(&json!({"to":{"topic":"public.a"},"data":round}))
            .await;
        assert_eq!(answer["nodes"], 1, "told is subscribed");
        assert_eq!(client.expect("message").await["data"], round);
        client.close().await;
        round += 1;
    }
}

#[tokio::test]
async fn what_is_not_understood_is_answered_and_the_session_lives() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    for (text, code) in [
        ("hello", "malformed"),
        ("[]", "malformed"),
        ("{}", "malformed"),
        (r#"{"type":"dance"}"#, "unknown_command"),
        (r#"{"type":"subscribe"}"#, "invalid_field"),
        (r#"{"type":"ack","ids":["x"]}"#, "invalid_field"),
        (r#"{"type":"refresh","token":"x"}"#, "token_invalid"),
    ] {
        client.text(text).await;
        let error = client.expect("error").await;
        assert_eq!(error["code"], code, "{text}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    assert!(client.until_pong().await.is_empty());
}
