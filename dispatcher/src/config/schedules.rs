//! Recurring notifications.

use std::time::Duration;

use common::config::Span;
use serde::Deserialize;

/// Section `[schedules]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulesConfig {
    /// A run that is later than this was missed, and the schedule's `missed` says what becomes of it. Default `1m`.
    pub missed_after: Span,
    /// Missed runs that a schedule with `missed` = `all` makes up for at the most. Default 100.
    pub catch_up: usize,
    /// Schedules of one tenant at the most. Default 10000.
    pub per_tenant: u32,
}

impl Default for SchedulesConfig {
    fn default() -> Self {
        Self {
            missed_after: Span(Duration::from_mins(1)),
            catch_up: 100,
            per_tenant: 10_000,
        }
    }
}
