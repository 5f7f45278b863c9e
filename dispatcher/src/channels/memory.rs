//! A channel in memory: tests see each delivery and decide its end.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{Capacity, Report};
use crate::{
    model::{Claimed, Outcome},
    store::OnUnknown,
};

/// A channel whose other end is a test.
#[derive(Debug)]
pub struct MemoryChannel {
    capacity: usize,
    on_unknown: OnUnknown,
    /// None: everything is delivered at once.
    sender: Option<Mutex<mpsc::Sender<Sent>>>,
}

/// One attempt that waits for its end.
#[derive(Debug)]
pub struct Sent {
    /// What was sent.
    pub delivery: Claimed,
    end: oneshot::Sender<Report>,
}

impl Sent {
    /// Ends the attempt.
    pub fn end(self, outcome: Outcome) -> Claimed {
        // A worker that was dropped in between waits for nothing.
        drop(self.end.send(outcome.into()));
        self.delivery
    }
}

impl MemoryChannel {
    /// A channel that takes `capacity` deliveries at once, and what it is given.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Sent>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (
            Self {
                capacity,
                on_unknown: OnUnknown::Resend,
                sender: Some(Mutex::new(sender)),
            },
            receiver,
        )
    }

    /// A channel that delivers everything at once.
    #[must_use]
    pub fn accepting(capacity: usize) -> Self {
        Self {
            capacity,
            on_unknown: OnUnknown::Resend,
            sender: None,
        }
    }

    /// Does not send again what may have gone out.
    #[must_use]
    pub fn holding_unknown(mut self) -> Self {
        self.on_unknown = OnUnknown::Hold;
        self
    }

    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            held: self.capacity,
            sending: self.capacity,
        }
    }

    pub(crate) fn on_unknown(&self) -> OnUnknown {
        self.on_unknown
    }

    pub(crate) async fn send(&self, delivery: &Claimed) -> Report {
        let Some(sender) = &self.sender else {
            return Outcome::Delivered.into();
        };
        let sender = sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (end, ended) = oneshot::channel();
        if sender
            .send(Sent {
                delivery: delivery.clone(),
                end,
            })
            .await
            .is_err()
        {
            return Outcome::Retry.into();
        }
        ended.await.unwrap_or_else(|_| Outcome::Unknown.into())
    }
}
