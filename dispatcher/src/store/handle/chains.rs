//! Chains of channels.

use common::ids::{Name, NotificationId, TenantId};

use crate::{
    model::{Chain, Micros},
    store::{FailedOver, Store, StoreError, chains},
};

impl Store {
    /// Begins the steps of chains whose time has come, at most of `limit` chains. How many chains that were.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn start_steps(&self, now: Micros, limit: u32) -> Result<u64, StoreError> {
        self.claiming((now, limit), |(now, limit), tx| {
            Box::pin(chains::start_due(tx, *now, *limit))
        })
        .await
    }

    /// When [`Self::start_steps`] next has something to do; it may be past.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn next_step(&self) -> Result<Option<Micros>, StoreError> {
        chains::next_step(&mut self.snapshot().await?.access()).await
    }

    /// Frames of single users arrived, whichever process published them: their deliveries are delivered, under whatever
    /// lease. How many deliveries that ended.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn received(&self, receipts: Vec<(TenantId, Name, NotificationId)>) -> Result<u64, StoreError> {
        self.single(receipts, |receipts, tx| Box::pin(chains::received(tx, receipts)))
            .await
    }

    /// Chains of which a channel failed, and of which [`Self::told`] was not called since; the oldest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn failed_over(&self, limit: u32) -> Result<Vec<FailedOver>, StoreError> {
        chains::untold(&mut self.snapshot().await?.access(), limit).await
    }

    /// Administrators know of these.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn told(&self, seen: Vec<Chain>) -> Result<(), StoreError> {
        self.single(seen, |seen, tx| Box::pin(chains::told(tx, seen)))
            .await
    }
}
