//! What this node knows of the spool, so that no request has to ask Redis whether it may store directly.
//!
//! The invariant, for nodes that reach Redis: **where a notification was answered with 202 before another one came in,
//! wherever that is, the other one is stored after it.** It holds by permits, which are leases the other way round:
//!
//! - A node stores directly only while it holds a permit. Redis grants one, in one step with seeing that nothing is spooled,
//!   for [`PERMIT`]; the node counts from before it asked, so it believes in it for less time than Redis does.
//! - A node looks every [`LOOK`]. When it sees that something is spooled, it first stops storing directly, and then gives its
//!   permit back.
//! - Who spools answers only when no other node holds a permit: when all were given back, or, for nodes that died or were
//!   cut off, after [`PERMIT`]. While something is spooled none is granted. So this wait comes once an outage.
//! - What was on its way into the database meanwhile came in before that answer.
//! - The last entry is taken out after its commit; only then are there permits again.
//!
//! A node that does not reach Redis has no permit. If it knows that something is spooled, it refuses until Redis is back, as
//! else new ones would overtake. If it knows of nothing, it stores directly: the only other choice would be that a
//! dispatcher with a database accepts nothing because Redis is away.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long a permit holds.
pub(super) const PERMIT: Duration = Duration::from_secs(1);

/// How often a node looks.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// Part of a permit's time that is left to clocks that run differently.
const MARGIN: Duration = Duration::from_millis(100);

/// What a request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Store directly.
    Direct,
    /// Queue behind what is spooled.
    Behind,
    /// Look first.
    Ask,
    /// Nothing: something is spooled, and Redis is away.
    Refuse,
}

/// What Redis says of the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Entries that are not stored.
    pub(super) entries: i64,
    /// Notifications in them.
    pub(super) notifications: i64,
    /// Age of the oldest one.
    pub(super) age: Duration,
}

#[derive(Debug)]
struct State {
    /// Names this node's permits: each has a number of its own, so that giving one back late takes away no later one.
    number: u64,
    permit: Option<Instant>,
    open: bool,
    /// Why Redis was not reached the last time.
    away: Option<String>,
    /// Why what Redis takes is not sure to stay.
    broken: Option<String>,
}

/// See above.
#[derive(Debug)]
pub(super) struct Gate {
    node: String,
    state: Mutex<State>,
    /// Something is spooled since now.
    opened: Notify,
}

/// What stands when Redis is asked, to judge whether its answer still counts.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) permit: String,
    number: u64,
    at: Instant,
}

impl Gate {
    /// `node`: a name that no other process has, without `/`.
    pub(super) fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            state: Mutex::new(State {
                number: 0,
                permit: None,
                open: false,
                away: Some("redis was not reached yet".to_owned()),
                broken: Some("redis was not asked yet whether it keeps what it takes".to_owned()),
            }),
            opened: Notify::new(),
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// What a request may do that is here now.
    pub(super) fn way(&self, now: Instant) -> Way {
        let state = self.lock();
        if state.open {
            return match state.away {
                None => Way::Behind,
                Some(_) => Way::Refuse,
            };
        }
        match (state.permit, &state.away) {
            (Some(until), _) if now < until => Way::Direct,
            (_, None) => Way::Ask,
            (_, Some(_)) => Way::Direct,
        }
    }

    /// Why nothing can be spooled, if so.
    pub(super) fn unusable(&self) -> Option<String> {
        let state = self.lock();
        state.away.clone().or_else(|| state.broken.clone())
    }

    /// Something is spooled, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Waits until something is spooled.
    pub(super) async fn opened(&self) {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            opened.as_mut().enable();
            if self.is_open() {
                return;
            }
            opened.await;
        }
    }

    /// Redis is about to be asked, with this name for a permit.
    pub(super) fn ask(&self, now: Instant) -> Asked {
        let number = self.lock().number;
        Asked {
            permit: format!("{}/{number}", self.node),
            number,
            at: now,
        }
    }

    /// Nothing is spooled, and the permit that was asked for is granted.
    pub(super) fn granted(&self, asked: &Asked) {
        let mut state = self.lock();
        state.away = None;
        // What was learnt meanwhile is newer.
        if state.number == asked.number {
            state.open = false;
            state.permit = Some(asked.at + PERMIT - MARGIN);
        }
    }

    /// Something is spooled. From now on nothing is stored directly; then the permit is to be given back, where there is one.
    pub(super) fn spooled(&self) -> Option<String> {
        let mut state = self.lock();
        state.away = None;
        state.open = true;
        let held = state
            .permit
            .take()
            .map(|_| format!("{}/{}", self.node, state.number));
        // An answer that is on its way with an older number counts no more.
        state.number += 1;
        drop(state);
        self.opened.notify_waiters();
        held
    }

    /// Redis was not reached.
    pub(super) fn away(&self, reason: String) {
        let mut state = self.lock();
        if state.away.is_none() {
            tracing::warn!(reason, "redis does not answer for the spool");
        }
        state.away = Some(reason);
    }

    /// Redis was asked whether what it takes stays.
    pub(super) fn promised(&self, promise: Result<(), String>) {
        let mut state = self.lock();
        if let Err(reason) = &promise
            && state.broken.as_ref() != Some(reason)
        {
            tracing::warn!(reason, "while the database is away nothing can be accepted");
        }
        state.broken = promise.err();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new("n")
    }

    #[test]
    fn who_knows_of_nothing_and_reaches_nobody_stores() {
        assert_eq!(gate().way(Instant::now()), Way::Direct);
    }

    #[test]
    fn a_permit_ends_before_redis_forgets_it() {
        let (gate, now) = (gate(), Instant::now());
        gate.granted(&gate.ask(now));
        assert_eq!(gate.way(now + PERMIT / 2), Way::Direct);
        assert_eq!(gate.way(now + PERMIT - MARGIN), Way::Ask);
    }

    #[test]
    fn a_permit_holds_when_redis_goes_away_and_nothing_is_known_after_it() {
        let (gate, now) = (gate(), Instant::now());
        gate.granted(&gate.ask(now));
        gate.away("gone".to_owned());
        assert_eq!(gate.way(now), Way::Direct);
        assert_eq!(gate.way(now + PERMIT), Way::Direct);
        assert!(gate.unusable().unwrap().contains("gone"));
    }

    #[test]
    fn what_is_spooled_is_not_overtaken_also_when_redis_is_away() {
        let (gate, now) = (gate(), Instant::now());
        gate.granted(&gate.ask(now));
        assert_eq!(gate.spooled().as_deref(), Some("n/0"), "the permit is given back");
        assert_eq!(gate.way(now), Way::Behind);
        assert_eq!(gate.spooled(), None, "once");
        gate.away("gone".to_owned());
        assert_eq!(gate.way(now), Way::Refuse);
        gate.granted(&gate.ask(now));
        assert_eq!(gate.way(now), Way::Direct);
    }

    #[test]
    fn an_older_answer_changes_nothing() {
        let (gate, now) = (gate(), Instant::now());
        let asked = gate.ask(now);
        gate.spooled();
        gate.granted(&asked);
        assert_eq!(gate.way(now), Way::Behind);
        let newer = gate.ask(now);
        assert_ne!(asked.permit, newer.permit);
        gate.granted(&newer);
        assert_eq!(gate.way(now), Way::Direct);
    }

    #[test]
    fn what_redis_does_not_keep_is_not_spooled() {
        let gate = gate();
        gate.granted(&gate.ask(Instant::now()));
        gate.promised(Err("everysec".to_owned()));
        assert_eq!(gate.unusable().as_deref(), Some("everysec"));
        gate.promised(Ok(()));
        assert_eq!(gate.unusable(), None);
    }
}
