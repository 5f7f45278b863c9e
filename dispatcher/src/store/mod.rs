//! The store: what was accepted is here, and every state of it.
//!
//! Every write goes through one writer task, which commits what waits in one transaction (`writer`); reads use
//! connections of their own and see whole commits. Statements stand in one catalogue per database (`sqlite`).

mod accept;
mod codec;
mod error;
mod feed;
mod inbox;
mod jobs;
mod marks;
mod migrate;
#[cfg(test)]
mod plans;
mod queue;
mod records;
mod sqlite;
mod types;
mod watch;
mod writer;

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use common::ids::{DeliveryId, Name, NotificationId, TenantId};
use dashmap::DashMap;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot};

pub use self::{
    migrate::{MigrationStatus, migrate_down, migrate_status, migrate_up},
    types::{
        AttemptStart, ChangesResult, ClaimRequest, JobClaim, JobPage, LaneDepth, Mark, Marked, OnUnknown,
        ReadAll, Rescued, StoreConfig, StoreError, TenantStats,
    },
    watch::Watch,
};
use self::{
    sqlite::connect,
    watch::Watchers,
    writer::{Call, Pending, Slot, Tx, Work, Writer},
};
use crate::model::{
    Accepted, Channel, Claimed, Cursor, InboxItem, ListFilter, Micros, NewDelivery, NewNotification,
    ReaderKeys, Settlement,
};

/// How often a reader's last sight is written.
const REFRESH_READER: Duration = Duration::from_hours(1);
/// Readers that are remembered as written; above it they are forgotten and written once more.
const REMEMBERED_READERS: usize = 200_000;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<Work>,
    readers: SqlitePool,
    config: StoreConfig,
    watchers: Arc<Watchers>,
    seen: DashMap<(TenantId, Name, u64), Micros>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.0.config.path)
            .finish_non_exhaustive()
    }
}

/// Opening, closing, and how operations reach the database.
impl Store {
    /// Opens the database, makes it where it does not exist, and applies missing migrations.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a database of a newer version or one that does not flush its commits,
    /// [`StoreError::Unavailable`] where it cannot be opened.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let mut conn = connect::writer(&config.path).await?;
        migrate::up(&mut conn).await?;
        let readers = connect::readers(&config.path, config.read_connections).await?;
        let (queue, waiting) = mpsc::channel(config.queue_max.max(1));
        let watchers = Arc::new(Watchers::default());
        let writer = Writer {
            conn,
            config: config.clone(),
            queue: waiting,
            watchers: Arc::clone(&watchers),
        };
        tokio::spawn(writer.run());
        let config = config.clone();
        Ok(Self(Arc::new(Inner {
            queue,
            readers,
            config,
            watchers,
            seen: DashMap::new(),
        })))
    }

    /// Does what was sent before, then closes. Later operations are refused with [`StoreError::Unavailable`].
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.0.queue.send(Work::Close(reply)).await.is_ok() {
            // An error says that the writer is gone, which is what was asked for.
            closed.await.unwrap_or_default();
        }
        self.0.readers.close().await;
    }

    /// Bounds the database file to so many bytes, to the page; none lifts the bound. What does not fit is refused with
    /// [`StoreError::Unavailable`], what is stored stays.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn limit_size(&self, bytes: Option<u64>) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Work::Limit(bytes, reply)).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    /// Waits for room in the writer's queue, but not for ever.
    async fn send(&self, work: Work) -> Result<(), StoreError> {
        match tokio::time::timeout(self.0.config.wait_max, self.0.queue.send(work)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(StoreError::closed()),
            Err(_) => Err(StoreError::Unavailable {
                reason: "the writer's queue is full".to_owned(),
            }),
        }
    }

    async fn many<I, O>(&self, input: I, kind: fn(Slot<I, O>) -> Work) -> Result<O, StoreError> {
        let (slot, answer) = Slot::new(input);
        self.send(kind(slot)).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    async fn single<I, O, F>(&self, input: I, act: F) -> Result<O, StoreError>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        F: for<'a> Fn(&'a I, &'a mut Tx<'_>) -> Pending<'a, O> + Send + Sync + 'static,
    {
        let (slot, answer) = Slot::new(input);
        self.send(Work::Other(Box::new(Call { slot, act }))).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    /// All reads of it see one commit.
    async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.0.readers.begin().await?)
    }
}

/// Accepting.
impl Store {
    /// Stores notifications: one answer for each, in order; durable when it returns. Notifications of one call stand for
    /// themselves, but those that carry the same request's idempotency key (one with a credential) share its fate.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: nothing was stored. [`StoreError::Conflict`] for an id that is taken.
    pub async fn accept(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> {
        self.many(notifications, Work::Accept).await
    }

    /// Takes a notification back for everyone: gone from every inbox, with a tombstone in the feeds of its keys; what is
    /// pending is cancelled, what runs is not tried again. False where the tenant has none, or has taken it back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn withdraw(&self, tenant: &TenantId, id: NotificationId) -> Result<bool, StoreError> {
        self.single((tenant.clone(), id), |(tenant, id), tx| {
            Box::pin(marks::withdraw(tx, tenant, *id))
        })
        .await
    }

    /// Forgets expired idempotency keys and old entries of the feed, at most so many of each. Answers how many it
    /// forgot: below `limit` there is no more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn prune(&self, now: Micros, limit: u32) -> Result<u64, StoreError> {
        self.single((now, limit), |(now, limit), tx| {
            Box::pin(async move {
                let keys = sqlx::query(sqlite::accept::PRUNE_KEYS)
                    .bind(now.0)
                    .bind(*limit)
                    .execute(&mut *tx.conn)
                    .await?
                    .rows_affected();
                Ok(keys.max(marks::prune_changes(tx, *limit).await?))
            })
        })
        .await
    }
}

/// The queue.
impl Store {
    /// Leases due deliveries of a lane, those that are due first, first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        self.single(request, |request, tx| Box::pin(queue::claim(tx, request)))
            .await
    }

    /// Records attempts before their providers are called. False: the lease is lost or the number is taken; the provider
    /// must not be called.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn begin_attempts(&self, starts: Vec<AttemptStart>) -> Result<Vec<bool>, StoreError> {
        self.many(starts, Work::Begin).await
    }

    /// Ends claims. False: the lease is lost, nothing was written. A pending one whose notification was withdrawn is
    /// cancelled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, StoreError> {
        self.many(settlements, Work::Settle).await
    }

    /// Holds leases longer. False: the lease is lost.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn extend(
        &self,
        leases: Vec<(DeliveryId, i64)>,
        until: Micros,
    ) -> Result<Vec<bool>, StoreError> {
        let leases = leases
            .into_iter()
            .map(|(delivery, token)| (delivery, token, until))
            .collect();
        self.many(leases, Work::Extend).await
    }

    /// Gives leases back in an orderly stop; an attempt that was begun does not count against the limit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn release(&self, leases: Vec<(DeliveryId, i64)>) -> Result<(), StoreError> {
        self.single(leases, |leases, tx| Box::pin(queue::release(tx, leases)))
            .await
    }

    /// Takes back leases that ran out before `now`. An attempt with a start and no end gets the outcome `unknown`, and the
    /// channel's policy says what becomes of its delivery.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn rescue(
        &self,
        now: Micros,
        limit: u32,
        on_unknown: fn(Channel) -> OnUnknown,
    ) -> Result<Rescued, StoreError> {
        self.single((now, limit, on_unknown), |(now, limit, on_unknown), tx| {
            Box::pin(queue::rescue(tx, *now, *limit, *on_unknown))
        })
        .await
    }

    /// When [`Self::claim`], [`Self::make_visible`] or [`Self::next_job`] next have something to do; it may be past.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn next_due(&self) -> Result<Option<Micros>, StoreError> {
        queue::next_due(&mut *self.snapshot().await?).await
    }

    /// Scheduled notifications whose time has come get their positions; their rows in the inbox count as delivered.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn make_visible(&self, now: Micros, limit: u32) -> Result<Vec<NotificationId>, StoreError> {
        self.single((now, limit), |(now, limit), tx| {
            Box::pin(queue::make_visible(tx, *now, *limit))
        })
        .await
    }

    /// Leases a group's fan-out that is due or whose lease ran out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn next_job(
        &self,
        worker: &str,
        now: Micros,
        lease_until: Micros,
    ) -> Result<Option<JobClaim>, StoreError> {
        self.single(
            (worker.to_owned(), now, lease_until),
            |(worker, now, until), tx| Box::pin(jobs::next_job(tx, worker, *now, *until)),
        )
        .await
    }

    /// The next page of a job's recipients: looks at `limit` contacts and answers those who are meant.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn job_page(&self, claim: &JobClaim, limit: u32) -> Result<JobPage, StoreError> {
        jobs::page(&mut *self.snapshot().await?, claim, limit).await
    }

    /// Inserts a page's deliveries and moves the job's cursor in one transaction; a repeat of notification, user, channel
    /// and address is left out. `next` none ends the job. The claim's `cursor` is the caller's to move. False: the lease
    /// is lost, nothing was stored.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn advance_job(
        &self,
        claim: &JobClaim,
        deliveries: Vec<NewDelivery>,
        next: Option<String>,
        lease_until: Micros,
    ) -> Result<bool, StoreError> {
        let step = jobs::Advance {
            claim: claim.clone(),
            deliveries,
            next,
            lease_until,
        };
        self.single(step, |step, tx| Box::pin(jobs::advance(tx, step)))
            .await
    }

    /// What waits in each lane, the most important first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn queue_depths(&self) -> Result<Vec<LaneDepth>, StoreError> {
        queue::depths(&mut *self.snapshot().await?).await
    }
}

/// The inbox. [`Self::touch_reader`] comes before the others.
impl Store {
    /// Sees a reader: its first sight of each key is kept. Written at once where a set of keys is new, else at most hourly.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn touch_reader(&self, reader: &ReaderKeys) -> Result<(), StoreError> {
        let mut hasher = DefaultHasher::new();
        reader.keys.hash(&mut hasher);
        let name = (reader.tenant.clone(), reader.user.clone(), hasher.finish());
        let now = Micros::now();
        if self
            .0
            .seen
            .get(&name)
            .is_some_and(|at| now < at.plus(REFRESH_READER))
        {
            return Ok(());
        }
        self.single(reader.clone(), |reader, tx| Box::pin(marks::touch(tx, reader)))
            .await?;
        if self.0.seen.len() >= REMEMBERED_READERS {
            self.0.seen.clear();
        }
        self.0.seen.insert(name, now);
        Ok(())
    }

    /// What the reader sees, newest first; neither deleted nor archived.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(&self, reader: &ReaderKeys, filter: &ListFilter) -> Result<Vec<InboxItem>, StoreError> {
        inbox::list(&mut *self.snapshot().await?, reader, filter).await
    }

    /// One notification, if the reader sees it; also an archived one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn item(
        &self,
        reader: &ReaderKeys,
        id: NotificationId,
    ) -> Result<Option<InboxItem>, StoreError> {
        inbox::item(&mut *self.snapshot().await?, reader, id).await
    }

    /// How many the reader sees that are neither read nor archived. Exact.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn unread_count(&self, reader: &ReaderKeys) -> Result<u64, StoreError> {
        let keys = inbox::Keys::of(reader)?;
        inbox::unread(&mut *self.snapshot().await?, reader, &keys).await
    }

    /// What happened after a cursor, at most `limit` entries; without a cursor nothing, and the cursor of the present.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn changes(
        &self,
        reader: &ReaderKeys,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<ChangesResult, StoreError> {
        feed::changes(&mut *self.snapshot().await?, reader, after, limit).await
    }

    /// Marks notifications for this reader; what it does not see is left out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn mark(
        &self,
        reader: &ReaderKeys,
        ids: Vec<NotificationId>,
        mark: Mark,
    ) -> Result<Marked, StoreError> {
        self.single((reader.clone(), ids, mark), |(reader, ids, mark), tx| {
            Box::pin(marks::mark(tx, reader, ids, *mark))
        })
        .await
    }

    /// Marks everything as read, up to a cursor or to the present. What arrives later stays unread, and so does what is
    /// marked unread later.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn mark_all_read(
        &self,
        reader: &ReaderKeys,
        up_to: Option<&Cursor>,
    ) -> Result<ReadAll, StoreError> {
        self.single((reader.clone(), up_to.cloned()), |(reader, up_to), tx| {
            Box::pin(marks::mark_all_read(tx, reader, up_to.as_ref()))
        })
        .await
    }

    /// A subscription to commits under the reader's keys.
    #[must_use]
    pub fn watch(&self, reader: &ReaderKeys) -> Watch {
        self.0.watchers.watch(&reader.keys)
    }
}
