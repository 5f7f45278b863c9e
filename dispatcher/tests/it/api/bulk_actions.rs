//! Cancel, retry and delete, many at once.

use serde_json::{Value, json};

use super::{Api, Who};

const CANCEL: &str = "/api/v1/notifications/bulk/cancel";

/// An email that waits for a day.
fn waiting(fields: &Value) -> Value {
    let mut body = json!({ "recipient": "a@example.com", "channel": "email", "title": "T", "content": "C", "delay": "24h" });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn status(api: &Api, id: &str) -> Value {
    api.status(&Who::service(), id).await["status"].clone()
}

#[tokio::test]
async fn many_are_cancelled_by_id_each_with_its_own_answer() {
    let (_mails, api) = Api::with_mails().await;
    let waits = api.create(&waiting(&json!({}))).await;
    let gone = api
        .create(&json!({ "user_id": "u1", "title": "T", "content": "C", "channels": ["in_app"] }))
        .await;
    let foreign = Who::user("other").scope("notifications:write");
    let theirs = api
        .post(&foreign, "/api/v1/notifications", &waiting(&json!({})))
        .await
        .expect(201);
    let ids = json!({ "ids": [waits, gone, theirs["id"], "none"] });
    let answer = api.post(&Who::service(), CANCEL, &ids).await.expect(200);
    assert_eq!(
        (
            &answer["total"],
            &answer["done"],
            &answer["not_done"],
            &answer["more"]
        ),
        (&json!(4), &json!(2), &json!(2), &json!(false))
    );
    let results = answer["results"].as_array().unwrap();
    assert_eq!(
        (&results[0]["id"], &results[0]["status"], &results[0]["stopped"]),
        (&json!(waits), &json!("cancelled"), &json!(1))
    );
    assert_eq!(results[1]["status"], "too_late");
    for (index, result) in [(2, &results[2]), (3, &results[3])] {
        assert_eq!(
            (&result["problem"]["status"], &result["problem"]["field"]),
            (&json!(404), &json!(format!("ids[{index}]")))
        );
    }
    assert_eq!(status(&api, &waits).await, "cancelled");
    let admin = Who::user("ops").scope("notifications:write notifications:admin");
    let answer = api
        .post(&admin, CANCEL, &json!({ "notification_ids": [theirs["id"]] }))
        .await
        .expect(200);
    assert_eq!(answer["results"][0]["status"], "cancelled");
}

#[tokio::test]
async fn a_filter_cancels_what_waits_and_fits() {
    let (_mails, api) = Api::with_mails().await;
    let mut fitting = Vec::new();
    for _ in 0..3 {
        fitting.push(api.create(&waiting(&json!({ "category": "promo" }))).await);
    }
    let other = api.create(&waiting(&json!({ "category": "bill" }))).await;
    let filter = json!({ "filter": { "category": "promo" } });
    let answer = api.post(&Who::service(), CANCEL, &filter).await.expect(200);
    assert_eq!(
        (&answer["total"], &answer["done"], &answer["more"]),
        (&json!(3), &json!(3), &json!(false))
    );
    for id in &fitting {
        assert_eq!(status(&api, id).await, "cancelled");
    }
    assert_eq!(status(&api, &other).await, "scheduled");
    let again = api.post(&Who::service(), CANCEL, &filter).await.expect(200);
    assert_eq!(again["total"], 0, "what is cancelled does not wait");
    for everything in [json!({ "all": true }), json!({ "filter": {}, "all": true })] {
        api.create(&waiting(&json!({}))).await;
        let answer = api.post(&Who::service(), CANCEL, &everything).await.expect(200);
        assert_ne!(answer["done"], 0, "{answer}");
        assert_eq!(status(&api, &other).await, "cancelled");
    }
}

#[tokio::test]
async fn bad_choices_are_refused_whole() {
    let api = Api::new().await;
    for (body, code, field) in [
        (json!({}), "missing_field", "ids"),
        (json!({ "ids": [] }), "invalid_value", "ids"),
        (json!({ "ids": vec!["x"; 1001] }), "too_many", "ids"),
        (json!({ "ids": ["x"], "filter": {} }), "conflict", "filter"),
        (json!({ "filter": {} }), "missing_field", "filter"),
        (json!({ "ids": ["x"], "all": true }), "conflict", "all"),
        (
            json!({ "filter": { "category": "a" }, "all": true }),
            "conflict",
            "all",
        ),
        (
            json!({ "filter": { "status": "good" } }),
            "invalid_query",
            "filter.status",
        ),
        (
            json!({ "filter": { "limit": 5 } }),
            "invalid_value",
            "filter.limit",
        ),
        (
            json!({ "filter": { "colour": "red" } }),
            "unknown_field",
            "filter.colour",
        ),
    ] {
        for path in [CANCEL, "/api/v1/notifications/bulk/retry"] {
            let refused = api.post(&Who::service(), path, &body).await;
            assert_eq!(
                refused.problem(),
                (422, code.to_owned(), Some(field.to_owned())),
                "{body}"
            );
        }
    }
    let refused = api.post(&Who::user("u"), CANCEL, &json!({ "ids": ["x"] })).await;
    assert_eq!(refused.problem().1, "scope_missing");
}

#[tokio::test]
async fn what_failed_is_retried_and_what_did_not_is_told() {
    let api = Api::new().await;
    let failed = api
        .create(&json!({ "recipient": "13800138000", "channel": "sms", "title": "T", "content": "C" }))
        .await;
    let sent = api
        .create(&json!({ "user_id": "u1", "title": "T", "content": "C", "channels": ["in_app"] }))
        .await;
    let path = "/api/v1/notifications/bulk/retry";
    let answer = api
        .post(&Who::service(), path, &json!({ "ids": [failed, sent] }))
        .await
        .expect(200);
    assert_eq!(
        (&answer["done"], &answer["not_done"]),
        (&json!(1), &json!(1)),
        "{answer}"
    );
    assert_eq!(answer["results"][0]["retried"].as_array().unwrap().len(), 1);
    assert_eq!(answer["results"][1]["problem"]["status"], 409);
}

#[tokio::test]
async fn readers_delete_many_of_their_own() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let mut ids = Vec::new();
    for title in ["a", "b", "c"] {
        ids.push(
            api.create(&json!({ "user_id": "u1", "title": title, "content": "C", "channels": ["in_app"] }))
                .await,
        );
    }
    let path = "/api/v1/notifications/bulk/delete";
    let foreign = api
        .post(&Who::user("u2"), path, &json!({ "ids": ids }))
        .await
        .expect(200);
    assert_eq!(foreign["count"], 0);
    let answer = api
        .post(&who, path, &json!({ "ids": [ids[0], ids[1], "none"] }))
        .await
        .expect(200);
    assert_eq!(
        (&answer["count"], &answer["unread_count"], &answer["message"]),
        (&json!(2), &json!(1), &json!("已删除2条通知"))
    );
    assert_eq!(api.titles(&who).await, ["c"]);
}

#[tokio::test]
async fn a_job_can_be_cancelled() {
    let (_mails, api) = Api::with_mails().await;
    for user in ["a", "b"] {
        api.put_contact(user, &json!({ "email": format!("{user}@example.com") }))
            .await;
    }
    let batch =
        json!({ "user_ids": ["a", "b"], "channel": "email", "title": "T", "content": "C", "delay": "24h" });
    let made = api
        .post(&Who::service(), "/api/v1/notifications/batch", &batch)
        .await
        .expect(200);
    assert_eq!(made["status"], "scheduled");
    let path = format!("/api/v1/jobs/{}", made["job_id"].as_str().unwrap());
    let cancelled = api
        .post(&Who::service(), &format!("{path}/cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["stopped"]),
        (&json!("cancelled"), &json!(2))
    );
    let job = api.get(&Who::service(), &path).await.expect(200);
    assert_eq!(
        (&job["status"], &job["cancelled"], &job["progress"]),
        (&json!("cancelled"), &json!(2), &json!(100))
    );
}
