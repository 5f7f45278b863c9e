//! Receipts within one process.

use tokio::{sync::mpsc, time::timeout};

use super::{Batch, PATIENCE, Receipt, ReceiptSink, ReceiptStream};

/// The hub's end.
#[derive(Debug, Clone)]
pub struct Sink(mpsc::Sender<Receipt>);

/// The dispatcher's end.
#[derive(Debug)]
pub struct Stream {
    receipts: mpsc::Receiver<Receipt>,
    again: Option<Batch>,
}

/// A stream through memory that holds at most `capacity` receipts.
#[must_use]
pub fn in_memory(capacity: usize) -> (ReceiptSink, ReceiptStream) {
    let (sender, receipts) = mpsc::channel(capacity);
    let stream = Stream {
        receipts,
        again: None,
    };
    (ReceiptSink::Memory(Sink(sender)), ReceiptStream::Memory(stream))
}

impl Sink {
    pub(super) async fn send(&self, receipt: Receipt) -> bool {
        timeout(PATIENCE, self.0.send(receipt))
            .await
            .is_ok_and(|taken| taken.is_ok())
    }

    pub(super) fn try_send(&self, receipt: Receipt) -> bool {
        self.0.try_send(receipt).is_ok()
    }
}

impl Stream {
    pub(super) async fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        if let Some(batch) = self.again.take() {
            return Some(batch);
        }
        let mut batch = Batch::default();
        let taken = self.receipts.recv_many(&mut batch.receipts, limit).await;
        (taken > 0).then_some(batch)
    }

    pub(super) fn give_back(&mut self, batch: Batch) {
        self.again = Some(batch);
    }

    pub(super) fn close(&mut self) {
        self.receipts.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipts::conformance::{self, receipt};

    #[tokio::test]
    async fn conforms() {
        conformance::run(async || in_memory(4096)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_waits_for_a_time() {
        let (sink, mut stream) = in_memory(1);
        assert!(sink.try_send(receipt()));
        assert!(!sink.try_send(receipt()));
        let began = tokio::time::Instant::now();
        assert!(!sink.send(receipt()).await);
        assert_eq!(began.elapsed(), PATIENCE);

        let late = {
            let sink = sink.clone();
            tokio::spawn(async move { sink.send(receipt()).await })
        };
        assert_eq!(stream.next_batch(10).await.unwrap().receipts.len(), 1);
        assert!(late.await.unwrap());
    }

    #[tokio::test]
    async fn without_a_dispatcher_nothing_is_taken() {
        let (sink, stream) = in_memory(8);
        drop(stream);
        assert!(!sink.send(receipt()).await);
        assert!(!sink.try_send(receipt()));
    }
}
