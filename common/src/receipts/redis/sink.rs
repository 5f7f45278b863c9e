//! A hub's end: receipts wait in memory, and one task appends them.

use std::time::Duration;

use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientLike, KeysInterface, StreamsInterface},
    types::{
        CustomCommand, Value,
        streams::{XCapKind, XCapTrim},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    AGAIN, chance, dropped_key,
    entry::{Entries, FIELDS, MAX_RECEIPTS, VERSION},
    is_replica, key,
    metrics::SinkMetrics,
};
use crate::{
    receipts::{PATIENCE, Receipt},
    redis::{RedisConfig, keep_connected},
};

/// Receipts that are appended together.
const ROUND: usize = 4 * MAX_RECEIPTS;

/// From one round to the next, unless it is full: at its cost, an entry should hold what comes meanwhile. What comes after
/// a longer silence goes at once.
const PACE: Duration = Duration::from_millis(20);

/// The same while the stream is long: nobody reads soon then, and fuller entries let the stream hold more.
const SLOW_PACE: Duration = Duration::from_millis(250);

/// Entries in the stream from which on it is long.
const LONG: i64 = 64;

/// Tries after all senders have gone; a hub that wants more waits in [`Sink::flush`].
const LAST_TRIES: u32 = 3;

/// Entries that were dropped are logged at most so often.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The hub's end.
#[derive(Debug, Clone)]
pub struct Sink(mpsc::Sender<Order>);

/// What the writer is asked.
#[derive(Debug)]
enum Order {
    Receipt(Receipt),
    /// To be answered when everything before it is written.
    Flush(oneshot::Sender<()>),
}

impl Sink {
    pub(in crate::receipts) async fn send(&self, receipt: Receipt) -> bool {
        timeout(PATIENCE, self.0.send(Order::Receipt(receipt)))
            .await
            .is_ok_and(|taken| taken.is_ok())
    }

    pub(in crate::receipts) fn try_send(&self, receipt: Receipt) -> bool {
        self.0.try_send(Order::Receipt(receipt)).is_ok()
    }

    pub(in crate::receipts) async fn flush(&self, within: Duration) -> bool {
        let (done, written) = oneshot::channel();
        let flushed = async { self.0.send(Order::Flush(done)).await.is_ok() && written.await.is_ok() };
        timeout(within, flushed).await.unwrap_or(false)
    }
}

/// Why entries are not known to be written.
#[derive(Debug, thiserror::Error)]
enum AppendError {
    #[error("{0}")]
    Redis(#[from] Error),
    #[error("no more than {0} replicas have them")]
    Replicas(i64),
}

struct Writer {
    client: Client,
    key: String,
    /// Entries that the stream may hold.
    max: u32,
    replicas: u8,
    replica_wait: Duration,
    orders: mpsc::Receiver<Order>,
    /// Entries in the stream when something was appended last.
    length: i64,
    appended_at: Instant,
    dropped_unsaid: u64,
    said: Option<Instant>,
    metrics: SinkMetrics,
}

/// What is appended together, and who waits for it.
#[derive(Default)]
struct Round {
    entries: Entries,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Round {
    fn take(&mut self, order: Order) {
        match order {
            Order::Receipt(receipt) => self.entries.push(&receipt),
            Order::Flush(done) => self.flushes.push(done),
        }
    }

    fn room(&self) -> usize {
        ROUND.saturating_sub(self.entries.receipts())
    }
}

/// Starts the writer.
pub(super) fn start(client: Client, config: &RedisConfig, metrics: SinkMetrics) -> Sink {
    let (sender, orders) = mpsc::channel(config.receipts_queue);
    let writer = Writer {
        client,
        key: key(config),
        max: config.receipts_max,
        replicas: config.replicas(),
        // Its answer has to come before the command counts as unanswered.
        replica_wait: config.timeout.0 / 2,
        orders,
        length: 0,
        appended_at: Instant::now(),
        dropped_unsaid: 0,
        said: None,
        metrics,
    };
    tokio::spawn(writer.run());
    Sink(sender)
}

impl Writer {
    async fn run(mut self) {
        let connection = keep_connected(&self.client);
        while let Some(round) = self.gather().await {
            if round.entries.receipts() > 0 && !self.write(&round.entries).await {
                break;
            }
            for done in round.flushes {
                // Who does not wait any more needs no answer.
                done.send(()).unwrap_or_default();
            }
            self.metrics.waiting.set(self.waiting(0));
        }
        connection.abort();
        if let Err(error) = self.client.quit().await {
            tracing::debug!(%error, "the connection for receipts was not closed in order");
        }
    }

    /// What waits, and what comes until the next round is due. None at the end.
    async fn gather(&mut self) -> Option<Round> {
        let mut round = Round::default();
        let mut orders = Vec::new();
        round.take(self.orders.recv().await?);
        let pace = if self.length > LONG { SLOW_PACE } else { PACE };
        let until = self.appended_at + pace;
        while round.room() > 0 && round.flushes.is_empty() {
            match timeout_at(until, self.orders.recv_many(&mut orders, round.room())).await {
                Ok(taken) if taken > 0 => orders.drain(..).for_each(|order| round.take(order)),
                _ => break,
            }
        }
        Some(round)
    }

    /// Receipts that are not written: what waits, and `under_way` more.
    fn waiting(&self, under_way: usize) -> i64 {
        i64::try_from(self.orders.len() + under_way).unwrap_or(i64::MAX)
    }

    /// Appends until Redis has it. False: all senders have gone, and so has Redis.
    async fn write(&mut self, entries: &Entries) -> bool {
        let mut tries = 0;
        loop {
            self.metrics.waiting.set(self.waiting(entries.receipts()));
            let error = match self.append(entries.texts()).await {
                Ok(dropped) => {
                    self.metrics.written.inc_by(entries.receipts() as u64);
                    if tries > 0 {
                        tracing::info!(tries, "redis takes receipts again");
                    }
                    self.count_dropped(dropped).await;
                    return true;
                }
                Err(error) => error,
            };
            tries += 1;
            self.metrics.retries.inc();
            if tries == 1 {
                tracing::warn!(%error, "redis does not take receipts; they wait");
            }
            if self.orders.is_closed() && self.orders.is_empty() && tries >= LAST_TRIES {
                let receipts = entries.receipts();
                tracing::warn!(%error, receipts, "the last receipts of this hub could not be written");
                return false;
            }
            if let AppendError::Redis(error) = &error
                && is_replica(error)
                && let Err(error) = self.client.force_reconnection().await
            {
                tracing::debug!(%error, "the connection for receipts was not made anew");
            }
            sleep(AGAIN.delay(tries, chance())).await;
        }
    }

    /// Appends the entries in one go; the number of old ones that had to go for them. After an error some may be written:
    /// they are appended again, as a repeat changes nothing.
    async fn append(&mut self, texts: &[String]) -> Result<u64, AppendError> {
        // In a cluster the client does not follow a redirection, as it sends nothing twice: what WAIT says is of the
        // connection that the entries went over.
        let pipeline = self.client.pipeline();
        let (version, lines) = FIELDS;
        for text in texts {
            let fields = vec![(version, VERSION), (lines, text.as_str())];
            let () = pipeline.xadd(&self.key, false, None, "*", fields).await?;
        }
        let cap = (XCapKind::MaxLen, XCapTrim::Exact, i64::from(self.max));
        let () = pipeline.xtrim(&self.key, cap).await?;
        let () = pipeline.xlen(&self.key).await?;
        if self.replicas > 0 {
            let wait = CustomCommand::new_static("WAIT", self.key.as_str(), false);
            let millis = i64::try_from(self.replica_wait.as_millis()).unwrap_or(i64::MAX);
            let () = pipeline
                .custom(wait, vec![i64::from(self.replicas), millis])
                .await?;
        }
        let answers: Vec<Value> = pipeline.all().await?;
        let answer = |at: usize| {
            answers
                .get(texts.len() + at)
                .and_then(Value::as_i64)
                .unwrap_or_default()
        };
        self.length = answer(1);
        self.appended_at = Instant::now();
        if self.replicas > 0 && answer(2) < i64::from(self.replicas) {
            return Err(AppendError::Replicas(answer(2)));
        }
        Ok(u64::try_from(answer(0)).unwrap_or_default())
    }

    /// Counts what was dropped here and in Redis, where dispatchers see it.
    async fn count_dropped(&mut self, dropped: u64) {
        if dropped == 0 {
            return;
        }
        self.metrics.dropped.inc_by(dropped);
        self.dropped_unsaid += dropped;
        let number = i64::try_from(dropped).unwrap_or(i64::MAX);
        if let Err(error) = self.client.incr_by::<(), _>(dropped_key(&self.key), number).await {
            tracing::debug!(%error, "dropped entries were not counted in redis");
        }
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            let entries = std::mem::take(&mut self.dropped_unsaid);
            tracing::warn!(
                entries,
                "the stream of receipts is full: its oldest entries were dropped unread; is a dispatcher running?"
            );
            self.said = Some(Instant::now());
        }
    }
}
