//! One key, one notification.

use std::time::Duration;

use axum::body::Body;
use dispatcher::model::Micros;
use serde_json::{Value, json};

use super::{Answer, Api, Who, request};
use crate::support::eventually;

const CREATE: &str = "/api/v1/notifications";

async fn post(api: &Api, who: &Who, path: &str, key: &str, body: &Value) -> Answer {
    let request = request("POST", path, who)
        .header("content-type", "application/json")
        .header("idempotency-key", key);
    api.send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

#[tokio::test]
async fn the_header_repeats_the_answer() {
    let api = Api::new().await;
    let who = Who::service();
    let body = json!({ "user_id": "u1", "title": "T", "content": "C" });
    let first = post(&api, &who, CREATE, "k1", &body).await;
    assert_eq!(first.header("idempotency-replayed"), None);
    let again = post(&api, &who, CREATE, "k1", &body).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = json!({ "user_id": "u1", "title": "other", "content": "C" });
    let mismatch = post(&api, &who, CREATE, "k1", &other).await;
    assert_eq!(
        mismatch.problem(),
        (
            422,
            "idempotency_mismatch".to_owned(),
            Some("Idempotency-Key".to_owned())
        )
    );
    assert_eq!(api.stored().await, 1);
    // A key belongs to its credential, tenant and route.
    for (who, path, status) in [
        (Who::user("another").scope("notifications:write"), CREATE, 201),
        (Who::service().tenant("t2"), CREATE, 201),
        (Who::service(), "/api/v1/notifications/send", 200),
    ] {
        let answer = post(&api, &who, path, "k1", &body).await;
        answer.expect(status);
        assert_eq!(answer.header("idempotency-replayed"), None, "{path}");
    }
    let bad = post(&api, &who, CREATE, "", &body).await;
    assert_eq!(bad.problem().2.as_deref(), Some("Idempotency-Key"));
}

#[tokio::test]
async fn the_bodys_key_is_the_tenants() {
    let api = Api::new().await;
    let body = json!({ "user_id": "u1", "title": "T", "content": "C", "idempotency_key": "order-1" });
    let first = api.post(&Who::service(), CREATE, &body).await;
    let again = api
        .post(&Who::user("another").scope("notifications:write"), CREATE, &body)
        .await;
    assert_eq!(first.expect(201)["id"], again.expect(201)["id"]);
    assert_eq!(api.stored().await, 1);
    let other = json!({ "user_id": "u2", "title": "T", "content": "C", "idempotency_key": "order-1" });
    let mismatch = api.post(&Who::service(), CREATE, &other).await;
    assert_eq!(
        mismatch.problem(),
        (
            422,
            "idempotency_mismatch".to_owned(),
            Some("idempotency_key".to_owned())
        )
    );
}

#[tokio::test]
async fn at_once_is_once_too() {
    let api = Api::new().await;
    let body = json!({ "user_id": "u1", "title": "T", "content": "C" });
    let who = Who::service();
    let tries = (0..20).map(|_| post(&api, &who, CREATE, "same", &body));
    let answers = futures_util::future::join_all(tries).await;
    let first = answers[0].expect(201)["id"].clone();
    assert!(answers.iter().all(|answer| answer.expect(201)["id"] == first));
    assert_eq!(
        answers
            .iter()
            .filter(|answer| answer.header("idempotency-replayed").is_none())
            .count(),
        1
    );
    assert_eq!(api.stored().await, 1);
}

#[tokio::test]
async fn a_repeat_is_one_also_when_its_time_has_passed() {
    let api = Api::new().await;
    let who = Who::service();
    let expires_at = Micros::now().plus(Duration::from_millis(400)).rfc3339();
    let body = json!({ "user_id": "u1", "title": "T", "content": "C", "expires_at": expires_at });
    let first = post(&api, &who, CREATE, "k1", &body).await;
    first.expect(201);
    eventually("a new one would be refused", async || {
        let refused = api.post(&who, CREATE, &body).await.status == 422;
        refused.then_some(())
    })
    .await;
    let again = post(&api, &who, CREATE, "k1", &body).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let mut other = body;
    other["title"] = "other".into();
    let mismatch = post(&api, &who, CREATE, "k1", &other).await;
    assert_eq!(mismatch.problem().1, "idempotency_mismatch");
}

#[tokio::test]
async fn a_repeat_is_one_also_when_its_template_has_changed() {
    let api = Api::new().await;
    let who = Who::service().scope("templates:write");
    let body = json!({
        "user_id": "u1", "title": "T", "content": "C", "template": "later", "idempotency_key": "k1",
    });
    let first = api.post(&who, CREATE, &body).await;
    first.expect(201);
    let template = json!({ "name": "later", "title": "{{ a }}", "content": "{{ b }}" });
    api.post(&who, "/api/v1/templates", &template).await.expect(201);
    let mut new = body.clone();
    new["idempotency_key"] = "k2".into();
    assert_eq!(
        api.post(&who, CREATE, &new).await.problem().1,
        "template_variable_missing"
    );
    let again = api.post(&who, CREATE, &body).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
}
