//! What the API calls: accept, and what readers do. Each of them stores first and tells afterwards.

use std::sync::Arc;

use common::{
    audit::Origin,
    ids::{NotificationId, TenantId},
    target::Audience,
    topic::TopicKey,
};

use crate::{
    accepted::AfterCommit,
    channels::Channels,
    fail_point,
    keyring::Keyring,
    metrics::{Metrics, Totals},
    model::{
        Accepted, Channel, Cursor, IdempotencyKey, IncomingEvent, Micros, NewNotification, Occurred,
        ReaderKeys, ScheduleEnd,
    },
    operations::Operations,
    reading::ReadingStatus,
    realtime::{Frames, Realtime},
    receipts::Readers,
    settings::Settings,
    spool::{Away, Spool, SpoolError, Turn},
    store::{Mark, Marked, ReadAll, Standing, Store, StoreError},
    wake::Wake,
};

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
}

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the spool says, while the database is away or something is spooled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// Times that a request goes from one to the other, where the spool empties just as it comes.
const TURNS: u32 = 4;

/// What is to be done after a commit, made before it.
struct After {
    commit: AfterCommit,
    frames: Option<Frames>,
    /// It may have taken another one's place, on pages of these keys.
    replaces: Option<(Standing, Vec<TopicKey>)>,
}

impl After {
    fn of(notifications: &[NewNotification]) -> Vec<Self> {
        let now = Micros::now();
        notifications
            .iter()
            .map(|one| Self {
                commit: AfterCommit::of(one, now),
                frames: Realtime::prepare(one),
                replaces: Standing::of(one).zip(
                    one.audience
                        .as_ref()
                        .map(|audience| routed(audience, &one.tenant)),
                ),
            })
            .collect()
    }
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
        }))
    }

    /// API keys.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// Stores notifications, publishes their frames, and wakes the queue. One answer for each, in order; what is new is
    /// committed and flushed when this returns. A caller that goes away changes nothing of that.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is stored.
    pub async fn accept(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> {
        let service = self.clone();
        self.detached(async move { service.accept_now(notifications).await })
            .await
    }

    async fn accept_now(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> {
        let after = After::of(&notifications);
        let accepted = self.0.store.accept(notifications).await?;
        self.committed(&accepted, after).await;
        Ok(accepted)
    }

    async fn committed(&self, accepted: &[Accepted], after: Vec<After>) {
        for (answer, after) in accepted.iter().zip(after) {
            if *answer != Accepted::New {
                continue;
            }
            after.commit.tell(&self.0.wake, &self.0.metrics);
            fail_point::reached("accept", "before_publish");
            if let Some(frames) = after.frames {
                self.0.realtime.publish_accepted(frames).await;
            }
            if let Some((standing, keys)) = after.replaces {
                self.tell_replaced(&standing, &keys).await;
            }
        }
    }

    /// Stores the notifications of events that were not taken in before, each event with all of its own in one transaction, and
    /// publishes their frames. One answer for each event: whether it was new.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is stored, as far as is known; the same again changes nothing that was.
    pub(crate) async fn take_in(&self, events: Vec<IncomingEvent>) -> Result<Vec<bool>, StoreError> {
        let service = self.clone();
        self.detached(async move {
            let after: Vec<Vec<After>> = events
                .iter()
                .map(|event| After::of(&event.notifications))
                .collect();
            let fresh = service.0.store.take_in(events).await?;
            let (answers, after): (Vec<_>, Vec<_>) = fresh
                .iter()
                .zip(after)
                .filter(|(fresh, _)| **fresh)
                .flat_map(|(_, after)| after.into_iter().map(|after| (Accepted::New, after)))
                .unzip();
            service.committed(&answers, after).await;
            Ok(fresh)
        })
        .await
    }

    /// Ends a schedule's occurrence: its notification, where there is one, is stored with the schedule's next time in one
    /// transaction, and published then. False: the claim is lost, nothing was stored.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is stored.
    pub(crate) async fn end_occurrence(&self, end: ScheduleEnd) -> Result<bool, StoreError> {
        let service = self.clone();
        self.detached(async move {
            let after = match &end.occurred {
                Occurred::Ran(_, notification) => After::of(std::slice::from_ref(&**notification)),
                Occurred::Failed(..) | Occurred::Nothing => Vec::new(),
            };
            let ended = service.0.store.end_occurrence(end).await?;
            if ended {
                service.committed(&[Accepted::New], after).await;
            }
            Ok(ended)
        })
        .await
    }

    /// The same as [`Self::accept`], but what finds the database away is spooled, where there is a spool, and so is what has to queue behind that:
    /// then `respell` says in them what their idempotency keys will repeat. A commit of which nobody knows is settled by the
    /// notifications' ids.
    ///
    /// # Errors
    /// [`AcceptError`]: nothing is stored or spooled, but for [`SpoolError::Unclear`].
    pub async fn accept_or_spool(
        &self,
        notifications: Vec<NewNotification>,
        respell: impl Fn(&mut [NewNotification]) + Send + Sync + 'static,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let service = self.clone();
        let work = Box::pin(async move { service.accept_or_spool_now(notifications, &respell).await });
        tokio::spawn(work).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable {
                reason: error.to_string(),
            }
            .into())
        })
    }

    async fn accept_or_spool_now(
        &self,
        mut notifications: Vec<NewNotification>,
        respell: &(impl Fn(&mut [NewNotification]) + Sync),
    ) -> Result<Vec<Accepted>, AcceptError> {
        let Some(spool) = &self.0.spool else {
            return Ok(self.accept_now(notifications).await?);
        };
        for _ in 0..TURNS {
            match spool.turn().await {
                Turn::Refused => {
                    let reason = "redis is away, and notifications from before wait in it".to_owned();
                    return Err(SpoolError::Away { reason }.into());
                }
                Turn::Direct => {
                    let after = After::of(&notifications);
                    match spool
                        .away()
                        .bounded(self.0.store.accept(notifications.clone()))
                        .await
                    {
                        Ok(accepted) => {
                            self.committed(&accepted, after).await;
                            return Ok(accepted);
                        }
                        Err(StoreError::Unavailable { .. }) => {
                            respell(&mut notifications);
                            fail_point::reached("spool", "before_take");
                            let accepted = spool.take(notifications).await?;
                            fail_point::reached("spool", "after_take");
                            return Ok(self.spooled(accepted, after).await);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Turn::Behind => {
                    let after = After::of(&notifications);
                    let mut respelt = notifications.clone();
                    respell(&mut respelt);
                    if let Some(accepted) = spool.behind(respelt).await? {
                        return Ok(self.spooled(accepted, after).await);
                    }
                }
            }
        }
        let reason = "the spool opens and closes".to_owned();
        Err(SpoolError::Away { reason }.into())
    }

    /// Frames go out at once, from memory; all else when it is stored.
    async fn spooled(&self, accepted: Vec<Accepted>, after: Vec<After>) -> Vec<Accepted> {
        for (answer, after) in accepted.iter().zip(after) {
            if let (Accepted::Spooled, Some(frames)) = (answer, after.frames) {
                self.0.realtime.publish_spooled(frames).await;
            }
        }
        accepted
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

    /// Tells open pages that an older notification has given its place.
    async fn tell_replaced(&self, standing: &Standing, keys: &[TopicKey]) {
        match self.0.store.replaced_by(standing).await {
            Ok(Some(replaced)) => self.tell_withdrawn(keys, replaced),
            Ok(None) => {}
            // It is withdrawn; open pages learn it from the change feed.
            Err(error) => tracing::warn!(%error, "sockets are not told of a replaced notification"),
        }
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
