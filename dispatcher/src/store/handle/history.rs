//! What operators look at.

use std::collections::HashMap;

use common::ids::{NotificationId, TenantId};

use crate::{
    model::{Micros, Progress, SentFilter, SentPage, Sums},
    store::{Store, StoreError, history},
};

impl Store {
    /// A tenant's notifications, the newest first, after one of an earlier page. Looks at a bounded number of rows: a page
    /// may be short and still have a next one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sent(
        &self,
        tenant: &TenantId,
        filter: &SentFilter,
        after: Option<NotificationId>,
        limit: u32,
    ) -> Result<SentPage, StoreError> {
        history::list(
            &mut self.snapshot_or_stale().await?.access(),
            tenant,
            filter,
            after,
            limit,
        )
        .await
    }

    /// How far a notification is. Whether the caller may know is the caller's to look at.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn progress(&self, id: NotificationId) -> Result<Progress, StoreError> {
        history::progress(&mut self.snapshot_or_stale().await?.access(), id).await
    }

    /// Sums of a tenant over the newest 50,000 notifications of a time.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sums(&self, tenant: &TenantId, since: Micros, until: Micros) -> Result<Sums, StoreError> {
        history::sums(
            &mut self.snapshot_or_stale().await?.access(),
            tenant,
            since,
            until,
        )
        .await
    }

    /// How many deliveries of each tenant are pending. Its cost grows with their number.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn tenant_depths(&self) -> Result<HashMap<TenantId, u64>, StoreError> {
        history::tenant_depths(&mut self.snapshot().await?.access()).await
    }
}
