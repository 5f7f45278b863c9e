//! Closes that are spread over time: one for each session at the most, so that orders cannot pile up.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{super::SessionId, Farewell};

/// When a session is closed, and what it is told.
#[derive(Debug)]
struct Plan {
    session: SessionId,
    at: u32,
    farewell: Arc<Farewell>,
}

/// The planned closes of a worker.
#[derive(Debug, Default)]
pub(super) struct Plans {
    /// By the session's slot. Whoever gives a slot up takes its plan out.
    by_slot: HashMap<u32, Plan>,
    /// Second and slot of those whose time has not come.
    waiting: BTreeSet<(u32, u32)>,
}

impl Plans {
    /// Plans a close for the worker's second `at`. Where one is planned already, the sooner of the two stays: what an order
    /// was answered is kept, whatever is ordered later.
    pub(super) fn add(&mut self, session: SessionId, at: u32, farewell: Arc<Farewell>) {
        let planned = self.by_slot.get(&session.slot);
        if planned.is_some_and(|plan| plan.session == session && plan.at <= at) {
            return;
        }
        let plan = Plan {
            session,
            at,
            farewell,
        };
        if let Some(later) = self.by_slot.insert(session.slot, plan) {
            self.waiting.remove(&(later.at, session.slot));
        }
        self.waiting.insert((at, session.slot));
    }

    /// The sessions whose time has come, each once. Their plans stay until they are taken.
    pub(super) fn due(&mut self, now: u32) -> Vec<SessionId> {
        let mut due = Vec::new();
        while let Some((_, slot)) = self.waiting.first().copied().filter(|(at, _)| *at <= now) {
            self.waiting.pop_first();
            due.extend(self.by_slot.get(&slot).map(|plan| plan.session));
        }
        due
    }

    /// Takes the session's plan out: it is carried out, or the session ends otherwise.
    pub(super) fn take(&mut self, session: SessionId) -> Option<Arc<Farewell>> {
        let planned = self.by_slot.get(&session.slot)?;
        if planned.session != session {
            return None;
        }
        let plan = self.by_slot.remove(&session.slot)?;
        self.waiting.remove(&(plan.at, session.slot));
        if self.by_slot.is_empty() {
            // A large order's room is given back.
            self.by_slot = HashMap::new();
        }
        Some(plan.farewell)
    }
}

/// Gives the sessions of an order their seconds.
#[derive(Debug)]
pub(crate) struct Planning {
    farewell: Arc<Farewell>,
    from: u32,
    seconds: u32,
    total: usize,
    given: usize,
}

impl Planning {
    /// `total` sessions, spread evenly over so many seconds behind `from`.
    pub(super) fn new(farewell: Arc<Farewell>, from: u32, seconds: u32, total: usize) -> Self {
        Self {
            farewell,
            from,
            seconds,
            total: total.max(1),
            given: 0,
        }
    }

    /// When the next session is closed, and what it is told.
    pub(super) fn next(&mut self) -> (u32, Arc<Farewell>) {
        self.given += 1;
        // Rounded up, so that a few sessions are spread as well and not told at once.
        let ahead = (self.given as u64 * u64::from(self.seconds)).div_ceil(self.total as u64);
        let ahead = u32::try_from(ahead).unwrap_or(self.seconds);
        (self.from.saturating_add(ahead), Arc::clone(&self.farewell))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Advice, *};

    fn farewell(code: u16) -> Arc<Farewell> {
        Arc::new(Farewell {
            code,
            text: String::new(),
            advice: Advice::AsTheCode,
        })
    }

    fn id(slot: u32, generation: u32) -> SessionId {
        SessionId { slot, generation }
    }

    fn seconds(total: usize, seconds: u32) -> Vec<u32> {
        let mut planning = Planning::new(farewell(4003), 7, seconds, total);
        (0..total).map(|_| planning.next().0).collect()
    }

    #[test]
    fn an_order_is_spread_evenly_over_its_seconds() {
        assert_eq!(seconds(2, 10), [12, 17]);
        assert_eq!(seconds(1, 600), [607]);
        let many = seconds(100, 7);
        for second in 8..=14 {
            let share = many.iter().filter(|at| **at == second).count();
            assert!((14..=15).contains(&share), "{second}: {share}");
        }
    }

    #[test]
    fn a_session_has_one_plan_the_sooner() {
        let mut plans = Plans::default();
        for at in [600_u16, 300, 400, 300, 500] {
            plans.add(id(1, 1), at.into(), farewell(4000 + at));
        }
        assert_eq!((plans.by_slot.len(), plans.waiting.len()), (1, 1));
        assert_eq!(plans.due(299), []);
        assert_eq!(plans.due(300), [id(1, 1)]);
        assert_eq!(plans.due(301), [], "it is handed out once");
        // It has not been carried out yet: another order does not put it off.
        plans.add(id(1, 1), 900, farewell(4900));
        assert_eq!(plans.take(id(1, 1)).map(|told| told.code), Some(4300));
        assert!(plans.take(id(1, 1)).is_none());
        assert_eq!(plans.due(1000), []);
    }

    #[test]
    fn plans_end_with_their_sessions() {
        let mut plans = Plans::default();
        plans.add(id(1, 1), 10, farewell(4100));
        plans.add(id(2, 1), 10, farewell(4100));
        assert!(plans.take(id(1, 2)).is_none(), "of another session");
        assert!(plans.take(id(1, 1)).is_some());
        // The slot is given to somebody else.
        plans.add(id(1, 2), 11, farewell(4200));
        assert_eq!(plans.due(10), [id(2, 1)]);
        assert_eq!(plans.due(11), [id(1, 2)]);
        assert!(plans.take(id(1, 2)).is_some() && plans.take(id(2, 1)).is_some());
        assert_eq!((plans.by_slot.capacity(), plans.waiting.len()), (0, 0));
    }
}
