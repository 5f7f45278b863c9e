//! A newer notification in the place of an older one.

use serde_json::{Value, json};

use super::{Api, Who};

fn body(title: &str, fields: &Value) -> Value {
    let mut body = json!({ "user_id": "u1", "title": title, "content": "C", "channels": ["in_app"], "collapse_key": "k" });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test]
async fn the_inbox_shows_the_newest_and_the_older_says_why() {
    let (mut mails, api) = Api::with_mails().await;
    let who = Who::user("u1");
    let waiting = json!({ "channels": ["in_app", "email"], "recipient": "a@example.com", "delay": "24h" });
    let scheduled = api.create(&body("later", &waiting)).await;
    let first = api.create(&body("first", &json!({}))).await;
    assert_eq!(api.titles(&who).await, ["first"]);
    let status = api.status(&Who::service(), &scheduled).await;
    assert_eq!(status["status"], "cancelled");
    for delivery in status["deliveries"].as_array().unwrap() {
        assert_eq!(
            (&delivery["state"], &delivery["reason"]),
            (&json!("cancelled"), &json!("collapsed"))
        );
    }
    // Also one that was read.
    api.put(&who, &format!("/api/v1/notifications/{first}/read"))
        .await
        .expect(200);
    api.create(&body("second", &json!({}))).await;
    assert_eq!(api.titles(&who).await, ["second"]);
    assert_eq!(api.unread(&who).await, 1);
    // Another target has its own.
    api.create(&body("other", &json!({ "user_id": "u2" }))).await;
    assert_eq!(api.titles(&who).await, ["second"]);
    assert!(mails.further_mails().is_empty());
}
