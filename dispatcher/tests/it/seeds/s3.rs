//! S3, the `VoiceAssistant` notification service.

use serde_json::json;

use crate::api::{Api, Who};

fn service() -> Who {
    Who::service().tenant("tenant_abc").scope("templates:write")
}

const SEND: &str = r#"{
    "tenant_id": "tenant_abc",
    "user_id": "user_123",
    "channel": "email",  // email/sms/websocket/webhook/in_app
    "priority": "high",  // low/medium/high/critical
    "template_id": "tmpl_welcome",  // 可选，使用模板
    "variables": {  // 模板变量
        "user_name": "张三",
        "product_name": "VoiceAssistant"
    },
    "title": "欢迎使用VoiceAssistant",  // 不使用模板时必填
    "content": "欢迎您注册...",  // 不使用模板时必填
    "metadata": {  // 额外信息
        "email": "user@example.com",
        "phone": "13800138000"
    },
    "scheduled_at": "2025-01-27T15:00:00Z"  // 可选，定时发送
}"#;

#[tokio::test]
async fn s3_1_send() {
    let (mut mails, api) = Api::with_mails().await;
    let path = "/api/v1/notifications/send";
    let sent = api.json("POST", &service(), path, SEND).await.expect(200);
    assert_eq!(sent["status"], "pending");
    assert!(sent["id"].is_string() && sent["created_at"].is_string());
    let mail = mails.mail().await;
    assert_eq!(mail.to, "user@example.com");
    // By email alone: no row in the inbox. Its address is not told to clients.
    let user = Who::user("user_123").tenant("tenant_abc");
    assert!(api.titles(&user).await.is_empty());
    let status = api
        .get(
            &service(),
            &format!("/api/v1/notifications/{}/status", sent["id"].as_str().unwrap()),
        )
        .await
        .expect(200);
    assert_eq!(
        status["deliveries"].as_array().unwrap().len(),
        1,
        "the phone number is for no channel that was asked for"
    );
    // Another tenant's token may not.
    let refused = api.json("POST", &Who::service(), path, SEND).await;
    assert_eq!(
        refused.problem(),
        (403, "tenant_mismatch".to_owned(), Some("tenant_id".to_owned()))
    );
}

#[tokio::test]
async fn s3_1_templates() {
    let (mut mails, api) = Api::with_mails().await;
    let body = r#"{
    "tenant_id": "tenant_abc",
    "name": "欢迎邮件",
    "title": "欢迎使用{{product_name}}",
    "content": "您好{{user_name}}，欢迎注册{{product_name}}...",
    "channel": "email",
    "variables": ["user_name", "product_name"]
}"#;
    let made = api
        .json("POST", &service(), "/api/v1/templates", body)
        .await
        .expect(201);
    assert_eq!(
        (&made["name"], &made["status"]),
        (&json!("欢迎邮件"), &json!("active"))
    );
    assert!(made["id"].is_string() && made["created_at"].is_string());

    // With the template's id in place of the document's, the template speaks.
    let send = SEND.replace("tmpl_welcome", made["id"].as_str().unwrap());
    let sent = api
        .json("POST", &service(), "/api/v1/notifications/send", &send)
        .await
        .expect(200);
    let view = api
        .get(
            &service(),
            &format!("/api/v1/notifications/{}", sent["id"].as_str().unwrap()),
        )
        .await
        .expect(200);
    assert_eq!(
        (&view["title"], &view["content"]),
        (
            &json!("欢迎使用VoiceAssistant"),
            &json!("您好张三，欢迎注册VoiceAssistant...")
        )
    );
    assert_eq!(view["extra_data"], json!({}));
    assert_eq!(mails.mail().await.to, "user@example.com");
}

#[tokio::test]
async fn s3_1_send_by_every_channel_of_the_document() {
    let api = Api::new().await;
    for (channel, status) in [
        ("email", "failed"),
        ("sms", "failed"),
        ("webhook", "failed"),
        ("in_app", "sent"),
        ("websocket", "pending"),
    ] {
        let body = json!({ "tenant_id": "tenant_abc", "user_id": "user_123", "channel": channel, "title": "T", "content": "C", "metadata": {} });
        let sent = api
            .post(&service(), "/api/v1/notifications/send", &body)
            .await
            .expect(200);
        assert_eq!(sent["status"], status, "{channel}: nothing is configured");
    }
    let user = Who::user("user_123").tenant("tenant_abc");
    assert_eq!(api.titles(&user).await.len(), 1, "only in_app has a row");
}

#[tokio::test]
async fn s3_5_delayed() {
    let (mut mails, api) = Api::with_mails().await;
    let path = "/api/v1/notifications/send";
    // The document's `scheduled_at` with a time to come, and near enough to wait for.
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(1500);
    let body = SEND.replace("2025-01-27T15:00:00Z", &at.to_string());
    let sent = api.json("POST", &service(), path, &body).await.expect(200);
    assert_eq!(sent["status"], "scheduled");
    let mail = mails.mail().await;
    assert!(jiff::Timestamp::now() >= at, "it came before its time");
    assert_eq!(mail.to, "user@example.com");
}

/// The document's task queue has tasks that repeat (`TaskTypeRecurring`, `Interval`), to be used for reports each Monday,
/// on the first of a month, and checks each hour, in its users' zone.
#[tokio::test]
async fn s3_5_recurring() {
    let (mut mails, api) = Api::with_mails().await;
    let payload = json!({
        "tenant_id": "tenant_abc",
        "user_id": "user_123",
        "channel": "email",
        "title": "周报",
        "content": "本周的报告",
        "metadata": { "email": "user@example.com" }
    });
    let path = "/api/v1/schedules";
    for (cron, hour) in [
        ("0 8 * * 1", "T00:00:00"),
        ("0 8 1 * *", "T00:00:00"),
        ("0 * * * *", ":00:00"),
    ] {
        let body = json!({ "cron": cron, "time_zone": "Asia/Shanghai", "notification": payload });
        let made = api.post(&service(), path, &body).await.expect(201);
        assert!(made["next_at"].as_str().unwrap().contains(hour), "{made}");
    }
    let task = json!({ "type": "recurring", "name": "send_notification", "payload": payload, "interval": 1, "max_runs": 2 });
    let made = api.post(&service(), path, &task).await.expect(201);
    let mut at = Vec::new();
    for _ in 0..2 {
        assert_eq!(mails.mail().await.to, "user@example.com");
        at.push(jiff::Timestamp::now());
    }
    let first: jiff::Timestamp = made["next_at"].as_str().unwrap().parse().unwrap();
    assert!(
        at[0] >= first && at[1] >= first + jiff::SignedDuration::from_secs(1),
        "{at:?}"
    );
    let path = format!("{path}/{}", made["id"].as_str().unwrap());
    let ended = api.get(&service(), &path).await.expect(200);
    assert_eq!((&ended["status"], &ended["runs"]), (&json!("ended"), &json!(2)));
}
