//! The audit log over HTTP: every route that changes something, who sees what, what is masked.

use axum::body::Body;
use serde_json::{Value, json};

use super::{Api, Who, request};

fn auditor() -> Who {
    Who::user("auditor").scope("audit:read")
}

fn operator() -> Who {
    [
        "notifications:admin",
        "notifications:write",
        "templates:write",
        "contacts:write",
        "rules:write",
    ]
    .into_iter()
    .fold(Who::user("op"), Who::scope)
}

async fn entries(api: &Api, who: &Who, query: &str) -> Vec<Value> {
    let answer = api.get(who, &format!("/api/v1/audit?{query}")).await.expect(200);
    answer["entries"].as_array().unwrap().clone()
}

#[tokio::test]
async fn s4_10_every_change_is_on_record_and_shows_no_text_and_no_address() {
    let api = Api::new().await;
    let op = operator();
    let template = json!({ "name": "welcome", "title": "secret words", "content": "more secret words" });
    let template = api.post(&op, "/api/v1/templates", &template).await.expect(201);
    api.json(
        "PUT",
        &op,
        "/api/v1/contacts/u1",
        r#"{"email":"hidden@example.com","language":"en"}"#,
    )
    .await
    .expect(200);
    api.json(
        "PUT",
        &op,
        "/api/v1/contacts",
        r#"{"contacts":{"u1":{"email":"hidden2@example.com"}}}"#,
    )
    .await
    .expect(200);
    api.delete(&op, "/api/v1/contacts/u1").await.expect(200);
    let said = json!({ "to": { "user": "u1" }, "title": "secret words", "content": "secret words" });
    let schedule = json!({ "every": "1h", "notification": said });
    let schedule = api.post(&op, "/api/v1/schedules", &schedule).await.expect(201);
    let schedule = schedule["id"].as_str().unwrap().to_owned();
    for step in ["pause", "resume"] {
        let path = format!("/api/v1/schedules/{schedule}/{step}");
        api.post(&op, &path, &json!({})).await.expect(200);
    }
    assert_eq!(
        api.delete(&op, &format!("/api/v1/schedules/{schedule}"))
            .await
            .status,
        204
    );
    let mut later = said.clone();
    later["delay"] = json!("1h");
    let scheduled = api.create(&later).await;
    let path = format!("/api/v1/notifications/{scheduled}");
    api.json("PUT", &op, &path, r#"{"title":"other secret words"}"#)
        .await
        .expect(200);
    api.post(&op, &format!("{path}/cancel"), &json!({}))
        .await
        .expect(200);
    let sent = api.create(&said).await;
    api.delete(&op, &format!("/api/v1/notifications/{sent}?for=all"))
        .await
        .expect(200);
    let dead =
        json!({ "title": "secret words", "content": "c", "channel": "sms", "recipient": "+8613800138000" });
    let dead = api.create(&dead).await;
    let path = format!("/api/v1/notifications/{dead}/retry");
    api.post(&op, &path, &json!({})).await.expect(200);
    api.post(&op, "/api/v1/queue/pauses", &json!({ "channel": "email" }))
        .await
        .expect(200);
    api.delete(&op, "/api/v1/queue/pauses?channel=email")
        .await
        .expect(200);
    let rule = json!({ "event": "order.placed", "when": "amount > 1000",
        "notification": { "user_id": "{{ owner }}", "title": "secret words", "content": "hidden" } });
    for _ in 0..2 {
        let answer = api.json("PUT", &op, "/api/v1/rules/big", &rule.to_string()).await;
        assert!(answer.status.is_success(), "{}", answer.status);
    }
    assert_eq!(api.delete(&op, "/api/v1/rules/big").await.status, 204);

    let all = entries(&api, &auditor(), "").await;
    let mut actions: Vec<&str> = all
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    actions.reverse();
    assert_eq!(
        actions,
        [
            "template.create",
            "contact.put",
            "contact.put",
            "contact.delete",
            "schedule.create",
            "schedule.pause",
            "schedule.resume",
            "schedule.delete",
            "notification.update",
            "notification.cancel",
            "notification.withdraw",
            "dead_letter.redrive",
            "queue.pause",
            "queue.resume",
            "rule.put",
            "rule.put",
            "rule.delete",
        ],
        "and ordinary creates are not"
    );
    let text = json!(all).to_string();
    for hidden in ["secret words", "hidden", "13800138000"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    let put = entries(&api, &auditor(), "action=contact.put&limit=1")
        .await
        .remove(0);
    let (before, after) = (&put["before"]["email"], &put["after"]["email"]);
    assert!(
        before.as_str().unwrap().starts_with("masked:") && before != after,
        "{put}"
    );
    assert_eq!(put["before"]["language"], "en");
    let rule = entries(&api, &auditor(), "action=rule.delete").await.remove(0);
    assert_eq!(
        (
            &rule["before"]["when"],
            &rule["before"]["notification"]["user_id"],
            &rule["after"]
        ),
        (&json!("amount > 1000"), &json!("{{ owner }}"), &Value::Null)
    );
    let by_id = format!("object=template&object_id={}", template["id"].as_str().unwrap());
    let made = entries(&api, &auditor(), &by_id).await.remove(0);
    assert_eq!(
        (&made["who"], &made["after"]["name"]),
        (
            &json!({ "credential": "token", "id": "op", "user_id": "op" }),
            &json!("welcome")
        )
    );
}

#[tokio::test]
async fn s4_10_a_refused_change_leaves_no_entry_and_no_tenant_sees_anothers() {
    let api = Api::new().await;
    let op = operator();
    api.post(&op, "/api/v1/templates", &json!({ "name": "x" }))
        .await
        .problem();
    api.delete(&op, "/api/v1/contacts/nobody").await.problem();
    assert_eq!(entries(&api, &auditor(), "").await, [] as [Value; 0]);
    api.post(&op.tenant("t2"), "/api/v1/queue/pauses", &json!({}))
        .await
        .expect(200);
    assert_eq!(entries(&api, &auditor(), "").await, [] as [Value; 0]);
    assert_eq!(entries(&api, &auditor().tenant("t2"), "").await.len(), 1);
    let root = Who::user("root").scope("platform:admin").tenant("ops");
    let pause = json!({ "channel": "sms", "all_tenants": true });
    api.post(&root, "/api/v1/queue/pauses", &pause).await.expect(200);
    let all = entries(&api, &root, "all_tenants=true").await;
    assert_eq!(all.len(), 2);
    assert_eq!(
        (&all[0]["tenant_id"], &all[0]["who"]["user_id"]),
        (&json!(null), &json!("root"))
    );
    assert_eq!(
        entries(&api, &auditor().tenant("t2"), "").await.len(),
        1,
        "the platform's is not a tenant's"
    );
    for (who, query, status) in [
        (auditor(), "all_tenants=true", 403),
        (Who::user("u1"), "", 403),
        (auditor(), "limit=0", 422),
        (auditor(), "after=x", 422),
        (auditor(), "from=yesterday", 422),
        (auditor(), "colour=red", 422),
    ] {
        let refused = api.get(&who, &format!("/api/v1/audit?{query}")).await;
        assert_eq!(refused.problem().0, status, "{query}");
    }
}

#[tokio::test]
async fn s4_10_the_log_is_read_in_pages_and_exported_whole() {
    let api = Api::new().await;
    let contacts: serde_json::Map<String, Value> = (0..900)
        .map(|n| (format!("u{n}"), json!({ "language": "en" })))
        .collect();
    let body = json!({ "contacts": contacts }).to_string();
    let request = request("PUT", "/api/v1/contacts", &operator())
        .header("content-type", "application/json")
        .header("x-request-id", "r-7");
    api.send(request.body(Body::from(body)).unwrap())
        .await
        .expect(200);
    let mut seen = std::collections::HashSet::new();
    let mut after = String::new();
    loop {
        let page = api
            .get(&auditor(), &format!("/api/v1/audit?limit=400{after}"))
            .await
            .expect(200);
        for entry in page["entries"].as_array().unwrap() {
            assert_eq!(entry["from"]["request_id"], "r-7");
            assert!(seen.insert(entry["object"]["id"].as_str().unwrap().to_owned()));
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 900);
    let export = api.get(&auditor(), "/api/v1/audit/export?action=contact").await;
    assert_eq!(export.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = export
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 900);
    assert_eq!(lines[0]["action"], "contact.put");
    assert_eq!(
        api.get(&auditor(), "/api/v1/audit/export?limit=3")
            .await
            .problem()
            .0,
        422
    );
}
