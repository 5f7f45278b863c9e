//! U+0000, which PostgreSQL's texts cannot have: refused on every way in, with the field, whatever the database is.

use serde_json::{Value, json};

use super::{Api, Who};

const CREATE: &str = "/api/v1/notifications";

/// Everything that may be asked for.
fn anybody() -> Who {
    Who::service().scope("templates:write contacts:write notifications:admin notifications:broadcast")
}

fn refused(code: &str, field: &str) -> (u16, String, Option<String>) {
    (422, code.to_owned(), Some(field.to_owned()))
}

#[tokio::test]
async fn no_field_of_a_notification_holds_it() {
    let api = Api::new().await;
    let good = json!({ "user_id": "u", "title": "T", "content": "C" });
    for (place, bad, field) in [
        ("/user_id", json!("u\0"), "user_id"),
        ("/title", json!("\0"), "title"),
        ("/content", json!("a\0b"), "content"),
        ("/html", json!("\0"), "html"),
        ("/category", json!("\0"), "category"),
        ("/source", json!("\0"), "source"),
        ("/group_key", json!("\0"), "group_key"),
        ("/collapse_key", json!("\0"), "collapse_key"),
        ("/idempotency_key", json!("\0"), "idempotency_key"),
        ("/template_vars", json!({"a":["\0"]}), "template_vars.a[0]"),
        ("/data", json!({"a":{"b":["x","\0"]}}), "data.a.b[1]"),
        ("/data", json!({"\0":1}), "data.\\u0000"),
        ("/recipient", json!("https://example.com/\0"), "recipient"),
        ("/to", json!({"role":"\0"}), "to.role"),
        ("/to", json!({"users":["u","\0"]}), "to.users[1]"),
    ] {
        let mut body = good.clone();
        body[&place[1..]] = bad;
        for path in [
            CREATE,
            "/api/v1/notifications/send",
            "/api/v1/notifications?dry_run=true",
        ] {
            let answer = api.post(&anybody(), path, &body).await;
            assert_eq!(answer.problem(), refused("invalid_value", field), "{path} {body}");
        }
    }
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn of_many_it_is_the_one_item_that_is_refused() {
    let api = Api::new().await;
    let item = |title: &str| json!({ "user_id": "u", "title": title, "content": "C" });
    let items = json!([item("a"), item("b\0"), item("c")]);
    for (path, body, prefix) in [
        ("bulk", items.clone(), ""),
        ("bulk", json!({ "notifications": items }), "notifications"),
        ("batch", json!({ "notifications": items }), "notifications"),
    ] {
        let answer = api.post(&anybody(), &format!("{CREATE}/{path}"), &body).await;
        let answer = answer.expect(200);
        assert_eq!((&answer["created"], &answer["failed"]), (&json!(2), &json!(1)));
        let problem = &answer["results"][1]["problem"];
        assert_eq!(
            (&problem["code"], &problem["field"]),
            (&json!("invalid_value"), &json!(format!("{prefix}[1].title")))
        );
    }
    let users = json!({ "user_ids": ["u", "v\0"], "title": "T", "content": "C" });
    let answer = api.post(&anybody(), &format!("{CREATE}/batch"), &users).await;
    assert_eq!(answer.problem(), refused("invalid_value", "user_ids[1]"));
    assert_eq!(api.stored().await, 6);
}

#[tokio::test]
async fn no_other_body_holds_it() {
    let api = Api::new().await;
    let new = json!({ "to": { "user": "u" }, "title": "T", "content": "C" });
    let with = |field: &str, value: Value| {
        let mut body = json!({ "every": "1h", "notification": new });
        body[field] = value;
        body
    };
    let template = |field: &str| {
        let mut body = json!({ "name": "n", "title": "T", "content": "C" });
        body[field] = json!("x\0");
        body
    };
    for (method, path, body, field) in [
        ("PUT", "contacts/u", json!({ "telegram": "\0" }), "telegram"),
        ("PUT", "contacts/u", json!({ "roles": ["\0"] }), "roles[0]"),
        (
            "PUT",
            "contacts",
            json!({ "contacts": { "\0": {} } }),
            "contacts.\\u0000",
        ),
        ("POST", "templates", template("name"), "name"),
        ("POST", "templates", template("content"), "content"),
        ("POST", "schedules", with("name", json!("\0")), "name"),
        (
            "POST",
            "schedules",
            with("notification", json!({ "title": "\0" })),
            "notification.title",
        ),
        ("POST", "queue/pauses", json!({ "reason": "\0" }), "reason"),
    ] {
        let answer = api
            .json(method, &anybody(), &format!("/api/v1/{path}"), &body.to_string())
            .await;
        assert_eq!(
            answer.problem(),
            refused("invalid_value", field),
            "{method} {path} {body}"
        );
    }
}

#[tokio::test]
async fn no_path_query_or_token_holds_it() {
    let api = Api::new().await;
    for (path, code, field) in [
        ("contacts/a%00b", "invalid_value", "path"),
        ("templates/a%00", "invalid_value", "path"),
        ("schedules/%00", "invalid_value", "path"),
        ("notifications/%00", "invalid_value", "path"),
        ("notifications?category=a%00", "invalid_query", "category"),
        ("notifications/history?user_id=%00", "invalid_query", "user_id"),
        ("dead-letters?user_id=%00", "invalid_query", "user_id"),
        ("inbox/changes?after=%00", "invalid_query", "after"),
    ] {
        let answer = api.get(&anybody(), &format!("/api/v1/{path}")).await;
        assert_eq!(answer.problem(), refused(code, field), "{path}");
    }
    for who in [
        Who::user("u\0"),
        Who::user("u").role("\0"),
        Who::user("u").store("\0"),
    ] {
        let answer = api.get(&who, CREATE).await;
        assert_eq!(answer.problem(), (401, "token_claim_invalid".to_owned(), None));
    }
}

/// A template can spell it without having it.
#[tokio::test]
async fn no_template_makes_it() {
    let api = Api::new().await;
    for (number, spelled) in [r"\x00", r"\0", r"\u0000"].into_iter().enumerate() {
        let name = format!("n{number}");
        let template = json!({ "name": name, "title": "T", "content": format!("{{{{ \"{spelled}\" }}}}") });
        api.post(&anybody(), "/api/v1/templates", &template)
            .await
            .expect(201);
        let body = json!({ "user_id": "u", "template": name });
        let answer = api.post(&anybody(), CREATE, &body).await;
        assert_eq!(
            answer.problem(),
            refused("template_failed", "variables"),
            "{spelled}"
        );
    }
    assert_eq!(api.stored().await, 0);
}
