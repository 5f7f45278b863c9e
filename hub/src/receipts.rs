//! What this node reports to the dispatcher: of sockets, which wait, and of workers, which never do.

use std::{sync::Arc, time::Duration};

use common::receipts::{Receipt, ReceiptSink};
use prometheus_client::metrics::counter::Counter;
use tokio::{sync::Semaphore, time::Instant};

/// Receipts of workers that may wait for room in the stream.
const WAITING: u32 = 8192;

/// The node's end of the stream of receipts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Receipts {
    sink: ReceiptSink,
    waiting: Arc<Semaphore>,
    dropped: Counter,
}

impl Receipts {
    pub(crate) fn new(sink: ReceiptSink, dropped: Counter) -> Self {
        Self {
            sink,
            waiting: Arc::new(Semaphore::new(WAITING as usize)),
            dropped,
        }
    }

    /// Hands a receipt on and waits for room, but not for ever: the heartbeats of a socket that waits wait with it. False
    /// when it was not taken.
    pub(crate) async fn wait(&self, receipt: Receipt) -> bool {
        let taken = self.sink.send(receipt).await;
        if !taken {
            self.dropped.inc();
        }
        taken
    }

    /// Hands a receipt on without waiting here.
    pub(crate) fn hand_on(&self, receipt: Receipt) {
        if self.sink.try_send(receipt.clone()) {
            return;
        }
        match Arc::clone(&self.waiting).try_acquire_owned() {
            Ok(permit) => {
                let receipts = self.clone();
                drop(tokio::spawn(async move {
                    receipts.wait(receipt).await;
                    drop(permit);
                }));
            }
            // The dispatcher has been away for long; what it does not hear of is tried again by its own rules.
            Err(_) => drop(self.dropped.inc()),
        }
    }

    /// Waits until what was handed on has left this process, at most until the deadline.
    pub(crate) async fn flush(&self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        // The last of those that wait gives the last permit back.
        let handed_on = tokio::time::timeout_at(deadline, self.waiting.acquire_many(WAITING)).await;
        if handed_on.is_err() || !self.sink.flush(left().max(Duration::from_millis(1))).await {
            tracing::warn!("the last receipts of this hub may be lost: they could not be written in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use common::receipts::{conformance::receipt, in_memory};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_waits_aside_and_is_counted_when_that_is_in_vain() {
        let (sink, mut stream) = in_memory(1);
        let receipts = Receipts::new(sink, Counter::default());
        (0..3).for_each(|_| receipts.hand_on(receipt()));
        for _ in 0..2 {
            let batch = stream.next_batch(1).await.unwrap();
            assert_eq!(batch.receipts.len(), 1);
            stream.done(batch).await;
        }
        receipts.flush(Instant::now() + Duration::from_secs(1)).await;
        assert_eq!(receipts.dropped.get(), 0);

        // The third is in the stream; for these there is no room.
        receipts.hand_on(receipt());
        assert!(!receipts.wait(receipt()).await);
        receipts.flush(Instant::now() + Duration::from_secs(60)).await;
        assert_eq!(receipts.dropped.get(), 2);
    }
}
