//! What sockets tell the dispatcher: the stream from hubs to dispatchers.
//!
//! What every form of it promises (`conformance` holds the cases):
//! - what the stream has taken is handed out at least once, also when a dispatcher ends between taking a batch and
//!   [`ReceiptStream::done`]; the store is idempotent, so that a repeat changes nothing;
//! - what a hub sends arrives in that order, but for repeats;
//! - the hub's end holds a bounded number: when the dispatcher, or what lies between, is slower than the sockets, the hub
//!   waits, and with it the socket that sent the receipt, for at most [`PATIENCE`].
//!
//! Standalone carries it through memory ([`in_memory`]), where both ends go down together. A cluster carries it through a
//! stream in Redis ([`redis_sink`], [`redis_stream`]), which several dispatchers share.

#[cfg(feature = "test-util")]
pub mod conformance;
mod memory;
mod redis;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    memory::in_memory,
    redis::{redis_sink, redis_stream},
};
use crate::{
    audit::AuditEntry,
    credential::KeyUse,
    ids::{MessageId, Name, TenantId},
    topic::TopicKey,
};

/// How long a sender waits for room: less than two heartbeats, as the socket that waits does not read meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Who sent a receipt, and what the session may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reader {
    /// The tenant of the token.
    pub tenant: TenantId,
    /// The user of the token.
    pub user: Name,
    /// The session, as in its `welcome`.
    pub session: Arc<str>,
    /// The keys of the token: user, roles, stores, tenant, everyone.
    pub keys: Arc<[TopicKey]>,
}

/// One thing that a hub reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Receipt {
    /// A session of the user began: its keys count from now, where they are new.
    Seen {
        /// Whose session.
        reader: Reader,
    },
    /// The hub handed the message to a socket of its single user.
    Written {
        /// The user's topic.
        key: TopicKey,
        /// Which message.
        id: MessageId,
    },
    /// A client has the messages.
    Delivered {
        /// Whose.
        reader: Reader,
        /// Which messages.
        ids: Vec<MessageId>,
    },
    /// The reader read these.
    Read {
        /// Whose.
        reader: Reader,
        /// Which notifications.
        ids: Vec<MessageId>,
    },
    /// The reader read everything there was.
    ReadAll {
        /// Whose.
        reader: Reader,
        /// When it was said, in Unix milliseconds: what comes later stays unread, also when this is handed out late or
        /// twice.
        at_ms: i64,
    },
    /// An operator did something to sessions of this node or of all: it is to be put on record.
    Audit {
        /// What, and who.
        entry: Box<AuditEntry>,
    },
    /// An API key was used at a hub.
    KeyUsed(KeyUse),
}

impl Receipt {
    /// The reader read everything that there is now.
    #[must_use]
    pub fn read_all(reader: Reader) -> Self {
        let at_ms = jiff::Timestamp::now().as_millisecond();
        Self::ReadAll { reader, at_ms }
    }
}

/// Receipts that were taken from the stream together, in order. They count as handed out until [`ReceiptStream::done`].
#[derive(Debug, Default)]
pub struct Batch {
    /// What hubs reported.
    pub receipts: Vec<Receipt>,
    /// The entries of the stream that hold them.
    entries: Vec<redis::EntryId>,
}

/// The hub's end. Cheap to clone.
#[derive(Debug, Clone)]
pub enum ReceiptSink {
    /// To a dispatcher in this process.
    Memory(memory::Sink),
    /// To the stream in Redis.
    Redis(redis::Sink),
}

impl ReceiptSink {
    /// Hands a receipt over, waiting while there is no room. False when there was none within [`PATIENCE`], or nobody
    /// listens any more: it was not taken.
    pub async fn send(&self, receipt: Receipt) -> bool {
        match self {
            Self::Memory(sink) => sink.send(receipt).await,
            Self::Redis(sink) => sink.send(receipt).await,
        }
    }

    /// Hands a receipt over if there is room. False when it was not taken.
    #[must_use]
    pub fn try_send(&self, receipt: Receipt) -> bool {
        match self {
            Self::Memory(sink) => sink.try_send(receipt),
            Self::Redis(sink) => sink.try_send(receipt),
        }
    }

    /// Waits until what was handed over before no longer depends on this end, for at most `within`. Whether it came to
    /// that. Before a hub ends.
    pub async fn flush(&self, within: Duration) -> bool {
        match self {
            // The dispatcher in the same process takes it when it stops.
            Self::Memory(_) => true,
            Self::Redis(sink) => sink.flush(within).await,
        }
    }
}

/// The dispatcher's end.
#[derive(Debug)]
pub enum ReceiptStream {
    /// From the hub in this process.
    Memory(memory::Stream),
    /// From the stream in Redis.
    Redis(redis::Stream),
}

impl ReceiptStream {
    /// Takes what waits, at most `limit` (at least 1; but a whole entry of the stream at least), and waits for at least one.
    /// None when no more will come. Cancelling it loses nothing.
    ///
    /// One batch is out at a time: each goes back by [`Self::done`] or [`Self::give_back`] before the next is taken.
    pub async fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        match self {
            Self::Memory(stream) => stream.next_batch(limit).await,
            Self::Redis(stream) => stream.next_batch(limit).await,
        }
    }

    /// What the batch says is committed: it is not handed out again, unless that cannot be said to Redis.
    pub async fn done(&mut self, batch: Batch) {
        match self {
            Self::Memory(_) => drop(batch),
            Self::Redis(stream) => stream.done(batch).await,
        }
    }

    /// The batch is not committed; it comes again, before all others.
    pub fn give_back(&mut self, batch: Batch) {
        match self {
            Self::Memory(stream) => stream.give_back(batch),
            Self::Redis(stream) => stream.give_back(batch),
        }
    }

    /// Nothing more is taken in; what was taken in is still handed out, and then None.
    pub fn close(&mut self) {
        match self {
            Self::Memory(stream) => stream.close(),
            Self::Redis(stream) => stream.close(),
        }
    }
}
