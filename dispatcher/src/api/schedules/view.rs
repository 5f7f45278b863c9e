//! Schedules as answers show them.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::model::{Micros, Missed, Rule, Schedule, Timing};

/// A schedule.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ScheduleView {
    /// Its id.
    #[schema(format = "uuid")]
    id: String,
    /// Its name, where it has one.
    name: Option<String>,
    /// `active`, `paused`, or `ended` after its last run.
    status: &'static str,
    /// The expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    /// The zone of the expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    /// The time between runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<String>,
    /// Not before this.
    start_at: Option<String>,
    /// Not after this.
    end_at: Option<String>,
    /// It ends after so many runs.
    max_runs: Option<u64>,
    /// What becomes of missed runs.
    missed: Missed,
    /// The most by which a run is later.
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<String>,
    /// As it was written.
    #[schema(value_type = Object)]
    notification: Value,
    /// In whose name it sends: who wrote it last.
    author: String,
    /// The next run, before jitter; none unless it is active.
    next_at: Option<String>,
    /// Notifications that it made by its times.
    runs: u64,
    /// Times at which none could be made; `last_error` says why.
    failed_runs: u64,
    /// Times that were left out as they were late.
    missed_runs: u64,
    /// The last time that ran or failed.
    last_run_at: Option<String>,
    /// The notification that it made last.
    last_notification_id: Option<String>,
    /// Why the last time made none.
    last_error: Option<String>,
    /// When it was made.
    created_at: String,
    /// When it was last written.
    updated_at: String,
}

impl From<Schedule> for ScheduleView {
    fn from(schedule: Schedule) -> Self {
        let Timing {
            rule,
            start_at,
            end_at,
            max_runs,
            missed,
            jitter,
        } = schedule.body.timing;
        let (cron, time_zone, every) = match rule {
            Rule::Cron { expression, zone } => (Some(expression.into()), Some(zone), None),
            Rule::Every { period, .. } => (None, None, Some(length(period))),
        };
        Self {
            id: schedule.id.to_string(),
            name: schedule.body.name,
            status: schedule.state.as_str(),
            cron,
            time_zone,
            every,
            start_at: start_at.map(Micros::rfc3339),
            end_at: end_at.map(Micros::rfc3339),
            max_runs,
            missed,
            jitter: (jitter > 0).then(|| length(jitter)),
            notification: schedule.body.notification,
            author: schedule.body.author.to_string(),
            next_at: schedule.next_at.map(Micros::rfc3339),
            runs: schedule.runs,
            failed_runs: schedule.failed,
            missed_runs: schedule.missed,
            last_run_at: schedule.last_at.map(Micros::rfc3339),
            last_notification_id: schedule.last_notification.map(|id| id.to_string()),
            last_error: schedule.last_error,
            created_at: schedule.created_at.rfc3339(),
            updated_at: schedule.updated_at.rfc3339(),
        }
    }
}

/// As callers may write it.
fn length(micros: i64) -> String {
    format!("{:#}", SignedDuration::from_micros(micros))
}

/// A page of schedules.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ScheduleList {
    /// In the order of their making.
    pub(super) schedules: Vec<ScheduleView>,
    /// Give it as `after` for the next page; none: this was the last.
    pub(super) next: Option<String>,
}

/// Times to come.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct NextRuns {
    /// Whether it runs at all at the moment.
    pub(super) status: &'static str,
    /// The next times, before jitter; what a paused one would have, if it were resumed now.
    pub(super) next: Vec<NextRun>,
}

/// A time to come.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct NextRun {
    /// UTC.
    at: String,
    /// In the schedule's zone, with its offset then.
    local: String,
}

impl NextRun {
    pub(super) fn of(timing: &Timing, at: Micros) -> Self {
        let zone = match &timing.rule {
            Rule::Cron { zone, .. } => TimeZone::get(zone).ok(),
            Rule::Every { .. } => None,
        };
        let local = Timestamp::from_microsecond(at.0).map_or_else(
            |_| String::new(),
            |time| {
                let local = time.to_zoned(zone.unwrap_or(TimeZone::UTC));
                local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
            },
        );
        Self {
            at: at.rfc3339(),
            local,
        }
    }
}
