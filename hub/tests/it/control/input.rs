//! Bad input, and what cannot answer.

use std::collections::BTreeSet;

use serde_json::json;

use super::{get, operator, order, root};
use crate::support::TestHub;

#[tokio::test]
async fn bad_input_changes_nothing() {
    let hub = TestHub::start().await;
    let mut client = hub.user("ann").await;
    let to = json!({"user":"ann"});
    for (path, body, status, code, field) in [
        ("sessions", json!({}), 422, "missing_field", Some("to")),
        ("sessions", json!({"to":{}}), 422, "invalid_value", Some("to")),
        (
            "sessions",
            json!({"to":to,"x":1}),
            422,
            "unknown_field",
            Some("x"),
        ),
        (
            "sessions",
            json!({"to":to,"limit":0}),
            422,
            "invalid_value",
            Some("limit"),
        ),
        (
            "sessions",
            json!({"to":to,"limit":1001}),
            422,
            "invalid_value",
            Some("limit"),
        ),
        (
            "sessions",
            json!({"to":to,"limit":-1}),
            422,
            "invalid_value",
            Some("limit"),
        ),
        (
            "sessions",
            json!({"to":to,"after":"x"}),
            422,
            "invalid_cursor",
            Some("after"),
        ),
        ("sessions", json!([to]), 422, "invalid_value", None),
        (
            "sessions/count",
            json!({"to":to,"limit":1}),
            422,
            "unknown_field",
            Some("limit"),
        ),
        (
            "presence",
            json!({"to":to,"after":"%%"}),
            422,
            "invalid_cursor",
            Some("after"),
        ),
        (
            "presence",
            json!({"to":{"user":""}}),
            422,
            "invalid_value",
            Some("to"),
        ),
        ("disconnect", json!({}), 422, "missing_field", Some("to")),
        (
            "disconnect",
            json!({"to":to,"code":1000}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":4001}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":4099}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":5000}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":70000}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"x".repeat(81)}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"a\nb"}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"x; reconnect=no","reconnect":true}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"x; retry_after_ms=5"}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reconnect":false,"retry_after_ms":1}),
            422,
            "conflict",
            Some("retry_after_ms"),
        ),
        (
            "disconnect",
            json!({"to":to,"retry_after_ms":86_400_001}),
            422,
            "invalid_value",
            Some("retry_after_ms"),
        ),
        (
            "disconnect",
            json!({"to":to,"spread_ms":600_001}),
            422,
            "invalid_value",
            Some("spread_ms"),
        ),
        (
            "unsubscribe",
            json!({"to":to}),
            422,
            "missing_field",
            Some("topic"),
        ),
        (
            "unsubscribe",
            json!({"to":to,"topic":""}),
            422,
            "invalid_value",
            Some("topic"),
        ),
        (
            "refresh",
            json!({"to":to,"within_ms":999}),
            422,
            "invalid_value",
            Some("within_ms"),
        ),
        (
            "refresh",
            json!({"to":to,"within_ms":60_001}),
            422,
            "invalid_value",
            Some("within_ms"),
        ),
        (
            "refresh",
            json!({"to":to,"token":"x"}),
            422,
            "unknown_field",
            Some("token"),
        ),
    ] {
        let answer = order(&hub, path, &body).await;
        assert_eq!(answer.problem(status, code), field, "{path} {body}: {answer:?}");
    }
    for (query, code, field) in [
        ("sessions?usr=a", "invalid_query", "usr"),
        ("sessions?limit=x", "invalid_query", "limit"),
        ("sessions?limit=0", "invalid_value", "limit"),
        ("sessions?user=", "invalid_value", "user"),
        ("sessions?after=zz", "invalid_cursor", "after"),
        ("sessions/count?everyone=maybe", "invalid_query", "everyone"),
        ("presence?after=zz", "invalid_cursor", "after"),
    ] {
        let answer = get(&hub, query, &operator()).await;
        assert_eq!(answer.problem(422, code), Some(field), "{query}: {answer:?}");
    }
    let answer = get(&hub, "sessions?tenant=a%20b", &root()).await;
    assert_eq!(answer.problem(422, "invalid_value"), Some("tenant"));
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn what_cannot_answer_makes_the_answer_incomplete() {
    let hub = TestHub::start().await;
    assert!(hub.hub.drain(std::time::Duration::from_secs(10), false).await);
    for path in ["sessions", "sessions/count", "presence"] {
        let answer = get(&hub, path, &operator()).await;
        assert_eq!(
            (answer.status, &answer.body["complete"]),
            (200, &json!(false)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn every_call_is_in_the_document() {
    let hub = TestHub::start().await;
    let (_, document) = hub::http::internal(&hub.hub).split_for_parts();
    let document = serde_json::to_value(document).unwrap();
    let mut operations = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.insert(format!("{method} {path}"));
            assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
        }
    }
    for call in [
        "get sessions",
        "post sessions",
        "get sessions/count",
        "post sessions/count",
        "get presence",
        "post presence",
        "post disconnect",
        "post unsubscribe",
        "post refresh",
        "get trace",
    ] {
        let (method, path) = call.split_once(' ').unwrap();
        assert!(
            operations.contains(&format!("{method} /api/v1/control/{path}")),
            "{call}"
        );
    }
}
