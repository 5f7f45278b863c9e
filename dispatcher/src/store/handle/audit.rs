//! The audit log, and how often what is remembered was changed.

use common::audit::AuditEntry;

use crate::{
    model::{AuditFilter, AuditPlace, Revisions},
    store::{Store, StoreError, audit, revisions},
};

impl Store {
    /// Writes entries whose changes were made elsewhere. A repeat changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn append_audit(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        self.single(entries, |entries, tx| Box::pin(audit::append(tx, entries)))
            .await
    }

    /// A page of the audit log, the newest first; and where the next one begins, where there is more.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<AuditPlace>,
        limit: u32,
    ) -> Result<(Vec<AuditEntry>, Option<AuditPlace>), StoreError> {
        audit::page(&mut self.snapshot().await?.access(), filter, after, limit).await
    }

    /// How often each kind of thing was changed that processes remember. Says at once where the database refuses connections,
    /// as [`Self::answers`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn revisions(&self) -> Result<Revisions, StoreError> {
        self.answered_by(async {
            let mut snapshot = self.snapshot().await?;
            revisions::revisions(&mut snapshot.access()).await
        })
        .await
    }
}
