//! A connection, as its requests see it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};

/// The connection that a request came by. In the extensions of every request. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Held>);

#[derive(Debug)]
struct Held {
    slot: Mutex<Option<OwnedSemaphorePermit>>,
    hang_up: Notify,
}

impl Connection {
    pub(super) fn new(slot: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Held {
            slot: Mutex::new(Some(slot)),
            hang_up: Notify::new(),
        }))
    }

    /// Takes the connection out of its listener's count: for an answer that lasts. Whoever gives it bounds it, and
    /// closes the connection behind it.
    pub fn leave_count(&self) {
        drop(self.0.slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether it [left the count](Self::leave_count).
    pub(super) fn has_left_count(&self) -> bool {
        self.0
            .slot
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    }

    /// Ends the connection at once, whatever is on its way: for a client that does not read.
    pub fn hang_up(&self) {
        self.0.hang_up.notify_one();
    }

    /// Until [`Self::hang_up`].
    pub(super) async fn hung_up(&self) {
        self.0.hang_up.notified().await;
    }
}
