//! From a body to deliveries: addresses, contacts, groups, times.

use serde_json::{Value, json};

use super::{Api, Who};
use crate::support::eventually;

async fn deliveries(api: &Api, id: &str) -> Vec<Value> {
    let admin = Who::user("admin").scope("notifications:admin");
    api.status(&admin, id).await["deliveries"]
        .as_array()
        .unwrap()
        .clone()
}

/// Channel, user, address, reason of each delivery, sorted.
async fn plan(api: &Api, body: &Value) -> Vec<(String, Value, Value, Value)> {
    let id = api.create(body).await;
    let mut rows: Vec<_> = deliveries(api, &id)
        .await
        .into_iter()
        .map(|row| {
            (
                row["channel"].as_str().unwrap().to_owned(),
                row["user_id"].clone(),
                row["address"].clone(),
                row["reason"].clone(),
            )
        })
        .collect();
    rows.sort_by_key(|row| format!("{row:?}"));
    rows
}

#[tokio::test]
async fn addresses_alone_reach_an_address_and_nobodys_screen() {
    let (mut mails, api) = Api::with_mails().await;
    let body = json!({ "title": "T", "content": "C", "channels": ["email", "system", "sms"], "recipients": ["a@example.com", "b@example.com"] });
    let rows = plan(&api, &body).await;
    let channels: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(channels, ["email", "email", "in_app", "sms"]);
    assert_eq!(rows[2].3, "no_address");
    assert_eq!(rows[3].3, "not_configured");
    let mut to = [mails.mail().await.to, mails.mail().await.to];
    to.sort();
    assert_eq!(to, ["a@example.com", "b@example.com"]);
    for who in [Who::user("a@example.com"), Who::service()] {
        assert!(api.titles(&who).await.is_empty());
    }
}

#[tokio::test]
async fn addresses_beside_a_target_replace_the_contacts() {
    let (mut mails, api) = Api::with_mails().await;
    api.put_contact("u1", &json!({ "email": "contact@example.com" }))
        .await;
    for (fields, to) in [
        (json!({}), "contact@example.com"),
        (json!({ "recipient": "given@example.com" }), "given@example.com"),
        (json!({ "target": "given@example.com" }), "given@example.com"),
        (
            json!({ "metadata": { "email": "meta@example.com" } }),
            "meta@example.com",
        ),
    ] {
        let mut body =
            json!({ "user_id": "u1", "title": "T", "content": "C", "channels": ["email", "in_app"] });
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        api.create(&body).await;
        assert_eq!(mails.mail().await.to, to, "{fields}");
    }
    let list = api
        .get(&Who::user("u1"), "/api/v1/notifications")
        .await
        .expect(200);
    assert_eq!(list.as_array().unwrap().len(), 4);
    assert!(
        !list.to_string().contains("example.com"),
        "addresses never leave for clients"
    );
    let rows = plan(
        &api,
        &json!({ "to": { "users": ["u1", "u2"] }, "title": "T", "content": "C", "channels": ["email"] }),
    )
    .await;
    assert_eq!(rows.len(), 2);
    assert!(rows.contains(&("email".to_owned(), json!("u2"), Value::Null, json!("no_address"))));
}

#[tokio::test]
async fn groups_are_walked_by_a_job() {
    let (mut mails, api) = Api::with_mails().await;
    let contacts = Who::user("admin").scope("contacts:write");
    let body = json!({ "contacts": {
        "u1": { "email": "u1@example.com", "roles": ["cook"] },
        "u2": { "email": "u2@example.com", "roles": ["waiter"] },
        "u3": { "roles": ["cook"] },
    } });
    api.json("PUT", &contacts, "/api/v1/contacts", &body.to_string())
        .await
        .expect(200);
    let send = json!({ "role": "cook", "title": "T", "content": "C", "channels": ["email", "in_app"] });
    let made = api.created(&send).await;
    assert_eq!(made["status"], "pending");
    assert_eq!(mails.mail().await.to, "u1@example.com");
    let id = made["id"].as_str().unwrap().to_owned();
    eventually("the job has made its deliveries", async || {
        deliveries(&api, &id)
            .await
            .into_iter()
            .find(|row| row["user_id"] == "u1" && row["state"] == "delivered")
    })
    .await;
    assert!(mails.further_mails().is_empty());
}

#[tokio::test]
async fn scheduled_ones_come_when_they_are_due() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let body = json!({ "user_id": "u1", "title": "far", "content": "C", "delay": "1h" });
    let made = api.created(&body).await;
    assert_eq!(made["status"], "scheduled");
    assert!(made["scheduled_at"].is_string());
    let body =
        json!({ "user_id": "u1", "title": "near", "content": "C", "delay": 0.3, "channels": ["in_app"] });
    let near = api.created(&body).await;
    assert_eq!(near["status"], "scheduled");
    eventually("it is visible", async || {
        (api.titles(&who).await == ["near"]).then_some(())
    })
    .await;
    let id = near["id"].as_str().unwrap();
    eventually("it is delivered", async || {
        (api.status(&Who::service(), id).await["status"] == "sent").then_some(())
    })
    .await;
    assert_eq!(api.unread(&who).await, 1);
}

#[tokio::test]
async fn topics_are_live_only() {
    let api = Api::new().await;
    let rows = plan(
        &api,
        &json!({ "to": { "topic": "trading_alerts" }, "title": "T", "content": "C" }),
    )
    .await;
    let channels: Vec<&str> = rows.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(channels, ["realtime"]);
}

#[tokio::test]
async fn several_users_are_one_notification() {
    let api = Api::new().await;
    let id = api
        .create(&json!({ "user_ids": ["u1", "u2", "u1"], "title": "T", "content": "C" }))
        .await;
    for user in ["u1", "u2"] {
        let list = api
            .get(&Who::user(user), "/api/v1/notifications")
            .await
            .expect(200);
        assert_eq!(
            (&list[0]["id"], &list[0]["user_id"]),
            (&json!(id), &json!(user)),
            "each is told of itself alone"
        );
    }
    let left_out = json!({ "to": { "users": ["u1", "u2"], "except": { "user": "u2" } }, "title": "not u2", "content": "C" });
    api.create(&left_out).await;
    assert_eq!(api.titles(&Who::user("u1")).await, ["not u2", "T"]);
    assert_eq!(api.titles(&Who::user("u2")).await, ["T"]);
}
