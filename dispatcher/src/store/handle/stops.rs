//! What was taken back: its pending deliveries end, a page in one transaction.

use common::ids::NotificationId;

use crate::store::{Store, StoreError, stops};

impl Store {
    /// Notifications that were cancelled, withdrawn or replaced and may have pending deliveries left, with the reason.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn open_stops(&self) -> Result<Vec<(NotificationId, String)>, StoreError> {
        stops::open(&mut self.snapshot().await?.access()).await
    }

    /// Ends a page of what such a notification has left, from a place on, which is empty for the first page. Where the next
    /// page begins; none: nothing is left.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: what is left is claimed by nobody who would send it.
    pub async fn stop_page(
        &self,
        id: NotificationId,
        reason: &str,
        place: String,
    ) -> Result<Option<String>, StoreError> {
        self.single((id, reason.to_owned(), place), |(id, reason, place), tx| {
            Box::pin(stops::go_on(tx, *id, reason, place))
        })
        .await
    }
}
