//! S4, the PMC notification system: its calls as JSON bodies.

use serde_json::json;

use crate::{
    api::{Api, Who},
    support::eventually,
};

#[tokio::test]
async fn s4_1_send_notification_by_its_channels() {
    let (mut mails, api) = Api::with_mails().await;
    for (channel, target, reason) in [
        ("email", "user@example.com", None),
        ("wechat_api", "zhangsan", Some("not_configured")),
        ("sms", "13800138000", Some("not_configured")),
    ] {
        let body =
            json!({ "title": "T", "content": "C", "channel": channel, "target": target, "priority": 1 });
        let made = api.created(&body).await;
        assert_eq!(made["priority"], 1);
        let path = format!("/api/v1/notifications/{}/status", made["id"].as_str().unwrap());
        let status = api.get(&Who::service(), &path).await.expect(200);
        let deliveries = status["deliveries"].as_array().unwrap();
        assert_eq!(deliveries.len(), 1);
        assert_eq!(
            (&deliveries[0]["address"], deliveries[0]["reason"].as_str()),
            (&json!(target), reason),
            "{channel}"
        );
    }
    assert_eq!(mails.mail().await.to, "user@example.com");
}

/// `get_notification_status` by message id, and what the document's table says of each: channel, target, status, error.
#[tokio::test]
async fn s4_6_status_history_and_statistics() {
    let (mut mails, api) = Api::with_mails().await;
    let mut ids = Vec::new();
    for (channel, target) in [("email", "user@example.com"), ("sms", "13800138000")] {
        let body =
            json!({ "title": "T", "content": "C", "channel": channel, "target": target, "priority": 1 });
        ids.push(api.create(&body).await);
    }
    mails.mail().await;
    let status = eventually("the mail is settled", async || {
        let status = api.status(&Who::service(), &ids[0]).await;
        (status["status"] == "sent").then_some(status)
    })
    .await;
    assert_eq!(status["deliveries"][0]["channel"], "email");
    let failed = api.status(&Who::service(), &ids[1]).await;
    assert_eq!(
        (&failed["status"], &failed["deliveries"][0]["reason"]),
        (&json!("failed"), &json!("not_configured"))
    );
    for (query, found) in [
        ("status=sent", vec![&ids[0]]),
        ("status=failed&channel=sms", vec![&ids[1]]),
        ("", vec![&ids[1], &ids[0]]),
    ] {
        let list = api
            .get(&Who::service(), &format!("/api/v1/notifications/history?{query}"))
            .await
            .expect(200);
        let list: Vec<_> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(list.iter().collect::<Vec<_>>(), found, "{query}");
    }
    let stats = api.get(&Who::service(), "/api/v1/stats").await.expect(200);
    assert_eq!(
        (
            &stats["channels"]["email"]["sent"],
            &stats["channels"]["sms"]["failed"]
        ),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn s4_2_send_template_notification() {
    let (mut mails, api) = Api::with_mails().await;
    let template = json!({ "name": "production_alert", "title": "生产异常告警", "content": "项目：{project_name}\n异常：{alert_message}\n时间：{timestamp}", "channel": "email", "syntax": "format" });
    api.post(
        &Who::service().scope("templates:write"),
        "/api/v1/templates",
        &template,
    )
    .await
    .expect(201);
    let body = json!({ "template_name": "production_alert", "target": "user@example.com", "variables": { "project_name": "P", "alert_message": "A", "timestamp": "now" } });
    let sent = api
        .post(&Who::service(), "/api/v1/notifications/template", &body)
        .await
        .expect(201);
    assert_eq!(sent["results"], json!({ "email": true }));
    assert_eq!(mails.mail().await.to, "user@example.com");
}
