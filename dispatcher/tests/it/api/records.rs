//! What became of a notification, as its sender, an administrator and a reader see it.

use serde_json::json;

use super::{Api, Who};
use crate::support::eventually;

#[tokio::test]
async fn senders_see_deliveries_and_attempts_readers_their_own() {
    let (mut mails, api) = Api::with_mails().await;
    api.put_contact("u1", &json!({ "email": "u1@example.com" })).await;
    let id = api
        .create(
            &json!({ "user_id": "u1", "title": "T", "content": "C", "channels": ["in_app", "email", "sms"] }),
        )
        .await;
    assert_eq!(mails.mail().await.to, "u1@example.com");
    let path = format!("/api/v1/notifications/{id}/status");
    let status = eventually("the email is settled", async || {
        let status = api.get(&Who::service(), &path).await.expect(200);
        let email = status["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["channel"] == "email")
            .unwrap()
            .clone();
        (email["state"] == "delivered").then_some((status, email))
    })
    .await;
    let (whole, email) = status;
    assert_eq!(email["attempts"][0]["outcome"], "delivered");
    assert_eq!(email["attempts"][0]["number"], 1);
    assert_eq!(
        email["address"], "u***@e***.com",
        "a contact's address is not the sender's to read"
    );
    assert_eq!(whole["status"], "sent");
    let sms = whole["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["channel"] == "sms")
        .unwrap();
    assert_eq!(
        (&sms["state"], &sms["reason"]),
        (&json!("dead"), &json!("not_configured"))
    );

    let admin = api
        .get(&Who::user("admin").scope("notifications:admin"), &path)
        .await
        .expect(200);
    assert!(admin.to_string().contains("u1@example.com"));
    let own = api.get(&Who::user("u1"), &path).await.expect(200);
    assert_eq!(own["is_read"], false);
    assert!(
        !own.to_string().contains("example.com") && !own.to_string().contains("attempts"),
        "{own}"
    );
    for stranger in [
        Who::user("u2"),
        Who::service().tenant("t2"),
        Who::user("a").tenant("t2").scope("notifications:admin"),
    ] {
        assert_eq!(api.get(&stranger, &path).await.status, 404);
    }
    let view = api
        .get(&Who::service(), &format!("/api/v1/notifications/{id}"))
        .await
        .expect(200);
    assert_eq!(view["deliveries"].as_array().unwrap().len(), 3);
    assert_eq!(view["to"], json!({ "user": "u1" }));
    let own = api
        .get(&Who::user("u1"), &format!("/api/v1/notifications/{id}"))
        .await
        .expect(200);
    assert!(own["deliveries"].is_null() && own["to"].is_null());
}

#[tokio::test]
async fn sums_are_of_the_tenant() {
    let api = Api::new().await;
    api.create(&json!({ "user_id": "u1", "title": "T", "content": "C", "channels": ["in_app", "sms"] }))
        .await;
    let stats = eventually("the sums are there", async || {
        let stats = api
            .get(&Who::user("u1"), "/api/v1/notifications/stats")
            .await
            .expect(200);
        (stats["created"] == 1).then_some(stats)
    })
    .await;
    assert_eq!(
        stats,
        json!({ "connections": 3, "users_online": 2, "created": 1, "sent": 1, "failed": 1, "unread": 1 })
    );
    let other = api
        .get(&Who::user("u1").tenant("t2"), "/api/v1/notifications/stats")
        .await
        .expect(200);
    assert_eq!((&other["created"], &other["unread"]), (&json!(0), &json!(0)));
}
