//! What sockets tell the dispatcher: the stream from hubs to dispatchers.
//!
//! Standalone carries it through memory. It is at least once towards the store, which is idempotent; when the
//! dispatcher is slower than the sockets, the hub waits, and with it the socket that sent the receipt.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{
    ids::{MessageId, Name, TenantId},
    topic::TopicKey,
};

/// Who sent a receipt, and what the session may read.
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone)]
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
    /// The reader read everything there is.
    ReadAll {
        /// Whose.
        reader: Reader,
    },
}

/// The hub's end.
#[derive(Debug, Clone)]
pub struct ReceiptSink(mpsc::Sender<Receipt>);

/// The dispatcher's end.
#[derive(Debug)]
pub struct ReceiptStream(mpsc::Receiver<Receipt>);

/// A stream through memory that holds at most `capacity` receipts.
#[must_use]
pub fn in_memory(capacity: usize) -> (ReceiptSink, ReceiptStream) {
    let (sender, receiver) = mpsc::channel(capacity);
    (ReceiptSink(sender), ReceiptStream(receiver))
}

impl ReceiptSink {
    /// Hands a receipt over, waiting while the stream is full. False when no dispatcher listens any more.
    pub async fn send(&self, receipt: Receipt) -> bool {
        self.0.send(receipt).await.is_ok()
    }

    /// Hands a receipt over if there is room. False when it was not taken.
    #[must_use]
    pub fn try_send(&self, receipt: Receipt) -> bool {
        self.0.try_send(receipt).is_ok()
    }
}

impl ReceiptStream {
    /// Takes what waits, at most `limit`, and waits for at least one. Empty when every hub has gone.
    pub async fn next_batch(&mut self, limit: usize) -> Vec<Receipt> {
        let mut batch = Vec::new();
        self.0.recv_many(&mut batch, limit).await;
        batch
    }
}
