//! What the API calls: accept, and what readers do. Each of them stores first and tells afterwards.

mod acceptance;

use std::sync::Arc;

use common::{
    audit::Origin,
    ids::{NotificationId, TenantId},
    target::Audience,
    topic::TopicKey,
};
use tokio::sync::watch;

use crate::{
    channels::Channels,
    keyring::Keyring,
    metrics::{Metrics, Totals},
    model::{Accepted, Channel, Cursor, IdempotencyKey, ReaderKeys},
    operations::Operations,
    reading::ReadingStatus,
    realtime::Realtime,
    receipts::Readers,
    settings::Settings,
    spool::{Away, Spool},
    store::{Mark, Marked, ReadAll, Store, StoreError},
    wake::Wake,
};

pub use self::acceptance::AcceptError;

/// The handle that the API holds. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    realtime: Realtime,
    readers: Readers,
    channels: Channels,
    wake: Wake,
    metrics: Metrics,
    spool: Option<Spool>,
    /// None where the database is a file.
    away: Option<Away>,
    operations: Operations,
    keyring: Keyring,
    reading: ReadingStatus,
    settings: Settings,
    /// How often rules were changed, as this process knows.
    rules: watch::Receiver<i64>,
}

/// What a service is made of.
pub(crate) struct Means {
    pub(crate) store: Store,
    pub(crate) realtime: Realtime,
    pub(crate) channels: Channels,
    pub(crate) wake: Wake,
    pub(crate) metrics: Metrics,
    pub(crate) spool: Option<Spool>,
    pub(crate) operations: Operations,
    pub(crate) keyring: Keyring,
    pub(crate) settings: Settings,
    pub(crate) rules: watch::Receiver<i64>,
}

impl Service {
    pub(crate) fn new(means: Means) -> Self {
        let Means {
            store,
            realtime,
            channels,
            wake,
            metrics,
            spool,
            operations,
            keyring,
            settings,
            rules,
        } = means;
        let readers = Readers::new(store.clone(), realtime.clone(), keyring.clone());
        let away = store.away_after().map(Away::new);
        Self(Arc::new(Inner {
            store,
            realtime,
            readers,
            channels,
            wake,
            metrics,
            spool,
            away,
            operations,
            keyring,
            reading: ReadingStatus::default(),
            settings,
            rules,
        }))
    }

    /// API keys.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// What a request with these idempotency keys is told, as far as the database knows them; while it is away, the spool
    /// judges.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn answered(
        &self,
        tenant: &TenantId,
        keys: &[IdempotencyKey],
    ) -> Result<Option<Accepted>, StoreError> {
        match self.read(self.0.store.answered(tenant, keys)).await {
            Err(StoreError::Unavailable { .. }) if self.0.spool.is_some() => Ok(None),
            answer => answer,
        }
    }

    /// Reads for a request, which waits for no database that is away.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let work = Box::pin(work);
        match self.asks() {
            Some(away) => away.bounded(work).await,
            None => work.await,
        }
    }

    /// Sees a reader, as [`Store::touch_reader`]. Nobody waits for it longer than for any answer of the database; where a
    /// replica may answer instead, not at all while the database is away.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn touch(&self, reader: &ReaderKeys) -> Result<(), StoreError> {
        let work = self.0.store.touch_reader(reader);
        let Some(away) = self.asks() else {
            return work.await;
        };
        if self.0.store.may_be_stale() {
            return away.bounded(Box::pin(work)).await;
        }
        let patience = away.patience();
        // Known readers are not written again, so this may go well although the database takes nothing.
        tokio::time::timeout(patience, Box::pin(work))
            .await
            .unwrap_or_else(|_| {
                Err(StoreError::Unavailable {
                    reason: format!("the database gave no answer within {patience:?}"),
                })
            })
    }

    /// Where notifications go while the database is away; none where there is no such place.
    #[must_use]
    pub fn spool(&self) -> Option<&Spool> {
        self.0.spool.as_ref()
    }

    /// What is known by who asks by [`Self::read`].
    fn asks(&self) -> Option<&Away> {
        self.0.spool.as_ref().map(Spool::away).or(self.0.away.as_ref())
    }

    /// What is known of the database as who reads finds it; none where it is a file. The spool's own knowledge is of what
    /// writes: a database whose disk is full is away for it, and still answers readers.
    #[must_use]
    pub(crate) fn away(&self) -> Option<&Away> {
        self.0.away.as_ref()
    }

    fn tell_withdrawn(&self, keys: &[TopicKey], id: NotificationId) {
        for key in keys {
            self.0
                .realtime
                .publish_changed(key, Some(&[id]), "withdrawn", None);
        }
    }

    /// Marks notifications for a reader, and tells the reader's devices.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn mark(
        &self,
        reader: &ReaderKeys,
        ids: Vec<NotificationId>,
        mark: Mark,
    ) -> Result<Marked, StoreError> {
        let (readers, reader) = (self.0.readers.clone(), reader.clone());
        self.detached(async move { readers.mark(&reader, None, ids, mark).await })
            .await
    }

    /// Marks everything as read, up to a cursor or to now, and tells the reader's devices.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn mark_all_read(
        &self,
        reader: &ReaderKeys,
        up_to: Option<&Cursor>,
    ) -> Result<ReadAll, StoreError> {
        let (readers, reader, up_to) = (self.0.readers.clone(), reader.clone(), up_to.cloned());
        self.detached(async move { readers.mark_all_read(&reader, up_to.as_ref()).await })
            .await
    }

    /// Takes a notification back for everyone, and tells the sockets that may show it. False: there is none.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn withdraw(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        let (service, tenant, by) = (self.clone(), tenant.clone(), by.clone());
        self.detached(async move {
            if !service.0.store.withdraw(&tenant, id, &by).await? {
                return Ok(false);
            }
            let audience = match service.0.store.notification(&tenant, id).await {
                Ok(found) => found.and_then(|(notification, _)| notification.audience),
                Err(error) => {
                    // It is withdrawn; open pages learn it from the change feed.
                    tracing::warn!(%error, "sockets are not told of a withdrawal");
                    None
                }
            };
            let keys = audience.map(|audience| routed(&audience, &tenant));
            service.tell_withdrawn(&keys.unwrap_or_default(), id);
            Ok(true)
        })
        .await
    }

    /// Runs to the end also when the caller goes away: what was committed must be told.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        tokio::spawn(work).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable {
                reason: error.to_string(),
            })
        })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The same actions for who knows the session that asked.
    #[must_use]
    pub(crate) fn readers(&self) -> &Readers {
        &self.0.readers
    }

    /// Tells the queue of work that came by another way than [`Service::accept`], for example a redrive.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.0.wake
    }

    /// What operators ask of the queue.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.0.operations
    }

    /// How reading from topics goes.
    #[must_use]
    pub(crate) fn reading(&self) -> &ReadingStatus {
        &self.0.reading
    }

    /// What can be changed while the process runs, as it holds now.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Another number as soon as this process knows of a change of anybody's rules.
    #[must_use]
    pub(crate) fn rules_revision(&self) -> i64 {
        *self.0.rules.borrow()
    }

    /// Whether the bus takes frames at the moment.
    #[must_use]
    pub(crate) fn bus_is_ready(&self) -> bool {
        self.0.realtime.bus_is_ready()
    }

    /// A notification was refused as the queue is full.
    pub(crate) fn count_refused(&self) {
        self.0.metrics.queue_full.inc();
    }

    /// What this process did since it began.
    #[must_use]
    pub(crate) fn totals(&self) -> Totals {
        self.0.metrics.totals()
    }

    /// Whether deliveries by this channel can go out.
    #[must_use]
    pub fn is_configured(&self, channel: Channel) -> bool {
        self.0.channels.is_configured(channel)
    }

    /// Whether webhooks may go to this URL, as it is written; where its name leads is judged at every call. Every URL may
    /// where the channel is not configured.
    ///
    /// # Errors
    /// Why it would not be called.
    pub(crate) fn check_webhook(&self, url: &str) -> Result<(), &'static str> {
        self.0.channels.check_webhook(url)
    }

    /// Attempts of a delivery by this channel before it is dead.
    pub(crate) fn max_attempts(&self, channel: Channel) -> u32 {
        self.0.operations.attempts(channel)
    }
}

/// The keys of an audience's routes.
fn routed(audience: &Audience, tenant: &TenantId) -> Vec<TopicKey> {
    let routes = audience.target.routes(tenant);
    let mut keys: Vec<TopicKey> = routes.into_iter().map(|route| route.key).collect();
    keys.dedup();
    keys
}
