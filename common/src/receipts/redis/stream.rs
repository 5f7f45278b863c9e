//! A dispatcher's end: what was read is handed out, and acknowledged when it is stored.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use fred::{
    clients::Client,
    interfaces::{ClientLike, LuaInterface},
};
use tokio::{sync::mpsc, task::AbortHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    AGAIN, GROUP, chance, key,
    metrics::StreamMetrics,
    reading::{Held, Reading},
    reply::Entry,
};
use crate::{
    receipts::Batch,
    redis::{RedisConfig, keep_connected},
};

/// Acknowledges and deletes in one step, so that an entry is in the stream for as long as it is not stored.
const DONE: &str = "redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 2))
return redis.call('XDEL', KEYS[1], unpack(ARGV, 2))";

/// Times that an acknowledgement is tried. Without it the entries come again after a while, which changes nothing.
const TRIES: u32 = 3;

/// The dispatcher's end.
#[derive(Debug)]
pub struct Stream {
    client: Client,
    key: String,
    again: Option<Batch>,
    ready: VecDeque<Entry>,
    entries: mpsc::Receiver<Vec<Entry>>,
    held: Held,
    stop: CancellationToken,
    connection: AbortHandle,
}

/// Starts to read. `blocking` is the client of which a connection waits for entries.
pub(super) fn start(
    client: Client,
    blocking: Client,
    config: &RedisConfig,
    consumer: &str,
    metrics: StreamMetrics,
) -> Stream {
    let connection = keep_connected(&client);
    let (sender, entries) = mpsc::channel(1);
    let held = Arc::new(Mutex::new(std::collections::HashSet::new()));
    let stop = CancellationToken::new();
    let reading = Reading::new(blocking, config, consumer, Arc::clone(&held), metrics);
    tokio::spawn(reading.run(sender, stop.clone()));
    Stream {
        client,
        key: key(config),
        again: None,
        ready: VecDeque::new(),
        entries,
        held,
        stop,
        connection,
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Stream {
    pub(in crate::receipts) async fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        if let Some(batch) = self.again.take() {
            return Some(batch);
        }
        while self.ready.is_empty() {
            self.ready.extend(self.entries.recv().await?);
        }
        if let Ok(more) = self.entries.try_recv() {
            self.ready.extend(more);
        }
        let mut batch = Batch::default();
        while let Some(entry) = self.ready.pop_front() {
            let whole = batch.receipts.len() + entry.receipts.len();
            if whole > limit && !batch.entries.is_empty() {
                self.ready.push_front(entry);
                break;
            }
            batch.receipts.extend(entry.receipts);
            batch.entries.push(entry.id);
        }
        Some(batch)
    }

    pub(in crate::receipts) async fn done(&mut self, batch: Batch) {
        let mut words = Vec::with_capacity(batch.entries.len() + 1);
        words.push(GROUP);
        words.extend(batch.entries.iter().map(super::EntryId::as_str));
        for attempt in 1..=TRIES {
            let said: Result<(), _> = self.client.eval(DONE, self.key.as_str(), words.clone()).await;
            let Err(error) = said else { break };
            if attempt == TRIES {
                tracing::warn!(%error, "stored receipts could not be acknowledged; they come again");
                break;
            }
            if super::is_replica(&error)
                && let Err(error) = self.client.force_reconnection().await
            {
                tracing::debug!(%error, "the connection for acknowledgements was not made anew");
            }
            sleep(AGAIN.delay(attempt, chance())).await;
        }
        let mut held = self
            .held
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        held.retain(|id| !batch.entries.contains(id));
    }

    pub(in crate::receipts) fn give_back(&mut self, batch: Batch) {
        self.again = Some(batch);
    }

    pub(in crate::receipts) fn close(&mut self) {
        self.stop.cancel();
    }
}
