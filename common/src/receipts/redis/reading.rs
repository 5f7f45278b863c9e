//! The task that reads for a dispatcher: new entries, those that others left, and how long the stream is.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientLike, KeysInterface, LuaInterface, StreamsInterface},
    types::Value,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    AGAIN, EntryId, GROUP, chance, dropped_key, is_replica, key,
    metrics::StreamMetrics,
    reply::{self, Entry},
};
use crate::redis::{RedisConfig, keep_connected};

/// Entries that one answer brings.
const ENTRIES: u64 = 16;

/// The longest time that one command waits for entries.
const BLOCK: Duration = Duration::from_millis(500);

/// A dispatcher that holds nothing and has not asked for so many times `receipts_claim_after` is gone; its name is not used
/// again.
const STALE: u32 = 20;

/// Deletes consumers that hold nothing and have not asked for `ARGV[3]` milliseconds, in one step: one that takes
/// something up meanwhile keeps it.
const FORGET: &str = "local forgotten = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local c = {}
  for i = 1, #flat, 2 do c[flat[i]] = flat[i + 1] end
  if c.name ~= ARGV[2] and c.pending == 0 and c.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c.name)
    forgotten = forgotten + 1
  end
end
return forgotten";

/// Entries that this process holds: read, and not acknowledged.
pub(super) type Held = Arc<Mutex<HashSet<EntryId>>>;

pub(super) struct Reading {
    client: Client,
    key: String,
    consumer: String,
    block: Duration,
    claim_after: Duration,
    held: Held,
    /// The group is known to be there.
    grouped: bool,
    /// Where to go on with taking over what others left.
    claim_from: Option<String>,
    upkeep_at: Instant,
    /// Of all that was ever dropped, what this process has told of.
    dropped: Option<u64>,
    failures: u32,
    metrics: StreamMetrics,
}

impl Reading {
    pub(super) fn new(
        client: Client,
        config: &RedisConfig,
        consumer: &str,
        held: Held,
        metrics: StreamMetrics,
    ) -> Self {
        Self {
            client,
            key: key(config),
            consumer: consumer.to_owned(),
            // Its answer has to come before the command counts as unanswered.
            block: BLOCK.min(config.timeout.0 / 2),
            claim_after: config.receipts_claim_after.0,
            held,
            grouped: false,
            claim_from: None,
            upkeep_at: Instant::now(),
            dropped: None,
            failures: 0,
            metrics,
        }
    }

    /// Reads until the stop, or until nobody takes what is read.
    pub(super) async fn run(mut self, entries: mpsc::Sender<Vec<Entry>>, stop: CancellationToken) {
        let connection = keep_connected(&self.client);
        while let Some(room) = self.wait_for_room(&entries, &stop).await {
            // A read is never cut off: Redis would take what it answers for handed out.
            match self.round().await {
                Ok(read) => {
                    if self.failures > 0 {
                        tracing::info!(failures = self.failures, "receipts are read again");
                        self.failures = 0;
                    }
                    if !read.is_empty() {
                        room.send(read);
                    }
                }
                Err(error) => {
                    stop.run_until_cancelled(self.recover(&error)).await;
                }
            }
        }
        connection.abort();
        if let Err(error) = self.client.quit().await {
            tracing::debug!(%error, "the connection for receipts was not closed in order");
        }
    }

    /// Waits until something may be read, and looks at the stream meanwhile. None at the end.
    async fn wait_for_room<'a>(
        &mut self,
        entries: &'a mpsc::Sender<Vec<Entry>>,
        stop: &CancellationToken,
    ) -> Option<mpsc::Permit<'a, Vec<Entry>>> {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                room = entries.reserve() => return room.ok(),
                () = sleep_until(self.upkeep_at) => {}
            }
            if let Err(error) = self.upkeep_when_due().await {
                self.recover(&error).await;
            }
        }
    }

    async fn upkeep_when_due(&mut self) -> Result<(), Error> {
        if !self.grouped {
            self.make_group().await?;
        }
        if Instant::now() >= self.upkeep_at {
            self.upkeep().await?;
            self.claim_from.get_or_insert_with(|| "0-0".to_owned());
            self.upkeep_at = Instant::now() + self.claim_after / 2;
        }
        Ok(())
    }

    async fn round(&mut self) -> Result<Vec<Entry>, Error> {
        self.upkeep_when_due().await?;
        let entries = match self.claim_from.take() {
            Some(from) => self.claim(from).await?,
            None => self.read().await?,
        };
        self.metrics.read.inc_by(entries.len() as u64);
        let poisoned: usize = entries.iter().map(|entry| entry.poisoned).sum();
        if poisoned > 0 {
            // What they hold is nobody's business.
            tracing::warn!(
                receipts = poisoned,
                "receipts that cannot be read are passed over"
            );
            self.metrics.poisoned.inc_by(poisoned as u64);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend(entries.iter().map(|entry| entry.id.clone()));
        Ok(entries)
    }

    async fn read(&self) -> Result<Vec<Entry>, Error> {
        let block = u64::try_from(self.block.as_millis()).unwrap_or(u64::MAX).max(1);
        let (key, consumer) = (self.key.as_str(), self.consumer.as_str());
        let answer: Value = self
            .client
            .xreadgroup(GROUP, consumer, Some(ENTRIES), Some(block), false, key, ">")
            .await?;
        Ok(reply::read(answer))
    }

    /// Takes over what was handed out and not finished for too long, also by this process, where an answer was lost.
    async fn claim(&mut self, from: String) -> Result<Vec<Entry>, Error> {
        let idle = u64::try_from(self.claim_after.as_millis()).unwrap_or(u64::MAX);
        let (key, consumer) = (self.key.as_str(), self.consumer.as_str());
        let answer: Value = self
            .client
            .xautoclaim(key, GROUP, consumer, idle, from, Some(ENTRIES), false)
            .await?;
        let mut claimed = reply::claimed(answer);
        self.claim_from = claimed.next;
        {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            claimed.entries.retain(|entry| !held.contains(&entry.id));
        }
        if !claimed.entries.is_empty() || claimed.gone > 0 {
            let (entries, gone) = (claimed.entries.len(), claimed.gone);
            tracing::info!(entries, gone, "receipts were taken over that nobody had finished");
        }
        self.metrics.claimed.inc_by(claimed.entries.len() as u64);
        Ok(claimed.entries)
    }

    /// The group, from the beginning of the stream: also what was written before any dispatcher was there counts.
    async fn make_group(&mut self) -> Result<(), Error> {
        let made: Result<(), Error> = self
            .client
            .xgroup_create(self.key.as_str(), GROUP, "0", true)
            .await;
        match made {
            Err(error) if !error.details().starts_with("BUSYGROUP") => return Err(error),
            _ => self.grouped = true,
        }
        Ok(())
    }

    /// Looks at the stream as a whole, and forgets dispatchers that are gone.
    async fn upkeep(&mut self) -> Result<(), Error> {
        let key = self.key.as_str();
        let length: i64 = self.client.xlen(key).await?;
        self.metrics.entries.set(length);
        let oldest: Value = self.client.xrange(key, "-", "+", Some(1)).await?;
        let age = reply::entries(oldest).first().map_or(0, |oldest| {
            jiff::Timestamp::now()
                .as_millisecond()
                .saturating_sub(oldest.id.millis())
        });
        self.metrics
            .age
            .set(Duration::from_millis(age.try_into().unwrap_or_default()).as_secs_f64());

        let dropped: Option<u64> = self.client.get(dropped_key(key)).await?;
        let dropped = dropped.unwrap_or_default();
        // What was dropped before this process began has been told.
        let lost = dropped.saturating_sub(self.dropped.replace(dropped).unwrap_or(dropped));
        if lost > 0 {
            tracing::warn!(
                entries = lost,
                "receipts were lost: the stream was full before they were stored"
            );
            self.metrics.lost.inc_by(lost);
        }

        let stale = (self.claim_after * STALE).as_millis().to_string();
        let words = vec![GROUP, self.consumer.as_str(), stale.as_str()];
        let forgotten: i64 = self.client.eval(FORGET, key, words).await?;
        self.metrics.upkeeps.inc();
        if forgotten > 0 {
            tracing::debug!(
                dispatchers = forgotten,
                "dispatchers that are gone were forgotten"
            );
        }
        Ok(())
    }

    async fn recover(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        if error.details().starts_with("NOGROUP") {
            tracing::warn!("the stream of receipts has lost its group; it is made anew");
            self.grouped = false;
        } else if self.failures == 1 {
            tracing::warn!(%error, "receipts cannot be read");
        }
        if is_replica(error)
            && let Err(error) = self.client.force_reconnection().await
        {
            tracing::debug!(%error, "the connection for receipts was not made anew");
        }
        sleep(AGAIN.delay(self.failures, chance())).await;
    }
}
