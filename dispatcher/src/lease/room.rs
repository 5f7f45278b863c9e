//! The room of a channel: how many deliveries it holds, and how many of those are being sent.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::ids::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::{Channel, Lane};

const LANES: usize = Lane::COUNT;

/// How many of `capacity` places are for the critical lane alone. One place cannot be kept free and used.
pub(crate) fn reserved(capacity: usize, part: f64) -> usize {
    let places = (capacity as f64 * part).ceil() as usize;
    places.min(capacity.saturating_sub(1))
}

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
            seat: None,
        }
    }
}

/// One delivery's place in a room; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    lane: usize,
    /// Held for its end alone.
    seat: Option<Seat>,
}

/// How many deliveries are held of each tenant, over all channels. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenants(Arc<Mutex<HashMap<TenantId, usize>>>);

impl Tenants {
    /// Counts one of the tenant until the seat is dropped.
    pub(crate) fn enter(&self, tenant: &TenantId) -> Seat {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held.entry(tenant.clone()).or_default() += 1;
        Seat {
            tenants: self.clone(),
            tenant: tenant.clone(),
        }
    }

    /// Of whom how many are held.
    pub(crate) fn held(&self) -> HashMap<TenantId, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One delivery of a tenant that is held.
#[derive(Debug)]
pub(crate) struct Seat {
    tenants: Tenants,
    tenant: TenantId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.tenants.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.tenant);
            }
        }
    }
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
    /// The same, counted for its tenant too.
    pub(crate) fn seated(mut self, seat: Seat) -> Self {
        self.seat.replace(seat);
        self
    }

    /// Waits for the delivery's turn. Critical ones wait only for each other.
    pub(super) async fn turn(&self) -> Turn {
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
