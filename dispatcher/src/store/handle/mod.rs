//! The handle: what callers do with the store, one file a noun. Reads go to the readers' connections, all else to the
//! writer; what each operation does stands in the file of its noun beside this folder.

mod accept;
mod api_keys;
mod audit;
mod chains;
mod events;
mod history;
mod inbox;
mod operate;
mod queue;
mod records;
mod schedules;
mod settings;
mod stops;

use std::{fmt, sync::Arc};

use common::ids::{Name, TenantId};
use dashmap::DashMap;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Place, StoreConfig, StoreError,
    connect::{self, Readers},
    hints::Hints,
    horizon::Horizon,
    link::Transaction,
    migrate,
    transaction::{Pending, Tx},
    watch::Watchers,
    writer::{Call, Shared, Slot, Work, Writer},
};
use crate::model::Micros;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

pub(super) struct Inner {
    /// What is accepted, and what readers do.
    front: mpsc::Sender<Work>,
    /// What the queue does. In SQLite both are one.
    back: mpsc::Sender<Work>,
    writers: TaskTracker,
    readers: Readers,
    config: Arc<StoreConfig>,
    pub(super) watchers: Arc<Watchers>,
    hints: Hints,
    /// The keys that a user came with last, hashed, and when that was written.
    pub(super) seen: DashMap<(TenantId, Name), (u64, Micros)>,
    pub(super) horizon: std::sync::Mutex<Horizon>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("place", &self.0.config.place)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, makes it where it does not exist, and applies missing migrations.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a database of a newer version or one that does not flush its commits,
    /// [`StoreError::Unavailable`] where it cannot be opened.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        migrate::up(&config.place).await?;
        let config = Arc::new(config.clone());
        let readers = Readers::open(&config).await?;
        let watchers = Arc::new(Watchers::default());
        let server = match &config.place {
            Place::File(_) => None,
            Place::Server(server) => Some(server),
        };
        let hints = Hints::start(server, &watchers)?;
        let writers = TaskTracker::new();
        let start = async |count: u32| {
            let (queue, waiting) = mpsc::channel(config.queue_max.max(1));
            let shared: Shared = Arc::new(Mutex::new(waiting));
            let closing = CancellationToken::new();
            for _ in 0..count.max(1) {
                let writer = Writer {
                    link: Some(connect::writer(&config.place).await?),
                    config: Arc::clone(&config),
                    queue: Arc::clone(&shared),
                    watchers: Arc::clone(&watchers),
                    hints: hints.clone(),
                    closing: closing.clone(),
                    unclear: false,
                };
                writers.spawn(writer.run());
            }
            Ok::<_, StoreError>(queue)
        };
        let (front, back) = match &config.place {
            Place::File(_) => {
                let queue = start(1).await?;
                (queue.clone(), queue)
            }
            Place::Server(server) => (
                start(server.connections).await?,
                start(server.queue_connections).await?,
            ),
        };
        writers.close();
        Ok(Self(Arc::new(Inner {
            front,
            back,
            writers,
            readers,
            config,
            watchers,
            hints,
            seen: DashMap::new(),
            horizon: std::sync::Mutex::default(),
        })))
    }

    /// Does what was sent before, then closes. Later operations are refused with [`StoreError::Unavailable`].
    pub async fn close(&self) {
        for queue in [&self.0.front, &self.0.back] {
            // An error says that the writers are gone, which is what was asked for.
            queue.send(Work::Close).await.unwrap_or_default();
        }
        self.0.writers.wait().await;
        self.0.readers.close().await;
    }

    /// Returns when another process on the same database made work for the queue, or may have. Never where there can be no
    /// other.
    pub(crate) async fn work_elsewhere(&self) {
        self.0.hints.work().await;
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

    /// Waits for room in the writers' queue, but not for ever.
    async fn send(&self, work: Work) -> Result<(), StoreError> {
        let queue = if work.is_of_queue() {
            &self.0.back
        } else {
            &self.0.front
        };
        match tokio::time::timeout(self.0.config.wait_max, queue.send(work)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(StoreError::closed()),
            Err(_) => Err(StoreError::Unavailable {
                reason: "the writers' queue is full".to_owned(),
            }),
        }
    }

    pub(super) async fn many<I, O>(&self, input: I, kind: fn(Slot<I, O>) -> Work) -> Result<O, StoreError> {
        let (slot, answer) = Slot::new(input);
        self.send(kind(slot)).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    /// An operation of its own.
    pub(super) async fn single<I, O, F>(&self, input: I, act: F) -> Result<O, StoreError>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        F: for<'a> Fn(&'a I, &'a mut Tx<'_>) -> Pending<'a, O> + Send + Sync + 'static,
    {
        let (slot, answer) = Slot::new(input);
        self.send(Work::Other(Box::new(Call { slot, act }))).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    /// An operation that takes only rows which nobody has locked, on the queue's connections.
    pub(super) async fn claiming<I, O, F>(&self, input: I, act: F) -> Result<O, StoreError>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
        F: for<'a> Fn(&'a I, &'a mut Tx<'_>) -> Pending<'a, O> + Send + Sync + 'static,
    {
        let (slot, answer) = Slot::new(input);
        self.send(Work::Claim(Box::new(Call { slot, act }))).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    /// Whether the work at hand could do without the primary: it reads, its caller is told, and there is a replica.
    #[must_use]
    pub(crate) fn may_be_stale(&self) -> bool {
        self.0.readers.may_be_stale()
    }

    /// The same as [`Self::snapshot`], by a replica where that is allowed and the primary is away.
    pub(super) async fn snapshot_or_stale(&self) -> Result<Transaction<'static>, StoreError> {
        self.0.readers.snapshot_or_stale().await
    }

    /// All reads of it see one commit.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static>, StoreError> {
        self.0.readers.snapshot().await
    }
}
