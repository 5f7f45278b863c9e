//! What a request to keep a schedule means. No I/O.

use common::{
    http::{Problem, parse_json},
    token::Identity,
};
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::super::{body::NotificationBody, draft::one, times, words::short};
use crate::model::{Cron, Micros, Missed, Rule, ScheduleBody, Timing};

/// Scopes of the author that a notification may need when it is made again.
const KEPT_SCOPES: [&str; 2] = ["notifications:broadcast", "platform:admin"];

const SECOND: i64 = 1_000_000;
/// The longest interval.
const MAX_PERIOD: i64 = 366 * 24 * 3600 * SECOND;
/// The longest jitter.
const MAX_JITTER: i64 = 3600 * SECOND;

/// A schedule: when, by `cron` or `every`, and the notification to send then.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScheduleRequest {
    /// Unique in the tenant, at most 256 bytes.
    name: Option<String>,
    /// Minute, hour, day of the month, month, day of the week, in local time: `0 8 * * 1`. Also `@daily` and the like.
    cron: Option<String>,
    /// Instead: elapsed time between runs, as seconds or a duration such as `90m` or `PT1H`; at least a second. Counted from
    /// `start_at`, else from now.
    every: Option<Value>,
    /// For `cron`: a name of the IANA database, such as `Asia/Shanghai`. Default `UTC`.
    time_zone: Option<String>,
    /// Not before this, RFC 3339 with an offset.
    start_at: Option<String>,
    /// Not after this, RFC 3339 with an offset.
    end_at: Option<String>,
    /// It ends after so many runs.
    max_runs: Option<u64>,
    /// What becomes of runs whose time went by while no dispatcher was there: `skip`, `once` (default: one stands for all),
    /// `all`.
    missed: Option<String>,
    /// Each run is later by a random time up to this, at most an hour: seconds, or a duration.
    jitter: Option<Value>,
    /// The notification, as for `POST /api/v1/notifications`, without times and idempotency key. A template is rendered at
    /// each run, as it is then.
    #[schema(value_type = Option<NotificationBody>)]
    notification: Option<Value>,

    /// Only `recurring`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Alias of `every`.
    interval: Option<Value>,
    /// Alias of `time_zone`.
    timezone: Option<String>,
    /// Alias of `start_at`.
    scheduled_at: Option<String>,
    /// Alias of `notification`.
    #[schema(value_type = Option<NotificationBody>)]
    payload: Option<Value>,
}

/// Reads a schedule for a caller.
pub(super) fn read(
    request: ScheduleRequest,
    caller: &Identity,
    now: Micros,
) -> Result<(ScheduleBody, NotificationBody), Problem> {
    if request.kind.as_deref().is_some_and(|kind| kind != "recurring") {
        return Err(Problem::invalid(
            "invalid_value",
            "type",
            "only `recurring`; what is sent once is a notification with `schedule_at` or `delay`",
        ));
    }
    let (field, notification) = one([
        ("notification", request.notification),
        ("payload", request.payload),
    ])?
    .ok_or_else(|| {
        Problem::invalid(
            "missing_field",
            "notification",
            "say what is to be sent, as for POST /api/v1/notifications",
        )
    })?;
    let said = self::notification(field, &notification)?;
    let name = short("name", request.name)?;
    let start_at = one([
        ("start_at", request.start_at),
        ("scheduled_at", request.scheduled_at),
    ])?
    .map(|(field, text)| times::time(field, &text))
    .transpose()?;
    let end_at = request
        .end_at
        .map(|text| times::time("end_at", &text))
        .transpose()?;
    let zone = one([("time_zone", request.time_zone), ("timezone", request.timezone)])?;
    let every = one([("every", request.every), ("interval", request.interval)])?;
    let (field, rule) = match (request.cron, every) {
        (Some(text), None) => ("cron", cron(&text, zone)?),
        (None, Some((field, value))) => {
            if let Some((zone, _)) = zone {
                return Err(Problem::invalid(
                    "conflict",
                    zone,
                    format!(
                        "`{field}` is elapsed time, the same in every zone; use `cron` for times of a clock"
                    ),
                ));
            }
            (field, every_period(field, &value, start_at, now)?)
        }
        (Some(_), Some((field, _))) => {
            return Err(Problem::invalid(
                "conflict",
                field,
                format!("give `cron` or `{field}`, not both"),
            ));
        }
        (None, None) => {
            return Err(Problem::invalid(
                "missing_field",
                "cron",
                "say when: `cron` for times of a clock, or `every` for elapsed time",
            ));
        }
    };
    if request.max_runs == Some(0) {
        return Err(Problem::invalid(
            "invalid_value",
            "max_runs",
            "it would never run",
        ));
    }
    let missed = match request.missed.as_deref() {
        None => Missed::default(),
        Some(word) => Missed::parse(word)
            .ok_or_else(|| Problem::invalid("invalid_value", "missed", "one of `skip`, `once`, `all`"))?,
    };
    let timing = Timing {
        rule,
        start_at,
        end_at,
        max_runs: request.max_runs,
        missed,
        jitter: request
            .jitter
            .map(|value| times::duration("jitter", &value))
            .transpose()?
            .unwrap_or_default(),
    };
    check(&timing, field, now)?;
    let kept = |scope: &&str| caller.has_scope(scope);
    let body = ScheduleBody {
        name,
        author: caller.user.clone(),
        scopes: KEPT_SCOPES.into_iter().filter(kept).map(str::to_owned).collect(),
        timing,
        notification,
    };
    Ok((body, said))
}

fn cron(text: &str, zone: Option<(&'static str, String)>) -> Result<Rule, Problem> {
    let expression: Cron = text.parse().map_err(|error: crate::model::InvalidCron| {
        Problem::invalid("invalid_cron", "cron", error.to_string())
    })?;
    let (field, zone) = zone.unwrap_or_else(|| ("time_zone", "UTC".to_owned()));
    let known = TimeZone::get(&zone).ok();
    let zone = known.as_ref().and_then(TimeZone::iana_name).ok_or_else(|| {
        Problem::invalid(
            "unknown_time_zone",
            field,
            "name a zone of the IANA database, for example `Asia/Shanghai` or `UTC`",
        )
    })?;
    Ok(Rule::Cron {
        expression,
        zone: zone.to_owned(),
    })
}

fn every_period(
    field: &'static str,
    value: &Value,
    start_at: Option<Micros>,
    now: Micros,
) -> Result<Rule, Problem> {
    let period = times::duration(field, value)?;
    if !(SECOND..=MAX_PERIOD).contains(&period) {
        return Err(Problem::invalid(
            "invalid_value",
            field,
            "the time between two runs is a second at least and 366 days at the most",
        ));
    }
    // Without a start it begins with the first interval's end.
    let anchor = start_at.unwrap_or_else(|| Micros(now.0.saturating_add(period)));
    Ok(Rule::Every { period, anchor })
}

/// Refuses what would never run, and jitter that would mix runs up.
fn check(timing: &Timing, field: &'static str, now: Micros) -> Result<(), Problem> {
    let free = Timing {
        start_at: None,
        end_at: None,
        ..timing.clone()
    };
    let from = timing.start_at.map_or(now, |start| start.max(now));
    let Some(first) = free.at_or_after(from) else {
        return Err(Problem::invalid(
            "never_fires",
            field,
            "there is no such time: a day that these months do not have",
        ));
    };
    if timing.end_at.is_some_and(|end| first > end) {
        return Err(Problem::invalid(
            "never_fires",
            "end_at",
            format!(
                "it ends before its first run, which would be at {}",
                first.rfc3339()
            ),
        ));
    }
    if timing.jitter > MAX_JITTER {
        return Err(Problem::invalid("invalid_value", "jitter", "an hour at the most"));
    }
    let second = free.after(first);
    if second.is_some_and(|second| timing.jitter >= second.0 - first.0) {
        return Err(Problem::invalid(
            "invalid_value",
            "jitter",
            "it has to be less than the time between two runs",
        ));
    }
    Ok(())
}

/// A schedule's notification: a body without what belongs to a single one.
pub(super) fn notification(field: &'static str, body: &Value) -> Result<NotificationBody, Problem> {
    if !body.is_object() {
        return Err(Problem::invalid(
            "invalid_value",
            field,
            "has to be a JSON object",
        ));
    }
    let said: NotificationBody =
        parse_json(body.to_string().as_bytes()).map_err(|problem| within(field, problem))?;
    for (name, given) in [
        ("schedule_at", said.schedule_at.is_some()),
        ("scheduled_at", said.scheduled_at.is_some()),
        ("delay", said.delay.is_some()),
        ("expires_at", said.expires_at.is_some()),
        ("idempotency_key", said.idempotency_key.is_some()),
        ("dry_run", said.dry_run.is_some()),
    ] {
        if given {
            return Err(Problem::invalid(
                "not_recurring",
                format!("{field}.{name}"),
                "the schedule says when; leave it out of the notification, which is made anew for each run",
            ));
        }
    }
    Ok(said)
}

/// The same problem, told of a part of the request.
pub(super) fn within(part: &str, mut problem: Problem) -> Problem {
    problem.field = Some(match problem.field {
        Some(field) => format!("{part}.{field}"),
        None => part.to_owned(),
    });
    problem
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
