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
    // Said of the whole request in its body, also where an item says so too.
    let dry = json!({ "user_id": "u1", "title": "T", "content": "C", "dry_run": true });
    for path in ["bulk", "batch"] {
        let path = format!("{CREATE}/{path}");
        let body = json!({ "notifications": [item, dry], "dry_run": true });
        let answer = api.post(&Who::service(), &path, &body).await.expect(200);
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["result"], "planned", "{answer}");
        }
    }
    let batch = json!({ "user_ids": ["a", "b"], "title": "T", "content": "C", "dry_run": true });
    let answer = api
        .post(&Who::service(), "/api/v1/notifications/batch", &batch)
        .await
        .expect(200);
    assert_eq!(answer["inbox_rows"], 2);
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn one_of_many_is_never_sent_for_its_dry_run() {
    let api = Api::new().await;
    let item =
        json!({ "user_id": "u1", "title": "T", "content": "C", "dry_run": true, "idempotency_key": "k" });
    let meant = json!({ "user_id": "u1", "title": "meant", "content": "C", "dry_run": false });
    for (path, body) in [
        ("bulk", json!({ "notifications": [item, meant] })),
        ("batch", json!({ "notifications": [item, meant] })),
        ("bulk", json!([item, meant])),
    ] {
        let stored = api.stored().await;
        let path = format!("{CREATE}/{path}");
        let answer = api.post(&Who::service(), &path, &body).await.expect(200);
        assert_eq!(
            (&answer["results"][0]["result"], &answer["results"][1]["result"]),
            (&json!("problem"), &json!("created")),
            "{answer}"
        );
        let problem = &answer["results"][0]["problem"];
        let place = if body.is_array() {
            "[0]"
        } else {
            "notifications[0]"
        };
        assert_eq!(
            (&problem["code"], &problem["field"], &problem["status"]),
            (
                &json!("not_here"),
                &json!(format!("{place}.dry_run")),
                &json!(422)
            )
        );
        assert_eq!(api.stored().await, stored + 1);
    }
}

#[tokio::test]
async fn a_change_has_none_and_is_not_made_for_one() {
    let api = Api::new().await;
    let body = json!({ "user_id": "u1", "title": "T", "content": "C", "delay": "1h" });
    let id = api.create(&body).await;
    let path = format!("{CREATE}/{id}");
    let change = json!({ "title": "T2", "dry_run": true });
    let refused = api.json("PUT", &Who::service(), &path, &change.to_string()).await;
    assert_eq!(
        refused.problem(),
        (422, "not_here".to_owned(), Some("dry_run".to_owned()))
    );
    let stored = api.get(&Who::service(), &path).await.expect(200);
    assert_eq!(stored["title"], "T");
}
