//! Strategies and their steps.

use serde_json::{Value, json};

use super::{read, with};
use crate::model::Channel;

#[test]
fn chains_are_read() {
    let draft = read(&with(
        &json!({ "strategy": "escalate", "stop_on": "seen", "steps": [
        { "channel": "system" }, { "channel": "email", "after": "10m" },
        { "channel": "sms", "after": 30, "unless": "acknowledged" },
    ] }),
    ))
    .unwrap();
    let arrangement = draft.arrangement;
    assert_eq!(arrangement.strategy, crate::model::Strategy::Escalate);
    assert_eq!(arrangement.stop_on, Some(crate::model::Reached::Seen));
    let after: Vec<_> = arrangement.steps.iter().map(|step| step.after).collect();
    assert_eq!(after, [None, Some(600_000_000), Some(30_000_000)]);
    let channels = draft.channels.unwrap();
    assert_eq!(channels[0], ("system".to_owned(), Channel::InApp));
    assert_eq!(channels.len(), 3);
    let draft = read(&with(
        &json!({ "strategy": "failover", "attempts_before_next": 2, "channels": ["email", "webhook"] }),
    ))
    .unwrap();
    assert_eq!(draft.arrangement.attempts, Some(2));
}

#[test]
fn chains_that_cannot_be_are_refused() {
    let escalate = |steps: Value| json!({ "strategy": "escalate", "steps": steps });
    let failover = |steps: Value| json!({ "strategy": "failover", "steps": steps });
    for (fields, code, field) in [
        (json!({ "steps": [{ "channel": "email" }] }), "conflict", "steps"),
        (json!({ "stop_on": "read" }), "conflict", "stop_on"),
        (
            json!({ "strategy": "failover", "stop_on": "read" }),
            "conflict",
            "stop_on",
        ),
        (
            json!({ "strategy": "escalate", "attempts_before_next": 1 }),
            "conflict",
            "attempts_before_next",
        ),
        (
            json!({ "strategy": "failover", "attempts_before_next": 0 }),
            "invalid_value",
            "attempts_before_next",
        ),
        (
            json!({ "strategy": "failover", "attempts_before_next": 101 }),
            "invalid_value",
            "attempts_before_next",
        ),
        (
            json!({ "strategy": "escalate", "stop_on": "nothing" }),
            "invalid_value",
            "stop_on",
        ),
        (failover(json!([])), "invalid_value", "steps"),
        (
            failover(json!([{ "channel": "pigeon" }])),
            "unknown_channel",
            "steps[0].channel",
        ),
        (
            failover(json!([{ "channel": "sms" }, { "channel": "sms" }])),
            "conflict",
            "steps[1].channel",
        ),
        (
            failover(json!([{ "channel": "sms", "after": 5 }])),
            "conflict",
            "steps[0].after",
        ),
        (
            failover(json!([{ "channel": "sms", "attempts": 0 }])),
            "invalid_value",
            "steps[0].attempts",
        ),
        (
            escalate(json!([{ "channel": "sms", "attempts": 1 }])),
            "conflict",
            "steps[0].attempts",
        ),
        (
            escalate(json!([{ "channel": "in_app", "after": 5 }])),
            "conflict",
            "steps[0].after",
        ),
        (
            escalate(json!([{ "channel": "sms" }, { "channel": "in_app" }])),
            "conflict",
            "steps[1].channel",
        ),
        (
            escalate(json!([{ "channel": "sms", "after": "soon" }])),
            "invalid_value",
            "steps[0].after",
        ),
        (
            escalate(json!([{ "channel": "sms", "after": "700h" }, { "channel": "email", "after": "700h" }])),
            "invalid_time",
            "steps[1].after",
        ),
        (
            escalate(json!([{ "channel": "sms", "unless": "late" }])),
            "invalid_value",
            "steps[0].unless",
        ),
        (
            json!({ "strategy": "failover", "channels": ["sms"], "steps": [{ "channel": "sms" }] }),
            "conflict",
            "channels",
        ),
        (
            json!({ "strategy": "failover", "to": { "role": "r" } }),
            "strategy_not_for_group",
            "strategy",
        ),
        (
            json!({ "strategy": "escalate", "to": { "tenant": true } }),
            "strategy_not_for_group",
            "strategy",
        ),
        (
            json!({ "strategy": "failover", "to": { "users": ["a", "b"] }, "recipient": "a@example.com" }),
            "conflict",
            "strategy",
        ),
        (
            json!({ "strategy": "escalate", "to": null, "recipient": "a@example.com" }),
            "no_target",
            "to",
        ),
    ] {
        let problem = read(&with(&fields)).unwrap_err();
        assert_eq!(
            (problem.code, problem.field.as_deref()),
            (code, Some(field)),
            "{fields}: {problem:?}"
        );
    }
}
