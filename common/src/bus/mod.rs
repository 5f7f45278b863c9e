//! The bus between publishers and hub nodes (the field's "broker" or "backplane").
//!
//! What every form of it promises (design section 6; `conformance` holds the cases):
//! - a node receives only topics that it subscribed to, and has subscribed when `subscribe` returns;
//! - each message with history carries the topic's epoch and the next offset, given atomically with storing it;
//! - messages of a topic arrive in order; what is lost on the way to a node can be seen by its offset and read again from
//!   history, as long as history has it, and `heads` shows a lost tail;
//! - a publish with an idempotency key gives the first result again;
//! - a publish without history takes no offset and is at most once, and so is every publish of a topic that keeps none;
//! - a last-value topic keeps one value for each `conflate` key, and who has the newest of each has all;
//! - a node that is slow loses messages, counted, and never holds up the publisher.

pub mod attendance;
#[cfg(feature = "test-util")]
pub mod conformance;
mod history;
mod limits;
mod memory;
mod redis;
mod retained;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use self::attendance::Attendance;
pub use self::{
    history::{Replay, resume},
    limits::BusLimits,
    memory::MemoryBus,
    redis::{BusMetrics, RedisBus},
};
use crate::{
    ids::MessageId,
    message::{Header, Message, Position},
    topic::TopicKey,
};

/// Something to publish on one topic.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The topic.
    pub key: TopicKey,
    /// What hubs read.
    pub header: Header,
    /// A JSON object, as clients will get it.
    pub payload: Bytes,
    /// False: at most once, without an offset; as is everything on a topic that keeps no history.
    pub history: bool,
    /// A repeat with the same key on the same topic gives the first result.
    pub idempotency_key: Option<String>,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it stands in the topic's history.
    pub position: Option<Position>,
    /// Nodes that were subscribed. A hint for statistics that decides nothing.
    pub nodes: usize,
    /// The idempotency key was known: nothing was sent again.
    pub repeated: bool,
}

/// The end of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The topic's epoch.
    pub epoch: u64,
    /// The last offset that was given; 0 before the first.
    pub offset: u64,
    /// The id of the message there.
    pub id: Option<MessageId>,
}

impl Head {
    /// The position of the last message.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            epoch: self.epoch,
            offset: self.offset,
            check: self.id.map_or(0, MessageId::check),
        }
    }
}

/// A part of a topic's history.
#[derive(Debug, Clone)]
pub struct History {
    /// The topic's end when this was read.
    pub head: Head,
    /// What history still has of the wanted part, in order.
    pub messages: Vec<Arc<Message>>,
    /// Of a last-value topic: what is missing behind this offset was superseded by what is there. None for other
    /// topics, where nothing may be missing.
    pub superseded_after: Option<u64>,
}

/// What a node gets from its subscriptions.
#[derive(Debug, Clone)]
pub enum BusEvent {
    /// A message of a subscribed topic.
    Message(Arc<Message>),
    /// So many messages found no room on the way; the topics concerned have to be compared with their heads.
    Dropped(u64),
    /// Messages may have been lost on the way, as a connection was made anew or a topic moved; likewise.
    Unsure,
}

/// Why the bus did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The bus cannot be reached or cannot promise durability now; safe to repeat by key.
    #[error("the bus is not available: {reason}")]
    Unavailable {
        /// What failed.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
}

impl BusError {
    /// Redis did not confirm a subscription, or does not say where its topic ends.
    #[must_use]
    pub fn unconfirmed() -> Self {
        Self::Unavailable {
            reason: "a subscription was not confirmed in time".to_owned(),
            retry_after: Duration::from_secs(1),
        }
    }
}

/// The bus in one of its forms.
///
/// What goes over Redis is boxed: it waits for a network anyway, and the way through memory stays small.
#[derive(Debug, Clone)]
pub enum Bus {
    /// Inside one process.
    Memory(MemoryBus),
    /// Over Redis, for nodes in several processes.
    Redis(RedisBus),
}

impl Bus {
    /// Publishes on one topic.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: nothing is known to be sent.
    pub async fn publish(&self, publication: Publication) -> Result<Published, BusError> {
        match self {
            Self::Memory(bus) => Ok(bus.publish(publication)),
            Self::Redis(bus) => Box::pin(bus.publish(&publication)).await,
        }
    }

    /// Publishes several in order, with one wait for all of them. Each has its own result.
    pub async fn publish_many(&self, publications: Vec<Publication>) -> Vec<Result<Published, BusError>> {
        match self {
            Self::Memory(bus) => publications
                .into_iter()
                .map(|publication| Ok(bus.publish(publication)))
                .collect(),
            Self::Redis(bus) => Box::pin(bus.publish_many(&publications)).await,
        }
    }

    /// Makes this process a node: a handle to subscribe with, and the events of what it subscribed to. At most
    /// `capacity` messages wait for the node; what comes beyond is dropped and counted.
    #[must_use]
    pub fn attach(&self, capacity: usize) -> (Subscriptions, BusEvents) {
        match self {
            Self::Memory(bus) => {
                let (node, events) = bus.attach(capacity);
                (
                    Subscriptions::Memory(bus.clone(), node),
                    BusEvents::Memory(events),
                )
            }
            Self::Redis(bus) => {
                let (node, events) = bus.attach(capacity);
                (Subscriptions::Redis(bus.clone(), node), BusEvents::Redis(events))
            }
        }
    }

    /// The ends of topics, in the order asked; none for a topic of which it cannot be known now.
    pub async fn heads(&self, keys: &[TopicKey]) -> Vec<Option<Head>> {
        match self {
            Self::Memory(bus) => keys.iter().map(|key| Some(bus.head(key))).collect(),
            Self::Redis(bus) => Box::pin(bus.heads(keys)).await,
        }
    }

    /// What history has of a topic after an offset, at most `limit` messages.
    ///
    /// # Errors
    /// [`BusError::Unavailable`].
    pub async fn history(&self, key: &TopicKey, after: u64, limit: usize) -> Result<History, BusError> {
        match self {
            Self::Memory(bus) => Ok(bus.history(key, after, limit)),
            Self::Redis(bus) => Box::pin(bus.history(key, after, limit)).await,
        }
    }

    /// Begins a new epoch of a topic whose end was lost: what was read of it stood at `old`, which is not there any more.
    /// Offsets go on rising, history begins anew. Where the epoch has changed already, or `old` is there after all, nothing
    /// is done; the answer is where the topic stands then.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: it may have been done.
    pub async fn renew(&self, key: &TopicKey, old: Head) -> Result<Head, BusError> {
        match self {
            Self::Memory(bus) => Ok(bus.renew(key, old)),
            Self::Redis(bus) => Box::pin(bus.renew(key, old)).await,
        }
    }

    /// The table of users that topics with presence have, shared by all nodes of the bus.
    #[must_use]
    pub fn attendance(&self) -> Attendance {
        match self {
            Self::Memory(bus) => Attendance::Memory(bus.attendance()),
            Self::Redis(bus) => Attendance::Redis(bus.clone()),
        }
    }

    /// Whether [`Published::nodes`] counts every node that is subscribed. It does not where nodes subscribe elsewhere than at
    /// the server that is published to.
    #[must_use]
    pub fn counts_receivers(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(bus) => bus.counts_receivers(),
        }
    }

    /// Whether the bus can do its work now.
    #[must_use]
    pub fn ready(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(bus) => bus.ready(),
        }
    }
}

/// A node's handle to its subscriptions.
#[derive(Debug, Clone)]
pub enum Subscriptions {
    /// On the bus inside this process.
    Memory(MemoryBus, memory::NodeIndex),
    /// Over Redis.
    Redis(RedisBus, redis::RedisNode),
}

impl Subscriptions {
    /// Subscribes; when this returns, every later message of the topics reaches the node. Answers their ends at that
    /// moment, in order.
    ///
    /// # Errors
    /// [`BusError::Unavailable`]: at least one of the topics is not subscribed.
    pub async fn subscribe(&self, keys: &[TopicKey]) -> Result<Vec<Head>, BusError> {
        let heads = self.subscribe_each(keys).await;
        if heads.iter().all(Option::is_some) {
            return Ok(heads.into_iter().flatten().collect());
        }
        Err(BusError::unconfirmed())
    }

    /// As [`Subscriptions::subscribe`], each topic for itself: none for one that is not subscribed.
    pub async fn subscribe_each(&self, keys: &[TopicKey]) -> Vec<Option<Head>> {
        match self {
            Self::Memory(bus, node) => keys.iter().map(|key| Some(bus.subscribe(*node, key))).collect(),
            Self::Redis(bus, node) => Box::pin(bus.subscribe(node, keys)).await,
        }
    }

    /// Ends subscriptions; messages on the way may still arrive.
    pub async fn unsubscribe(&self, keys: &[TopicKey]) {
        match self {
            Self::Memory(bus, node) => keys.iter().for_each(|key| bus.unsubscribe(*node, key)),
            Self::Redis(_, node) => Box::pin(node.unsubscribe(keys)).await,
        }
    }
}

impl Subscriptions {
    /// Messages that have arrived in this process and that the node has not taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        match self {
            Self::Memory(bus, node) => bus.waiting(*node),
            Self::Redis(_, node) => node.waiting(),
        }
    }
}

/// A node's events.
#[derive(Debug)]
pub enum BusEvents {
    /// From the bus inside this process.
    Memory(memory::NodeEvents),
    /// From Redis.
    Redis(redis::RedisEvents),
}

impl BusEvents {
    /// Takes what waits, at most `limit` events, and waits for at least one. Empty when the bus has ended.
    pub async fn next_batch(&mut self, batch: &mut Vec<BusEvent>, limit: usize) -> usize {
        match self {
            Self::Memory(events) => events.next_batch(batch, limit).await,
            Self::Redis(events) => events.next_batch(batch, limit).await,
        }
    }
}
