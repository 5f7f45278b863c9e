//! The handle: what callers do with the store, one file a noun. Reads go to the readers' connections, all else to the
//! writer; what each operation does stands in the file of its noun beside this folder.

mod accept;
mod inbox;
mod queue;
mod records;

use std::{fmt, sync::Arc};

use common::ids::{Name, TenantId};
use dashmap::DashMap;
use sqlx::{Sqlite, SqlitePool, Transaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    StoreConfig, StoreError, migrate,
    sqlite::connect,
    transaction::{Pending, Tx},
    watch::Watchers,
    writer::{Call, Slot, Work, Writer},
};
use crate::model::Micros;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

pub(super) struct Inner {
    queue: mpsc::Sender<Work>,
    readers: SqlitePool,
    config: StoreConfig,
    pub(super) watchers: Arc<Watchers>,
    /// The keys that a user came with last, hashed, and when that was written.
    pub(super) seen: DashMap<(TenantId, Name), (u64, Micros)>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.0.config.path)
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

    pub(super) async fn many<I, O>(&self, input: I, kind: fn(Slot<I, O>) -> Work) -> Result<O, StoreError> {
        let (slot, answer) = Slot::new(input);
        self.send(kind(slot)).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

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

    /// All reads of it see one commit.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.0.readers.begin().await?)
    }
}
