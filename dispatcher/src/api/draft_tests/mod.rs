//! What bodies mean: every spelling, and what is refused.

mod any;
mod chains;

use common::{http::parse_json, ids::TenantId};
use serde_json::json;

use super::*;

fn caller(scopes: &[&str]) -> Identity {
    Identity {
        tenant: TenantId::new("tenant_abc").unwrap(),
        user: Name::new("service").unwrap(),
        roles: Vec::new(),
        stores: Vec::new(),
        topics: Vec::new(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        expires_at: i64::MAX,
    }
}

fn read_as(scopes: &[&str], body: &Value) -> Result<Draft, Problem> {
    let body: NotificationBody = parse_json(body.to_string().as_bytes())?;
    draft(body, &caller(scopes), Micros(1_000_000_000_000_000))
}

fn read(body: &Value) -> Result<Draft, Problem> {
    read_as(&[], body)
}

/// A complete body with these fields.
fn with(fields: &Value) -> Value {
    let mut body = json!({ "to": { "user": "u" }, "title": "T", "content": "C" });
    for (name, value) in fields.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn target(body: &Value) -> Value {
    serde_json::to_value(read_as(&["notifications:broadcast"], body).unwrap().audience).unwrap()
}

#[test]
fn every_spelling_of_a_target() {
    for (body, meant) in [
        (json!({ "to": { "role": "r" } }), json!({ "role": "r" })),
        (json!({ "user_id": "u" }), json!({ "user": "u" })),
        (
            json!({ "user_ids": ["a", "b", "a"] }),
            json!({ "users": ["a", "b"] }),
        ),
        (json!({ "role": "r" }), json!({ "role": "r" })),
        (json!({ "store_id": "s" }), json!({ "store": "s" })),
        (
            json!({ "role": "r", "store_id": "s" }),
            json!({ "all_of": [{ "role": "r" }, { "store": "s" }] }),
        ),
        (
            json!({ "user_id": "u", "role": "r", "store_id": "s" }),
            json!({ "user": "u" }),
        ),
        (
            json!({ "user_id": "u", "role": null, "store_id": null }),
            json!({ "user": "u" }),
        ),
        (
            json!({ "to": { "user": "u" }, "user_id": "u" }),
            json!({ "user": "u" }),
        ),
        (json!({ "message": "m" }), json!({ "tenant": true })),
        (
            json!({ "message": "m", "title": "t", "type": "info", "priority": "high" }),
            json!({ "tenant": true }),
        ),
        // Content is S0's word, and S0 has no broadcast.
        (json!({ "content": "c" }), json!(null)),
        (
            json!({ "message": "m", "recipient": "a@example.com" }),
            json!(null),
        ),
        (
            json!({ "message": "m", "recipients": ["a@example.com"] }),
            json!(null),
        ),
        (json!({ "message": "m", "target": "zhangsan" }), json!(null)),
        (json!({ "message": "m", "channel": "email" }), json!(null)),
        (json!({ "message": "m", "channel_type": "email" }), json!(null)),
        (json!({ "message": "m", "channels": ["email"] }), json!(null)),
    ] {
        assert_eq!(target(&body), meant, "{body}");
    }
}

#[test]
fn wide_targets_need_their_scopes() {
    for (body, scope) in [
        (json!({ "message": "m" }), "notifications:broadcast"),
        (with(&json!({ "to": { "everyone": true } })), "platform:admin"),
        (
            with(&json!({ "to": { "any_of": [{ "role": "r" }, { "everyone": true }] } })),
            "platform:admin",
        ),
        (
            with(&json!({ "to": { "all_of": [{ "everyone": true }, { "role": "r" }] } })),
            "platform:admin",
        ),
    ] {
        let problem = read_as(&["notifications:write"], &body).unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.code),
            (403, "scope_missing"),
            "{body}"
        );
        assert!(problem.detail.contains(scope), "{body}: {}", problem.detail);
        assert!(read_as(&[scope], &body).is_ok(), "{body}");
    }
    let narrowed = with(&json!({ "to": { "all_of": [{ "tenant": true }, { "role": "r" }] } }));
    assert!(read(&narrowed).is_ok(), "no wider than the role");
}

#[test]
fn every_alias_means_its_canonical_field() {
    let canonical = |fields| read(&with(&fields)).unwrap();
    for field in ["kind", "type"] {
        assert_eq!(
            canonical(json!({ field: "alert" })).kind,
            Some(Kind::Alert),
            "{field}"
        );
    }
    for field in ["data", "extra_data", "metadata"] {
        assert_eq!(
            canonical(json!({ field: { "x": 1 } })).data,
            Some(json!({ "x": 1 })),
            "{field}"
        );
    }
    for field in ["template", "template_name", "template_id"] {
        let template = canonical(json!({ field: "t1" })).template.unwrap();
        assert_eq!((template.field, template.name.as_str()), (field, "t1"));
    }
    for field in ["variables", "template_vars"] {
        assert_eq!(canonical(json!({ field: { "x": 1 } })).variables.0, field);
    }
    for field in ["schedule_at", "scheduled_at"] {
        let at = canonical(json!({ field: "2001-09-09T01:46:41Z" })).visible_at;
        assert_eq!(at, Micros(1_000_000_001_000_000), "{field}");
    }
    for fields in [
        json!({ "channels": ["email"] }),
        json!({ "channel": "email" }),
        json!({ "channel_type": "email" }),
    ] {
        assert_eq!(
            canonical(fields).channels,
            Some(vec![("email".to_owned(), Channel::Email)])
        );
    }
    for (fields, title, content) in [
        (json!({ "subject": "S", "content": "C" }), "S", "C"),
        (json!({ "title": "T", "message": "M" }), "T", "M"),
        (
            json!({ "title": "T", "subject": "T", "content": "M", "message": "M" }),
            "T",
            "M",
        ),
    ] {
        let mut body = fields.clone();
        body["user_id"] = json!("u");
        let draft = read(&body).unwrap();
        assert_eq!(
            (draft.title.as_deref(), draft.content.as_deref()),
            (Some(title), Some(content)),
            "{fields}"
        );
    }
    for fields in [
        json!({ "recipient": "a@example.com" }),
        json!({ "recipients": ["a@example.com"] }),
        json!({ "target": "a@example.com" }),
    ] {
        assert_eq!(canonical(fields).addresses.given[0].address, "a@example.com");
    }
}

#[test]
fn channel_names_of_all_systems() {
    let draft = read(&with(&json!({ "channels": [
        "system", "in_app", "websocket", "email", "sms", "wechat", "wechat_api", "wechat_bot", "feishu", "telegram",
        "slack", "discord", "webhook", "app_push",
    ] })))
    .unwrap();
    let names: Vec<_> = draft.channels.unwrap();
    assert_eq!(names.len(), Channel::ALL.len(), "each channel once");
    assert_eq!(
        names[0],
        ("system".to_owned(), Channel::InApp),
        "by the caller's first name for it"
    );
}

#[test]
fn priorities_are_kept_as_given() {
    for (priority, lane) in [
        (json!("urgent"), Lane::Critical),
        (json!("critical"), Lane::Critical),
        (json!(1), Lane::Critical),
        (json!("high"), Lane::High),
        (json!(2), Lane::High),
        (json!("normal"), Lane::Medium),
        (json!("medium"), Lane::Medium),
        (json!(3), Lane::Medium),
        (json!("low"), Lane::Low),
        (json!(4), Lane::Low),
        (json!(5), Lane::Low),
    ] {
        let draft = read(&with(&json!({ "priority": priority }))).unwrap();
        assert_eq!(draft.priority, Some((priority, lane)));
    }
}

#[test]
fn metadata_loses_its_addresses_and_may_stand_beside_data() {
    let draft = read(&with(
        &json!({ "metadata": { "email": "a@example.com", "phone": "13800138000", "n": 1 } }),
    ))
    .unwrap();
    assert_eq!(draft.data, Some(json!({ "n": 1 })));
    assert_eq!(draft.addresses.of(Channel::Email), ["a@example.com"]);
    let both = json!({ "data": { "n": 1 }, "metadata": { "email": "a@example.com" } });
    assert_eq!(read(&with(&both)).unwrap().data, Some(json!({ "n": 1 })));
}

#[test]
fn bad_fields_are_named() {
    let long = "x".repeat(2000);
    let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
    for (fields, code, field) in [
        (json!({ "titel": "x" }), "unknown_field", "titel"),
        (json!({ "title": 1 }), "invalid_value", "title"),
        (json!({ "title": long }), "too_long", "title"),
        (json!({ "to": { "usr": "u" } }), "unknown_field", "to.usr"),
        (json!({ "to": {} }), "invalid_value", "to"),
        (json!({ "to": { "user": "" } }), "invalid_value", "to"),
        (json!({ "subject": "other" }), "conflict", "subject"),
        (json!({ "message": "other" }), "conflict", "message"),
        (json!({ "kind": "info", "type": "alert" }), "conflict", "type"),
        (
            json!({ "data": { "a": 1 }, "extra_data": { "a": 2 } }),
            "conflict",
            "extra_data",
        ),
        (
            json!({ "data": { "a": 1 }, "metadata": { "a": 2 } }),
            "conflict",
            "metadata",
        ),
        (
            json!({ "channels": ["email"], "channel": "sms" }),
            "conflict",
            "channel",
        ),
        (
            json!({ "template": "a", "template_id": "b" }),
            "conflict",
            "template_id",
        ),
        (
            json!({ "variables": { "a": 1 }, "template_vars": { "a": 2 } }),
            "conflict",
            "template_vars",
        ),
        (
            json!({ "schedule_at": "2026-01-01T00:00:00Z", "scheduled_at": "2027-01-01T00:00:00Z" }),
            "conflict",
            "scheduled_at",
        ),
        (
            json!({ "schedule_at": "2001-09-10T00:00:00Z", "delay": 5 }),
            "conflict",
            "delay",
        ),
        (json!({ "user_id": "other" }), "conflict", "user_id"),
        (json!({ "role": "other" }), "conflict", "role"),
        (
            json!({ "to": null, "user_ids": ["a"], "role": "r" }),
            "conflict",
            "role",
        ),
        (json!({ "to": null, "user_ids": [] }), "invalid_value", "user_ids"),
        (json!({ "to": null, "user_ids": many }), "too_many", "user_ids"),
        (
            json!({ "to": null, "user_ids": ["a", ""] }),
            "invalid_name",
            "user_ids[1]",
        ),
        (json!({ "to": null, "user_id": "" }), "invalid_name", "user_id"),
        (
            json!({ "channels": ["email", "pigeon"] }),
            "unknown_channel",
            "channels[1]",
        ),
        (json!({ "channel": "pigeon" }), "unknown_channel", "channel"),
        (json!({ "channels": [] }), "invalid_value", "channels"),
        (json!({ "channels": "email" }), "invalid_value", "channels"),
        (json!({ "kind": "loud" }), "unknown_kind", "kind"),
        (json!({ "type": "loud" }), "unknown_kind", "type"),
        (json!({ "priority": "soon" }), "unknown_priority", "priority"),
        (json!({ "priority": 0 }), "unknown_priority", "priority"),
        (json!({ "priority": 6 }), "unknown_priority", "priority"),
        (json!({ "priority": 1.5 }), "unknown_priority", "priority"),
        (json!({ "priority": [] }), "unknown_priority", "priority"),
        (json!({ "strategy": "some" }), "invalid_value", "strategy"),
        (
            json!({ "schedule_at": "tomorrow" }),
            "invalid_time",
            "schedule_at",
        ),
        (
            json!({ "scheduled_at": "2025-01-27T15:00:00" }),
            "invalid_time",
            "scheduled_at",
        ),
        (
            json!({ "expires_at": "2001-01-01T00:00:00Z" }),
            "invalid_time",
            "expires_at",
        ),
        (json!({ "delay": -1 }), "invalid_value", "delay"),
        (json!({ "data": [1] }), "invalid_value", "data"),
        (json!({ "variables": "x" }), "invalid_value", "variables"),
        (json!({ "recipients": [] }), "invalid_value", "recipients"),
        (
            json!({ "recipients": ["a", ""] }),
            "invalid_address",
            "recipients[1]",
        ),
        (json!({ "recipient": "" }), "invalid_address", "recipient"),
        (
            json!({ "metadata": { "email": 1 } }),
            "invalid_value",
            "metadata.email",
        ),
        (json!({ "category": "" }), "invalid_value", "category"),
        (
            json!({ "idempotency_key": "" }),
            "invalid_value",
            "idempotency_key",
        ),
        (json!({ "collapse_key": "" }), "invalid_value", "collapse_key"),
        (json!({ "idempotency_key": long }), "too_long", "idempotency_key"),
        (json!({ "receipt": "yes" }), "invalid_value", "receipt"),
        (json!({ "tenant_id": "other" }), "tenant_mismatch", "tenant_id"),
    ] {
        let problem = read(&with(&fields)).expect_err(&fields.to_string());
        assert_eq!(
            (problem.code, problem.field.as_deref()),
            (code, Some(field)),
            "{fields}: {}",
            problem.detail
        );
    }
    assert!(read(&with(&json!({ "tenant_id": "tenant_abc" }))).is_ok());
}
