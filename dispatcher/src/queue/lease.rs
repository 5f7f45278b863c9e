//! What this process holds: deliveries under a lease, and the room they take in their channel.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::ids::DeliveryId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::shares::{LANES, reserved};
use crate::model::{Channel, Lane};

/// The room of one or several channels: so many of their deliveries are held at once, and so many of those are being
/// sent. More are held than sent where recording and settling, which go by batches, would else leave the channel idle.
#[derive(Debug)]
pub(crate) struct Room {
    /// The channels that share it.
    pub(crate) channels: Vec<Channel>,
    /// How many it holds.
    pub(crate) capacity: usize,
    running: [AtomicUsize; LANES],
    sending: Arc<Semaphore>,
    /// Those of [`Room::sending`] that are not kept for the critical lane.
    sending_others: Arc<Semaphore>,
}

impl Room {
    /// Room for `capacity` deliveries, `sending` of which are sent at once; the part `critical_reserved` of both is for
    /// the critical lane alone.
    pub(crate) fn new(
        channels: Vec<Channel>,
        capacity: usize,
        sending: usize,
        critical_reserved: f64,
    ) -> Arc<Self> {
        let others = sending - reserved(sending, critical_reserved);
        Arc::new(Self {
            channels,
            capacity,
            running: Default::default(),
            sending: Arc::new(Semaphore::new(sending)),
            sending_others: Arc::new(Semaphore::new(others)),
        })
    }

    /// How many each lane holds.
    pub(crate) fn running(&self) -> [usize; LANES] {
        std::array::from_fn(|lane| self.running[lane].load(Ordering::Acquire))
    }

    pub(crate) fn enter(self: &Arc<Self>, lane: Lane) -> Place {
        let lane = lane as usize;
        self.running[lane].fetch_add(1, Ordering::AcqRel);
        Place {
            room: Arc::clone(self),
            lane,
        }
    }
}

/// One delivery's place in a room; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    lane: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.running[self.lane].fetch_sub(1, Ordering::AcqRel);
    }
}

/// One delivery's turn to be sent; the next one's when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _sending: Option<OwnedSemaphorePermit>,
    _others: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Waits for the delivery's turn. Critical ones wait only for each other.
    async fn turn(&self) -> Turn {
        let room = &self.room;
        // Neither is ever closed, so neither fails.
        let others = match self.lane {
            0 => None,
            _ => Arc::clone(&room.sending_others).acquire_owned().await.ok(),
        };
        let sending = Arc::clone(&room.sending).acquire_owned().await.ok();
        Turn {
            _sending: sending,
            _others: others,
        }
    }
}

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
    lost: bool,
}

impl Leases {
    /// Holds a delivery until the guard is dropped.
    pub(crate) fn hold(&self, id: DeliveryId, token: i64, place: Option<Place>) -> Lease {
        self.lock().insert(id, Held { token, lost: false });
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

    /// Whether the heartbeat found that somebody else has it.
    pub(crate) fn is_lost(&self) -> bool {
        self.leases
            .lock()
            .get(&self.id)
            .is_none_or(|held| held.token != self.token || held.lost)
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

    #[test]
    fn a_place_is_free_again_after_the_lease() {
        let room = Room::new(vec![Channel::Email], 2, 2, 0.0);
        let leases = Leases::default();
        let id = DeliveryId::generate();
        let lease = leases.hold(id, 1, Some(room.enter(Lane::High)));
        assert_eq!(room.running(), [0, 1, 0, 0]);
        assert_eq!(leases.held(), [(id, 1)]);
        drop(lease);
        assert_eq!(room.running(), [0; LANES]);
        assert!(leases.held().is_empty());
    }

    #[tokio::test]
    async fn critical_has_its_turn_while_others_wait() {
        let room = Room::new(vec![Channel::Email], 40, 10, 0.2);
        let leases = Leases::default();
        let hold = |lane| leases.hold(DeliveryId::generate(), 1, Some(room.enter(lane)));
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
        let old = leases.hold(id, 1, None);
        let new = leases.hold(id, 2, None);
        assert!(old.is_lost());
        assert!(!leases.lose(id, 1));
        drop(old);
        assert_eq!(leases.held(), [(id, 2)]);
        assert!(leases.lose(id, 2));
        assert!(new.is_lost());
    }
}
