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
    let (done, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    let fresh: Vec<_> = done
        .iter()
        .filter(|answer| answer.header("idempotency-replayed").is_none())
        .collect();
    assert_eq!(fresh.len(), 1, "{answers:?}");
    for answer in refused {
        assert_eq!(
            answer.problem(),
            (
                409,
                "idempotency_in_progress".to_owned(),
                Some("Idempotency-Key".to_owned())
            )
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // Whoever was told to ask again gets the first one's answer.
    let again = post(&api, &who, CREATE, "same", &body).await;
    assert_eq!((again.status, &again.text), (fresh[0].status, &fresh[0].text));
    assert_eq!(api.stored().await, 1);
}

/// Sixty-four threads with one business key: exactly one notification, and everybody is told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_with_one_business_key_exactly_one_is_stored() {
    let api = std::sync::Arc::new(Api::new().await);
    let tries = (0..64).map(|number| {
        let api = std::sync::Arc::clone(&api);
        tokio::spawn(async move {
            let who = Who::user(&format!("s{number}")).scope("notifications:write service");
            let body = json!({ "user_id": "u1", "title": "T", "content": "C", "idempotency_key": "order-7" });
            api.post(&who, CREATE, &body).await.expect(201)["id"].clone()
        })
    });
    let mut ids = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        ids.push(one.await.unwrap());
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(api.stored().await, 1);
}

#[tokio::test]
async fn a_business_key_is_the_tenants_by_whichever_route_it_comes() {
    let api = Api::new().await;
    let who = Who::service();
    let body = json!({ "user_id": "u1", "title": "T", "content": "C", "data": { "a": 1, "b": 2 }, "idempotency_key": "order-1" });
    let first = api.post(&who, CREATE, &body).await.expect(201);
    let send = api.post(&who, "/api/v1/notifications/send", &body).await;
    assert_eq!(send.header("idempotency-replayed"), Some("true"));
    assert_eq!(send.json()["id"], first["id"]);
    // The same said in another order, and with white space.
    let text = r#"{ "idempotency_key": "order-1", "data": { "b": 2, "a": 1 },
        "content": "C", "title": "T", "user_id": "u1" }"#;
    let again = api.json("POST", &who, CREATE, text).await;
    assert_eq!(again.expect(201)["id"], first["id"]);
    let bulk = api
        .post(
            &who,
            "/api/v1/notifications/bulk",
            &json!({ "notifications": [body] }),
        )
        .await
        .expect(200);
    assert_eq!(
        (&bulk["results"][0]["result"], &bulk["results"][0]["id"]),
        (&json!("repeat"), &first["id"])
    );
    assert_eq!(api.stored().await, 1);
}

/// Each of both is enough to know a repeat, and each is held to its own body.
#[tokio::test]
async fn a_request_may_have_both_keys() {
    let api = Api::new().await;
    let who = Who::service();
    let body = |title: &str, key: &str| json!({ "user_id": "u1", "title": title, "content": "C", "idempotency_key": key });
    let first = post(&api, &who, CREATE, "h1", &body("T", "b1")).await;
    first.expect(201);
    for (header, title, key) in [("h1", "T", "b1"), ("h2", "T", "b1")] {
        let again = post(&api, &who, CREATE, header, &body(title, key)).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text));
    }
    let of_header = post(&api, &who, CREATE, "h1", &body("T", "b2")).await;
    assert_eq!(
        (of_header.problem().1.as_str(), of_header.problem().2.as_deref()),
        ("idempotency_mismatch", Some("Idempotency-Key"))
    );
    let of_body = api.post(&who, CREATE, &body("other", "b1")).await;
    assert_eq!(of_body.problem().2.as_deref(), Some("idempotency_key"));
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
