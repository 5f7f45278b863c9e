//! Out of the spool: one dispatcher of all stores what is there, in order.
//!
//! The drainer has a lease with a fence token that grows. It reads the oldest entries, stores them in one call, and takes
//! them out when they are committed, each step only while its token is the last one. One that lost its lease may still
//! commit what it read: the next one finds these notifications by their ids, which were made before they were spooled, and
//! so does one that got no answer to its commit. So each is stored once, and what comes behind it is stored later.

use std::{collections::HashSet, sync::Arc, time::Duration};

use fred::types::Value;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    away::Away,
    entry,
    gate::Gate,
    link::{Call, Link, LinkError, list, number, text},
    look::Looker,
    outcome,
};
use crate::{
    accepted::AfterCommit,
    fail_point,
    metrics::Metrics,
    model::{Accepted, Micros, NewNotification},
    store::{Store, StoreError},
    wake::Wake,
};

/// Notifications that are stored in one call.
const TOGETHER: usize = 512;

/// Bytes that are read at once; one entry at least.
const BYTES: usize = 4 * 1024 * 1024;

/// A lease; it is held on while the store works.
const LEASE: Duration = Duration::from_secs(4);

/// How long a call of the store may take, which is more than a request would wait for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long keys stay in Redis when the database has them: for requests that looked there before.
const KEYS: Duration = Duration::from_mins(1);

/// How long the last entries may hold up what would queue behind them, from when they are read until they are stored.
const CLOSING: Duration = Duration::from_millis(500);

/// Between two tries to become the drainer.
const FOLLOW: Duration = Duration::from_millis(250);

/// Pauses while the database is away: the first one, doubled up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// Times that a notification is taken for stored by its id, before it counts as one that cannot be stored.
const CONFLICTS: u32 = 5;

/// What the drainer stands on.
#[derive(Debug)]
pub(super) struct Drainer {
    pub(super) link: Link,
    pub(super) gate: Arc<Gate>,
    pub(super) looker: Arc<Looker>,
    pub(super) store: Store,
    pub(super) away: Away,
    pub(super) wake: Wake,
    pub(super) metrics: Metrics,
}

/// An entry as it was read.
#[derive(Debug)]
struct Entry {
    id: String,
    bytes: usize,
    count: i64,
    notifications: Result<Vec<NewNotification>, String>,
}

/// How it went with what was read.
#[derive(Debug)]
enum Step {
    /// Stored and taken out; there may be more.
    Done,
    /// Nothing is left.
    Empty,
    /// Another one is the drainer.
    Lost,
    /// To be tried again, after a pause.
    Again,
    /// One of these entries cannot be stored, for this reason.
    Odd(String),
}

impl Drainer {
    /// Drains, whenever something is spooled and nobody else does, until the stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            if stop.run_until_cancelled(self.gate.opened()).await.is_none() {
                return;
            }
            let token = match self.lead().await {
                Ok(token) => token,
                Err(error) => {
                    tracing::debug!(%error, "nobody can become the drainer");
                    0
                }
            };
            if token > 0 {
                tracing::info!(token, "draining the spool");
                self.drain(token, &stop).await;
                self.give_up(token).await;
                self.looker.look().await;
            }
            if self.gate.is_open() && stop.run_until_cancelled(sleep(FOLLOW)).await.is_none() {
                return;
            }
        }
    }

    /// Until nothing is left, the lease is lost, or the stop.
    async fn drain(&self, token: i64, stop: &CancellationToken) {
        let (mut limit, mut pause) = (TOGETHER, FIRST_PAUSE);
        // Only a database that has just stored something is worth holding anybody up for.
        let mut closing = Duration::ZERO;
        while !stop.is_cancelled() {
            let (step, number) = match self.read(token, limit, closing).await {
                Ok(None) => (Step::Lost, 0),
                Ok(Some(entries)) if entries.is_empty() => (Step::Empty, 0),
                Ok(Some(entries)) => {
                    let number = entries.len();
                    (self.step(token, entries).await, number)
                }
                Err(error) => {
                    tracing::warn!(%error, "the spool cannot be read");
                    (Step::Again, 0)
                }
            };
            closing = Duration::ZERO;
            match step {
                Step::Done => {
                    closing = CLOSING;
                    limit = (limit * 2).min(TOGETHER);
                    pause = FIRST_PAUSE;
                }
                Step::Empty => return,
                Step::Lost => {
                    tracing::warn!(token, "another dispatcher drains the spool now");
                    return;
                }
                Step::Again => {
                    self.metrics.drain_errors.inc();
                    limit = (limit / 2).max(16);
                    if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        return;
                    }
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                // Which one it is shows when each comes alone.
                Step::Odd(_) if number > 1 => limit = 1,
                Step::Odd(why) => {
                    self.metrics.drain_errors.inc();
                    if let Err(error) = self.put_aside(token, &why).await {
                        tracing::warn!(%error, "an entry of the spool cannot be put aside");
                        sleep(pause).await;
                    }
                }
            }
        }
    }

    async fn step(&self, token: i64, entries: Vec<Entry>) -> Step {
        let mut taken = Vec::with_capacity(entries.len());
        let mut all = Vec::new();
        let mut requests = HashSet::new();
        for entry in entries {
            let Entry {
                id,
                bytes,
                count,
                notifications,
            } = entry;
            let notifications = match notifications {
                Ok(notifications) => notifications,
                Err(why) if taken.is_empty() => return Step::Odd(why),
                Err(_) => break,
            };
            // In one call of the store a request's key says that its notifications belong together; another request with
            // the same key is a repeat, which a call of its own finds.
            let own: HashSet<_> = notifications
                .iter()
                .flat_map(|new| {
                    new.idempotency
                        .iter()
                        .map(|key| self.link.names().key(&new.tenant, key))
                })
                .collect();
            if own.iter().any(|key| requests.contains(key)) {
                break;
            }
            requests.extend(own);
            all.extend(notifications);
            taken.push((id, bytes, count));
        }
        let used = match outcome::fill_in(&self.link, &mut all).await {
            Ok(used) => used,
            Err(error) => {
                tracing::debug!(%error, "what became of frames is not known");
                return Step::Again;
            }
        };
        fail_point::reached("drain", "before_store");
        let began = Instant::now();
        let stored = Box::pin(self.holding(token, self.store(all))).await;
        tracing::debug!(entries = taken.len(), took = ?began.elapsed(), ok = stored.is_ok(), "a step of draining");
        match stored {
            Ok(()) => {}
            Err(StoreError::Again) => return Step::Again,
            Err(StoreError::Unavailable { reason }) => {
                self.away.went_down(&reason);
                return Step::Again;
            }
            Err(error) => return Step::Odd(error.to_string()),
        }
        self.away.came_back();
        fail_point::reached("drain", "before_done");
        let keys: Vec<String> = requests.into_iter().collect();
        match self.done(token, &taken, &keys, &used, None).await {
            Ok(true) => {
                let number: i64 = taken.iter().map(|(_, _, count)| *count).sum();
                self.metrics
                    .drained
                    .inc_by(u64::try_from(number).unwrap_or_default());
                fail_point::reached("drain", "after_done");
                Step::Done
            }
            Ok(false) => Step::Lost,
            Err(error) => {
                // They come again, and are found by their ids.
                tracing::warn!(%error, "stored entries could not be taken out of the spool");
                Step::Again
            }
        }
    }

    /// Stores notifications in order, each once.
    async fn store(&self, mut all: Vec<NewNotification>) -> Result<(), StoreError> {
        let mut conflicts = 0;
        while !all.is_empty() {
            let now = Micros::now();
            let after: Vec<_> = all.iter().map(|new| AfterCommit::of(new, now)).collect();
            match self.within(self.store.accept(all.clone())).await {
                Ok(answers) => {
                    for (answer, after) in answers.iter().zip(after) {
                        if *answer == Accepted::New {
                            after.tell(&self.wake, &self.metrics);
                        }
                    }
                    // The key was used for another request before the outage, which nobody could know when this one was
                    // accepted: accepted is accepted.
                    all = all
                        .into_iter()
                        .zip(answers)
                        .filter(|(_, answer)| *answer == Accepted::Mismatch)
                        .map(|(mut new, _)| {
                            new.idempotency.clear();
                            new
                        })
                        .collect();
                }
                Err(StoreError::Conflict(what)) => {
                    conflicts += 1;
                    let before = all.len();
                    let ids: Vec<_> = all.iter().map(|new| new.id).collect();
                    let stored = self.within(self.store.are_stored(&ids)).await?;
                    all.retain(|new| !stored.contains(&new.id));
                    if all.len() == before && conflicts > CONFLICTS {
                        return Err(StoreError::Conflict(what));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let patience = self.away.patience().max(PATIENCE);
        timeout(patience, work).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable {
                reason: format!("no answer within {patience:?}"),
            })
        })
    }

    /// Does work while the lease is held on. Where it is lost, the work goes on: what it stores is stored once all the same.
    async fn holding<T>(&self, token: i64, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            if let Ok(done) = timeout(LEASE / 4, &mut work).await {
                return done;
            }
            let names = self.link.names();
            let call = Call::new(include_str!("scripts/hold.lua"), &[&names.drainer])
                .with(token.to_string())
                .with(LEASE.as_millis().to_string());
            if let Err(error) = self.link.run(call).await {
                tracing::debug!(%error, "the drainer's lease is not held on");
            }
        }
    }

    async fn lead(&self) -> Result<i64, LinkError> {
        let names = self.link.names();
        let call = Call::new(include_str!("scripts/lead.lua"), &[&names.drainer, &names.fence])
            .with(LEASE.as_millis().to_string());
        Ok(number(&self.link.run(call).await?))
    }

    async fn give_up(&self, token: i64) {
        let names = self.link.names();
        let call = Call::new(include_str!("scripts/yield.lua"), &[&names.drainer]).with(token.to_string());
        if let Err(error) = self.link.run(call).await {
            tracing::debug!(%error, "the drainer's lease runs out by itself");
        }
    }

    /// The oldest entries; none where another one is the drainer.
    async fn read(
        &self,
        token: i64,
        limit: usize,
        closing: Duration,
    ) -> Result<Option<Vec<Entry>>, LinkError> {
        let names = self.link.names();
        let call = Call::new(
            include_str!("scripts/read.lua"),
            &[&names.entries, &names.drainer, &names.closing],
        )
        .with(token.to_string())
        .with(LEASE.as_millis().to_string())
        .with(limit.to_string())
        .with(BYTES.to_string())
        .with(closing.as_millis().to_string());
        let answer = self.link.run(call).await?;
        if !matches!(answer, Value::Array(_)) {
            return Ok(None);
        }
        Ok(Some(list(answer).into_iter().filter_map(Entry::read).collect()))
    }

    /// Takes entries out, or puts them aside for this reason. False: another one is the drainer.
    async fn done(
        &self,
        token: i64,
        entries: &[(String, usize, i64)],
        keys: &[String],
        outcomes: &[String],
        why: Option<&str>,
    ) -> Result<bool, LinkError> {
        let names = self.link.names();
        let mut call = Call::new(
            include_str!("scripts/done.lua"),
            &[
                &names.entries,
                &names.state,
                &names.drainer,
                &names.outcomes,
                &names.aside,
                &names.closing,
            ],
        );
        call.keys.extend_from_slice(keys);
        let count: i64 = entries.iter().map(|(_, _, count)| *count).sum();
        let bytes: usize = entries.iter().map(|(_, bytes, _)| *bytes).sum();
        let mut call = call
            .with(token.to_string())
            .with(LEASE.as_millis().to_string())
            .with(KEYS.as_millis().to_string())
            .with(count.to_string())
            .with(bytes.to_string())
            .with(if why.is_some() { "aside" } else { "" })
            .with(why.unwrap_or_default())
            .with(entries.len().to_string());
        for (id, ..) in entries {
            call = call.with(id.as_str());
        }
        for delivery in outcomes {
            call = call.with(delivery.as_str());
        }
        Ok(number(&self.link.run(call).await?) == 1)
    }

    /// Keeps the first entry elsewhere, for people: it cannot be stored, and what is behind it shall not wait for ever.
    async fn put_aside(&self, token: i64, why: &str) -> Result<(), LinkError> {
        let first = self
            .read(token, 1, Duration::ZERO)
            .await?
            .and_then(|entries| entries.into_iter().next());
        let Some(entry) = first else { return Ok(()) };
        tracing::error!(
            entry = entry.id,
            why,
            "an entry of the spool cannot be stored and is put aside"
        );
        let entry = [(entry.id, entry.bytes, entry.count)];
        self.done(token, &entry, &[], &[], Some(why)).await.map(drop)
    }
}

impl Entry {
    fn read(value: Value) -> Option<Self> {
        let parts = list(value);
        let [id, version, lines, count] = parts.as_slice() else {
            return None;
        };
        let lines = text(lines).unwrap_or_default();
        Some(Self {
            id: text(id)?,
            bytes: lines.lines().map(str::len).sum(),
            count: text(count).and_then(|count| count.parse().ok()).unwrap_or(1),
            notifications: entry::read(&text(version).unwrap_or_default(), &lines),
        })
    }
}
