//! Webhooks: what reaches the receiver, and what follows each of its answers.

mod acceptance;
mod answers;
mod guard;
mod pace;
mod retries;

use dispatcher::{
    config::{WebhookEndpoint, WebhookFormat},
    model::{Channel, Delivery, DeliveryState},
};
use serde_json::json;

use crate::support::{
    Running, World, by_webhook,
    hooks::{HookServer, Reply, SECRET, configure, hmac},
    notification,
};

fn outcomes(delivery: &Delivery) -> Vec<&str> {
    delivery
        .attempts
        .iter()
        .map(|attempt| attempt.outcome.as_deref().unwrap_or("open"))
        .collect()
}

fn responses(delivery: &Delivery) -> Vec<&str> {
    delivery
        .attempts
        .iter()
        .map(|attempt| attempt.response.as_deref().unwrap_or_default())
        .collect()
}

/// Calls one URL, and waits for the delivery's end.
async fn called(world: &World, running: &Running, url: &str) -> Delivery {
    let id = running.accept_one(by_webhook(notification("u1"), url)).await;
    world.ended(id, Channel::Webhook).await
}

#[tokio::test]
async fn a_call_arrives_signed_and_every_state_is_visible() {
    let mut server = HookServer::friendly().await;
    let world = World::new().await;
    let running = world.start(configure()).await;
    let mut sent = by_webhook(notification("u1"), &server.url("/hook?key=value#fragment"));
    sent.content.category = Some("order.paid".to_owned());
    sent.content.data = Some(json!({ "order": 7 }));
    let (id, delivery_id, at) = (sent.id, sent.deliveries[0].id, sent.visible_at);
    running.accept_one(sent).await;

    let call = server.call().await;
    assert_eq!(call.line, "POST /hook?key=value HTTP/1.1");
    assert_eq!(call.header("host"), Some(server.address.to_string().as_str()));
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert!(call.header("user-agent").unwrap().starts_with("Carillon/"));
    assert_eq!(call.header("webhook-id"), Some(delivery_id.to_string().as_str()));
    let timestamp: i64 = call.header("webhook-timestamp").unwrap().parse().unwrap();
    assert!((timestamp - at.seconds()).abs() <= 20);
    assert!(call.is_signed_by(SECRET));
    assert_eq!(
        call.json(),
        json!({
            "type": "order.paid",
            "timestamp": at.rfc3339(),
            "data": {
                "notification_id": id.to_string(), "tenant_id": "t1", "user_id": "u1", "title": "A title",
                "content": "A text", "kind": "info", "priority": "normal", "category": "order.paid",
                "data": { "order": 7 },
            },
        })
    );
    let delivery = world.delivered(id, Channel::Webhook).await;
    assert_eq!(
        (outcomes(&delivery), responses(&delivery)),
        (vec!["delivered"], vec!["200"])
    );
    assert_eq!(server.further_calls(), 0);
    running.stop().await;
}

#[tokio::test]
async fn each_attempt_has_the_same_id_and_body_and_a_timestamp_of_its_own() {
    let mut server = HookServer::start({
        let calls = std::sync::atomic::AtomicUsize::new(0);
        move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 | 1 => Reply::Status(503),
            _ => Reply::Status(204),
        }
    })
    .await;
    let world = World::new().await;
    let running = world.start(configure()).await;
    let delivery = called(&world, &running, &server.url("/")).await;
    assert_eq!(outcomes(&delivery), ["retry", "retry", "delivered"]);
    let calls = [server.call().await, server.call().await, server.call().await];
    for call in &calls {
        assert!(call.is_signed_by(SECRET));
        assert_eq!(call.header("webhook-id"), Some(delivery.id.to_string().as_str()));
        assert_eq!(call.body, calls[0].body);
        // One connection does for all of them.
        assert_eq!(call.connection, 0);
    }
    running.stop().await;
}

#[tokio::test]
async fn hosts_have_their_own_secrets_and_both_sign_while_they_change() {
    let mut server = HookServer::friendly().await;
    let new = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let mut config = configure();
    config.webhook.endpoints = vec![WebhookEndpoint {
        host: "127.0.0.1".parse().unwrap(),
        secrets: vec![new.into(), "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into()],
        format: None,
        per_minute: None,
    }];
    let world = World::new().await;
    let running = world.start(config).await;
    called(&world, &running, &server.url("/")).await;
    let call = server.call().await;
    assert!(call.is_signed_by(new) && call.is_signed_by("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    assert!(!call.is_signed_by(SECRET));
    running.stop().await;
}

#[tokio::test]
async fn nothing_goes_out_unsigned() {
    let mut server = HookServer::friendly().await;
    let mut config = configure();
    config.webhook.secrets.clear();
    let world = World::new().await;
    let running = world.start(config.clone()).await;
    let delivery = called(&world, &running, &server.url("/")).await;
    assert_eq!(delivery.reason.as_deref(), Some("not_configured"));
    assert!(delivery.attempts.is_empty());
    running.stop().await;

    config.webhook.endpoints = vec![WebhookEndpoint {
        host: "hooks.example.com".parse().unwrap(),
        secrets: vec![SECRET.into()],
        format: None,
        per_minute: None,
    }];
    let running = world.start(config).await;
    let delivery = called(&world, &running, &server.url("/")).await;
    assert_eq!(delivery.reason.as_deref(), Some("not_configured"));
    assert_eq!(responses(&delivery), ["there is no secret for this host"]);
    running.stop().await;
    assert_eq!(server.further_calls(), 0);
}

#[tokio::test]
async fn s3s_format_is_signed_in_body_and_header() {
    let mut server = HookServer::friendly().await;
    let mut config = configure();
    config.webhook.secrets = vec!["a plain secret of the receiver".into()];
    config.webhook.format = WebhookFormat::Voiceassistant;
    config.validate().unwrap();
    let world = World::new().await;
    let running = world.start(config).await;
    let mut sent = by_webhook(notification("u1"), &server.url("/"));
    sent.content.title = "引号 \" and \\ and <b>".to_owned();
    let id = running.accept_one(sent).await;
    let call = server.call().await;
    let signature = call.header("x-signature").unwrap();
    assert_eq!(call.json()["signature"], signature);
    // What is signed is the body with an empty signature.
    let signed = String::from_utf8(call.body.clone())
        .unwrap()
        .replace(signature, "");
    let tag = hmac(b"a plain secret of the receiver", signed.as_bytes());
    let expected: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signature, expected);
    assert!(call.header("webhook-signature").is_some());
    let delivery = world.ended(id, Channel::Webhook).await;
    assert_eq!(delivery.state, DeliveryState::Delivered);
    running.stop().await;
}

#[tokio::test]
async fn certificates_are_checked() {
    let mut server = HookServer::start_tls(|_| Reply::Status(200)).await;
    let url = format!("https://localhost:{}/hook", server.address.port());
    let world = World::new().await;
    let running = world.start(server.believed(configure())).await;
    let delivery = called(&world, &running, &url).await;
    assert_eq!(delivery.state, DeliveryState::Delivered, "{delivery:?}");
    assert!(server.call().await.is_signed_by(SECRET));
    // The certificate is for `localhost` alone.
    let other = format!("https://{}/hook", server.address);
    let delivery = called(&world, &running, &other).await;
    assert_eq!(outcomes(&delivery), ["retry", "retry", "retry"]);
    running.stop().await;

    // Nobody we know has signed it.
    let running = world.start(configure()).await;
    let delivery = called(&world, &running, &url).await;
    assert_eq!(outcomes(&delivery), ["retry", "retry", "retry"]);
    assert_eq!(server.further_calls(), 0);
    running.stop().await;
}
