//! Keys that are in use, as they were read last. One task reads: what somebody waits for at once, and everything that is
//! in use every [`REFRESH`], in one go. While nobody shows a key it sleeps.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, timeout},
};

use super::{CredentialMetrics, KeyRecord, KeySource};
use crate::{
    ids::TenantId,
    token::{Identity, KeyId, ShownKey, TokenError},
};

/// How often keys that are in use are read.
pub(super) const REFRESH: Duration = Duration::from_millis(200);

/// For how long a record is believed. With the time to read it, a revoked key stops within a second.
const FRESH: Duration = Duration::from_millis(500);

/// A key that was not shown for so long is not read any more, until it is shown again.
const IN_USE: Duration = Duration::from_secs(5);

/// Keys that are remembered.
const MAX_KEYS: usize = 16_384;

/// Keys that are read in one go.
const ROUND: usize = 256;

/// Callers that may wait for their key.
const WAITING: usize = 4096;

/// The longest wait for a key; and for one that was seen lately, which goes on then.
const PATIENCE: Duration = Duration::from_secs(5);
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// The use of a key is told at most so often, in seconds.
const TELL_SECONDS: i64 = 60;

/// A key was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// Whose.
    pub tenant: TenantId,
    /// Which key.
    pub id: KeyId,
    /// When, Unix seconds.
    pub at: i64,
}

/// Keys as this process knows them. Cheap to clone; the task that reads ends with the last one.
#[derive(Debug, Clone)]
pub struct Keys {
    known: Arc<Known>,
    asks: mpsc::Sender<Ask>,
}

#[derive(Debug)]
struct Known {
    entries: DashMap<KeyId, Entry, foldhash::fast::RandomState>,
    grace: Duration,
    /// The last read was in vain.
    failing: AtomicBool,
    uses: Option<mpsc::Sender<KeyUse>>,
    began: Instant,
    metrics: CredentialMetrics,
}

#[derive(Debug)]
struct Entry {
    record: KeyRecord,
    identity: Arc<Identity>,
    /// When the read began that found it.
    read_at: Instant,
    /// Milliseconds since the beginning.
    used_at: AtomicU64,
    /// Unix seconds.
    told_at: AtomicI64,
}

#[derive(Debug)]
struct Ask {
    id: KeyId,
    /// Whether it could be read.
    answer: oneshot::Sender<bool>,
}

/// What is known of a key without waiting.
#[derive(Debug)]
pub(super) enum AtHand {
    /// It is good.
    Yes(Arc<Identity>),
    /// It is not.
    No(TokenError),
    /// It was good a moment ago.
    Old,
    /// Nothing.
    Unknown,
}

/// Why a key did not pass.
#[derive(Debug)]
pub(super) enum Unknown {
    Refused(TokenError),
    Unavailable,
}

impl Keys {
    /// Starts the task that reads. `grace`: for how long a key that was seen goes on while it cannot be read. `uses` are told,
    /// at most one a key and minute, and dropped where there is no room. Needs a runtime.
    #[must_use]
    pub fn start(
        source: Arc<dyn KeySource>,
        grace: Duration,
        uses: Option<mpsc::Sender<KeyUse>>,
        metrics: CredentialMetrics,
    ) -> Self {
        let known = Arc::new(Known {
            entries: DashMap::default(),
            grace,
            failing: AtomicBool::new(false),
            uses,
            began: Instant::now(),
            metrics,
        });
        let (asks, asked) = mpsc::channel(WAITING);
        tokio::spawn(run(source, Arc::clone(&known), asked));
        Self { known, asks }
    }

    /// What is known without waiting.
    pub(super) fn at_hand(&self, shown: &ShownKey) -> AtHand {
        let Some(entry) = self.known.entries.get(&shown.id) else {
            return AtHand::Unknown;
        };
        let now = jiff::Timestamp::now().as_second();
        let judged = entry.record.judge(shown, now);
        match judged {
            // It may be a new one, which counts as soon as it is told.
            Err(TokenError::KeyInvalid) => AtHand::Unknown,
            Ok(()) if self.known.is_good(&entry) => {
                self.known.used(&entry, now);
                AtHand::Yes(Arc::clone(&entry.identity))
            }
            Ok(()) => AtHand::Old,
            // What has ended does not begin again.
            Err(error) => AtHand::No(error),
        }
    }

    /// Reads the key, and judges it.
    pub(super) async fn find(&self, shown: &ShownKey) -> Result<Arc<Identity>, Unknown> {
        let began = Instant::now();
        let is_read = self.ask(shown.id).await;
        let Some(entry) = self.known.entries.get(&shown.id) else {
            return Err(if is_read {
                Unknown::Refused(TokenError::KeyInvalid)
            } else {
                Unknown::Unavailable
            });
        };
        let counts = is_read && entry.read_at >= began || self.known.is_within_grace(&entry);
        if !counts {
            return Err(Unknown::Unavailable);
        }
        let now = jiff::Timestamp::now().as_second();
        entry.record.judge(shown, now).map_err(Unknown::Refused)?;
        self.known.used(&entry, now);
        Ok(Arc::clone(&entry.identity))
    }

    /// Whether a key that was verified before still counts; to be asked again and again. A key about which nothing can be
    /// learnt for longer than the grace does not.
    pub(super) fn holds(&self, id: &KeyId) -> Result<(), TokenError> {
        match self.known.entries.get(id) {
            Some(entry) => {
                let now = jiff::Timestamp::now().as_second();
                self.known.mark(&entry);
                entry.record.holds(now)?;
                if !self.known.is_good(&entry) {
                    if !self.known.is_within_grace(&entry) {
                        return Err(TokenError::KeyInvalid);
                    }
                    drop(entry);
                    self.ask_in_passing(*id);
                }
                Ok(())
            }
            // It was forgotten for others, or there is no such key any more.
            None if self.known.entries.len() < MAX_KEYS && !self.known.failing.load(Ordering::Relaxed) => {
                Err(TokenError::KeyRevoked)
            }
            None => {
                self.ask_in_passing(*id);
                Ok(())
            }
        }
    }

    async fn ask(&self, id: KeyId) -> bool {
        let was_seen = self
            .known
            .entries
            .get(&id)
            .is_some_and(|entry| self.known.is_within_grace(&entry));
        let patience = if was_seen { SHORT_PATIENCE } else { PATIENCE };
        let (answer, answered) = oneshot::channel();
        let asked =
            async { self.asks.send(Ask { id, answer }).await.is_ok() && answered.await.unwrap_or(false) };
        timeout(patience, asked).await.unwrap_or_else(|_| {
            // Until something is read, those that were seen do not wait again.
            self.known.failing.store(true, Ordering::Relaxed);
            false
        })
    }

    /// Wakes the task where it sleeps. Where there is no room, it is awake.
    fn ask_in_passing(&self, id: KeyId) {
        let (answer, _) = oneshot::channel();
        self.asks.try_send(Ask { id, answer }).ok();
    }
}

impl Known {
    /// Whether a record says how things stand, as far as that can be known.
    fn is_good(&self, entry: &Entry) -> bool {
        entry.read_at.elapsed() <= FRESH
            || self.failing.load(Ordering::Relaxed) && self.is_within_grace(entry)
    }

    fn is_within_grace(&self, entry: &Entry) -> bool {
        entry.read_at.elapsed() <= self.grace.max(FRESH)
    }

    fn mark(&self, entry: &Entry) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        entry.used_at.store(millis, Ordering::Relaxed);
    }

    /// Notes a use, and tells of it now and then.
    fn used(&self, entry: &Entry, now: i64) {
        self.mark(entry);
        let told = entry.told_at.load(Ordering::Relaxed);
        if now - told < TELL_SECONDS {
            return;
        }
        let Some(uses) = &self.uses else { return };
        let swapped = entry
            .told_at
            .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed);
        if swapped.is_ok() {
            // Where there is no room, the next minute tells.
            uses.try_send(KeyUse {
                tenant: entry.record.tenant.clone(),
                id: entry.record.id,
                at: now,
            })
            .ok();
        }
    }

    /// Keys that were shown lately.
    fn in_use(&self) -> Vec<KeyId> {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let since = now.saturating_sub(u64::try_from(IN_USE.as_millis()).unwrap_or(u64::MAX));
        self.entries
            .iter()
            .filter(|entry| entry.used_at.load(Ordering::Relaxed) >= since)
            .map(|entry| *entry.key())
            .collect()
    }

    /// Takes in what was read by a read that began then.
    fn take(&self, id: KeyId, record: Option<KeyRecord>, read_at: Instant) {
        let Some(record) = record else {
            self.entries.remove(&id);
            return;
        };
        if let Some(mut entry) = self.entries.get_mut(&id) {
            if entry.record.revision != record.revision {
                entry.identity = record.identity();
                entry.record = record;
            }
            entry.read_at = read_at;
            return;
        }
        if self.entries.len() >= MAX_KEYS {
            self.make_room();
        }
        let used_at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.entries.insert(
            id,
            Entry {
                identity: record.identity(),
                record,
                read_at,
                used_at: AtomicU64::new(used_at),
                told_at: AtomicI64::new(0),
            },
        );
    }

    fn make_room(&self) {
        self.entries.retain(|_, entry| self.is_within_grace(entry));
        if self.entries.len() < MAX_KEYS {
            return;
        }
        // Found before it is removed: both lock its part of the map.
        let any = self.entries.iter().next().map(|entry| *entry.key());
        if let Some(any) = any {
            self.entries.remove(&any);
        }
    }
}

async fn run(source: Arc<dyn KeySource>, known: Arc<Known>, mut asked: mpsc::Receiver<Ask>) {
    let mut asks: Vec<Ask> = Vec::new();
    let mut every = tokio::time::interval(REFRESH);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut awake = false;
    loop {
        let mut ids = HashSet::new();
        tokio::select! {
            taken = asked.recv_many(&mut asks, ROUND) => {
                if taken == 0 {
                    return;
                }
                ids.extend(asks.iter().map(|ask| ask.id));
            }
            _ = every.tick(), if awake => {
                ids.extend(known.in_use());
                awake = !ids.is_empty();
                if !awake {
                    continue;
                }
            }
        }
        let ids: Vec<KeyId> = ids.into_iter().collect();
        let is_read = read(&*source, &known, &ids).await;
        for ask in asks.drain(..) {
            // Who asked may have gone.
            ask.answer.send(is_read).ok();
        }
        awake = true;
    }
}

/// Whether it could be read.
async fn read(source: &dyn KeySource, known: &Known, ids: &[KeyId]) -> bool {
    for ids in ids.chunks(ROUND) {
        let began = Instant::now();
        known.metrics.reads.inc();
        let records = match timeout(PATIENCE, source.read(ids)).await {
            Ok(Ok(records)) if records.len() == ids.len() => records,
            failed => {
                known.metrics.read_failures.inc();
                if !known.failing.swap(true, Ordering::Relaxed) {
                    let reason = match failed {
                        Ok(Err(error)) => error.to_string(),
                        Ok(Ok(_)) => "the answer is not whole".to_owned(),
                        Err(_) => "no answer".to_owned(),
                    };
                    tracing::warn!(
                        reason,
                        "API keys cannot be read; those that were seen lately go on"
                    );
                }
                return false;
            }
        };
        if known.failing.swap(false, Ordering::Relaxed) {
            tracing::info!("API keys can be read again");
        }
        for (id, record) in ids.iter().zip(records) {
            known.take(*id, record, began);
        }
    }
    true
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
