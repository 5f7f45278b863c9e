//! Templates over the API.

use serde_json::{Value, json};

use super::{Api, Who};

fn writer() -> Who {
    Who::service().scope("templates:write")
}

/// A template that has to be taken.
async fn put_template(api: &Api, who: &Who, body: &Value) -> Value {
    api.post(who, "/api/v1/templates", body).await.expect(201)
}

#[tokio::test]
async fn templates_are_made_listed_and_read() {
    let api = Api::new().await;
    let body = json!({ "name": "hello", "title": "Hello {{ name }}", "content": "{% if n %}{{ n }}{% endif %}", "html": "<p>{{ name }}</p>", "channels": ["email", "system"], "priority": "high", "kind": "success" });
    let made = put_template(&api, &writer(), &body).await;
    assert_eq!(
        (&made["status"], &made["version"], &made["syntax"]),
        (&json!("active"), &json!(1), &json!("jinja"))
    );
    assert_eq!(
        made["variables"],
        json!(["n", "name"]),
        "found, where none are declared"
    );
    for path in [made["id"].as_str().unwrap(), "hello"] {
        assert_eq!(
            api.get(&Who::user("u"), &format!("/api/v1/templates/{path}"))
                .await
                .expect(200),
            made
        );
    }
    assert_eq!(
        api.get(&Who::user("u"), "/api/v1/templates").await.expect(200),
        json!([made])
    );
    assert_eq!(
        api.post(&writer(), "/api/v1/templates", &body).await.problem(),
        (409, "name_taken".to_owned(), Some("name".to_owned()))
    );
    let elsewhere = writer().tenant("t2");
    assert_eq!(api.get(&elsewhere, "/api/v1/templates/hello").await.status, 404);
    assert_eq!(
        api.get(
            &elsewhere,
            &format!("/api/v1/templates/{}", made["id"].as_str().unwrap())
        )
        .await
        .status,
        404
    );
    put_template(&api, &elsewhere, &body).await;
}

#[tokio::test]
async fn what_a_template_says_is_sent_by_its_channels() {
    let api = Api::new().await;
    let body = json!({ "name": "hello", "title": "Hello {name}", "content": "{name} {{x}} {\"a\": 1}", "channel": "system", "priority": "urgent", "kind": "alert", "syntax": "format" });
    put_template(&api, &writer(), &body).await;
    let send = json!({ "user_id": "u1", "template": "hello", "variables": { "name": "<b>" } });
    let made = api.created(&send).await;
    assert_eq!(
        (&made["title"], &made["content"]),
        (&json!("Hello <b>"), &json!("<b> {x} {\"a\": 1}"))
    );
    assert_eq!(
        (&made["priority"], &made["kind"], &made["template"]),
        (&json!("urgent"), &json!("alert"), &json!("hello"))
    );
    assert_eq!(made["channels"], json!(["system"]));
    let send = json!({ "user_id": "u1", "template": "hello", "variables": { "name": "x" }, "priority": 5, "type": "info", "channels": ["realtime", "in_app"] });
    let made = api.created(&send).await;
    assert_eq!(
        (&made["priority"], &made["kind"]),
        (&json!(5), &json!("info")),
        "the body's word counts"
    );
    assert_eq!(api.titles(&Who::user("u1")).await, ["Hello x", "Hello <b>"]);
}

#[tokio::test]
async fn bad_templates_name_the_part() {
    let api = Api::new().await;
    for (body, code, field) in [
        (json!({ "title": "T", "content": "C" }), "missing_field", "name"),
        (json!({ "name": "n", "content": "C" }), "missing_field", "title"),
        (json!({ "name": "n", "title": "T" }), "missing_field", "content"),
        (
            json!({ "name": "n", "title": "T", "content": "{{ a" }),
            "template_syntax",
            "content",
        ),
        (
            json!({ "name": "n", "title": "{% if %}", "content": "C" }),
            "template_syntax",
            "title",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "{{ a }}", "variables": ["b"] }),
            "template_variable_undeclared",
            "content",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "{a:.2f}", "syntax": "format" }),
            "template_syntax",
            "content",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "C", "syntax": "php" }),
            "invalid_value",
            "syntax",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "C", "syntax": "go" }),
            "not_supported_yet",
            "syntax",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "C", "channel": "pigeon" }),
            "unknown_channel",
            "channel",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "C", "variables": ["a b"] }),
            "invalid_name",
            "variables[0]",
        ),
        (
            json!({ "name": "n", "title": "T", "subject": "S", "content": "C" }),
            "conflict",
            "subject",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "C", "tenant_id": "t2" }),
            "tenant_mismatch",
            "tenant_id",
        ),
        (
            json!({ "name": "n", "title": "T", "content": "C", "colour": 1 }),
            "unknown_field",
            "colour",
        ),
    ] {
        let (_, found, named) = api.post(&writer(), "/api/v1/templates", &body).await.problem();
        assert_eq!((found.as_str(), named.as_deref()), (code, Some(field)), "{body}");
    }
    assert_eq!(
        api.get(&writer(), "/api/v1/templates").await.expect(200),
        json!([])
    );
}

#[tokio::test]
async fn endless_templates_end() {
    let api = Api::new().await;
    let body = json!({ "name": "loop", "title": "T", "content": "{% for i in range(10000) %}{% for j in range(10000) %}{{ x }}{% endfor %}{% endfor %}" });
    put_template(&api, &writer(), &body).await;
    let send = json!({ "user_id": "u1", "template": "loop", "variables": { "x": 1 } });
    assert_eq!(
        api.post(&Who::service(), "/api/v1/notifications", &send)
            .await
            .problem()
            .1,
        "template_too_much"
    );
    assert_eq!(api.stored().await, 0);
}
