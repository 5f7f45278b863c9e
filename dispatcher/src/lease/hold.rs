//! What this process holds: deliveries under a lease, each with the place that it takes in its channel.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use common::ids::DeliveryId;
use tokio::sync::Notify;

use super::room::{Place, Turn};
use crate::model::Micros;

/// All leases of this process; the heartbeat extends what is in here. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leases(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    held: Mutex<HashMap<DeliveryId, Held>>,
    emptied: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    token: i64,
    /// The store promises it until then.
    until: Micros,
    lost: bool,
}

impl Leases {
    /// Holds a delivery until the guard is dropped; the store promises it until `until`.
    pub(crate) fn hold(&self, id: DeliveryId, token: i64, until: Micros, place: Option<Place>) -> Lease {
        let held = Held {
            token,
            until,
            lost: false,
        };
        self.lock().insert(id, held);
        Lease {
            id,
            token,
            leases: self.clone(),
            place,
        }
    }

    /// What has to be extended.
    pub(crate) fn held(&self) -> Vec<(DeliveryId, i64)> {
        self.lock()
            .iter()
            .filter(|(_, held)| !held.lost)
            .map(|(id, held)| (*id, held.token))
            .collect()
    }

    /// The store promises it for longer.
    pub(crate) fn extended(&self, id: DeliveryId, token: i64, until: Micros) {
        if let Some(held) = self.lock().get_mut(&id).filter(|held| held.token == token) {
            held.until = held.until.max(until);
        }
    }

    /// Somebody else has it now. True when it was still held here.
    pub(crate) fn lose(&self, id: DeliveryId, token: i64) -> bool {
        let mut held = self.lock();
        let found = held.get_mut(&id).filter(|held| held.token == token);
        found.is_some_and(|held| !std::mem::replace(&mut held.lost, true))
    }

    /// Waits until nothing is held.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeliveryId, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One held delivery. It goes with the work to its end: dropped only when the settlement is stored, or when the work is
/// given up, so that the lease runs out.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: DeliveryId,
    pub(crate) token: i64,
    leases: Leases,
    place: Option<Place>,
}

impl Lease {
    /// Waits for the delivery's turn in its channel; at once where it takes no room.
    pub(crate) async fn turn(&self) -> Option<Turn> {
        match &self.place {
            Some(place) => Some(place.turn().await),
            None => None,
        }
    }

    /// Whether somebody else has it, or may have it: its time ran out and no heartbeat came through. To be asked before
    /// a provider is called.
    pub(crate) fn is_lost(&self) -> bool {
        let now = Micros::now();
        self.leases
            .lock()
            .get(&self.id)
            .is_none_or(|held| held.token != self.token || held.lost || held.until <= now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.lock();
        // A later claim of the same delivery by this process has put its own token here.
        if held.get(&self.id).is_some_and(|held| held.token == self.token) {
            held.remove(&self.id);
            if held.is_empty() {
                self.leases.0.emptied.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{
        lease::Room,
        model::{Channel, Lane},
    };

    const FAR: Micros = Micros(i64::MAX);

    #[test]
    fn a_place_is_free_again_after_the_lease() {
        let room = Room::new(vec![Channel::Email], 2, 2, 0.0);
        let leases = Leases::default();
        let id = DeliveryId::generate();
        let lease = leases.hold(id, 1, FAR, Some(room.enter(Lane::High)));
        assert_eq!(room.running(), [0, 1, 0, 0]);
        assert_eq!(leases.held(), [(id, 1)]);
        drop(lease);
        assert_eq!(room.running(), [0; Lane::COUNT]);
        assert!(leases.held().is_empty());
    }

    #[tokio::test]
    async fn critical_has_its_turn_while_others_wait() {
        let room = Room::new(vec![Channel::Email], 40, 10, 0.2);
        let leases = Leases::default();
        let hold = |lane| leases.hold(DeliveryId::generate(), 1, FAR, Some(room.enter(lane)));
        let low: Vec<_> = (0..20).map(|_| hold(Lane::Low)).collect();
        let mut turns = Vec::new();
        for lease in &low[..8] {
            turns.push(lease.turn().await);
        }
        assert!(low[8].turn().now_or_never().is_none());
        let critical = (hold(Lane::Critical), hold(Lane::Critical), hold(Lane::Critical));
        let first = critical.0.turn().now_or_never().expect("a turn is kept");
        let second = critical.1.turn().now_or_never().expect("another is kept");
        assert!(critical.2.turn().now_or_never().is_none());
        drop((first, second, turns));
        assert!(low[8].turn().now_or_never().is_some());
    }

    #[test]
    fn a_newer_claim_is_not_touched_by_the_older_ones_end() {
        let leases = Leases::default();
        let id = DeliveryId::generate();
        let old = leases.hold(id, 1, FAR, None);
        let new = leases.hold(id, 2, FAR, None);
        assert!(old.is_lost());
        assert!(!leases.lose(id, 1));
        drop(old);
        assert_eq!(leases.held(), [(id, 2)]);
        assert!(leases.lose(id, 2));
        assert!(new.is_lost());
    }

    #[test]
    fn a_lease_whose_time_ran_out_is_lost_until_it_is_extended() {
        let leases = Leases::default();
        let id = DeliveryId::generate();
        let lease = leases.hold(id, 1, Micros(0), None);
        assert!(lease.is_lost());
        leases.extended(id, 2, FAR);
        assert!(lease.is_lost(), "another claim's extension");
        leases.extended(id, 1, FAR);
        assert!(!lease.is_lost());
    }
}
