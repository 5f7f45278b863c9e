//! OpenAPI, its page, health.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use serde_json::Value;

use super::{Answer, Api, Who};

async fn plain(api: &Api, path: &str) -> Answer {
    api.send(Request::builder().uri(path).body(Body::empty()).unwrap())
        .await
}

#[tokio::test]
async fn every_route_is_in_the_document() {
    let api = Api::new().await;
    let document = plain(&api, "/openapi.json").await.expect(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let operations: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .keys()
                .map(move |method| format!("{method} {path}"))
        })
        .collect();
    for operation in [
        "post /api/v1/notifications",
        "get /api/v1/notifications",
        "get /api/v1/notifications/unread-count",
        "put /api/v1/notifications/{id}/read",
        "put /api/v1/notifications/read-all",
        "put /api/v1/notifications/bulk-read",
        "delete /api/v1/notifications/{id}",
        "get /api/v1/notifications/{id}",
        "get /api/v1/notifications/{id}/status",
        "post /api/v1/notifications/multi-channel",
        "post /api/v1/notifications/template",
        "get /api/v1/notifications/templates",
        "get /api/v1/notifications/stats",
        "post /api/v1/notifications/send",
        "post /api/v1/notifications/bulk",
        "post /api/v1/notifications/batch",
        "get /api/v1/notifications/history",
        "get /api/v1/jobs/{id}",
        "post /api/v1/jobs/{id}/cancel",
        "post /api/v1/notifications/bulk/cancel",
        "post /api/v1/notifications/bulk/retry",
        "post /api/v1/notifications/bulk/delete",
        "get /api/v1/stats",
        "get /api/v1/health/detailed",
        "get /api/v1/health/metrics",
        "post /api/v1/templates",
        "get /api/v1/templates",
        "get /api/v1/templates/{id}",
        "put /api/v1/contacts/{user}",
        "get /api/v1/contacts/{user}",
        "delete /api/v1/contacts/{user}",
        "put /api/v1/contacts",
        "get /api/v1/inbox/changes",
        "get /api/v1/health",
        "get /health",
    ] {
        assert!(operations.contains(operation), "{operation}");
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let body = &document["components"]["schemas"]["NotificationBody"]["properties"];
    for field in [
        "to",
        "title",
        "message",
        "type",
        "user_id",
        "template_vars",
        "recipient",
        "scheduled_at",
    ] {
        assert!(body[field].is_object(), "{field}");
    }
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == "$ref" => found.push(text.clone()),
                    value => collect_references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let api = Api::new().await;
    let page = plain(&api, "/docs").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    for elsewhere in ["http://", "https://", "//cdn", "@import"] {
        assert!(!page.text.contains(elsewhere), "{elsewhere}");
    }
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
}

#[tokio::test]
async fn s1_1_health_with_and_without_a_token() {
    let api = Api::new().await;
    assert_eq!(plain(&api, "/health").await.expect(200)["status"], "healthy");
    assert_eq!(plain(&api, "/ready").await.expect(200)["status"], "healthy");
    assert_eq!(
        plain(&api, "/api/v1/health").await.expect(200)["status"],
        "healthy"
    );
    assert_eq!(
        api.get(&Who::user("u1"), "/api/v1/health").await.expect(200)["status"],
        "healthy"
    );
    for value in ["Bearer nonsense", "Bearer ", "nonsense"] {
        let request = Request::builder()
            .uri("/api/v1/health")
            .header("authorization", value);
        assert_eq!(
            api.send(request.body(Body::empty()).unwrap()).await.problem().0,
            401,
            "{value}"
        );
    }
}
