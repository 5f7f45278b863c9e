//! Bad input: each a problem+json with a code and the field, and nothing stored.

use axum::body::Body;
use common::token::{NewToken, mint};
use http::Request;
use secrecy::SecretString;
use serde_json::json;

use super::{Api, Who, request};

const CREATE: &str = "/api/v1/notifications";

#[tokio::test]
async fn bodies_are_refused_with_code_and_field() {
    let api = Api::new().await;
    let who = Who::service();
    let good = json!({ "user_id": "u", "title": "T", "content": "C" });
    let cases = [
        ("{", 400, "not_json", None),
        ("", 400, "not_json", None),
        (r#"{"title":"T"} x"#, 400, "not_json", None),
        ("[]", 422, "invalid_value", None),
        (r#""text""#, 422, "invalid_value", None),
        (
            r#"{"user_id":"u","title":"T"}"#,
            422,
            "missing_field",
            Some("content"),
        ),
        (
            r#"{"user_id":"u","content":"C"}"#,
            422,
            "missing_field",
            Some("title"),
        ),
        (r#"{"title":"T","content":"C"}"#, 422, "no_target", Some("to")),
        (
            r#"{"title":"T","content":"C","channels":["wechat_bot"]}"#,
            422,
            "no_target",
            Some("to"),
        ),
        (
            r#"{"title":"T","content":"C","recipient":"a@example.com"}"#,
            422,
            "no_channel",
            Some("channels"),
        ),
        (
            r#"{"title":"T","content":"C","channels":["in_app"],"recipient":"a@example.com"}"#,
            422,
            "no_channel",
            Some("channels"),
        ),
        (
            r#"{"to":{"topic":"t"},"title":"T","content":"C","channels":["email"]}"#,
            422,
            "channel_not_for_topic",
            Some("channels"),
        ),
        (
            r#"{"user_id":1,"title":"T","content":"C"}"#,
            422,
            "invalid_value",
            Some("user_id"),
        ),
        (
            r#"{"user_id":"u","title":"T","content":"C","colour":"red"}"#,
            422,
            "unknown_field",
            Some("colour"),
        ),
        (
            r#"{"user_id":"u","title":"T","content":"C","channels":["pigeon"]}"#,
            422,
            "unknown_channel",
            Some("channels[0]"),
        ),
        (
            r#"{"user_id":"u","title":"T","content":"C","tenant_id":"t2"}"#,
            403,
            "tenant_mismatch",
            Some("tenant_id"),
        ),
        (
            r#"{"to":{"everyone":true},"title":"T","content":"C"}"#,
            403,
            "scope_missing",
            Some("to"),
        ),
        (r#"{"message":"M","title":"T"}"#, 403, "scope_missing", Some("to")),
        (
            r#"{"user_id":"u","template_name":"nope"}"#,
            422,
            "unknown_template",
            Some("template_name"),
        ),
        (
            r#"{"user_id":"u","template_id":"5e9e2c1a-0000-4000-8000-000000000000"}"#,
            422,
            "unknown_template",
            Some("template_id"),
        ),
        (
            r#"{"user_id":"u","template_name":"inventory_low","template_vars":{"item_name":"x"}}"#,
            422,
            "template_variable_missing",
            Some("template_vars.current_stock"),
        ),
        (
            r#"{"user_id":"u","template":"inventory_low","variables":{"current_stock":1}}"#,
            422,
            "template_variable_missing",
            Some("variables.item_name"),
        ),
        (
            r#"{"user_id":"u","template":"inventory_low"}"#,
            422,
            "template_variable_missing",
            Some("variables.item_name"),
        ),
    ];
    for (body, status, code, field) in cases {
        let answer = api.json("POST", &who, CREATE, body).await;
        let expected = (status, code.to_owned(), field.map(str::to_owned));
        assert_eq!(answer.problem(), expected, "{body}: {}", answer.text);
    }
    assert_eq!(api.stored().await, 0);
    api.post(&who, CREATE, &good).await.expect(201);
    assert_eq!(api.stored().await, 1);
}

#[tokio::test]
async fn size_and_content_type_are_bounded() {
    let mut config = crate::support::quick();
    config.limits.body_bytes.0 = 2000;
    let api = Api::start(config).await;
    let who = Who::service();
    let big = json!({ "user_id": "u", "title": "T", "content": "x".repeat(3000) });
    assert_eq!(
        api.post(&who, CREATE, &big).await.problem(),
        (413, "body_too_large".to_owned(), None)
    );
    let good = json!({ "user_id": "u", "title": "T", "content": "C" }).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = request("POST", CREATE, &who).header("content-type", kind);
        let answer = api.send(request.body(Body::from(good.clone())).unwrap()).await;
        assert_eq!(answer.problem(), (415, "not_json".to_owned(), None), "{kind}");
    }
    let request = request("POST", CREATE, &who).header("content-type", "application/json; charset=utf-8");
    api.send(request.body(Body::from(good)).unwrap())
        .await
        .expect(201);
    assert_eq!(api.stored().await, 1);
}

#[tokio::test]
async fn tokens_are_needed_and_have_to_be_good() {
    let api = Api::new().await;
    let body = json!({ "user_id": "u", "title": "T", "content": "C" }).to_string();
    let new = NewToken {
        user: "u".to_owned(),
        tenant: Some("t1".to_owned()),
        scopes: vec!["notifications:write".to_owned()],
        ..NewToken::default()
    };
    let foreign = mint(
        &new,
        &SecretString::from("another secret, which this server does not know"),
    )
    .unwrap();
    let expired = NewToken {
        ttl_seconds: -60,
        ..new.clone()
    };
    let expired = mint(&expired, &SecretString::from(super::SECRET)).unwrap();
    // {"alg":"none","typ":"JWT"} . {"sub":"u","exp":99999999999} .
    let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1IiwiZXhwIjo5OTk5OTk5OTk5OX0.";
    for (token, code) in [
        (None, "token_missing"),
        (Some("nonsense"), "token_invalid"),
        (Some(unsigned), "token_invalid"),
        (Some(foreign.as_str()), "token_invalid"),
        (Some(expired.as_str()), "token_expired"),
    ] {
        for (method, path) in [
            ("POST", CREATE),
            ("GET", CREATE),
            ("GET", "/api/v1/inbox/changes"),
            ("PUT", "/api/v1/contacts/u"),
            ("POST", "/api/v1/templates"),
        ] {
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header("content-type", "application/json");
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let answer = api.send(request.body(Body::from(body.clone())).unwrap()).await;
            assert_eq!(answer.problem(), (401, code.to_owned(), None), "{method} {path}");
        }
    }
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn scopes_are_needed_before_the_body_is_looked_at() {
    let api = Api::new().await;
    let who = Who::user("u");
    for (method, path, scope) in [
        ("POST", CREATE, "notifications:write"),
        ("POST", "/api/v1/notifications/send", "notifications:write"),
        (
            "POST",
            "/api/v1/notifications/multi-channel",
            "notifications:write",
        ),
        ("POST", "/api/v1/notifications/template", "notifications:write"),
        ("POST", "/api/v1/templates", "templates:write"),
        ("PUT", "/api/v1/contacts/u", "contacts:write"),
        ("PUT", "/api/v1/contacts", "contacts:write"),
        ("DELETE", "/api/v1/contacts/u", "contacts:write"),
    ] {
        let answer = api.json(method, &who, path, "{").await;
        assert_eq!(answer.problem().1, "scope_missing", "{method} {path}");
        assert!(
            answer.json()["detail"].as_str().unwrap().contains(scope),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn unknown_paths_methods_and_queries() {
    let api = Api::new().await;
    let who = Who::user("u");
    assert_eq!(api.get(&who, "/api/v1/nothing").await.problem().1, "not_found");
    assert_eq!(
        api.delete(&who, "/api/v1/notifications").await.problem(),
        (405, "method_not_allowed".to_owned(), None)
    );
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("is_read=maybe", "is_read"),
        ("colour=red", "colour"),
        ("kind=loud", "kind"),
        ("type=loud", "type"),
        ("after=nonsense", "after"),
    ] {
        let (status, _, named) = api
            .get(&who, &format!("/api/v1/notifications?{query}"))
            .await
            .problem();
        assert_eq!((status, named.as_deref()), (422, Some(field)), "{query}");
    }
    for path in ["not-an-id", "5e9e2c1a-0000-4000-8000-000000000000", "%FF"] {
        let answer = api.get(&who, &format!("/api/v1/notifications/{path}")).await;
        assert_eq!(answer.problem(), (404, "not_found".to_owned(), None), "{path}");
    }
    assert_eq!(
        api.delete(&who, "/api/v1/notifications/x?for=him").await.status,
        404
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_said_so() {
    let api = Api::new().await;
    api.world.store.close().await;
    let body = json!({ "user_id": "u", "title": "T", "content": "C" });
    let answer = api.post(&Who::service(), CREATE, &body).await;
    assert_eq!(answer.problem(), (503, "unavailable".to_owned(), None));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(api.get(&Who::user("u"), CREATE).await.problem().0, 503);
}
