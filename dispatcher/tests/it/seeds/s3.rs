//! S3, the `VoiceAssistant` notification service.

use dispatcher::config::WebhookFormat;
use serde_json::json;

use crate::{
    api::{Api, Who},
    support::{
        eventually,
        hooks::{HookServer, SECRET, configure},
    },
};

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

const BATCH: &str = r#"{
    "tenant_id": "tenant_abc",
    "user_ids": ["user_123", "user_456", "user_789"],  // 最多1000个
    "channel": "email",
    "priority": "medium",
    "template_id": "tmpl_weekly_report",
    "variables": {
        "week": "第4周",
        "total_messages": 1000
    }
}"#;

#[tokio::test]
async fn s3_1_batch_and_its_job() {
    let (mut mails, api) = Api::with_mails().await;
    let template = json!({ "name": "tmpl_weekly_report", "title": "{{week}}", "content": "{{total_messages}}", "channel": "email" });
    api.post(&service(), "/api/v1/templates", &template)
        .await
        .expect(201);
    let contacts = Who::user("admin").tenant("tenant_abc").scope("contacts:write");
    for user in ["user_123", "user_456"] {
        let contact = json!({ "email": format!("{user}@example.com") });
        api.json(
            "PUT",
            &contacts,
            &format!("/api/v1/contacts/{user}"),
            &contact.to_string(),
        )
        .await
        .expect(200);
    }
    let path = "/api/v1/notifications/batch";
    let sent = api.json("POST", &service(), path, BATCH).await.expect(200);
    assert_eq!(
        (&sent["total_users"], &sent["status"]),
        (&json!(3), &json!("processing"))
    );
    assert!(sent["job_id"].is_string() && sent["created_at"].is_string());
    for _ in 0..2 {
        let mail = mails.mail().await;
        assert!(mail.to.starts_with("user_"), "{}", mail.to);
    }
    let job = format!("/api/v1/jobs/{}", sent["job_id"].as_str().unwrap());
    let done = eventually("the job is done", async || {
        let job = api.get(&service(), &job).await.expect(200);
        (job["status"] == "completed").then_some(job)
    })
    .await;
    assert_eq!(
        (
            &done["total"],
            &done["succeeded"],
            &done["failed"],
            &done["progress"]
        ),
        (&json!(3), &json!(2), &json!(1), &json!(100))
    );
    assert_eq!(
        (&done["errors"][0]["user_id"], &done["errors"][0]["reason"]),
        (&json!("user_789"), &json!("no_address"))
    );
    let many: Vec<String> = (0..1001).map(|number| format!("user_{number}")).collect();
    let too_many = BATCH.replace(
        r#"["user_123", "user_456", "user_789"]"#,
        &json!(many).to_string(),
    );
    let refused = api.json("POST", &service(), path, &too_many).await;
    assert_eq!(
        refused.problem(),
        (422, "too_many".to_owned(), Some("user_ids".to_owned()))
    );
    let thousand = BATCH.replace(
        r#"["user_123", "user_456", "user_789"]"#,
        &json!(many[..1000]).to_string(),
    );
    let taken = api.json("POST", &service(), path, &thousand).await.expect(200);
    assert_eq!(taken["total_users"], 1000);
}

#[tokio::test]
async fn s3_1_status_and_stats() {
    let (mut mails, api) = Api::with_mails().await;
    let sent = api
        .json("POST", &service(), "/api/v1/notifications/send", SEND)
        .await
        .expect(200);
    mails.mail().await;
    let path = format!("/api/v1/notifications/{}", sent["id"].as_str().unwrap());
    let status = eventually("it is sent", async || {
        let status = api.get(&service(), &format!("{path}/status")).await.expect(200);
        (status["status"] == "sent").then_some(status)
    })
    .await;
    assert_eq!(status["deliveries"][0]["attempts"][0]["outcome"], "delivered");
    let one = api.get(&service(), &path).await.expect(200);
    assert_eq!(one["title"], "欢迎使用VoiceAssistant");
    let stats = api.get(&service(), "/api/v1/stats").await.expect(200);
    assert_eq!(
        (&stats["success_rate"], &stats["channels"]["email"]["sent"]),
        (&json!(1.0), &json!(1))
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

/// The document's `WebHookSender.Send`: what it reads of `Metadata`, and what it posts.
#[tokio::test]
async fn s3_16_webhook_body_and_signature() {
    let mut server = HookServer::friendly().await;
    let mut config = configure();
    config.webhook.format = WebhookFormat::Voiceassistant;
    let api = Api::start(config).await;
    let body = json!({
        "tenant_id": "tenant_abc",
        "user_id": "user_123",
        "channel": "webhook",
        "priority": "high",
        "title": "支付成功",
        "content": "订单 {{.order}} 已支付 <b>&",
        "metadata": { "webhook_url": server.url("/webhook"), "event_type": "payment.success" },
    });
    let sent = api
        .post(&service(), "/api/v1/notifications/send", &body)
        .await
        .expect(200);
    let call = server.call().await;
    assert_eq!(call.line, "POST /webhook HTTP/1.1");
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert_eq!(call.header("user-agent"), Some("VoiceAssistant-Notification/1.0"));
    let received = call.json();
    let mut names: Vec<_> = received.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content",
            "event_type",
            "notification_id",
            "signature",
            "tenant_id",
            "timestamp",
            "title",
            "user_id"
        ]
    );
    assert_eq!(
        (
            &received["event_type"],
            &received["notification_id"],
            &received["title"]
        ),
        (&json!("payment.success"), &sent["id"], &json!("支付成功"))
    );
    assert_eq!(
        (&received["content"], &received["user_id"], &received["tenant_id"]),
        (&body["content"], &json!("user_123"), &json!("tenant_abc"))
    );
    let timestamp = received["timestamp"].as_i64().expect("Unix seconds");
    assert_eq!(
        call.header("webhook-timestamp"),
        Some(timestamp.to_string().as_str())
    );
    assert_eq!(call.header("x-signature"), received["signature"].as_str());
    assert!(
        call.is_signed_by(SECRET),
        "and Standard Webhooks' signature beside"
    );

    // The URL is an address: clients do not get it, the status does.
    let id = sent["id"].as_str().unwrap();
    let view = api
        .get(&service(), &format!("/api/v1/notifications/{id}"))
        .await
        .expect(200);
    assert_eq!(view["extra_data"], json!({ "event_type": "payment.success" }));
    let status = eventually("it is delivered", async || {
        let status = api.status(&service(), id).await;
        (status["deliveries"][0]["state"] == "delivered").then_some(status)
    })
    .await;
    assert_eq!(status["deliveries"][0]["attempts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn s3_8_a_contact_has_a_webhook() {
    let mut server = HookServer::friendly().await;
    let api = Api::start(configure()).await;
    api.put_contact("u1", &json!({ "webhook_url": server.url("/of-u1") }))
        .await;
    api.create(&json!({ "to": { "user": "u1" }, "title": "T", "content": "C", "channels": ["webhook"] }))
        .await;
    let call = server.call().await;
    assert_eq!(call.line, "POST /of-u1 HTTP/1.1");
    assert_eq!(call.json()["type"], "notification");
    for field in ["target", "recipient"] {
        let url = server.url(&format!("/{field}"));
        api.create(&json!({ field: url, "title": "T", "content": "C", "channel": "webhook" }))
            .await;
        assert_eq!(server.call().await.line, format!("POST /{field} HTTP/1.1"));
    }
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
