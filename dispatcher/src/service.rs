//! What the API calls: accept, and what readers do. Each of them stores first and tells afterwards.

use std::sync::Arc;

use common::{
    ids::{NotificationId, TenantId},
    topic::TopicKey,
};

use crate::{
    accepted::AfterCommit,
    channels::Channels,
    metrics::Metrics,
    model::{Accepted, Channel, Cursor, IdempotencyKey, Micros, NewNotification, ReaderKeys},
    realtime::{Frames, Realtime},
    receipts::Readers,
    spool::{Spool, SpoolError, Turn},
    store::{Mark, Marked, ReadAll, Store, StoreError},
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
}

impl After {
    fn of(notifications: &[NewNotification]) -> Vec<Self> {
        let now = Micros::now();
        notifications
            .iter()
            .map(|one| Self {
                commit: AfterCommit::of(one, now),
                frames: Realtime::prepare(one),
            })
            .collect()
    }
}

/// Notifications whose idempotency keys will repeat what was said when they were spooled.
fn with_answer(mut notifications: Vec<NewNotification>, answer: Option<&str>) -> Vec<NewNotification> {
    let Some(answer) = answer else {
        return notifications;
    };
    for key in notifications.iter_mut().flat_map(|new| &mut new.idempotency) {
        key.status = 202;
        answer.clone_into(&mut key.response);
    }
    notifications
}

impl Service {
    pub(crate) fn new(
        store: Store,
        realtime: Realtime,
        channels: Channels,
        wake: Wake,
        metrics: Metrics,
        spool: Option<Spool>,
    ) -> Self {
        let readers = Readers::new(store.clone(), realtime.clone());
        Self(Arc::new(Inner {
            store,
            realtime,
            readers,
            channels,
            wake,
            metrics,
            spool,
        }))
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
            if let Some(frames) = after.frames {
                self.0.realtime.publish_accepted(frames).await;
            }
        }
    }

    /// The same, but what finds the database away is spooled, where there is a spool, and so is what has to queue behind that:
    /// then `spooled` is kept as the answer of its idempotency keys, with 202, where it is given. A commit of which nobody
    /// knows is settled by the notifications' ids.
    ///
    /// # Errors
    /// [`AcceptError`]: nothing is stored or spooled, but for [`SpoolError::Unclear`].
    pub async fn accept_or_spool(
        &self,
        notifications: Vec<NewNotification>,
        spooled: Option<String>,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let service = self.clone();
        let work = Box::pin(async move { service.accept_or_spool_now(notifications, spooled).await });
        tokio::spawn(work).await.unwrap_or_else(|error| {
            Err(StoreError::Unavailable {
                reason: error.to_string(),
            }
            .into())
        })
    }

    async fn accept_or_spool_now(
        &self,
        notifications: Vec<NewNotification>,
        spooled: Option<String>,
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
                            let accepted = spool.take(with_answer(notifications, spooled.as_deref())).await;
                            return Ok(self.spooled(accepted?, after).await);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                Turn::Behind => {
                    let after = After::of(&notifications);
                    let notifications = with_answer(notifications.clone(), spooled.as_deref());
                    if let Some(accepted) = spool.behind(notifications).await? {
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
        match &self.0.spool {
            Some(spool) => spool.away().bounded(work).await,
            None => work.await,
        }
    }

    /// Where notifications go while the database is away; none where there is no such place.
    #[must_use]
    pub fn spool(&self) -> Option<&Spool> {
        self.0.spool.as_ref()
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
    pub async fn withdraw(&self, tenant: &TenantId, id: NotificationId) -> Result<bool, StoreError> {
        let (service, tenant) = (self.clone(), tenant.clone());
        self.detached(async move {
            if !service.0.store.withdraw(&tenant, id).await? {
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
            let mut keys: Vec<TopicKey> = audience
                .map(|audience| audience.target.routes(&tenant))
                .unwrap_or_default()
                .into_iter()
                .map(|route| route.key)
                .collect();
            keys.dedup();
            for key in keys {
                service
                    .0
                    .realtime
                    .publish_changed(&key, Some(&[id]), "withdrawn", None);
            }
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

    /// Whether deliveries by this channel can go out.
    #[must_use]
    pub fn is_configured(&self, channel: Channel) -> bool {
        self.0.channels.is_configured(channel)
    }
}
