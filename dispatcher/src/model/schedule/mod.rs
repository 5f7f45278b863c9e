//! Recurring notifications: what is said, and when again. Times are reckoned here, without I/O.

mod cron;
mod step;
mod timing;
mod zone;

use common::ids::{Name, NotificationId, TenantId};
use uuid::Uuid;

pub use self::{
    cron::{Cron, InvalidCron},
    step::{CatchUp, ScheduleStep},
    timing::{Missed, Rule, Timing},
};
use super::{Micros, NewNotification};

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

/// What a caller changes of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleChange {
    /// Everything that was said of it. What is paused stays paused.
    Replace(Box<ScheduleBody>),
    /// It waits.
    Pause,
    /// It goes on with the next of its times.
    Resume,
}

impl ScheduleChange {
    /// Its name in the audit log.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Replace(_) => "schedule.update",
            Self::Pause => "schedule.pause",
            Self::Resume => "schedule.resume",
        }
    }
}

/// A schedule that a dispatcher holds while it makes an occurrence's notification.
#[derive(Debug, Clone)]
pub struct ScheduleClaim {
    /// As it was when it was claimed.
    pub schedule: Schedule,
    /// The occurrence that is due.
    pub next_at: Micros,
    /// The fencing token. A change by a caller takes it away, so nothing is sent that was changed before.
    pub token: i64,
}

/// What a schedule's occurrence came to.
#[derive(Debug, Clone)]
pub enum Occurred {
    /// Its notification is to be accepted.
    Ran(Micros, Box<NewNotification>),
    /// No notification could be made, for this reason.
    Failed(Micros, String),
    /// It was left out, or is there already.
    Nothing,
}

/// The end of a schedule's claim.
#[derive(Debug, Clone)]
pub struct ScheduleEnd {
    /// Which schedule.
    pub id: Uuid,
    /// The claim's token.
    pub token: i64,
    /// What the occurrence came to.
    pub occurred: Occurred,
    /// Occurrences that were left out before it.
    pub missed: u64,
    /// The next occurrence; none: it has ended.
    pub next_at: Option<Micros>,
    /// When that is due.
    pub due_at: Option<Micros>,
}

impl Schedule {
    /// A new one.
    #[must_use]
    pub fn new(tenant: TenantId, body: ScheduleBody, now: Micros) -> Self {
        let mut schedule = Self {
            id: Uuid::now_v7(),
            tenant,
            body,
            state: ScheduleState::Active,
            next_at: None,
            runs: 0,
            failed: 0,
            missed: 0,
            last_at: None,
            last_notification: None,
            last_error: None,
            created_at: now,
            updated_at: now,
        };
        schedule.go_on(now);
        schedule
    }

    /// Changes it. Times that went by meanwhile are not made up for: who changes it sees when it comes next.
    pub fn change(&mut self, change: ScheduleChange, now: Micros) {
        match change {
            ScheduleChange::Replace(body) => {
                self.body = *body;
                if self.state != ScheduleState::Paused {
                    self.go_on(now);
                }
            }
            ScheduleChange::Pause if self.state == ScheduleState::Active => {
                self.state = ScheduleState::Paused;
                self.next_at = None;
            }
            ScheduleChange::Resume if self.state == ScheduleState::Paused => self.go_on(now),
            ScheduleChange::Pause | ScheduleChange::Resume => return,
        }
        self.updated_at = now;
    }

    fn go_on(&mut self, now: Micros) {
        let timing = &self.body.timing;
        let used_up = timing.max_runs.is_some_and(|most| self.runs >= most);
        self.next_at = (!used_up).then(|| timing.at_or_after(now)).flatten();
        self.state = match self.next_at {
            Some(_) => ScheduleState::Active,
            None => ScheduleState::Ended,
        };
    }

    /// When somebody has to look at it: its next occurrence, later by the jitter.
    #[must_use]
    pub fn due_at(&self) -> Option<Micros> {
        self.next_at.map(|at| self.body.timing.due(self.id, at))
    }

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

    fn body(period: i64, anchor: i64) -> ScheduleBody {
        ScheduleBody {
            name: None,
            author: Name::new("a").unwrap(),
            scopes: Vec::new(),
            timing: Timing {
                rule: Rule::Every {
                    period,
                    anchor: Micros(anchor),
                },
                start_at: None,
                end_at: None,
                max_runs: None,
                missed: Missed::All,
                jitter: 0,
            },
            notification: serde_json::Value::Null,
        }
    }

    #[test]
    fn what_went_by_in_a_pause_is_not_made_up_for() {
        let tenant = TenantId::new("t").unwrap();
        let mut schedule = Schedule::new(tenant, body(10, 10), Micros(5));
        assert_eq!(schedule.next_at, Some(Micros(10)));
        schedule.change(ScheduleChange::Resume, Micros(6));
        assert_eq!(schedule.updated_at, Micros(5), "nothing to resume");
        schedule.change(ScheduleChange::Pause, Micros(7));
        assert_eq!((schedule.state, schedule.next_at), (ScheduleState::Paused, None));
        schedule.change(ScheduleChange::Replace(Box::new(body(20, 10))), Micros(8));
        assert_eq!((schedule.state, schedule.due_at()), (ScheduleState::Paused, None));
        schedule.change(ScheduleChange::Resume, Micros(95));
        assert_eq!(
            (schedule.state, schedule.due_at()),
            (ScheduleState::Active, Some(Micros(110)))
        );
    }

    #[test]
    fn what_has_ended_goes_on_only_with_another_end() {
        let tenant = TenantId::new("t").unwrap();
        let mut ending = body(10, 10);
        ending.timing.end_at = Some(Micros(4));
        let mut schedule = Schedule::new(tenant, ending.clone(), Micros(5));
        assert_eq!((schedule.state, schedule.next_at), (ScheduleState::Ended, None));
        schedule.change(ScheduleChange::Resume, Micros(6));
        schedule.change(ScheduleChange::Pause, Micros(6));
        assert_eq!(schedule.state, ScheduleState::Ended);
        schedule.runs = 3;
        ending.timing.end_at = None;
        ending.timing.max_runs = Some(3);
        schedule.change(ScheduleChange::Replace(Box::new(ending.clone())), Micros(7));
        assert_eq!(schedule.state, ScheduleState::Ended, "it has had its runs");
        ending.timing.max_runs = Some(4);
        schedule.change(ScheduleChange::Replace(Box::new(ending)), Micros(7));
        assert_eq!(
            (schedule.state, schedule.next_at),
            (ScheduleState::Active, Some(Micros(10)))
        );
    }
}
