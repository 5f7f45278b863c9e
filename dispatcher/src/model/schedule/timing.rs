//! When a schedule runs: the rule, its bounds, and the occurrences that follow from them.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Cron, zone};
use crate::model::Micros;

/// What repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Minutes of local time.
    Cron {
        /// Which.
        expression: Cron,
        /// Where: a name of the IANA database.
        zone: String,
    },
    /// Elapsed time, whatever clocks say.
    Every {
        /// In microseconds; at least a second.
        period: i64,
        /// The time from which it is counted.
        anchor: Micros,
    },
}

/// What becomes of occurrences whose time went by while nobody could run them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// They are left out.
    Skip,
    /// One run stands for all of them.
    #[default]
    Once,
    /// Each is made up for, the last `schedules.catch_up` of them.
    All,
}

impl Missed {
    /// The policy of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "skip" => Some(Self::Skip),
            "once" => Some(Self::Once),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

/// When a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// What repeats.
    pub rule: Rule,
    /// Nothing before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Micros>,
    /// Nothing after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_at: Option<Micros>,
    /// It ends after so many runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_runs: Option<u64>,
    /// What becomes of missed ones.
    pub missed: Missed,
    /// Each run is later than its occurrence by up to this, in microseconds: by how much follows from both, so that every
    /// dispatcher says the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

impl Timing {
    /// The first occurrence from `at` on.
    #[must_use]
    pub fn at_or_after(&self, at: Micros) -> Option<Micros> {
        self.after(Micros(at.0.saturating_sub(1)))
    }

    /// The first occurrence after `at`.
    #[must_use]
    pub fn after(&self, at: Micros) -> Option<Micros> {
        let floor = self
            .start_at
            .map_or(at, |start| at.max(Micros(start.0.saturating_sub(1))));
        let next = match &self.rule {
            Rule::Cron { expression, zone } => {
                // A zone is looked at when the schedule is made.
                let zone = TimeZone::get(zone).ok()?;
                let floor = Timestamp::from_microsecond(floor.0).ok()?;
                Micros(zone::after(expression, &zone, floor)?.as_microsecond())
            }
            Rule::Every { period, anchor } => {
                let elapsed = floor.0.saturating_sub(anchor.0);
                let rounds = elapsed.div_euclid(*period).checked_add(1)?.max(0);
                Micros(anchor.0.checked_add(rounds.checked_mul(*period)?)?)
            }
        };
        (self.end_at.is_none_or(|end| next <= end)).then_some(next)
    }

    /// When an occurrence of a schedule is due: its time and the jitter.
    #[must_use]
    pub fn due(&self, schedule: Uuid, occurrence: Micros) -> Micros {
        if self.jitter <= 0 {
            return occurrence;
        }
        let random = Uuid::new_v5(&schedule, &occurrence.0.to_be_bytes()).as_u128();
        let jitter = random % (u128::from(self.jitter.unsigned_abs()) + 1);
        occurrence.plus(Duration::from_micros(u64::try_from(jitter).unwrap_or_default()))
    }

    /// The last `count` occurrences of `(after, until]`, in order.
    pub(super) fn latest(&self, after: Micros, until: Micros, count: usize) -> Vec<Micros> {
        // From the end, in spans that grow: a schedule of minutes after a month off must not be walked whole.
        let mut span: i64 = 3_600_000_000;
        loop {
            let from = after.max(Micros(until.0.saturating_sub(span)));
            let mut found = std::collections::VecDeque::with_capacity(count.min(64));
            let mut at = from;
            while let Some(next) = self.after(at).filter(|next| *next <= until) {
                if found.len() == count {
                    found.pop_front();
                }
                found.push_back(next);
                at = next;
            }
            if found.len() == count || from == after {
                return found.into();
            }
            span = span.saturating_mul(8);
        }
    }

    /// How many occurrences `[from, until]` has, counted up to `most`.
    pub(super) fn count(&self, from: Micros, until: Micros, most: u64) -> u64 {
        if let Rule::Every { period, .. } = &self.rule {
            let Some(first) = self.at_or_after(from).filter(|first| *first <= until) else {
                return 0;
            };
            let last = self.end_at.map_or(until, |end| until.min(end));
            return ((last.0 - first.0) / period).unsigned_abs().saturating_add(1);
        }
        let mut count = 0;
        let mut at = self.at_or_after(from);
        while let Some(next) = at.filter(|next| *next <= until && count < most) {
            count += 1;
            at = self.after(next);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn every(period: i64, anchor: i64) -> Timing {
        Timing {
            rule: Rule::Every {
                period,
                anchor: Micros(anchor),
            },
            start_at: None,
            end_at: None,
            max_runs: None,
            missed: Missed::Once,
            jitter: 0,
        }
    }

    fn cron(expression: &str, zone: &str) -> Timing {
        Timing {
            rule: Rule::Cron {
                expression: expression.parse().unwrap(),
                zone: zone.to_owned(),
            },
            ..every(1, 0)
        }
    }

    #[test]
    fn intervals_are_counted_from_their_anchor() {
        let timing = every(10, 100);
        assert_eq!(timing.after(Micros(0)), Some(Micros(100)));
        assert_eq!(timing.after(Micros(100)), Some(Micros(110)));
        assert_eq!(timing.after(Micros(119)), Some(Micros(120)));
        assert_eq!(timing.at_or_after(Micros(120)), Some(Micros(120)));
        assert_eq!(timing.after(Micros(i64::MAX)), None);
        assert_eq!(timing.count(Micros(101), Micros(150), 3), 5);
        assert_eq!(
            timing.latest(Micros(100), Micros(150), 2),
            [Micros(140), Micros(150)]
        );
    }

    #[test]
    fn intervals_are_elapsed_time_also_where_clocks_change() {
        let day = every(24 * HOUR, 0);
        let before: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
        let first = day.after(Micros(before.as_microsecond())).unwrap();
        assert_eq!(day.after(first).unwrap().0 - first.0, 24 * HOUR);
    }

    #[test]
    fn bounds_hold_and_belong_to_it() {
        let mut timing = every(10, 100);
        timing.start_at = Some(Micros(130));
        timing.end_at = Some(Micros(150));
        assert_eq!(timing.at_or_after(Micros(0)), Some(Micros(130)));
        assert_eq!(timing.after(Micros(140)), Some(Micros(150)));
        assert_eq!(timing.after(Micros(150)), None);
        assert_eq!(timing.count(Micros(0), Micros(1000), 100), 3);
    }

    #[test]
    fn jitter_is_bounded_and_the_same_for_everyone() {
        let mut timing = every(10, 100);
        let schedule = Uuid::now_v7();
        assert_eq!(timing.due(schedule, Micros(110)), Micros(110));
        timing.jitter = 7;
        let all: Vec<_> = (0..200).map(|n| timing.due(schedule, Micros(n)).0 - n).collect();
        assert!(all.iter().all(|late| (0..=7).contains(late)));
        assert!(all.contains(&0) && all.contains(&7));
        assert_eq!(timing.due(schedule, Micros(5)), timing.due(schedule, Micros(5)));
    }

    #[test]
    fn the_latest_are_found_without_walking_everything() {
        let timing = cron("* * * * *", "Europe/Berlin");
        let until: Timestamp = "2026-11-20T12:00:30Z".parse().unwrap();
        let until = Micros(until.as_microsecond());
        let started = std::time::Instant::now();
        let found = timing.latest(Micros(0), until, 3);
        let texts: Vec<_> = found.iter().map(|at| at.rfc3339()).collect();
        assert_eq!(
            texts,
            [
                "2026-11-20T11:58:00.000Z",
                "2026-11-20T11:59:00.000Z",
                "2026-11-20T12:00:00.000Z"
            ]
        );
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "sixty years of minutes were walked"
        );
        // A rare one is found by going back far enough.
        let yearly = cron("0 0 29 2 *", "UTC").latest(Micros(0), until, 2);
        assert_eq!(yearly[0].rfc3339(), "2020-02-29T00:00:00.000Z");
        assert_eq!(timing.count(Micros(0), until, 1000), 1000);
    }
}
