use std::collections::BTreeSet;

use common::ids::{Name, TenantId};
use serde_json::json;

use super::*;

const NOW: Micros = Micros(1_790_000_000_000_000);

fn caller(scopes: &[&str]) -> Identity {
    Identity {
        tenant: TenantId::new("t1").unwrap(),
        user: Name::new("a").unwrap(),
        roles: Vec::new(),
        stores: Vec::new(),
        topics: Vec::new(),
        scopes: scopes
            .iter()
            .map(|scope| (*scope).to_owned())
            .collect::<BTreeSet<_>>(),
        expires_at: 0,
    }
}

fn read(mut body: Value) -> Result<ScheduleBody, Problem> {
    if body.get("notification").is_none() && body.get("payload").is_none() {
        body["notification"] = json!({ "to": { "user": "u" }, "title": "T", "content": "C" });
    }
    let request = parse_json(body.to_string().as_bytes())?;
    super::read(
        request,
        &caller(&["notifications:write", "notifications:broadcast"]),
        NOW,
    )
    .map(|(body, _)| body)
}

fn refused(body: Value) -> (&'static str, String, String) {
    let problem = read(body).unwrap_err();
    assert_eq!(problem.status, 422);
    (problem.code, problem.field.unwrap_or_default(), problem.detail)
}

#[test]
fn a_cron_in_its_zone_and_elapsed_time_in_none() {
    let body = read(json!({ "cron": "0 8 * * 1", "time_zone": "asia/shanghai", "name": "weekly" })).unwrap();
    assert_eq!(body.scopes, ["notifications:broadcast"], "no others are kept");
    let Rule::Cron { zone, .. } = &body.timing.rule else {
        panic!("{body:?}")
    };
    assert_eq!(zone, "Asia/Shanghai");
    let next = body.timing.at_or_after(NOW).unwrap();
    assert!(next.rfc3339().ends_with("T00:00:00.000Z"), "{}", next.rfc3339());

    for (every, seconds) in [(json!(90), 90), (json!("1h"), 3600), (json!("PT10M"), 600)] {
        let body = read(json!({ "every": every })).unwrap();
        assert_eq!(
            body.timing.at_or_after(NOW),
            Some(NOW.plus(std::time::Duration::from_secs(seconds)))
        );
    }
    let start = "2026-12-01T00:00:00Z";
    let body = read(json!({ "every": "1h", "start_at": start })).unwrap();
    assert_eq!(
        body.timing.at_or_after(NOW).unwrap().rfc3339(),
        "2026-12-01T00:00:00.000Z"
    );
}

#[test]
fn the_words_of_the_task_queue_are_taken() {
    let payload = json!({ "user_id": "u", "title": "T", "content": "C" });
    let start = "2026-12-01T00:00:00Z";
    let theirs = json!({ "type": "recurring", "name": "n", "payload": payload, "scheduled_at": start, "interval": 3600 });
    let ours = json!({ "name": "n", "notification": payload, "start_at": start, "every": "1h" });
    assert_eq!(read(theirs).unwrap(), read(ours).unwrap());
    let (code, field, _) = refused(json!({ "type": "delayed", "every": 60 }));
    assert_eq!((code, field.as_str()), ("invalid_value", "type"));
}

#[test]
fn what_is_wrong_points_at_its_field() {
    for (body, code, field, says) in [
        (json!({}), "missing_field", "cron", "every"),
        (
            json!({ "cron": "* * * *" }),
            "invalid_cron",
            "cron",
            "five fields",
        ),
        (
            json!({ "cron": "61 * * * *" }),
            "invalid_cron",
            "cron",
            "`61` is not one of 0 to 59",
        ),
        (
            json!({ "cron": "0 0 30 2 *" }),
            "never_fires",
            "cron",
            "no such time",
        ),
        (
            json!({ "cron": "@daily", "every": 60 }),
            "conflict",
            "every",
            "not both",
        ),
        (
            json!({ "cron": "@daily", "time_zone": "Mars/Olympus" }),
            "unknown_time_zone",
            "time_zone",
            "IANA",
        ),
        (
            json!({ "cron": "@daily", "timezone": "" }),
            "unknown_time_zone",
            "timezone",
            "IANA",
        ),
        (
            json!({ "cron": "@daily", "time_zone": "UTC", "timezone": "Asia/Tokyo" }),
            "conflict",
            "timezone",
            "differ",
        ),
        (
            json!({ "every": 60, "time_zone": "UTC" }),
            "conflict",
            "time_zone",
            "elapsed",
        ),
        (json!({ "every": 0.5 }), "invalid_value", "every", "a second"),
        (json!({ "every": "367d" }), "invalid_value", "every", "duration"),
        (json!({ "every": 1e9 }), "invalid_value", "every", "366 days"),
        (
            json!({ "interval": "soon" }),
            "invalid_value",
            "interval",
            "seconds",
        ),
        (
            json!({ "every": 60, "max_runs": 0 }),
            "invalid_value",
            "max_runs",
            "never",
        ),
        (
            json!({ "every": 60, "missed": "some" }),
            "invalid_value",
            "missed",
            "once",
        ),
        (
            json!({ "every": 60, "jitter": 60 }),
            "invalid_value",
            "jitter",
            "less",
        ),
        (
            json!({ "cron": "@daily", "jitter": "2h" }),
            "invalid_value",
            "jitter",
            "hour",
        ),
        (
            json!({ "every": 60, "start_at": "tomorrow" }),
            "invalid_time",
            "start_at",
            "RFC 3339",
        ),
        (
            json!({ "every": 60, "end_at": "2026-01-01T00:00:00Z" }),
            "never_fires",
            "end_at",
            "first run",
        ),
        (
            json!({ "every": 60, "when": 1 }),
            "unknown_field",
            "when",
            "unknown",
        ),
        (
            json!({ "every": 60, "notification": [] }),
            "invalid_value",
            "notification",
            "object",
        ),
        (
            json!({ "every": 60, "notification": { "titel": "T" } }),
            "unknown_field",
            "notification.titel",
            "unknown",
        ),
        (
            json!({ "every": 60, "payload": { "delay": 1 } }),
            "not_recurring",
            "payload.delay",
            "the schedule says when",
        ),
    ] {
        let (found, at, detail) = refused(body.clone());
        assert_eq!((found, at.as_str()), (code, field), "{body}: {detail}");
        assert!(detail.contains(says), "{body}: {detail}");
    }
}
