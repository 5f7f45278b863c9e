//! What operators do: pauses, cancelling, replacing, dead letters.

use std::time::{Duration, Instant};

use common::{
    audit::Origin,
    ids::{DeliveryId, NotificationId, TenantId},
};

use crate::{
    model::{
        Attempt, Cancelled, Candidate, Channel, DeadFilter, DeadLetter, DeadPlace, Micros, NewNotification,
        Pause, Pauses, Redrive, RedriveResult, Replaced,
    },
    store::{
        Store, StoreError, dead,
        operate::{self, Rest},
        pauses,
    },
};

/// How long a cancel ends what waits, before it leaves the rest to the queue's upkeep.
const STOP_TIME: Duration = Duration::from_secs(3);

impl Store {
    /// All pauses, also those that have ended by themselves and are not forgotten yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn pauses(&self) -> Result<Pauses, StoreError> {
        pauses::pauses(&mut self.snapshot().await?.access()).await
    }

    /// Pauses, or changes a pause of the same deliveries.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn pause(&self, pause: Pause, by: &Origin) -> Result<(), StoreError> {
        self.single((pause, by.clone()), |(pause, by), tx| {
            Box::pin(pauses::pause(tx, pause, by))
        })
        .await
    }

    /// Ends the pause of exactly these deliveries. False: there was none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn resume(
        &self,
        tenant: Option<TenantId>,
        channel: Option<Channel>,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        self.single((tenant, channel, by.clone()), |(tenant, channel, by), tx| {
            Box::pin(pauses::resume(tx, tenant.as_ref(), *channel, by))
        })
        .await
    }

    /// Stops what a notification has that was not begun; what is on the way is not tried again. None: there is none. Of a
    /// large one what waits is ended in several transactions, for a bounded time; what is left then is marked all the same,
    /// and nobody sends it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: nothing is changed, or a large one is cancelled and could not be counted.
    pub async fn cancel(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        by: &Origin,
    ) -> Result<Option<Cancelled>, StoreError> {
        let answer = self
            .single((tenant.clone(), id, by.clone()), |(tenant, id, by), tx| {
                Box::pin(operate::cancel(tx, tenant, *id, by))
            })
            .await?;
        let Some((mut cancelled, rest)) = answer else {
            return Ok(None);
        };
        if let Some(Rest { since, place }) = rest {
            self.stop_rest(tenant, id, since, place, &mut cancelled).await?;
        }
        Ok(Some(cancelled))
    }

    async fn stop_rest(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        since: Micros,
        place: String,
        cancelled: &mut Cancelled,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut next = Some(place);
        while let Some(place) = next
            && began.elapsed() < STOP_TIME
        {
            next = match self.stop_page(id, "cancelled", place).await {
                Ok(next) => next,
                Err(error) => {
                    // It is cancelled, whatever comes of this.
                    tracing::warn!(%error, notification = %id, "a part of what was cancelled is still to be ended");
                    None
                }
            };
        }
        operate::recount(&mut self.snapshot().await?.access(), tenant, id, since, cancelled).await
    }

    /// Puts a notification in the place of the tenant's one with the same id, which is not due yet. Its time of acceptance
    /// stays, and `idempotency` is not looked at.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn replace(
        &self,
        tenant: &TenantId,
        new: NewNotification,
        by: &Origin,
    ) -> Result<Replaced, StoreError> {
        self.single((tenant.clone(), new, by.clone()), |(tenant, new, by), tx| {
            Box::pin(operate::replace(tx, tenant, new, by))
        })
        .await
    }

    /// A tenant's dead letters, the newest first, and where the next page begins. With a text a page may be short though
    /// there are more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn dead_letters(
        &self,
        tenant: &TenantId,
        filter: &DeadFilter,
        after: Option<DeadPlace>,
        limit: u32,
    ) -> Result<(Vec<DeadLetter>, Option<DeadPlace>), StoreError> {
        dead::letters(&mut self.snapshot().await?.access(), tenant, filter, after, limit).await
    }

    /// A tenant's dead letter with its attempts.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn dead_letter(
        &self,
        tenant: &TenantId,
        id: DeliveryId,
    ) -> Result<Option<(DeadLetter, Vec<Attempt>)>, StoreError> {
        dead::one(&mut self.snapshot().await?.access(), tenant, id).await
    }

    /// What is dead of a notification and can be sent again: the first `limit` after `after`, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn dead_of(
        &self,
        notification: NotificationId,
        after: Option<DeliveryId>,
        limit: u32,
    ) -> Result<Vec<Candidate>, StoreError> {
        dead::dead_of(&mut self.snapshot().await?.access(), notification, after, limit).await
    }

    /// Those of these deliveries that are the notification's, each once, in no order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn named_of(
        &self,
        notification: NotificationId,
        named: &[DeliveryId],
    ) -> Result<Vec<Candidate>, StoreError> {
        dead::named_of(&mut self.snapshot().await?.access(), notification, named).await
    }

    /// Sends dead letters again, under their ids. Of two at the same time one does it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn redrive(
        &self,
        tenant: &TenantId,
        redrive: Redrive,
        by: &Origin,
    ) -> Result<RedriveResult, StoreError> {
        self.single(
            (tenant.clone(), redrive, by.clone()),
            |(tenant, redrive, by), tx| Box::pin(dead::redrive(tx, tenant, redrive, by)),
        )
        .await
    }

    /// Takes deliveries out of the dead letters; they stay dead. How many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn discard(
        &self,
        tenant: &TenantId,
        deliveries: Vec<DeliveryId>,
        by: &Origin,
    ) -> Result<u64, StoreError> {
        self.single(
            (tenant.clone(), deliveries, by.clone()),
            |(tenant, deliveries, by), tx| Box::pin(dead::discard(tx, tenant, deliveries, by)),
        )
        .await
    }
}
