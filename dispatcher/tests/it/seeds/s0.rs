//! S0, the `CashUp` notification service.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use crate::{
    api::{Api, Who},
    support::{
        eventually, quick,
        smtp::{Answer, Event, SmtpServer},
    },
};

fn service() -> Who {
    Who::service().scope("templates:write")
}

#[tokio::test]
async fn s0_2_a_simple_notification() {
    let (mut mails, api) = Api::with_mails().await;
    let body = r#"{
    "title": "交易提醒",
    "content": "您的订单已成功执行",
    "channel_type": "email",
    "recipients": ["user@example.com"],
    "priority": "normal"
}"#;
    let made = api
        .json("POST", &service(), "/api/v1/notifications", body)
        .await
        .expect(201);
    assert_eq!(
        (&made["title"], &made["content"]),
        (&json!("交易提醒"), &json!("您的订单已成功执行"))
    );
    let mail = mails.mail().await;
    assert_eq!(mail.to, "user@example.com");
    // An address is not a user: nobody's inbox has it.
    assert!(api.titles(&Who::user("user@example.com")).await.is_empty());
    assert!(api.titles(&service()).await.is_empty());
    assert_eq!((&made["user_id"], &made["to"]), (&json!(null), &json!(null)));
}

const SIMPLE: &str = r#"{
    "title": "交易提醒",
    "content": "您的订单已成功执行",
    "channel_type": "email",
    "recipients": ["user@example.com"],
    "priority": "normal"
}"#;

/// `POST …/batch`, `GET …` and `GET …/{id}` of the document's list; their bodies are those of its example.
#[tokio::test]
async fn s0_2_batch_list_and_get() {
    let (mut mails, api) = Api::with_mails().await;
    let body = format!(r#"{{ "notifications": [{SIMPLE}, {SIMPLE}] }}"#);
    let made = api
        .json("POST", &service(), "/api/v1/notifications/batch", &body)
        .await
        .expect(200);
    assert_eq!(
        (&made["total"], &made["created"], &made["failed"]),
        (&json!(2), &json!(2), &json!(0))
    );
    mails.mail().await;
    mails.mail().await;
    let operator = Who::user("ops").scope("notifications:admin");
    let list = api
        .get(&operator, "/api/v1/notifications?for=all&channel=email&limit=1")
        .await;
    assert_eq!(list.expect(200).as_array().unwrap().len(), 1);
    let next = list.header("x-next-cursor").unwrap();
    let rest = api
        .get(
            &operator,
            &format!("/api/v1/notifications?for=all&channel=email&after={next}"),
        )
        .await
        .expect(200);
    assert_eq!(rest.as_array().unwrap().len(), 1);
    assert_ne!(rest[0]["id"], list.json()[0]["id"]);
    let path = format!("/api/v1/notifications/{}", rest[0]["id"].as_str().unwrap());
    let one = api.get(&service(), &path).await.expect(200);
    assert_eq!(
        (&one["title"], &one["priority"]),
        (&json!("交易提醒"), &json!("normal"))
    );
    assert_eq!(one["deliveries"][0]["address"], "user@example.com");
}

/// One bad item of many does not keep the others back, and each is answered.
#[tokio::test]
async fn s0_9_batch_create() {
    let (mut mails, api) = Api::with_mails().await;
    let body = format!(r#"{{ "notifications": [{SIMPLE}, {{ "title": "交易提醒" }}] }}"#);
    let made = api
        .json("POST", &service(), "/api/v1/notifications/batch", &body)
        .await
        .expect(200);
    assert_eq!((&made["created"], &made["failed"]), (&json!(1), &json!(1)));
    assert_eq!(mails.mail().await.to, "user@example.com");
}

/// The document's three calls. Those in detail need a token here.
#[tokio::test]
async fn s0_6_health() {
    let api = Api::new().await;
    let who = Who::user("ops").scope("metrics");
    for path in ["/health", "/api/v1/health/detailed", "/api/v1/health/metrics"] {
        let answer = api.get(&who, path).await.expect(200);
        if path.ends_with("metrics") {
            assert!(answer["notifications"]["created"].is_u64());
        } else {
            assert_eq!(answer["status"], "healthy");
        }
    }
}

#[tokio::test]
async fn s0_3_a_template_and_its_use() {
    let (mut mails, api) = Api::with_mails().await;
    let template = r#"{
    "name": "交易成功模板",
    "channel_type": "email",
    "subject": "交易成功 - {{symbol}}",
    "content": "您的{{symbol}}订单已成功执行，数量：{{quantity}}，价格：{{price}}",
    "variables": ["symbol", "quantity", "price"]
}"#;
    let made = api
        .json("POST", &service(), "/api/v1/templates", template)
        .await
        .expect(201);
    assert_eq!(
        (&made["name"], &made["channel_type"]),
        (&json!("交易成功模板"), &json!("email"))
    );
    let body = json!({
        "template_id": made["id"],
        "recipients": ["user@example.com"],
        "variables": {
            "symbol": "AAPL",
            "quantity": 100,
            "price": 150.25
        }
    });
    let sent = api
        .post(&service(), "/api/v1/notifications", &body)
        .await
        .expect(201);
    assert_eq!(sent["title"], "交易成功 - AAPL");
    assert_eq!(sent["content"], "您的AAPL订单已成功执行，数量：100，价格：150.25");
    assert_eq!(mails.mail().await.to, "user@example.com");

    let lacking = json!({ "template_id": made["id"], "recipients": ["user@example.com"], "variables": { "symbol": "AAPL" } });
    let refused = api.post(&service(), "/api/v1/notifications", &lacking).await;
    assert_eq!(
        refused.problem(),
        (
            422,
            "template_variable_missing".to_owned(),
            Some("variables.quantity".to_owned())
        )
    );
    assert_eq!(api.stored().await, 1);
}

/// `定时发送、延迟发送、重试机制`: at a time, after a time, and again when it failed.
#[tokio::test]
async fn s0_7_scheduled_delayed_and_retried() {
    let refused = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&refused);
    let mut mails = SmtpServer::start(move |event| match event {
        Event::Rcpt(to) if to.starts_with("later") && !first.swap(true, Ordering::SeqCst) => {
            Answer::Say("451 4.3.0 try later")
        }
        _ => Answer::Usual,
    })
    .await;
    let api = Api::start(mails.configure(quick())).await;
    let body = |name: &str, value: serde_json::Value| {
        json!({
            "title": "交易提醒",
            "content": "您的订单已成功执行",
            "channel_type": "email",
            "recipients": ["user@example.com"],
            "priority": "normal",
            name: value
        })
    };
    let start = jiff::Timestamp::now();
    let wait = jiff::SignedDuration::from_millis(1200);
    let at = start + wait;
    for (name, value) in [("scheduled_at", json!(at.to_string())), ("delay", json!(1.2))] {
        let made = api
            .post(&service(), "/api/v1/notifications", &body(name, value))
            .await
            .expect(201);
        assert_eq!(made["status"], "scheduled", "{name}");
        mails.mail().await;
        assert!(jiff::Timestamp::now() >= at, "{name}: it came before its time");
    }

    let retried =
        json!({ "title": "T", "content": "C", "channel_type": "email", "recipients": ["later@example.com"] });
    let made = api
        .post(&service(), "/api/v1/notifications", &retried)
        .await
        .expect(201);
    assert_eq!(mails.mail().await.to, "later@example.com");
    assert!(refused.load(Ordering::SeqCst));
    let id = made["id"].as_str().unwrap();
    let status = eventually("the second attempt's end", async || {
        let status = api.status(&service(), id).await;
        (status["status"] == "sent").then_some(status)
    })
    .await;
    let attempts = status["deliveries"][0]["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{status}");
}
