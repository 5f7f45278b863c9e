//! Accepting, taking back, forgetting.

use std::collections::HashSet;

use common::{
    audit::Origin,
    ids::{NotificationId, TenantId},
};
use uuid::Uuid;

use crate::{
    model::{Accepted, IdempotencyKey, Micros, NewNotification},
    store::{
        Standing, Store, StoreError, collapse, events, idempotency, marks, retention, sql::accept as sql,
        writer::Work,
    },
};

impl Store {
    /// Stores notifications: one answer for each, in order; durable when it returns. Notifications of one call stand for
    /// themselves, but those that carry the same request's idempotency key (one with a credential) share its fate.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: nothing was stored. [`StoreError::Conflict`] for an id that is taken.
    pub async fn accept(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> {
        self.many(notifications, Work::Accept).await
    }

    /// What a request with these idempotency keys is told, by the first of them that is known: a repeat, or a mismatch.
    /// None is no promise that it is new: [`Self::accept`] judges.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn answered(
        &self,
        tenant: &TenantId,
        keys: &[IdempotencyKey],
    ) -> Result<Option<Accepted>, StoreError> {
        if keys.is_empty() {
            return Ok(None);
        }
        idempotency::answered(&mut self.snapshot().await?.access(), tenant, keys).await
    }

    /// Those of these notifications that are stored, by the primary.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn are_stored(
        &self,
        ids: &[NotificationId],
    ) -> Result<HashSet<NotificationId>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let stored: Vec<(Uuid,)> = self
            .snapshot()
            .await?
            .access()
            .query(sql::ARE_STORED)
            .list(&ids)
            .all()
            .await?;
        Ok(stored.into_iter().map(|(id,)| NotificationId(id)).collect())
    }

    /// What a new notification with a collapse key replaced, as long as it stands itself.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn replaced_by(&self, new: &Standing) -> Result<Option<NotificationId>, StoreError> {
        collapse::replaced_by(&mut self.snapshot().await?.access(), new).await
    }

    /// Puts another answer in the place of the one that is kept under a key, where the store judged otherwise than the caller
    /// had foretold.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn amend_answer(&self, tenant: &TenantId, key: IdempotencyKey) -> Result<(), StoreError> {
        self.single((tenant.clone(), key), |(tenant, key), tx| {
            Box::pin(idempotency::amend(tx, tenant, key))
        })
        .await
    }

    /// Takes a notification back for everyone: gone from every inbox, with a tombstone in the feeds of its keys; what is
    /// pending is cancelled, what runs is not tried again. False where the tenant has none, or has taken it back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn withdraw(
        &self,
        tenant: &TenantId,
        id: NotificationId,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        self.single((tenant.clone(), id, by.clone()), |(tenant, id, by), tx| {
            Box::pin(marks::withdraw(tx, tenant, *id, by))
        })
        .await
    }

    /// Forgets a part of what is older than the retention: rows of inboxes with their receipts, then notifications with
    /// deliveries and attempts, on PostgreSQL a month at once. What is scheduled, pending or at work is kept. Answers how
    /// much it forgot; 0: there is no more, or somebody else is in the way.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn forget(&self, limit: u32) -> Result<u64, StoreError> {
        self.single(limit, |limit, tx| Box::pin(retention::forget(tx, *limit)))
            .await
    }

    /// Makes room for this month and some to come, where tables are kept by months. Answers how much was missing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn make_room(&self) -> Result<u64, StoreError> {
        self.single((), |(), tx| Box::pin(retention::make_room(tx))).await
    }

    /// Forgets expired idempotency keys, events, old entries of the feed and of collapse keys, at most so many of each. Answers how many it
    /// forgot: below `limit` there is no more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn prune(&self, now: Micros, limit: u32) -> Result<u64, StoreError> {
        self.single((now, limit), |(now, limit), tx| {
            Box::pin(async move {
                let keys = idempotency::prune(tx, *now, *limit).await?;
                let changes = marks::prune_changes(tx, *limit).await?;
                let events = events::prune(tx, *limit).await?;
                let collapses = collapse::prune(tx, *limit).await?;
                Ok([keys, changes, events, collapses]
                    .into_iter()
                    .max()
                    .unwrap_or_default())
            })
        })
        .await
    }
}
