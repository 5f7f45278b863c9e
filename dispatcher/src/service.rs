//! What the API calls: accept, and what readers do. Each of them stores first and tells afterwards.

use std::sync::Arc;

use common::{
    ids::{NotificationId, TenantId},
    target::Audience,
    topic::TopicKey,
};

use crate::{
    channels::Channels,
    lease::Retries,
    metrics::{Metrics, Totals},
    model::{Accepted, Channel, Cursor, DeliveryState, Lane, Micros, NewNotification, ReaderKeys, Reason},
    operations::Operations,
    realtime::Realtime,
    receipts::Readers,
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
    retries: Retries,
    wake: Wake,
    metrics: Metrics,
    operations: Operations,
}

/// What a notification needs after its commit.
struct AfterCommit {
    frames: Option<crate::realtime::Frames>,
    lane: Lane,
    /// It has deliveries for the queue.
    queued: bool,
    job: bool,
    visible_at: Micros,
    scheduled: bool,
    /// Deliveries that had their end with the acceptance: the inbox, and what has no address or no configuration.
    ended: Vec<(Channel, DeliveryState, Option<Reason>)>,
    /// It may have taken another one's place, on pages of these keys.
    replaces: Option<(Standing, Vec<TopicKey>)>,
}

impl Service {
    pub(crate) fn new(
        store: Store,
        realtime: Realtime,
        channels: Channels,
        retries: Retries,
        wake: Wake,
        metrics: Metrics,
        operations: Operations,
    ) -> Self {
        let readers = Readers::new(store.clone(), realtime.clone());
        Self(Arc::new(Inner {
            store,
            realtime,
            readers,
            channels,
            retries,
            wake,
            metrics,
            operations,
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
        let now = Micros::now();
        let after: Vec<_> = notifications
            .iter()
            .map(|one| AfterCommit::of(one, now))
            .collect();
        let accepted = self.0.store.accept(notifications).await?;
        for (answer, after) in accepted.iter().zip(after) {
            if *answer != Accepted::New {
                continue;
            }
            self.0.metrics.created.inc();
            for (channel, state, reason) in &after.ended {
                match state {
                    DeliveryState::Delivered => self.0.metrics.count_sent(*channel),
                    _ => self
                        .0
                        .metrics
                        .count_failed(*channel, reason.as_deref().unwrap_or("unknown")),
                }
            }
            if after.scheduled {
                self.0.wake.visible(after.visible_at);
                self.0.wake.due(after.visible_at);
            } else if after.queued {
                self.0.wake.lane(after.lane);
            }
            if after.job {
                self.0.wake.jobs();
            }
            if let Some(frames) = after.frames {
                self.0.realtime.publish_accepted(frames).await;
            }
            if let Some((standing, keys)) = after.replaces {
                self.tell_replaced(&standing, &keys).await;
            }
        }
        Ok(accepted)
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

    /// Whether the bus takes frames at the moment.
    #[must_use]
    pub(crate) fn bus_is_ready(&self) -> bool {
        self.0.realtime.bus_is_ready()
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

    /// Attempts of a delivery by this channel before it is dead.
    pub(crate) fn max_attempts(&self, channel: Channel) -> u32 {
        self.0.retries.of(channel).max_attempts()
    }
}

/// The keys of an audience's routes.
fn routed(audience: &Audience, tenant: &TenantId) -> Vec<TopicKey> {
    let routes = audience.target.routes(tenant);
    let mut keys: Vec<TopicKey> = routes.into_iter().map(|route| route.key).collect();
    keys.dedup();
    keys
}

impl AfterCommit {
    fn of(notification: &NewNotification, now: Micros) -> Self {
        let scheduled = notification.visible_at > now && notification.visible_at > notification.created_at;
        Self {
            frames: Realtime::prepare(notification),
            lane: notification.lane,
            queued: notification
                .deliveries
                .iter()
                .any(|one| one.state == DeliveryState::Pending),
            job: notification.job.is_some(),
            visible_at: notification.visible_at,
            scheduled,
            ended: notification
                .deliveries
                .iter()
                .filter(|one| matches!(one.state, DeliveryState::Delivered | DeliveryState::Dead))
                .map(|one| (one.channel, one.state, one.reason.clone()))
                .collect(),
            replaces: Standing::of(notification).zip(
                notification
                    .audience
                    .as_ref()
                    .map(|audience| routed(audience, &notification.tenant)),
            ),
        }
    }
}
