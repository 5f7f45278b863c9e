//! What would become of it, and nothing of it is stored.

use axum::body::Body;
use serde_json::{Value, json};

use super::{Api, Who, request};

const CREATE: &str = "/api/v1/notifications";

#[tokio::test]
async fn it_tells_the_decision() {
    let (mut mails, api) = Api::with_mails().await;
    api.put_contact("u1", &json!({ "email": "someone@example.com" }))
        .await;
    let writer = Who::service().scope("templates:write");
    let template = json!({ "name": "t", "title": "Hello {{ name }}", "content": "{{ name }}!" });
    api.post(&writer, "/api/v1/templates", &template)
        .await
        .expect(201);
    let body = json!({
        "user_ids": ["u1", "u2"], "template": "t", "variables": { "name": "Ann" }, "priority": "urgent",
        "channels": ["in_app", "websocket", "email", "sms"], "delay": "10m",
    });
    let path = format!("{CREATE}?dry_run=true");
    let plan = api.post(&Who::service(), &path, &body).await.expect(200);
    for (field, value) in [
        ("dry_run", json!(true)),
        ("status", json!("scheduled")),
        ("to", json!({ "users": ["u1", "u2"] })),
        ("channels", json!(["in_app", "websocket", "email", "sms"])),
        ("strategy", json!("all")),
        ("lane", json!("critical")),
        ("priority", json!("urgent")),
        ("title", json!("Hello Ann")),
        ("content", json!("Ann!")),
        ("template", json!({ "name": "t", "version": 1 })),
        ("inbox_rows", json!(2)),
        (
            "results",
            json!({ "in_app": true, "websocket": true, "email": true, "sms": false }),
        ),
    ] {
        assert_eq!(plan[field], value, "{field}");
    }
    assert!(plan["scheduled_at"].is_string());
    let mails_planned: Vec<&Value> = plan["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|delivery| delivery["channel"] == "email")
        .collect();
    assert_eq!(
        (&mails_planned[0]["address"], &mails_planned[0]["state"]),
        (&json!("s***@e***.com"), &json!("pending"))
    );
    assert_eq!(
        (
            &mails_planned[1]["user_id"],
            &mails_planned[1]["state"],
            &mails_planned[1]["reason"]
        ),
        (&json!("u2"), &json!("dead"), &json!("no_address"))
    );
    assert_eq!(api.stored().await, 0);
    assert!(mails.further_mails().is_empty());
}

#[tokio::test]
async fn a_group_is_told_by_fan_out() {
    let (_mails, api) = Api::with_mails().await;
    let body =
        json!({ "role": "cook", "title": "T", "content": "C", "channels": ["email"], "dry_run": true });
    let plan = api.post(&Who::service(), CREATE, &body).await.expect(200);
    assert_eq!(
        (&plan["fan_out"], &plan["deliveries"], &plan["status"]),
        (&json!(["email"]), &json!([]), &json!("pending"))
    );
}

#[tokio::test]
async fn it_uses_up_no_key_and_refuses_what_would_be_refused() {
    let api = Api::new().await;
    let body = json!({ "user_id": "u1", "title": "T", "content": "C", "idempotency_key": "k1" });
    let dry = request("POST", &format!("{CREATE}?dry_run=true"), &Who::service())
        .header("content-type", "application/json")
        .header("idempotency-key", "h1");
    let dry = api.send(dry.body(Body::from(body.to_string())).unwrap()).await;
    assert_eq!(dry.expect(200)["dry_run"], true);
    let real = api.post(&Who::service(), CREATE, &body).await;
    real.expect(201);
    assert_eq!(real.header("idempotency-replayed"), None);
    let bad = json!({ "user_id": "u1", "title": "T", "content": "C", "kind": "loud", "dry_run": true });
    let refused = api.post(&Who::service(), CREATE, &bad).await;
    assert_eq!(refused.problem().1, "unknown_kind");
    assert_eq!(api.stored().await, 1);
    let query = api
        .post(&Who::service(), &format!("{CREATE}?dry_run=maybe"), &body)
        .await;
    assert_eq!(
        query.problem(),
        (422, "invalid_query".to_owned(), Some("dry_run".to_owned()))
    );
}

#[tokio::test]
async fn many_at_once_are_told_each() {
    let api = Api::new().await;
    let item = json!({ "user_id": "u1", "title": "T", "content": "C" });
    let bad = json!({ "user_id": "u1" });
    for path in ["bulk", "batch"] {
        let path = format!("{CREATE}/{path}?dry_run=true");
        let body = json!({ "notifications": [item, bad] });
        let answer = api.post(&Who::service(), &path, &body).await.expect(200);
        assert_eq!(
            (
                &answer["results"][0]["result"],
                &answer["results"][0]["plan"]["lane"]
            ),
            (&json!("planned"), &json!("medium"))
        );
        assert_eq!(answer["results"][1]["result"], "problem");
    }
    let batch = json!({ "user_ids": ["a", "b"], "title": "T", "content": "C", "dry_run": true });
    let answer = api
        .post(&Who::service(), "/api/v1/notifications/batch", &batch)
        .await
        .expect(200);
    assert_eq!(answer["inbox_rows"], 2);
    assert_eq!(api.stored().await, 0);
}
