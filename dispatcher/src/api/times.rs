//! Times and durations as callers write them.

use common::http::Problem;
use jiff::{SignedDuration, Timestamp, fmt::temporal::Pieces};
use serde_json::Value;

use crate::model::Micros;

/// The farthest that anything may be scheduled.
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(366 * 24);

/// An RFC 3339 time with an offset.
pub(crate) fn time(field: &'static str, text: &str) -> Result<Micros, Problem> {
    text.parse::<Timestamp>()
        .map(|time| Micros(time.as_microsecond()))
        .map_err(|_| {
            if is_beyond(text) {
                return Problem::invalid(
                    "invalid_time",
                    field,
                    "the last time that is known is 9999-12-30T22:00:00Z",
                );
            }
            Problem::invalid(
                "invalid_time",
                field,
                "write the time in RFC 3339 with an offset, for example 2026-02-20T10:30:00Z",
            )
        })
}

/// Whether it is written as it should be, and outside of all times that are known.
fn is_beyond(text: &str) -> bool {
    text.parse::<Timestamp>().is_err() && Pieces::parse(text).is_ok_and(|pieces| pieces.offset().is_some())
}

fn too_far(field: &'static str) -> Problem {
    Problem::invalid("invalid_time", field, "cannot be more than 366 days ahead")
}

/// When something becomes visible: the scheduled time, or `now` and the delay; not before `now`.
pub(crate) fn visible_at(
    now: Micros,
    schedule: Option<(&'static str, &str)>,
    delay: Option<&Value>,
) -> Result<Micros, Problem> {
    let (field, at) = match (schedule, delay) {
        (None, None) => return Ok(now),
        (Some((field, text)), None) if is_beyond(text) => return Err(too_far(field)),
        (Some((field, text)), None) => (field, time(field, text)?),
        (None, Some(delay)) => ("delay", later(now, delay)?),
        (Some((field, _)), Some(_)) => {
            return Err(Problem::invalid(
                "conflict",
                "delay",
                format!("give `{field}` or `delay`, not both"),
            ));
        }
    };
    if at.0.saturating_sub(now.0) > i64::try_from(MAX_AHEAD.as_micros()).unwrap_or(i64::MAX) {
        return Err(too_far(field));
    }
    Ok(at.max(now))
}

fn later(now: Micros, delay: &Value) -> Result<Micros, Problem> {
    Ok(Micros(now.0.saturating_add(duration("delay", delay)?)))
}

/// Until when something is put off: a time to come, or so long after `now`.
pub(crate) fn snoozed_until(
    now: Micros,
    until: Option<&str>,
    length: Option<&Value>,
) -> Result<Micros, Problem> {
    let (field, at) = match (until, length) {
        (Some(text), None) => ("until", time("until", text)?),
        (None, Some(length)) => ("for", Micros(now.0.saturating_add(duration("for", length)?))),
        (Some(_), Some(_)) => {
            return Err(Problem::invalid(
                "conflict",
                "for",
                "give `until` or `for`, not both",
            ));
        }
        (None, None) => {
            return Err(Problem::invalid(
                "missing_field",
                "until",
                "say until when: a time in `until`, or a duration in `for`",
            ));
        }
    };
    let most = i64::try_from(MAX_AHEAD.as_micros()).unwrap_or(i64::MAX);
    if at <= now || at.0.saturating_sub(now.0) > most {
        return Err(Problem::invalid(
            "invalid_time",
            field,
            "has to be in the next 366 days",
        ));
    }
    Ok(at)
}

/// A number of seconds or a duration, in microseconds; not negative. What is longer than can be told is the longest: each
/// caller has a maximum of its own to speak of.
pub(crate) fn duration(field: impl Into<String>, value: &Value) -> Result<i64, Problem> {
    let read = match value {
        Value::Number(seconds) => seconds
            .as_f64()
            .filter(|seconds| *seconds >= 0.0)
            .map(|seconds| SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX)),
        Value::String(text) => text.parse::<SignedDuration>().ok(),
        _ => None,
    };
    read.filter(|duration| !duration.is_negative())
        .map(|duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
        .ok_or_else(|| {
            Problem::invalid(
                "invalid_value",
                field,
                "write seconds as a number, or a duration such as `90s`, `10m` or `PT10M`; not negative",
            )
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Micros = Micros(1_000_000_000_000);

    #[test]
    fn delays_are_numbers_or_durations() {
        for (delay, seconds) in [
            (json!(10), 10),
            (json!("90s"), 90),
            (json!("PT10M"), 600),
            (json!("10m"), 600),
            (json!(0), 0),
        ] {
            assert_eq!(
                visible_at(NOW, None, Some(&delay)).unwrap(),
                Micros(NOW.0 + seconds * 1_000_000),
                "{delay}"
            );
        }
        for delay in [json!(-1), json!("soon"), json!([]), json!("-5s"), json!(1e300)] {
            assert_eq!(
                visible_at(NOW, None, Some(&delay)).unwrap_err().field.as_deref(),
                Some("delay"),
                "{delay}"
            );
        }
    }

    #[test]
    fn the_past_is_now_and_the_far_future_is_refused() {
        assert_eq!(
            visible_at(NOW, Some(("schedule_at", "1970-01-01T00:00:00Z")), None).unwrap(),
            NOW
        );
        for far in [
            "2999-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31T00:00:00-08:00",
        ] {
            let refused = visible_at(NOW, Some(("schedule_at", far)), None).unwrap_err();
            assert!(refused.detail.contains("366 days"), "{far}: {}", refused.detail);
        }
        for delay in [json!(1e10), json!(1e300), json!("20000h")] {
            let refused = visible_at(NOW, None, Some(&delay)).unwrap_err();
            assert!(refused.detail.contains("366 days"), "{delay}: {}", refused.detail);
        }
        let refused = time("expires_at", "9999-12-31T23:59:59Z").unwrap_err();
        assert!(refused.detail.contains("9999-12-30"), "{}", refused.detail);
        let refused = time("expires_at", "9999-12-31T23:59:59").unwrap_err();
        assert!(refused.detail.contains("RFC 3339"), "{}", refused.detail);
        assert!(
            visible_at(NOW, Some(("scheduled_at", "2025-01-27T15:00:00")), None).is_err(),
            "no offset"
        );
        let both = visible_at(
            NOW,
            Some(("scheduled_at", "2025-01-27T15:00:00Z")),
            Some(&json!(1)),
        )
        .unwrap_err();
        assert_eq!(both.code, "conflict");
    }
}
