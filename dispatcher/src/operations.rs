//! What operators ask of the queue. Each of them stores first and tells the workers afterwards.

use std::sync::Arc;

use common::{
    audit::Origin,
    ids::{DeliveryId, NotificationId, TenantId},
};

use crate::{
    lease::Retries,
    metrics::Metrics,
    model::{
        Cancelled, Candidate, Channel, DeadFilter, DeadLetter, DeadPlace, DeliveryState, Micros,
        NewNotification, Pause, Pauses, Redrive, RedriveResult, Replaced,
    },
    pausing::Pausing,
    store::{Store, StoreError},
    wake::Wake,
};

/// Dead letters that are sent again, or discarded, in one transaction.
const BATCH: u32 = 200;

/// What was done with dead letters that fit a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many.
    pub count: u64,
    /// The bound was reached, and there may be more.
    pub more: bool,
}

/// Deliveries of one notification that one retry sends again at the most.
const MAX_RETRIED: usize = 10_000;

/// What of a notification goes again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retried {
    /// These.
    pub deliveries: Vec<DeliveryId>,
    /// The bound was reached, and there may be more.
    pub more: bool,
}

/// What is done with many dead letters.
#[derive(Debug, Clone, Copy)]
enum Act {
    Redrive,
    Discard,
}

/// The handle for operators. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations {
    store: Store,
    wake: Wake,
    metrics: Metrics,
    pausing: Pausing,
    retries: Retries,
}

impl Operations {
    pub(crate) fn new(
        store: Store,
        wake: Wake,
        metrics: Metrics,
        pausing: Pausing,
        retries: Retries,
    ) -> Self {
        Self {
            store,
            wake,
            metrics,
            pausing,
            retries,
        }
    }

    /// Attempts of a delivery by this channel that is sent again.
    #[must_use]
    pub fn attempts(&self, channel: Channel) -> u32 {
        self.retries.of(channel).max_attempts()
    }

    /// Stops what a notification has that was not begun. None: the tenant has no such notification.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn cancel(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        by: &Origin,
    ) -> Result<Option<Cancelled>, StoreError> {
        self.store.cancel(tenant, id, by).await
    }

    /// Puts a notification in the place of one that is not due yet.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn replace(
        &self,
        tenant: &TenantId,
        new: NewNotification,
        by: &Origin,
    ) -> Result<Replaced, StoreError> {
        let visible_at = new.visible_at;
        let replaced = self.store.replace(tenant, new, by).await?;
        if replaced == Replaced::Done {
            self.wake.visible(visible_at);
            self.wake.due(visible_at);
        }
        Ok(replaced)
    }

    /// Sends dead letters again, under their ids.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn redrive(
        &self,
        tenant: &TenantId,
        redrive: Redrive,
        by: &Origin,
    ) -> Result<RedriveResult, StoreError> {
        let result = self.store.redrive(tenant, redrive, by).await?;
        if let RedriveResult::Redriven(redriven) = &result {
            self.metrics.redriven.inc_by(redriven.len() as u64);
            for one in redriven {
                self.wake.lane(one.lane);
            }
        }
        Ok(result)
    }

    /// Sends again what is dead of a notification, under its ids, in transactions of bounded size.
    ///
    /// # Errors
    /// [`StoreError`]: what went before stays done; the rest can be asked for again.
    pub async fn retry(
        &self,
        tenant: &TenantId,
        notification: NotificationId,
        by: &Origin,
    ) -> Result<Retried, StoreError> {
        let mut retried = Retried::default();
        // Once in the order of the ids, so that what dies again on the way is not taken again.
        let mut after = None;
        loop {
            let dead = self.store.dead_of(notification, after, BATCH).await?;
            let Some(last) = dead.last() else {
                return Ok(retried);
            };
            after = Some(last.id);
            retried
                .deliveries
                .extend(self.retry_these(tenant, &dead, by).await?);
            if dead.len() < BATCH as usize {
                return Ok(retried);
            }
            if retried.deliveries.len() >= MAX_RETRIED {
                retried.more = true;
                return Ok(retried);
            }
        }
    }

    /// Sends again those of these that are dead, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn retry_these(
        &self,
        tenant: &TenantId,
        candidates: &[Candidate],
        by: &Origin,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let redrive = Redrive {
            deliveries: candidates
                .iter()
                .filter(|one| one.state == DeliveryState::Dead)
                .map(|one| (one.id, self.attempts(one.channel)))
                .collect(),
            ..Redrive::default()
        };
        if redrive.deliveries.is_empty() {
            return Ok(Vec::new());
        }
        Ok(match self.redrive(tenant, redrive, by).await? {
            RedriveResult::Redriven(all) => all.into_iter().map(|one| one.id).collect(),
            // Only where an address is given.
            RedriveResult::AddressTaken => Vec::new(),
        })
    }

    /// Sends dead letters that fit a filter again, at most `most` of them, in transactions of bounded size.
    ///
    /// # Errors
    /// [`StoreError`]: what went before stays done; the rest can be asked for again.
    pub async fn redrive_all(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        most: u32,
        by: &Origin,
    ) -> Result<Swept, StoreError> {
        self.sweep(tenant, filter, most, Act::Redrive, by).await
    }

    /// Takes deliveries out of the dead letters; they stay dead. How many.
    ///
    /// # Errors
    /// [`StoreError`]: nothing is changed.
    pub async fn discard(
        &self,
        tenant: &TenantId,
        deliveries: Vec<DeliveryId>,
        by: &Origin,
    ) -> Result<u64, StoreError> {
        self.store.discard(tenant, deliveries, by).await
    }

    /// Discards dead letters that fit a filter, at most `most` of them.
    ///
    /// # Errors
    /// [`StoreError`]: what went before stays done; the rest can be asked for again.
    pub async fn discard_all(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        most: u32,
        by: &Origin,
    ) -> Result<Swept, StoreError> {
        self.sweep(tenant, filter, most, Act::Discard, by).await
    }

    /// Walks the list once, so that what dies again on the way is not taken again.
    async fn sweep(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        most: u32,
        act: Act,
        by: &Origin,
    ) -> Result<Swept, StoreError> {
        let mut filter = filter.clone();
        // What dies from now on is not meant, and would come before the place that the walk has reached.
        let now = Micros::now();
        filter.to = Some(filter.to.map_or(now, |to| to.min(now)));
        let mut swept = Swept::default();
        let mut left = most;
        let mut after: Option<DeadPlace> = None;
        while left > 0 {
            let (letters, next) = self
                .store
                .dead_letters(tenant, &filter, after, left.min(BATCH))
                .await?;
            left = left.saturating_sub(u32::try_from(letters.len()).unwrap_or(u32::MAX));
            if !letters.is_empty() {
                swept.count += self.act(tenant, &letters, act, by).await?;
            }
            match next {
                Some(place) => after = Some(place),
                None => return Ok(swept),
            }
        }
        swept.more = true;
        Ok(swept)
    }

    async fn act(
        &self,
        tenant: &TenantId,
        letters: &[DeadLetter],
        act: Act,
        by: &Origin,
    ) -> Result<u64, StoreError> {
        match act {
            Act::Discard => {
                let deliveries = letters.iter().map(|letter| letter.id).collect();
                self.discard(tenant, deliveries, by).await
            }
            Act::Redrive => {
                let redrive = Redrive {
                    deliveries: letters
                        .iter()
                        .map(|letter| (letter.id, self.attempts(letter.channel)))
                        .collect(),
                    ..Redrive::default()
                };
                Ok(match self.redrive(tenant, redrive, by).await? {
                    RedriveResult::Redriven(redriven) => redriven.len() as u64,
                    RedriveResult::AddressTaken => 0,
                })
            }
        }
    }

    /// Pauses, on this node at once and on the others within a second. What is being sent goes on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pause(&self, pause: Pause, by: &Origin) -> Result<(), StoreError> {
        self.pausing.pause(pause, by).await
    }

    /// Resumes. False: exactly this was not paused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resume(
        &self,
        tenant: Option<TenantId>,
        channel: Option<Channel>,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        self.pausing.resume(tenant, channel, by).await
    }

    /// What is paused, as the store knows it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pauses(&self) -> Result<Pauses, StoreError> {
        self.store.pauses().await
    }

    /// What this process knows to be paused, also while the database is away.
    #[must_use]
    pub fn known_pauses(&self) -> Arc<Pauses> {
        self.pausing.current()
    }
}
