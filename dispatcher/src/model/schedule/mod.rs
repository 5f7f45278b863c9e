//! Recurring notifications: what is said, and when again. Times are reckoned here, without I/O.

mod cron;
mod step;
mod timing;
mod zone;

use common::ids::{Name, NotificationId, TenantId};
use uuid::Uuid;

pub use self::{
    cron::{Cron, InvalidCron},
    step::{CatchUp, Step},
    timing::{Missed, Rule, Timing},
};
use super::Micros;

/// Where a schedule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScheduleState {
    /// It runs when it is due.
    Active,
    /// It waits to be resumed; what its times would have been meanwhile is not made up for.
    Paused,
    /// It had its last run, or its end.
    Ended,
}

impl ScheduleState {
    /// The name in documents and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Ended]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// What a caller says of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleBody {
    /// Unique in the tenant, where given.
    pub name: Option<String>,
    /// In whose name it sends: the token's `sub` of who wrote it last.
    pub author: Name,
    /// Of the author's scopes, those that its notification needs.
    pub scopes: Vec<String>,
    /// When.
    pub timing: Timing,
    /// The notification's body as it was written: rendered at each run.
    pub notification: serde_json::Value,
}

/// A stored schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its id.
    pub id: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// What was said of it.
    pub body: ScheduleBody,
    /// Where it stands.
    pub state: ScheduleState,
    /// The occurrence that comes next; none unless it is active.
    pub next_at: Option<Micros>,
    /// Notifications that it made by its times.
    pub runs: u64,
    /// Occurrences whose notification could not be made.
    pub failed: u64,
    /// Occurrences that were left out because they were late.
    pub missed: u64,
    /// The occurrence that ran or failed last.
    pub last_at: Option<Micros>,
    /// The notification that it made last.
    pub last_notification: Option<NotificationId>,
    /// Why the last occurrence made none.
    pub last_error: Option<String>,
    /// When it was made.
    pub created_at: Micros,
    /// When it was last written by a caller.
    pub updated_at: Micros,
}

impl Schedule {
    /// The id of an occurrence's notification. It follows from both, so no occurrence can become two notifications; it begins
    /// with the occurrence's time, as that of any other notification does.
    #[must_use]
    pub fn notification_id(schedule: Uuid, occurrence: Micros) -> NotificationId {
        let derived = Uuid::new_v5(&schedule, &occurrence.0.to_le_bytes());
        let mut random = [0; 10];
        random.copy_from_slice(&derived.as_bytes()[..10]);
        let millis = u64::try_from(occurrence.0 / 1000).unwrap_or_default();
        NotificationId(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occurrence_has_one_id_and_others_have_others() {
        let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
        let at = Micros(1_800_000_000_000_000);
        let id = Schedule::notification_id(one, at);
        assert_eq!(id, Schedule::notification_id(one, at));
        assert_ne!(id, Schedule::notification_id(two, at));
        assert_ne!(id, Schedule::notification_id(one, Micros(at.0 + 1)));
        assert_eq!(id.0.get_version_num(), 7);
    }
}
