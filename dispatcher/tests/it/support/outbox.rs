//! Emails that wait until the test ends them.

use std::{collections::HashMap, time::Duration};

use common::ids::DeliveryId;
use dispatcher::{
    channels::{Channels, MemoryChannel, Sent},
    model::{Channel, Claimed, Outcome},
};
use tokio::{sync::mpsc, time::timeout};

use super::soon;

/// The emails of one dispatcher, in the order in which it sends them.
pub(crate) struct Outbox(mpsc::Receiver<Sent>);

impl Outbox {
    /// The channels of a dispatcher that sends `room` emails at once, and nothing else.
    pub(super) fn new(room: usize) -> (Channels, Self) {
        let (channel, sent) = MemoryChannel::new(room);
        (Channels::in_memory([(Channel::Email, channel)]), Self(sent))
    }

    /// The next email, which is on the way until it is ended.
    pub(crate) async fn next(&mut self, what: &str) -> Sent {
        soon(what, self.0.recv()).await.expect("the dispatcher runs")
    }

    /// So many emails, all of them on the way.
    pub(crate) async fn hold(&mut self, count: usize) -> Vec<Sent> {
        let mut held = Vec::with_capacity(count);
        while held.len() < count {
            held.push(self.next("one of several emails").await);
        }
        held
    }

    /// Ends the next email as delivered.
    pub(crate) async fn deliver(&mut self) -> Claimed {
        self.next("an email").await.end(Outcome::Delivered)
    }

    /// Ends all emails as delivered until the dispatcher is gone; how often each of them came.
    pub(crate) async fn deliver_all(mut self) -> HashMap<DeliveryId, usize> {
        let mut seen = HashMap::new();
        while let Some(one) = self.0.recv().await {
            *seen.entry(one.end(Outcome::Delivered).id).or_default() += 1;
        }
        seen
    }

    /// No email has come that was not taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// No email comes for so long.
    pub(crate) async fn stays_empty(&mut self, time: Duration) -> bool {
        timeout(time, self.0.recv()).await.is_err()
    }
}
