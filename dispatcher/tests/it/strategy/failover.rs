//! One channel after the other.

use std::time::Duration;

use common::config::Span;
use dispatcher::config::DispatcherConfig;
use serde_json::{Value, json};

use super::{chain, ended, step, steps};
use crate::{
    api::{Api, Who},
    support::{
        eventually,
        hooks::{self, HookServer, Reply},
        smtp::{Answer, Event, SmtpServer},
    },
};

/// A mail server that knows nobody, and a receiver of webhooks.
async fn refusing_mail() -> (SmtpServer, HookServer, Api) {
    let mails = SmtpServer::start(|event| match event {
        Event::Rcpt(_) => Answer::Say("550 5.1.1 no such user"),
        _ => Answer::Usual,
    })
    .await;
    let hooks = HookServer::friendly().await;
    let api = Api::start(mails.configure(hooks::configure())).await;
    (mails, hooks, api)
}

fn body(hooks: &HookServer) -> Value {
    json!({
        "user_id": "u1", "title": "T", "content": "C", "strategy": "failover",
        "channels": ["email", "webhook", "sms"],
        "metadata": { "email": "u1@example.com", "webhook_url": hooks.url("/hook") },
    })
}

#[tokio::test]
async fn s1_8_the_next_channel_is_tried_logged_and_administrators_are_told() {
    let (_mails, mut hooks, api) = refusing_mail().await;
    let made = api.created(&body(&hooks)).await;
    assert_eq!(made["strategy"], "failover");
    assert_eq!(steps(&made["chains"][0])[0], step("email", "started", ""));
    let id = made["id"].as_str().unwrap();
    let call = hooks.call().await;
    let chain = ended(&api, id).await;
    assert_eq!(
        steps(&chain),
        [
            step("email", "failed", "recipient_invalid"),
            step("webhook", "delivered", ""),
            step("sms", "cancelled", "delivered"),
        ]
    );
    assert_eq!(
        (&chain["state"], &chain["reason"]),
        (&json!("done"), &json!("delivered"))
    );
    assert_eq!(
        chain["steps"][1]["deliveries"],
        json!([call.header("webhook-id").unwrap()])
    );
    assert_eq!(api.status(&Who::service(), id).await["status"], "sent");
    assert_eq!(hooks.further_calls(), 0);

    // The administrators of the tenant are told, once for all that fails meanwhile.
    let second = api.created(&body(&hooks)).await;
    ended(&api, second["id"].as_str().unwrap()).await;
    let admin = Who::user("boss").role("admin");
    let alerts = eventually("administrators are told", async || {
        let titles = api.titles(&admin).await;
        (!titles.is_empty()).then_some(titles)
    })
    .await;
    assert_eq!(alerts, ["Channel failed: email"]);
    eventually("both are logged", async || {
        let text = metrics(&api);
        (text == 2).then_some(())
    })
    .await;
    assert_eq!(api.titles(&admin).await.len(), 1);
    let other = Who::user("boss").role("admin").tenant("t2");
    assert!(api.titles(&other).await.is_empty());
    assert!(api.titles(&Who::user("u1")).await.is_empty());
}

/// How often the channel email was left.
fn metrics(api: &Api) -> u64 {
    let label = dispatcher::model::Channel::Email.into();
    api.world.metrics.failovers.get_or_create(&label).get()
}

#[tokio::test]
async fn a_channel_that_delivers_is_the_last() {
    let mut mails = SmtpServer::friendly().await;
    let mut hooks = HookServer::friendly().await;
    let api = Api::start(mails.configure(hooks::configure())).await;
    let id = api.create(&body(&hooks)).await;
    assert_eq!(mails.mail().await.to, "u1@example.com");
    let chain = ended(&api, &id).await;
    assert_eq!(
        steps(&chain),
        [
            step("email", "delivered", ""),
            step("webhook", "cancelled", "delivered"),
            step("sms", "cancelled", "delivered"),
        ]
    );
    assert_eq!(hooks.further_calls(), 0);
    let deliveries = api.status(&Who::service(), &id).await["deliveries"].clone();
    assert_eq!(
        deliveries.as_array().unwrap().len(),
        1,
        "what did not begin has no delivery"
    );
}

#[tokio::test]
async fn a_channel_has_as_many_attempts_as_the_body_says() {
    let hooks = HookServer::start(|_| Reply::Status(503)).await;
    let mails = SmtpServer::friendly().await;
    let mut config = mails.configure(hooks::configure());
    config.queue.retry = vec![Span(Duration::from_millis(20))];
    let api = Api::start(config).await;
    for (attempts, expected) in [(None, 1), (Some(3), 3)] {
        let mut body = json!({
            "user_id": "u1", "title": "T", "content": "C", "strategy": "failover",
            "channels": ["webhook", "email"],
            "metadata": { "email": "u1@example.com", "webhook_url": hooks.url("/hook") },
        });
        if let Some(attempts) = attempts {
            body["attempts_before_next"] = json!(attempts);
        }
        let id = api.create(&body).await;
        let chain = ended(&api, &id).await;
        assert_eq!(steps(&chain)[0], step("webhook", "failed", "attempts_exhausted"));
        assert_eq!(steps(&chain)[1], step("email", "delivered", ""));
        let deliveries = api.status(&Who::service(), &id).await["deliveries"].clone();
        let hook = deliveries
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["channel"] == "webhook");
        assert_eq!(hook.unwrap()["attempts"].as_array().unwrap().len(), expected);
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_passed_over_at_once() {
    let (mut mails, api) = Api::with_mails().await;
    api.put_contact("u1", &json!({ "email": "u1@example.com" })).await;
    let body = json!({
        "to": { "users": ["u1", "u2"] }, "title": "T", "content": "C", "strategy": "failover",
        "channels": ["in_app", "sms", "email", "telegram"],
    });
    let made = api.created(&body).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(mails.mail().await.to, "u1@example.com");
    let of_both = eventually("both chains have ended", async || {
        let chains = api.status(&Who::service(), id).await["chains"].clone();
        let open = chains
            .as_array()
            .unwrap()
            .iter()
            .any(|chain| chain["state"] == "open");
        (!open).then_some(chains)
    })
    .await;
    let of = |user: &str| {
        let chain = of_both
            .as_array()
            .unwrap()
            .iter()
            .find(|chain| chain["user_id"] == user);
        chain.unwrap().clone()
    };
    assert_eq!(
        steps(&of("u1")),
        [
            step("in_app", "delivered", ""),
            step("sms", "failed", "not_configured"),
            step("email", "delivered", ""),
            step("telegram", "cancelled", "delivered"),
        ]
    );
    assert_eq!(
        steps(&of("u2"))[2..],
        [
            step("email", "failed", "no_address"),
            step("telegram", "failed", "not_configured")
        ]
    );
    assert_eq!(of("u2")["state"], "exhausted");
    for user in ["u1", "u2"] {
        assert_eq!(
            api.titles(&Who::user(user)).await,
            ["T"],
            "the inbox has it from the beginning"
        );
    }
    let own = api.status(&Who::user("u2"), id).await;
    assert_eq!(
        own["chains"].as_array().unwrap().len(),
        1,
        "a reader sees its own chain"
    );
    assert_eq!(own["chains"][0]["user_id"], "u2");
}

#[tokio::test]
async fn who_has_no_socket_gets_an_email_and_who_has_one_does_not() {
    let (mut mails, api) = Api::with_mails().await;
    let body = json!({
        "user_id": "u1", "title": "T", "content": "C", "strategy": "failover",
        "channels": ["realtime", "email", "in_app"], "metadata": { "email": "u1@example.com" },
    });
    let id = api.create(&body).await;
    assert_eq!(mails.mail().await.to, "u1@example.com");
    assert_eq!(
        steps(&ended(&api, &id).await)[..2],
        [
            step("realtime", "failed", "nobody_online"),
            step("email", "delivered", "")
        ]
    );
    let id = api.create(&body).await;
    api.running
        .delivered("u1", id.parse::<common::ids::NotificationId>().unwrap())
        .await;
    assert_eq!(
        steps(&ended(&api, &id).await),
        [
            step("realtime", "delivered", ""),
            step("email", "cancelled", "delivered"),
            step("in_app", "cancelled", "delivered"),
        ]
    );
    assert!(mails.further_mails().is_empty());
    assert!(
        api.titles(&Who::user("boss").role("admin")).await.is_empty(),
        "nobody online is no fault"
    );
}

#[tokio::test]
async fn a_withdrawn_one_goes_no_further() {
    let hooks = HookServer::start(|_| Reply::Status(503)).await;
    let api = Api::start(slow_retries(hooks::configure())).await;
    let body = json!({
        "user_id": "u1", "title": "T", "content": "C", "strategy": "failover", "attempts_before_next": 3,
        "channels": ["webhook", "sms", "in_app"], "metadata": { "webhook_url": hooks.url("/hook") },
    });
    let id = api.create(&body).await;
    eventually("the first attempt has failed", async || {
        let deliveries = api.status(&Who::service(), &id).await["deliveries"].clone();
        let mut all = deliveries.as_array().unwrap().iter();
        all.any(|one| one["channel"] == "webhook" && one["reason"] == "retry")
            .then_some(())
    })
    .await;
    let admin = Who::user("admin").scope("notifications:admin");
    api.delete(&admin, &format!("/api/v1/notifications/{id}?for=all"))
        .await;
    let chain = chain(&api, &id).await;
    assert_eq!(
        (&chain["state"], &chain["reason"]),
        (&json!("cancelled"), &json!("withdrawn"))
    );
    assert_eq!(
        steps(&chain),
        [
            step("webhook", "cancelled", "withdrawn"),
            step("sms", "cancelled", "withdrawn"),
            step("in_app", "cancelled", "withdrawn"),
        ]
    );
}

fn slow_retries(mut config: DispatcherConfig) -> DispatcherConfig {
    config.queue.retry = vec![Span(Duration::from_secs(60))];
    config
}
