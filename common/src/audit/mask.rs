//! What an entry shows of a value: its structure, and of all else only that it changed.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of the digest that are shown. Enough to see that a text changed; too little to find a short one, such as a code
/// of six digits or a telephone number, by trying them all.
const SHOWN_BYTES: usize = 2;

/// Fields whose values are shown, as they say how something is arranged and not what is said, to where, or with which
/// secret. All others are masked, also those that somebody adds later.
const SHOWN: &[&str] = &[
    // what and for whom
    "id",
    "name",
    "kind",
    "type",
    "syntax",
    "engine",
    "version",
    "language",
    "locale",
    "time_zone",
    "priority",
    "category",
    "lane",
    "state",
    "status",
    "reason",
    "to",
    "target_kind",
    "user",
    "users",
    "user_id",
    "user_ids",
    "role",
    "roles",
    "store",
    "stores",
    "store_id",
    "topic",
    "tenant",
    "tenant_id",
    "everyone",
    "all_of",
    "any_of",
    "except",
    "session",
    "audience",
    "all_tenants",
    "channel",
    "channels",
    "channel_type",
    "strategy",
    "steps",
    "template",
    "template_name",
    "template_id",
    "group_key",
    "notification",
    "author",
    "scopes",
    "scope",
    // when
    "timing",
    "rule",
    "event",
    "when",
    "enabled",
    "cron",
    "expression",
    "every",
    "period",
    "anchor",
    "at",
    "zone",
    "start_at",
    "end_at",
    "jitter",
    "missed",
    "max_runs",
    "first",
    "last",
    "until",
    "delay",
    "schedule_at",
    "scheduled_at",
    "visible_at",
    "created_at",
    "updated_at",
    "expires_at",
    "expires",
    "starts_at",
    "ends_at",
    "paused_at",
    "paused_by",
    "next_at",
    // how much
    "count",
    "sessions",
    "nodes",
    "complete",
    "stopped",
    "on_the_way",
    "ended",
    "cancelled",
    "delivered",
    "steps_stopped",
    "fan_out_stopped",
    "never_visible",
    "attempts",
    "new_id",
    "code",
    "reconnect",
    "retry_after_ms",
    "spread_seconds",
    "within_seconds",
    "how",
    "seconds",
    "payload",
    "limit",
];

/// What is longer, as JSON in bytes, is not shown.
const MAX_SHOWN: usize = 16 * 1024;

/// The value with nothing in it that is secret or somebody's: what is not known to be harmless is `masked:` and a part of
/// its digest.
#[must_use]
pub fn masked(value: &impl Serialize) -> Value {
    // What cannot be written is shown as nothing.
    let shown = masked_value(serde_json::to_value(value).unwrap_or_default());
    if shown.to_string().len() > MAX_SHOWN {
        return mask(shown);
    }
    shown
}

fn masked_value(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| {
                    let shown = SHOWN.contains(&name.as_str());
                    let value = if shown { masked_value(value) } else { mask(value) };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(masked_value).collect()),
        plain => plain,
    }
}

fn mask(value: Value) -> Value {
    if value.is_null() {
        return value;
    }
    let mut text = "masked:".to_owned();
    for byte in Sha256::digest(value.to_string()).iter().take(SHOWN_BYTES) {
        // Writing into a text does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    Value::String(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn s4_10_what_is_not_known_to_be_harmless_is_masked() {
        let said = json!({
            "name": "n", "title": "secret title", "content": "the text", "html": null,
            "timing": { "cron": "0 8 * * *" }, "password": "p4ss", "something_new": { "deep": "hidden" },
            "notification": { "to": { "user": "u1" }, "recipient": "a@example.com", "variables": { "code": 123_456 } }
        });
        let shown = masked(&said);
        let text = shown.to_string();
        for hidden in [
            "secret title",
            "the text",
            "p4ss",
            "hidden",
            "a@example.com",
            "123456",
        ] {
            assert!(!text.contains(hidden), "{text}");
        }
        assert_eq!(shown["timing"]["cron"], "0 8 * * *");
        assert_eq!(shown["notification"]["to"]["user"], "u1");
        assert_eq!(shown["html"], Value::Null);
        let other = masked(&json!({ "title": "another title" }));
        assert_ne!(shown["title"], other["title"], "a change is visible");
        assert_eq!(other["title"].as_str().unwrap().len(), "masked:".len() + 4);
        let long = masked(&json!({ "users": vec!["a name of some length"; 1000] }));
        assert!(long.as_str().unwrap().starts_with("masked:"), "{long}");
    }
}
