//! Deliveries whose first receipt is waited for, and receipts that come before anybody waits for them.
//!
//! Only receipts decide; how many nodes the bus counted is a hint and says nothing. What the bus seemed to refuse may be on
//! its way all the same, and so may what was sent before this process began anew. Its receipt then comes between two attempts,
//! and the next attempt is a repeat, which sends nothing and brings no other. So receipts that nobody waited for are kept.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use common::{ids::MessageId, topic::TopicKey};
use tokio::time::Instant;

/// Receipts that are kept before anybody waits for them; each takes some 200 bytes.
const EARLY: usize = 32_768;

/// A message to one user.
type Which = (MessageId, TopicKey);

/// Deliveries (`S`) that wait. All wait equally long from the moment the bus took them, so the queue is in order of time.
#[derive(Debug)]
pub(super) struct Waiting<S> {
    deliveries: HashMap<Which, Waiter<S>>,
    order: VecDeque<(Instant, Which)>,
    early: Early,
}

#[derive(Debug)]
struct Waiter<S> {
    sent: S,
    /// None while the bus has not answered: what it answers late is not given up early.
    until: Option<Instant>,
}

/// What became of a delivery that is to wait.
#[derive(Debug)]
pub(super) enum Begun<S> {
    Waits,
    /// Its receipt was there first.
    Received(S),
    /// Too many wait.
    Full(S),
}

impl<S> Default for Waiting<S> {
    fn default() -> Self {
        Self {
            deliveries: HashMap::new(),
            order: VecDeque::new(),
            early: Early::default(),
        }
    }
}

impl<S> Waiting<S> {
    /// Begins to wait for what is about to be published.
    pub(super) fn begin(&mut self, which: Which, sent: S, max: usize) -> Begun<S> {
        if self.early.contains(&which) {
            return Begun::Received(sent);
        }
        if self.deliveries.len() >= max {
            return Begun::Full(sent);
        }
        // A claim of what still waited under an older token takes its place; the older one could settle nothing.
        self.deliveries.insert(which, Waiter { sent, until: None });
        Begun::Waits
    }

    /// The bus took it: its time runs from now. True when it is the first one whose time runs.
    pub(super) fn taken_by_bus(&mut self, which: Which, now: Instant, wait: Duration) -> bool {
        let Some(waiter) = self.deliveries.get_mut(&which) else {
            return false;
        };
        let until = now + wait;
        waiter.until = Some(until);
        let first = self.order.is_empty();
        self.order.push_back((until, which));
        first
    }

    /// Ends the wait of what the bus did not take.
    pub(super) fn refused(&mut self, which: &Which) -> Option<S> {
        self.deliveries.remove(which).map(|waiter| waiter.sent)
    }

    /// A receipt has come: ends the wait for it, or is kept for an attempt that is still to come.
    pub(super) fn received(&mut self, which: Which) -> Option<S> {
        let sent = self.refused(&which);
        if sent.is_none() {
            self.early.put(which);
        }
        sent
    }

    /// When the next one is given up, or may have been.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at)
    }

    /// Ends the wait of those whose time is over.
    pub(super) fn take_until(&mut self, now: Instant) -> Vec<S> {
        let mut taken = Vec::new();
        while self.order.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, which)) = self.order.pop_front() else {
                break;
            };
            // An attempt that was refused, and a later one that waits longer, leave an entry of the first here.
            if self
                .deliveries
                .get(&which)
                .is_some_and(|waiter| waiter.until == Some(at))
            {
                taken.extend(self.refused(&which));
            }
        }
        taken
    }

    /// Ends all waiting.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = S> + '_ {
        self.order.clear();
        self.deliveries.drain().map(|(_, waiter)| waiter.sent)
    }
}

/// Receipts that nobody waited for, the newest ones.
#[derive(Debug, Default)]
struct Early {
    receipts: HashSet<Which>,
    order: VecDeque<Which>,
}

impl Early {
    fn put(&mut self, which: Which) {
        if !self.receipts.insert(which.clone()) {
            return;
        }
        self.order.push_back(which);
        if self.order.len() > EARLY
            && let Some(oldest) = self.order.pop_front()
        {
            self.receipts.remove(&oldest);
        }
    }

    /// Whether it has come. It goes on being known, as a lease that is lost may bring one more attempt.
    fn contains(&self, which: &Which) -> bool {
        self.receipts.contains(which)
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{Name, TenantId};

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn which() -> Which {
        let (tenant, user) = (TenantId::new("t").unwrap(), Name::new("u").unwrap());
        (MessageId::generate(), TopicKey::user(&tenant, &user))
    }

    fn begin(waiting: &mut Waiting<u32>, which: &Which, attempt: u32) {
        let begun = waiting.begin(which.clone(), attempt, 10);
        assert!(matches!(begun, Begun::Waits), "{begun:?}");
    }

    #[test]
    fn time_runs_from_when_the_bus_took_it() {
        let (mut waiting, one, start) = (Waiting::default(), which(), Instant::now());
        begin(&mut waiting, &one, 1);
        assert_eq!(waiting.next(), None);
        assert_eq!(waiting.take_until(start + WAIT * 10), [0_u32; 0]);
        assert!(waiting.taken_by_bus(one, start + WAIT, WAIT));
        assert_eq!(waiting.next(), Some(start + WAIT * 2));
        assert_eq!(waiting.take_until(start + WAIT * 2), [1]);
    }

    #[test]
    fn a_later_attempt_has_the_whole_time() {
        let (mut waiting, one, start) = (Waiting::default(), which(), Instant::now());
        begin(&mut waiting, &one, 1);
        waiting.taken_by_bus(one.clone(), start, WAIT);
        // The lease was lost, and somebody claims it anew.
        begin(&mut waiting, &one, 2);
        assert_eq!(waiting.take_until(start + WAIT), [0_u32; 0]);
        waiting.taken_by_bus(one, start + WAIT, WAIT);
        assert_eq!(waiting.take_until(start + WAIT * 2), [2]);
    }

    #[test]
    fn a_receipt_between_two_attempts_counts_for_the_second() {
        let (mut waiting, one, other) = (Waiting::default(), which(), which());
        begin(&mut waiting, &one, 1);
        assert_eq!(waiting.refused(&one), Some(1));
        assert_eq!(waiting.received(one.clone()), None);
        let begun = waiting.begin(one, 2, 10);
        assert!(matches!(begun, Begun::Received(2)), "{begun:?}");
        begin(&mut waiting, &other, 1);
    }

    #[test]
    fn what_waits_and_what_is_remembered_is_bounded() {
        let (mut waiting, first, last) = (Waiting::default(), which(), which());
        begin(&mut waiting, &which(), 1);
        assert!(matches!(waiting.begin(which(), 2, 1), Begun::Full(2)));
        assert_eq!(waiting.received(first.clone()), None);
        for _ in 1..EARLY {
            waiting.received(which());
        }
        assert_eq!(waiting.received(last.clone()), None);
        assert_eq!(waiting.early.receipts.len(), EARLY);
        assert_eq!(waiting.early.order.len(), EARLY);
        assert!(matches!(waiting.begin(last, 3, 10), Begun::Received(3)));
        begin(&mut waiting, &first, 4);
    }
}
