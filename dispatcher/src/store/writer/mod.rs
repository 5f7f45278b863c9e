//! Writers: each takes the operations that wait, does them in one transaction, and answers after the commit.
//!
//! SQLite has one writer. PostgreSQL has several of them over two queues, so that accepting and delivering do not wait for
//! each other. A group that fails is rolled back and its operations are done again one by one, each in a transaction of its
//! own, so that nobody fails for another's fault. A commit of which nobody knows whether it happened is settled by the ids
//! of what was to be stored.

mod group;
mod work;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::group::perform;
pub(super) use self::work::{Call, Slot, Work};
use super::{
    Place, StoreConfig, StoreError, connect,
    hints::Hints,
    link::{Link, Uncommitted},
    sql::accept as sql,
    sqlite,
    transaction::Tx,
    watch::{KeyHash, Watchers},
};
use crate::{fail_point, model::Micros};

/// Rows of one transaction, more or less: what waits behind it waits for so much at the most.
const GROUP_ROWS: usize = 2000;

/// How often a group is done again at once when another transaction was faster.
const AGAIN: usize = 3;

/// How often an operation alone is.
const AGAIN_ALONE: usize = 8;

/// A queue of which several writers take.
pub(super) type Shared = Arc<Mutex<mpsc::Receiver<Work>>>;

pub(super) struct Writer {
    /// None: it broke, and the next group tries for a new one.
    pub(super) link: Option<Link>,
    pub(super) config: Arc<StoreConfig>,
    pub(super) queue: Shared,
    pub(super) watchers: Arc<Watchers>,
    pub(super) hints: Hints,
    /// The writers of this queue do what is there, and end.
    pub(super) closing: CancellationToken,
    /// An attempt at the group at hand ended in a commit of which nobody knows.
    pub(super) unclear: bool,
}

/// How far a transaction came, for who stops waiting for it.
#[derive(Default)]
struct Stage(AtomicBool);

/// Why a group was not done.
enum Fault {
    /// The connection had ended since the last group, as after a restart of the server; nothing was begun.
    Stale,
    /// The connection is of no more use; nothing was committed.
    Broken(StoreError),
    /// It was rolled back.
    Work(StoreError),
    /// Whether it was committed is not known.
    Unclear(StoreError),
}

impl Stage {
    fn commits(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn committing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Writer {
    pub(super) async fn run(mut self) {
        let group_max = self.config.group_max.max(1);
        let mut taken = Vec::with_capacity(group_max);
        let mut waiting = VecDeque::with_capacity(group_max);
        loop {
            if waiting.is_empty() {
                taken.clear();
                if self.take(&mut taken, group_max).await == 0 {
                    break;
                }
                waiting.extend(taken.drain(..));
            }
            if waiting.front().is_some_and(Work::is_outside) {
                match waiting.pop_front() {
                    Some(Work::Limit(bytes, reply)) => drop(reply.send(self.limit_size(bytes).await)),
                    // What was sent before is still done; what comes later is refused by the closed queue.
                    Some(Work::Close) => self.closing.cancel(),
                    _ => {}
                }
                continue;
            }
            let group = self.next_group(&mut waiting);
            self.group(group).await;
            self.unclear = false;
        }
        if let Some(link) = self.link
            && let Err(error) = link.close().await
        {
            tracing::warn!(%error, "a writer of the store did not close cleanly");
        }
    }

    /// Takes what waits; 0: the queue is closed, and nothing is left.
    async fn take(&self, taken: &mut Vec<Work>, most: usize) -> usize {
        let mut queue = self.queue.lock().await;
        tokio::select! {
            biased;
            count = queue.recv_many(taken, most) => count,
            () = self.closing.cancelled() => {
                queue.close();
                queue.recv_many(taken, most).await
            }
        }
    }

    /// Takes what can share a transaction, in the order in which it came.
    fn next_group(&self, waiting: &mut VecDeque<Work>) -> Vec<Work> {
        let alone = matches!(self.config.place, Place::File(_));
        let mut group: Vec<Work> = Vec::with_capacity(waiting.len());
        let mut left = VecDeque::new();
        let mut rows = 0;
        while let Some(work) = waiting.pop_front() {
            let fits = match group.first() {
                None => true,
                Some(first) => rows + work.rows() <= GROUP_ROWS && (alone || work.mixes_with(first)),
            };
            if work.is_outside() || (alone && !fits) {
                waiting.push_front(work);
                break;
            }
            if fits {
                rows += work.rows();
                group.push(work);
            } else {
                left.push_back(work);
            }
        }
        left.append(waiting);
        *waiting = left;
        group
    }

    async fn group(&mut self, mut group: Vec<Work>) {
        let mut result = self.attempt(&mut group).await;
        for _ in 0..AGAIN {
            if result != Err(StoreError::Again) {
                break;
            }
            result = self.attempt(&mut group).await;
        }
        match result {
            Ok(()) => group.into_iter().for_each(|work| work.finish(Ok(()))),
            // Nothing can be written at the moment: by nobody.
            Err(error) if self.link.is_none() && error != StoreError::Again => {
                group.into_iter().for_each(|work| work.finish(Err(error.clone())));
            }
            Err(error) if group.len() == 1 && error != StoreError::Again => {
                group.into_iter().for_each(|work| work.finish(Err(error.clone())));
            }
            Err(error) => {
                tracing::warn!(%error, operations = group.len(), "a group was rolled back; retrying one by one");
                for work in group {
                    self.alone(work).await;
                }
            }
        }
    }

    async fn alone(&mut self, work: Work) {
        let mut alone = [work];
        let mut result = Err(StoreError::Again);
        for _ in 0..AGAIN_ALONE {
            result = self.attempt(&mut alone).await;
            if result != Err(StoreError::Again) {
                break;
            }
        }
        let [work] = alone;
        work.finish(result.map_err(|error| match error {
            StoreError::Again => StoreError::Unavailable {
                reason: "other transactions were always faster".to_owned(),
            },
            error => error,
        }));
    }

    /// Does a group once. When it is not known whether it was committed, the ids say so.
    async fn attempt(&mut self, group: &mut [Work]) -> Result<(), StoreError> {
        let done = match connect::patience(&self.config.place) {
            None => self.transaction(group).await,
            Some(patience) => {
                let stage = Stage::default();
                match tokio::time::timeout(patience, self.transaction_at(group, &stage)).await {
                    Ok(result) => result,
                    Err(_) if stage.committing() => Err(Fault::Unclear(connect::too_slow())),
                    Err(_) => Err(Fault::Broken(connect::too_slow())),
                }
            }
        };
        match done {
            Ok(()) => Ok(()),
            // What an earlier attempt stored after all is in the way.
            Err(Fault::Work(error @ StoreError::Conflict(_))) if self.unclear => {
                self.settle_by_id(group, error).await
            }
            Err(Fault::Work(error)) => Err(error),
            // The next attempt has a new one.
            Err(Fault::Stale) => {
                self.link = None;
                Err(StoreError::Again)
            }
            Err(Fault::Broken(error)) => {
                self.link = None;
                Err(error)
            }
            Err(Fault::Unclear(error)) => {
                self.link = None;
                self.unclear = true;
                tracing::warn!(%error, operations = group.len(), "a commit's answer was lost");
                self.settle_by_id(group, error).await
            }
        }
    }

    /// A commit's answer was lost. What it stored says whether it happened; where nothing can say so, it did not: callers
    /// are told that the store is away, and what they do again is guarded by keys, ids and tokens.
    async fn settle_by_id(&mut self, group: &mut [Work], error: StoreError) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = group.iter().flat_map(Work::stored).collect();
        let Some(id) = ids.first() else {
            return Err(error);
        };
        let link = self.link().await?;
        // The transaction stored all of them or none.
        let stored: Option<i64> = link
            .access()
            .query(sql::IS_STORED)
            .bind(*id)
            .scalar_optional()
            .await?;
        if stored.is_some() {
            tracing::info!(notifications = ids.len(), "what was to be committed is there");
            return Ok(());
        }
        Err(StoreError::Again)
    }

    async fn link(&mut self) -> Result<&mut Link, StoreError> {
        match &mut self.link {
            Some(_) => {}
            broken @ None => *broken = Some(connect::writer(&self.config.place).await?),
        }
        self.link.as_mut().ok_or_else(StoreError::closed)
    }

    async fn limit_size(&mut self, bytes: Option<u64>) -> Result<(), StoreError> {
        match self.link().await? {
            Link::Sqlite(conn) => sqlite::connect::limit_size(conn, bytes).await,
            Link::Postgres { .. } => Err(StoreError::Unavailable {
                reason: "the size of a PostgreSQL database is not bounded from here".to_owned(),
            }),
        }
    }

    async fn transaction(&mut self, group: &mut [Work]) -> Result<(), Fault> {
        self.transaction_at(group, &Stage::default()).await
    }

    async fn transaction_at(&mut self, group: &mut [Work], stage: &Stage) -> Result<(), Fault> {
        let config = Arc::clone(&self.config);
        let (watchers, hints) = (Arc::clone(&self.watchers), self.hints.clone());
        let kept = self.link.is_some();
        let link = self.link().await.map_err(Fault::Broken)?;
        let begun = link.begin().await;
        let mut transaction =
            begun.map_err(|error| if kept { Fault::Stale } else { Fault::Broken(error) })?;
        let noun = group.first().map_or("", Work::noun);
        let mut tx = Tx {
            conn: transaction.access(),
            config: &config,
            now: Micros::now(),
            touched: Vec::new(),
            work: false,
        };
        let result = perform(&mut tx, group).await;
        let (touched, work) = (std::mem::take(&mut tx.touched), tx.work);
        drop(tx);
        if let Err(error) = result {
            if let Err(failed) = transaction.rollback().await {
                tracing::warn!(error = %failed, "a group could not be rolled back");
                return Err(Fault::Broken(error));
            }
            return Err(Fault::Work(error));
        }
        fail_point::reached(noun, "before_commit");
        stage.commits();
        transaction.commit().await.map_err(|failed| match failed {
            Uncommitted::Refused(error) => Fault::Work(error),
            Uncommitted::Unclear(error) => Fault::Unclear(error),
        })?;
        fail_point::reached(noun, "after_commit");
        let keys: Vec<KeyHash> = touched.iter().map(|key| KeyHash::of(key.as_str())).collect();
        watchers.wake_hashes(&keys);
        hints.tell(keys, work);
        Ok(())
    }
}
