//! From the listeners to the node: a bounded queue that never holds a listener up.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use crate::{bus::BusEvent, message::Message};

/// What happened that is no message.
#[derive(Debug, Default)]
struct Told {
    dropped: AtomicU64,
    unsure: AtomicBool,
}

/// The listeners' end.
#[derive(Debug, Clone)]
pub(super) struct EventSender {
    /// None says that something is told beside the queue.
    queue: mpsc::Sender<Option<Arc<Message>>>,
    told: Arc<Told>,
}

/// The node's end.
#[derive(Debug)]
pub struct RedisEvents {
    queue: mpsc::Receiver<Option<Arc<Message>>>,
    told: Arc<Told>,
    buffer: Vec<Option<Arc<Message>>>,
}

/// A queue for so many messages.
pub(super) fn events(capacity: usize) -> (EventSender, RedisEvents) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let told = Arc::new(Told::default());
    let sender = EventSender {
        queue: sender,
        told: Arc::clone(&told),
    };
    let events = RedisEvents {
        queue: receiver,
        told,
        buffer: Vec::new(),
    };
    (sender, events)
}

impl EventSender {
    /// Hands a message over. False when it found no room, which the node is told.
    pub(super) fn message(&self, message: Arc<Message>) -> bool {
        let taken = self.queue.try_send(Some(message)).is_ok();
        if !taken {
            self.told.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Messages may have been lost before they came here.
    pub(super) fn unsure(&self) {
        self.told.unsure.store(true, Ordering::Release);
        // In a full queue there is something that wakes the node anyway.
        drop(self.queue.try_send(None));
    }

    /// Messages that the node has not taken.
    pub(super) fn waiting(&self) -> usize {
        self.queue.max_capacity().saturating_sub(self.queue.capacity())
    }
}

impl RedisEvents {
    pub(in crate::bus) async fn next_batch(&mut self, batch: &mut Vec<BusEvent>, limit: usize) -> usize {
        let taken = self.queue.recv_many(&mut self.buffer, limit).await;
        batch.extend(self.buffer.drain(..).flatten().map(BusEvent::Message));
        // Read after the messages were taken: what was dropped came behind some of them.
        let dropped = self.told.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            batch.push(BusEvent::Dropped(dropped));
        }
        if self.told.unsure.swap(false, Ordering::AcqRel) {
            batch.push(BusEvent::Unsure);
        }
        taken
    }
}
