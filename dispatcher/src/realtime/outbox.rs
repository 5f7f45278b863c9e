//! What waits for the bus: frames in the order of their commits, and hints between them. One task hands over what has gathered,
//! and waits once for all of it; so a bus that is slow or away keeps back no answer of the API, and one that is far away takes
//! more at a time.

use std::time::Duration;

use common::{
    bus::{BusError, Publication, Published},
    ids::MessageId,
    topic::TopicKey,
};
use tokio::sync::mpsc;

use super::{Outgoing, Realtime, Sent, waiting::Begun};
use crate::{fail_point, model::DeliveryState};

/// Messages that may wait. Frames beyond are left to the queue, hints are dropped.
const CAPACITY: usize = 8192;

/// Messages that are handed over together at the most.
const TOGETHER: usize = 256;

/// When the queue tries what found no room.
const PAUSE: Duration = Duration::from_secs(1);

/// One message, and the deliveries that it settles.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) message: Outgoing,
    pub(super) deliveries: Vec<(Sent, Option<TopicKey>)>,
}

/// What waits.
#[derive(Debug)]
pub(super) enum Waiter {
    Frames(Ready),
    /// At most once.
    Hint(Box<Publication>),
}

/// Where messages are put.
#[derive(Debug)]
pub(super) struct Outbox(mpsc::Sender<Waiter>);

/// The other end, for [`Realtime::publish_waiting`].
#[derive(Debug)]
pub(crate) struct Waiters(mpsc::Receiver<Waiter>);

pub(super) fn new() -> (Outbox, Waiters) {
    let (sender, receiver) = mpsc::channel(CAPACITY);
    (Outbox(sender), Waiters(receiver))
}

/// What is said of frames that found no room.
pub(super) fn full() -> BusError {
    BusError::Unavailable {
        reason: "too many frames wait for it".to_owned(),
        retry_after: PAUSE,
    }
}

impl Outbox {
    /// Gives back what finds no room.
    pub(super) fn put(&self, waiter: Waiter) -> Result<(), Waiter> {
        self.0
            .try_send(waiter)
            .map_err(mpsc::error::TrySendError::into_inner)
    }
}

/// What the results of the bus decide, in the order of the publications.
enum Pending {
    Hint,
    Frames(Pledged),
}

/// A message at the bus, and its deliveries but those that wait for a receipt.
struct Pledged {
    id: MessageId,
    keys: Vec<TopicKey>,
    /// Delivered when the bus took all of it.
    groups: Vec<Sent>,
    /// Of single users that have it from an attempt before.
    received: Vec<Sent>,
    /// Of single users, for whose receipts nobody waits, as too many do.
    overflow: Vec<Sent>,
}

impl Realtime {
    /// Hands what waits to the bus. Runs until it is killed.
    pub(crate) async fn publish_waiting(self, mut waiters: Waiters) {
        let mut batch = Vec::with_capacity(TOGETHER);
        while waiters.0.recv_many(&mut batch, TOGETHER).await > 0 {
            self.publish(batch.drain(..)).await;
        }
    }

    /// Publishes messages together and in order, and settles what needs no receipt.
    pub(super) async fn publish(&self, messages: impl IntoIterator<Item = Waiter>) {
        let mut publications = Vec::new();
        let pending: Vec<_> = messages
            .into_iter()
            .map(|message| self.laid_out(message, &mut publications))
            .collect();
        let mut results = self.0.bus.publish_many(publications).await.into_iter();
        fail_point::reached("realtime", "after_publish");
        for pending in pending {
            match pending {
                Pending::Hint => {
                    if let Some(Err(error)) = results.next() {
                        tracing::debug!(%error, "a hint is not on the bus");
                    }
                }
                Pending::Frames(pledged) => self.settle_by(pledged, &mut results).await,
            }
        }
    }

    fn laid_out(&self, message: Waiter, publications: &mut Vec<Publication>) -> Pending {
        let Ready { message, deliveries } = match message {
            Waiter::Frames(ready) => ready,
            Waiter::Hint(hint) => {
                publications.push(*hint);
                return Pending::Hint;
            }
        };
        // Whoever waits for a receipt waits before the frame goes out: a hub in this process may answer at once.
        let keys = message.publications.iter().map(|one| one.key.clone()).collect();
        let mut pledged = Pledged {
            id: message.id,
            keys,
            groups: Vec::new(),
            received: Vec::new(),
            overflow: Vec::new(),
        };
        for (delivery, key) in deliveries {
            let Some(key) = key else {
                pledged.groups.push(delivery);
                continue;
            };
            let max = self.0.config.waiting_max;
            match self.lock().begin((message.id, key), delivery, max) {
                Begun::Waits => {}
                Begun::Received(sent) => pledged.received.push(sent),
                Begun::Full(sent) => pledged.overflow.push(sent),
            }
        }
        publications.extend(message.publications);
        Pending::Frames(pledged)
    }

    /// Settles by what the bus answered for each topic. How many nodes it counted decides nothing: a cluster counts those at one
    /// server, a nearby replica's none, and a repeat is answered with the count of the first time.
    async fn settle_by(
        &self,
        pledged: Pledged,
        results: &mut impl Iterator<Item = Result<Published, BusError>>,
    ) {
        let Pledged {
            id,
            keys,
            groups,
            received,
            overflow,
        } = pledged;
        let mut refused = None;
        for (key, result) in keys.into_iter().zip(results) {
            let Err(error) = result else {
                self.await_receipt(id, key);
                continue;
            };
            let sent = self.lock().refused(&(id, key));
            if let Some(sent) = sent {
                self.refused(sent, &error).await;
            }
            refused = Some(error);
        }
        for sent in received {
            self.settle(sent, DeliveryState::Delivered, None, None, Some("delivered"))
                .await;
        }
        for sent in groups {
            match &refused {
                None => {
                    self.settle(sent, DeliveryState::Delivered, None, None, Some("delivered"))
                        .await;
                }
                Some(error) => self.refused(sent, error).await,
            }
        }
        for sent in overflow {
            self.settle(
                sent,
                DeliveryState::Skipped,
                None,
                Some("not_awaited"),
                Some("skipped"),
            )
            .await;
        }
    }

    /// Leaves every delivery of a message to the queue.
    pub(super) async fn refuse_all(&self, ready: Ready, error: &BusError) {
        for (sent, _) in ready.deliveries {
            self.refused(sent, error).await;
        }
    }
}
