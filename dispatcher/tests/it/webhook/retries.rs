//! Retries as the settings of the channel say them.

use std::time::Duration;

use common::config::Span;
use dispatcher::{
    config::DispatcherConfig,
    model::{Channel, DeliveryState, Micros},
};
use serde_json::json;

use super::{called, outcomes};
use crate::{
    api::Api,
    support::{
        World, by_webhook, eventually,
        hooks::{HookServer, Reply, configure},
        notification,
    },
};

fn with(retry: &serde_json::Value) -> DispatcherConfig {
    let mut config = configure();
    // What is not set here would be noticed.
    config.queue.retry = vec![Span(Duration::from_secs(3600))];
    config.channels = serde_json::from_value(json!({ "webhook": { "retry": retry } })).unwrap();
    config.validate().unwrap();
    config
}

/// S4's document: `retry.max_attempts`, `base_delay`, `max_delay`, `backoff_factor`; its seconds as milliseconds.
#[tokio::test]
async fn s4_5_exponential_back_off_up_to_max_attempts_then_dead_with_its_reason() {
    let mut server = HookServer::start(|_| Reply::Status(500)).await;
    let api = Api::start(with(&json!({
        "max_attempts": 3, "base_delay": "60ms", "max_delay": "3600ms", "backoff_factor": 2, "jitter": 0,
    })))
    .await;
    let body = json!({ "title": "T", "content": "C", "channel": "webhook", "target": server.url("/"), "priority": 1 });
    let id = api.create(&body).await;
    let status = eventually("it is dead", async || {
        let status = api.status(&crate::api::Who::service(), &id).await;
        (status["deliveries"][0]["state"] == "dead").then_some(status)
    })
    .await;
    let delivery = &status["deliveries"][0];
    assert_eq!(delivery["reason"], "attempts_exhausted");
    let attempts = delivery["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 3);
    for attempt in attempts {
        assert_eq!(
            (&attempt["outcome"], &attempt["response"]),
            (&json!("retry"), &json!("500"))
        );
    }
    let begun: Vec<i64> = attempts
        .iter()
        .map(|attempt| {
            let text = attempt["started_at"].as_str().unwrap();
            text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
        })
        .collect();
    // Never earlier than base, and then base times factor, after the end of the last.
    assert!(
        begun[1] - begun[0] >= 59 && begun[2] - begun[1] >= 119,
        "{begun:?}"
    );
    assert_eq!(server.further_calls(), 3);
}

#[tokio::test]
async fn what_is_too_old_is_dead_and_says_so() {
    let mut server = HookServer::start(|_| Reply::Status(500)).await;
    let world = World::new().await;
    let running = world
        .start(with(
            &json!({ "pauses": ["10ms"], "max_attempts": 1000, "max_age": "1h" }),
        ))
        .await;
    let mut old = by_webhook(notification("u1"), &server.url("/"));
    old.created_at = Micros::now().minus(Duration::from_secs(7200));
    old.visible_at = old.created_at;
    old.deliveries[0].due_at = old.created_at;
    let id = running.accept_one(old).await;
    let delivery = world.ended(id, Channel::Webhook).await;
    assert_eq!(
        (delivery.state, delivery.reason.as_deref()),
        (DeliveryState::Dead, Some("too_old"))
    );
    assert_eq!(outcomes(&delivery), ["retry"]);
    assert_eq!(server.further_calls(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_wish_to_wait_is_heard_up_to_its_bound() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = HookServer::start(move |_| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            Reply::Raw("HTTP/1.1 503 X\r\nretry-after: 86400\r\ncontent-length: 0\r\n\r\n".to_owned())
        } else {
            Reply::Status(200)
        }
    })
    .await;
    let world = World::new().await;
    let running = world
        .start(with(&json!({ "pauses": ["10ms"], "retry_after_max": "50ms" })))
        .await;
    let delivery = called(&world, &running, &server.url("/")).await;
    assert_eq!(outcomes(&delivery), ["throttled", "delivered"]);
    running.stop().await;
}

#[tokio::test]
async fn a_groups_deliveries_have_the_channels_attempts_too() {
    let mut server = HookServer::start(|_| Reply::Status(500)).await;
    let api = Api::start(with(&json!({ "pauses": ["10ms"], "max_attempts": 2 }))).await;
    let contact = json!({ "webhook_url": server.url("/of-u1"), "roles": ["manager"] });
    api.put_contact("u1", &contact).await;
    let body = json!({ "to": { "role": "manager" }, "title": "T", "content": "C", "channels": ["webhook"] });
    let id = api.create(&body).await;
    let status = eventually("it is dead", async || {
        let status = api.status(&crate::api::Who::service(), &id).await;
        (status["deliveries"][0]["state"] == "dead").then_some(status)
    })
    .await;
    assert_eq!(status["deliveries"][0]["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(server.further_calls(), 2);
}
