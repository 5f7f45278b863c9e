//! What a schedule that is due does next: a pure decision, the same for every dispatcher.

use std::time::Duration;

use uuid::Uuid;

use super::{Missed, Timing};
use crate::model::Micros;

/// Occurrences that are counted one by one where some were missed; beyond, it is said that there were at least so many.
const COUNTED: u64 = 10_000;

/// What counts as missed, and how much of it is made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// An occurrence that is later than this was missed.
    pub missed_after: Duration,
    /// Missed ones that `all` makes up for at the most.
    pub most: usize,
}

/// One step of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleStep {
    /// The occurrence to run; none: what was due is left out.
    pub run: Option<Micros>,
    /// Occurrences that are left out, up to a number that is still worth counting.
    pub missed: u64,
    /// The occurrence after this step; none: it has ended.
    pub next: Option<Micros>,
}

impl Timing {
    /// The step of a schedule whose occurrence `next_at` is due at `now`, and which ran `runs` times before.
    #[must_use]
    pub fn step(
        &self,
        schedule: Uuid,
        next_at: Micros,
        now: Micros,
        runs: u64,
        bounds: CatchUp,
    ) -> ScheduleStep {
        let wanted = match self.missed {
            Missed::All => bounds.most.max(1),
            Missed::Skip | Missed::Once => 1,
        };
        let before = Micros(next_at.0.saturating_sub(1));
        let mut due = self.latest(before, now, wanted);
        while due.last().is_some_and(|last| self.due(schedule, *last) > now) {
            due.pop();
        }
        // Its own time has come, whatever jitter the later ones have.
        let newest = due.last().copied().unwrap_or(next_at);
        let first = due.first().copied().unwrap_or(next_at);
        let late = now.minus(bounds.missed_after);
        let run = match self.missed {
            Missed::Skip if self.due(schedule, newest) < late => None,
            Missed::Skip | Missed::Once => Some(newest),
            Missed::All => Some(first),
        };
        let until = run.unwrap_or(newest);
        let passed = self.count(next_at, until, COUNTED);
        let runs = runs + u64::from(run.is_some());
        let next = if self.max_runs.is_some_and(|most| runs >= most) {
            None
        } else {
            self.after(until)
        };
        ScheduleStep {
            run,
            missed: passed.saturating_sub(u64::from(run.is_some())),
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Rule, *};

    const SECOND: i64 = 1_000_000;
    const BOUNDS: CatchUp = CatchUp {
        missed_after: Duration::from_secs(60),
        most: 3,
    };

    /// Every ten minutes since 0.
    fn timing(missed: Missed) -> Timing {
        Timing {
            rule: Rule::Every {
                period: minutes(10).0,
                anchor: Micros(0),
            },
            start_at: None,
            end_at: None,
            max_runs: None,
            missed,
            jitter: 0,
        }
    }

    fn minutes(count: i64) -> Micros {
        Micros(count * 60 * SECOND)
    }

    fn step(timing: &Timing, next_at: i64, now: i64) -> (Option<i64>, u64, Option<i64>) {
        let step = timing.step(Uuid::nil(), minutes(next_at), minutes(now), 0, BOUNDS);
        let in_minutes = |at: Micros| at.0 / 60 / SECOND;
        (step.run.map(in_minutes), step.missed, step.next.map(in_minutes))
    }

    #[test]
    fn on_time_all_policies_do_the_same() {
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            assert_eq!(
                step(&timing(missed), 10, 10),
                (Some(10), 0, Some(20)),
                "{missed:?}"
            );
            assert_eq!(
                step(&timing(missed), 10, 11),
                (Some(10), 0, Some(20)),
                "{missed:?}"
            );
        }
    }

    #[test]
    fn missed_ones_are_left_out() {
        assert_eq!(step(&timing(Missed::Skip), 10, 12), (None, 1, Some(20)));
        assert_eq!(step(&timing(Missed::Skip), 10, 45), (None, 4, Some(50)));
        // The newest is not late.
        assert_eq!(step(&timing(Missed::Skip), 10, 41), (Some(40), 3, Some(50)));
    }

    #[test]
    fn one_run_stands_for_all_that_were_missed() {
        assert_eq!(step(&timing(Missed::Once), 10, 45), (Some(40), 3, Some(50)));
        assert_eq!(step(&timing(Missed::Once), 10, 12), (Some(10), 0, Some(20)));
    }

    #[test]
    fn all_are_made_up_for_one_after_the_other_within_the_bound() {
        let timing = timing(Missed::All);
        let mut next = 10;
        let mut ran = Vec::new();
        let mut left_out = 0;
        while next <= 65 {
            let (run, missed, following) = step(&timing, next, 65);
            ran.extend(run);
            left_out += missed;
            next = following.unwrap();
        }
        assert_eq!((ran, left_out, next), (vec![40, 50, 60], 3, 70));
    }

    #[test]
    fn it_ends_with_its_last_run_or_its_end() {
        let mut timing = timing(Missed::Once);
        timing.end_at = Some(minutes(25));
        assert_eq!(step(&timing, 20, 20), (Some(20), 0, None));
        assert_eq!(
            step(&timing, 10, 500),
            (Some(20), 1, None),
            "what lies after the end was not missed"
        );
        timing.max_runs = Some(3);
        let last = timing.step(Uuid::nil(), minutes(10), minutes(10), 2, BOUNDS);
        assert_eq!((last.run, last.next), (Some(minutes(10)), None));
        // What was left out is no run.
        timing.missed = Missed::Skip;
        let skipped = timing.step(Uuid::nil(), minutes(10), minutes(15), 2, BOUNDS);
        assert_eq!((skipped.run, skipped.next), (None, Some(minutes(20))));
    }

    #[test]
    fn jitter_makes_late_but_not_missed() {
        let mut timing = timing(Missed::Skip);
        timing.jitter = minutes(9).0;
        let id = Uuid::now_v7();
        let due = timing.due(id, minutes(10));
        let step = timing.step(id, minutes(10), due, 0, BOUNDS);
        assert_eq!(
            (step.run, step.missed, step.next),
            (Some(minutes(10)), 0, Some(minutes(20)))
        );
    }
}
