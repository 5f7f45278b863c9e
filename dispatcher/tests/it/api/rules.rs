//! Rules over the API.

use serde_json::{Value, json};

use super::{Answer, Api, Who};

const PATH: &str = "/api/v1/rules";

fn writer() -> Who {
    Who::service().scope("rules:write")
}

fn rule() -> Value {
    json!({
        "event": "order.placed",
        "when": "amount > 1000",
        "notification": {"user_id": "{{ owner }}", "title": "Order {{ order_id }}", "content": "{{ amount }} by {{ event.source }}"},
    })
}

async fn put(api: &Api, who: &Who, name: &str, body: &Value) -> Answer {
    api.json("PUT", who, &format!("{PATH}/{name}"), &body.to_string())
        .await
}

async fn tried(api: &Api, who: &Who, body: Value) -> Answer {
    api.post(who, &format!("{PATH}/test"), &body).await
}

fn order(amount: u32) -> Value {
    json!({"event_type": "order.placed", "source": "shop", "owner": "u1", "order_id": 7, "amount": amount})
}

#[tokio::test]
async fn s3_4_rules_are_made_versioned_and_deleted() {
    let api = Api::new().await;
    let who = writer();
    let made = put(&api, &who, "big", &rule()).await.expect(201);
    assert_eq!((&made["version"], &made["origin"]), (&json!(1), &json!("tenant")));
    let mut changed = rule();
    changed["enabled"] = json!(false);
    let changed = put(&api, &who, "big", &changed).await.expect(200);
    assert_eq!(
        (&changed["version"], &changed["enabled"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(api.get(&who, &format!("{PATH}/big")).await.expect(200), changed);
    let list = api.get(&who, PATH).await.expect(200);
    let names: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["name"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), 6, "the five of the document and its own: {names:?}");

    let other = writer().tenant("t2");
    assert_eq!(api.get(&other, &format!("{PATH}/big")).await.status, 404);
    assert_eq!(api.get(&other, &format!("{PATH}/big/versions")).await.status, 404);
    assert_eq!(api.delete(&other, &format!("{PATH}/big")).await.status, 404);

    assert_eq!(api.delete(&who, &format!("{PATH}/big")).await.status, 204);
    assert_eq!(api.delete(&who, &format!("{PATH}/big")).await.status, 404);
    assert_eq!(api.get(&who, &format!("{PATH}/big")).await.status, 404);
    put(&api, &who, "big", &rule()).await.expect(201);
    let versions = api.get(&who, &format!("{PATH}/big/versions")).await.expect(200);
    let seen: Vec<_> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|version| (version["version"].as_u64().unwrap(), version["rule"].is_null()))
        .collect();
    assert_eq!(seen, [(4, false), (3, true), (2, false), (1, false)]);
    assert_eq!(versions[0]["author"], "service");
}

#[tokio::test]
async fn s3_4_a_rule_is_tried_and_says_what_it_would_make() {
    let api = Api::new().await;
    let who = writer();
    put(&api, &who, "big", &rule()).await.expect(201);
    let made = tried(&api, &who, json!({"event": order(1500)})).await.expect(200);
    assert_eq!(made["event_type"], "order.placed");
    let one = &made["notifications"][0];
    assert_eq!((&one["rule"], &one["version"]), (&json!("big"), &json!(1)));
    assert_eq!(one["notification"]["title"], "Order 7");
    assert_eq!(one["notification"]["content"], "1500 by shop");
    assert_eq!(one["notification"]["to"], json!({"user": "u1"}));
    let small = tried(&api, &who, json!({"event": order(999)})).await.expect(200);
    assert_eq!(small["notifications"], json!([]));
    // A rule that is not stored.
    let mut other = rule();
    other["when"] = json!(null);
    let made = tried(&api, &who, json!({"event": order(1), "rule": other}))
        .await
        .expect(200);
    assert_eq!(made["notifications"][0]["notification"]["title"], "Order 7");
    // A CloudEvent, and a notification that is its own rule.
    let event = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "carillon.notification",
        "data": {"user_id": "u1", "title": "T", "content": "C"}});
    let made = tried(&api, &who, json!({"event": event})).await.expect(200);
    assert_eq!(
        (&made["event_id"], &made["source"]),
        (&json!("1"), &json!("/shop"))
    );
    assert_eq!(made["notifications"][0]["notification"]["title"], "T");
    // The document's own.
    let event = json!({"event_type": "document.indexed", "user_id": "u1", "document_name": "计划", "email": "a@example.com"});
    let made = tried(&api, &who, json!({"event": event})).await.expect(200);
    assert_eq!(
        made["notifications"][0]["notification"]["channels"],
        json!(["email", "in_app"])
    );
    assert_eq!(api.stored().await, 0, "nothing was sent");
}

#[tokio::test]
async fn s3_4_a_rule_of_the_same_name_takes_the_place_of_a_built_in_one() {
    let api = Api::new().await;
    let who = writer();
    let event = json!({"event_type": "task.completed", "user_id": "u1", "task_id": "t"});
    let off = json!({"event": "task.completed", "enabled": false, "notification": {"title": "x"}});
    put(&api, &who, "task.completed", &off).await.expect(201);
    let made = tried(&api, &who, json!({"event": event})).await.expect(200);
    assert_eq!(made["notifications"], json!([]));
    api.delete(&who, &format!("{PATH}/task.completed")).await;
    let made = tried(&api, &who, json!({"event": event})).await.expect(200);
    assert_eq!(made["notifications"][0]["rule"], "task.completed");
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_changes_nothing() {
    let api = Api::new().await;
    let who = writer();
    let with = |field: &str, value: Value| {
        let mut body = rule();
        body[field] = value;
        body
    };
    for (name, body, code, field) in [
        ("a b", rule(), "invalid_name", "name"),
        ("a", with("event", json!("")), "invalid_rule", "event"),
        ("a", with("when", json!("1 +")), "invalid_rule", "when"),
        (
            "a",
            with("notification", json!({})),
            "invalid_rule",
            "notification",
        ),
        (
            "a",
            with("notification", json!({"titel": "x"})),
            "unknown_field",
            "notification.titel",
        ),
        (
            "a",
            with("notification", json!({"title": "{{ a b }}"})),
            "invalid_rule",
            "notification.title",
        ),
        (
            "a",
            with("notification", json!({"idempotency_key": "k"})),
            "not_of_a_rule",
            "notification.idempotency_key",
        ),
        (
            "a",
            with("notification", json!({"tenant_id": "t2"})),
            "not_of_a_rule",
            "notification.tenant_id",
        ),
        ("a", with("wen", json!("x")), "unknown_field", "wen"),
    ] {
        let name = name.replace(' ', "%20");
        let (status, found, place) = put(&api, &who, &name, &body).await.problem();
        assert!(status == 422 || status == 400, "{status}");
        assert_eq!((found.as_str(), place.as_deref()), (code, Some(field)), "{body}");
    }
    assert_eq!(api.get(&who, &format!("{PATH}/a")).await.status, 404);
    let without = Who::service();
    assert_eq!(
        put(&api, &without, "a", &rule()).await.problem().1,
        "scope_missing"
    );
    assert_eq!(api.get(&without, PATH).await.problem().1, "scope_missing");
    // An event of which nothing can be made is told where.
    put(&api, &who, "big", &rule()).await.expect(201);
    let event = json!({"event_type": "order.placed", "amount": 2000, "order_id": 1});
    let (status, code, field) = tried(&api, &who, json!({"event": event})).await.problem();
    assert_eq!(
        (status, code.as_str(), field.as_deref()),
        (422, "event_field_missing", Some("notification.user_id"))
    );
    let (_, code, field) = tried(&api, &who, json!({"event": {"a": 1}})).await.problem();
    assert_eq!(
        (code.as_str(), field.as_deref()),
        ("missing_event_type", Some("event"))
    );
    // Rules speak for the tenant's own: neither for everyone, nor for another tenant.
    let everyone =
        json!({"event": "e", "notification": {"to": {"everyone": true}, "title": "t", "content": "c"}});
    let (status, code, _) = tried(
        &api,
        &who,
        json!({"event": {"event_type": "e"}, "rule": everyone}),
    )
    .await
    .problem();
    assert_eq!((status, code.as_str()), (403, "scope_missing"));
}

#[tokio::test]
async fn a_tenant_has_so_many_rules_and_no_more() {
    let mut config = crate::support::quick();
    config.rules.per_tenant = 2;
    let api = Api::start(config).await;
    let who = writer();
    for name in ["a", "b"] {
        put(&api, &who, name, &rule()).await.expect(201);
    }
    assert_eq!(put(&api, &who, "c", &rule()).await.problem().1, "too_many_rules");
    put(&api, &who, "a", &rule()).await.expect(200);
    put(&api, &writer().tenant("t2"), "c", &rule()).await.expect(201);
}
