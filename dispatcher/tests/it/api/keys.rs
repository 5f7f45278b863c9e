//! API keys over the API: made, shown once, used, replaced, taken back, and never more than their makers.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use super::{Api, Who};
use crate::support::eventually;

const PATH: &str = "/api/v1/keys";

fn admin() -> Who {
    Who::user("admin").scope("keys:write notifications:write service")
}

/// Makes a key and gives its answer.
async fn made(api: &Api, who: &Who, body: &Value) -> Value {
    api.post(who, PATH, body).await.expect(201)
}

fn text(key: &Value) -> &str {
    key["key"].as_str().unwrap()
}

fn path(key: &Value) -> String {
    format!("{PATH}/{}", key["id"].as_str().unwrap())
}

async fn notify(api: &Api, who: &Who) -> u16 {
    let body = json!({ "to": { "user": "u1" }, "title": "T", "content": "C" });
    api.post(who, "/api/v1/notifications", &body)
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn s4_10_a_key_is_shown_once_calls_with_its_scopes_and_says_when_it_was_used() {
    let api = Api::new().await;
    let key = made(
        &api,
        &admin(),
        &json!({ "name": "orders", "scopes": ["notifications:write"] }),
    )
    .await;
    assert!(text(&key).starts_with(&format!("ck_{}_", key["id"].as_str().unwrap())));
    assert_eq!((&key["state"], &key["tenant"]), (&json!("active"), &json!("t1")));
    assert_eq!(key["last_used_at"], Value::Null);
    let who = Who::showing(text(&key));
    assert_eq!(notify(&api, &who).await, 201);
    // The same in its own header, also beside an Authorization of somebody else's.
    for other in [None, Some("Basic dTpw")] {
        let mut request = Request::builder()
            .method("POST")
            .uri("/api/v1/notifications")
            .header("content-type", "application/json")
            .header("x-api-key", text(&key));
        if let Some(other) = other {
            request = request.header("authorization", other);
        }
        let body = json!({ "to": { "user": "u1" }, "title": "T", "content": "C" }).to_string();
        assert_eq!(
            api.send(request.body(Body::from(body)).unwrap()).await.status,
            201
        );
    }
    let missing = api.get(&who, "/api/v1/queue/pauses").await.problem();
    assert_eq!((missing.0, missing.1.as_str()), (403, "scope_missing"));
    // A service, with the limits of services.
    let answer = api.get(&who, "/api/v1/schedules").await;
    assert_eq!(answer.header("ratelimit-limit"), Some("10000"));

    let secret = text(&key).rsplit('_').next().unwrap().to_owned();
    eventually("the use is noted", async || {
        let seen = api.get(&admin(), &path(&key)).await;
        assert!(!seen.text.contains(&secret));
        (!seen.expect(200)["last_used_at"].is_null()).then_some(())
    })
    .await;
    let list = api.get(&admin(), PATH).await;
    assert!(
        !list.text.contains(&secret) && !list.text.contains("hash"),
        "{}",
        list.text
    );
    assert_eq!(list.expect(200)["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn s4_10_who_waits_by_a_key_is_told_when_it_is_revoked() {
    let api = Api::new().await;
    let reads = json!({ "name": "reader", "scopes": ["notifications:write"] });
    let key = made(&api, &admin(), &reads).await;
    let who = Who::showing(text(&key));
    let now = api.get(&who, "/api/v1/inbox/changes").await.expect(200);
    let cursor = now["cursor"].as_str().unwrap();
    let waiting = format!("/api/v1/inbox/changes?after={cursor}&wait=60");
    let polled = async { api.get(&who, &waiting).await.problem() };
    let revoked = async { api.delete(&admin(), &path(&key)).await.expect(200) };
    let both = async { tokio::join!(polled, revoked) };
    let (told, _) = tokio::time::timeout(Duration::from_secs(10), both)
        .await
        .expect("the poll ends with its key, not with its time");
    assert_eq!((told.0, told.1.as_str()), (401, "key_revoked"));
}

#[tokio::test]
async fn s4_10_a_revoked_key_stops_within_a_second() {
    let api = Api::new().await;
    let key = made(
        &api,
        &admin(),
        &json!({ "name": "orders", "scopes": ["notifications:write"] }),
    )
    .await;
    let who = Who::showing(text(&key));
    assert_eq!(notify(&api, &who).await, 201);
    let began = std::time::Instant::now();
    let revoked = api.delete(&admin(), &path(&key)).await.expect(200);
    assert_eq!(revoked["state"], "revoked");
    eventually("the key stops", async || {
        (notify(&api, &who).await == 401).then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let answer = api.get(&who, "/api/v1/schedules").await.problem();
    assert_eq!((answer.0, answer.1.as_str()), (401, "key_revoked"));
    // For good.
    assert_eq!(api.delete(&admin(), &path(&key)).await.expect(200), revoked);
    let rotated = api
        .post(&admin(), &format!("{}/rotate", path(&key)), &json!({}))
        .await
        .problem();
    assert_eq!((rotated.0, rotated.1.as_str()), (409, "key_ended"));
    assert_eq!(
        api.get(&admin(), &path(&key)).await.expect(200)["state"],
        "revoked"
    );
}

#[tokio::test]
async fn s4_10_rotation_overlaps_and_ends() {
    let api = Api::new().await;
    let admin = admin().scope("notifications:broadcast publish");
    let key = made(&api, &admin, &json!({ "name": "orders", "role": "publisher" })).await;
    let old = Who::showing(text(&key));
    assert_eq!(notify(&api, &old).await, 201);
    let rotate = format!("{}/rotate", path(&key));
    let next = api
        .post(&admin, &rotate, &json!({ "overlap_seconds": 600 }))
        .await
        .expect(200);
    assert_eq!(next["id"], key["id"]);
    assert_ne!(text(&next), text(&key));
    let new = Who::showing(text(&next));
    assert_eq!((notify(&api, &old).await, notify(&api, &new).await), (201, 201));
    // Without an overlap the one before ends now, and the first has ended with the second rotation.
    let last = api
        .post(&admin, &rotate, &json!({ "overlap_seconds": 0 }))
        .await
        .expect(200);
    let last = Who::showing(text(&last));
    eventually("only the last secret counts", async || {
        assert_eq!(notify(&api, &last).await, 201);
        (notify(&api, &new).await == 401 && notify(&api, &old).await == 401).then_some(())
    })
    .await;
    let refused = api.get(&old, "/api/v1/schedules").await.problem();
    assert_eq!(refused.1, "key_invalid");
}

#[tokio::test]
async fn s4_10_nobody_gives_what_they_have_not() {
    let api = Api::new().await;
    let key = made(
        &api,
        &admin(),
        &json!({ "name": "small", "scopes": ["keys:write"] }),
    )
    .await;
    let small = Who::showing(text(&key));
    for (body, field) in [
        (
            json!({ "name": "n", "scopes": ["notifications:write"] }),
            "scopes",
        ),
        (json!({ "name": "n", "scopes": ["platform:admin"] }), "scopes"),
        (json!({ "name": "n", "role": "auditor" }), "role"),
        (
            json!({ "name": "n", "scopes": ["keys:write"], "tenant": "t2" }),
            "tenant",
        ),
    ] {
        let refused = api.post(&small, PATH, &body).await.problem();
        assert_eq!(
            (refused.0, refused.1.as_str(), refused.2.as_deref()),
            (403, "scope_missing", Some(field)),
            "{body}"
        );
    }
    // Who has the new secret of a key has its scopes.
    let large = made(
        &api,
        &admin(),
        &json!({ "name": "large", "scopes": ["notifications:write"] }),
    )
    .await;
    let rotate = format!("{}/rotate", path(&large));
    assert_eq!(api.post(&small, &rotate, &json!({})).await.status, 403);
    assert_eq!(notify(&api, &Who::showing(text(&large))).await, 201);
    // To take away is no gain.
    assert_eq!(api.delete(&small, &path(&large)).await.status, 200);
    // Another tenant's keys are not there.
    let stranger = Who::user("admin")
        .tenant("t2")
        .scope("keys:write notifications:write");
    assert_eq!(api.get(&stranger, &path(&key)).await.status, 404);
    assert_eq!(api.delete(&stranger, &path(&key)).await.status, 404);
    assert_eq!(
        api.post(&stranger, &format!("{}/rotate", path(&key)), &json!({}))
            .await
            .status,
        404
    );
    assert_eq!(api.get(&stranger, PATH).await.expect(200)["keys"], json!([]));
    assert_eq!(api.get(&stranger, &format!("{PATH}?tenant=t1")).await.status, 403);
    let platform = Who::user("root").tenant("t2").scope("platform:admin");
    assert_eq!(api.get(&platform, &path(&key)).await.expect(200)["tenant"], "t1");
    let theirs = made(
        &api,
        &platform,
        &json!({ "name": "n", "scopes": ["metrics"], "tenant": "t1" }),
    )
    .await;
    assert_eq!(theirs["tenant"], "t1");
    let all = api
        .get(&platform, &format!("{PATH}?tenant=t1&state=active"))
        .await
        .expect(200);
    assert_eq!(all["keys"].as_array().unwrap().len(), 2);
    assert_eq!(api.get(&Who::user("u1"), PATH).await.status, 403);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_made() {
    let api = Api::new().await;
    for (body, code, field) in [
        (json!({ "scopes": ["metrics"] }), "missing_field", "name"),
        (
            json!({ "name": " ", "scopes": ["metrics"] }),
            "missing_field",
            "name",
        ),
        (json!({ "name": "n" }), "missing_field", "scopes"),
        (
            json!({ "name": "n", "scopes": ["root"] }),
            "unknown_scope",
            "scopes",
        ),
        (json!({ "name": "n", "role": "root" }), "unknown_role", "role"),
        (
            json!({ "name": "n", "scopes": ["metrics"], "expires_at": "2020-01-01T00:00:00Z" }),
            "invalid_time",
            "expires_at",
        ),
        (
            json!({ "name": "n", "scopes": ["metrics"], "expires_at": "2999-01-01T00:00:00Z" }),
            "invalid_time",
            "expires_at",
        ),
        (
            json!({ "name": "n", "scopes": ["metrics"], "expires_at": "tomorrow" }),
            "invalid_time",
            "expires_at",
        ),
        (
            json!({ "name": "n", "scopes": ["metrics"], "tenant": "a:b" }),
            "invalid_value",
            "tenant",
        ),
    ] {
        let refused = api.post(&admin(), PATH, &body).await.problem();
        assert_eq!(
            (refused.0, refused.1.as_str(), refused.2.as_deref()),
            (422, code, Some(field)),
            "{body}"
        );
    }
    for query in ["limit=0", "limit=201", "state=gone", "after=x"] {
        assert_eq!(
            api.get(&admin(), &format!("{PATH}?{query}")).await.status,
            422,
            "{query}"
        );
    }
    for id in ["x", "0123456789012345678901", "%00"] {
        let answer = api.get(&admin(), &format!("{PATH}/{id}")).await.status.as_u16();
        assert!(matches!(answer, 404 | 422), "{id}: {answer}");
    }
    assert_eq!(api.get(&admin(), PATH).await.expect(200)["keys"], json!([]));
    for bad in [
        "ck_",
        "ck_x_y",
        "ck_0123456789012345678901_0123456789012345678901234567890123456789012",
    ] {
        let refused = api.get(&Who::showing(bad), PATH).await.problem();
        assert_eq!((refused.0, refused.1.as_str()), (401, "key_invalid"), "{bad}");
    }
    // The name of a key's calls is nobody else's.
    let forged = Who::user("key:0123456789012345678901").scope("keys:write");
    assert_eq!(api.get(&forged, PATH).await.problem().1, "token_claim_invalid");
}

#[tokio::test]
async fn an_address_that_guesses_is_refused_and_who_is_known_there_goes_on() {
    let api = Api::new().await;
    let key = made(
        &api,
        &admin(),
        &json!({ "name": "orders", "scopes": ["notifications:write"] }),
    )
    .await;
    let who = Who::showing(text(&key));
    assert_eq!(notify(&api, &who).await, 201);
    let mut codes = Vec::new();
    for _ in 0..400 {
        let guess = api.get(&Who::showing("x.y.z"), PATH).await;
        codes.push(guess.status.as_u16());
        if guess.status == 429 {
            assert_eq!(guess.problem().1, "too_many_failures");
            assert!(guess.header("retry-after").is_some());
        }
    }
    assert!(codes.contains(&401) && codes.ends_with(&[429]), "{codes:?}");
    assert_eq!(
        notify(&api, &who).await,
        201,
        "a key that is known is not locked out"
    );
}
