//! API keys.

use common::{
    audit::Origin,
    credential::{KeyRecord, KeyUse},
    ids::TenantId,
    token::{KeyHash, KeyId},
};

use crate::{
    model::{ApiKey, KeyFilter, KeyMade, KeyRotated, Micros, NewApiKey, Revised},
    store::{Store, StoreError, api_keys, revisions},
};

impl Store {
    /// Makes a key.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn create_key(&self, new: NewApiKey, by: &Origin) -> Result<KeyMade, StoreError> {
        self.single((new, by.clone()), |(new, by), tx| {
            Box::pin(api_keys::create(tx, new, by))
        })
        .await
    }

    /// A key; of any tenant where none is named.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn key(&self, tenant: Option<&TenantId>, id: &KeyId) -> Result<Option<ApiKey>, StoreError> {
        api_keys::get(&mut self.snapshot().await?.access(), tenant, id).await
    }

    /// Keys in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn keys(
        &self,
        filter: &KeyFilter,
        after: Option<&KeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        api_keys::list(&mut snapshot.access(), filter, Micros::now(), after, limit).await
    }

    /// Gives a key another secret; the one before counts until then.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn rotate_key(
        &self,
        tenant: Option<TenantId>,
        id: KeyId,
        hash: KeyHash,
        previous_until: Micros,
        by: &Origin,
    ) -> Result<KeyRotated, StoreError> {
        self.single(
            (tenant, id, hash, previous_until, by.clone()),
            |(tenant, id, hash, until, by), tx| {
                Box::pin(api_keys::rotate(tx, tenant.as_ref(), id, hash, *until, by))
            },
        )
        .await
    }

    /// Takes a key back. The key as it is then; none where there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn revoke_key(
        &self,
        tenant: Option<TenantId>,
        id: KeyId,
        by: &Origin,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.single((tenant, id, by.clone()), |(tenant, id, by), tx| {
            Box::pin(api_keys::revoke(tx, tenant.as_ref(), id, by))
        })
        .await
    }

    /// What nodes need of these keys, in no order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn key_records(&self, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
        api_keys::records(&mut self.snapshot().await?.access(), ids).await
    }

    /// The revision of all keys, and up to `limit` of those that were changed after another one, those that were changed first,
    /// first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn changed_keys(&self, after: i64, limit: u32) -> Result<(i64, Vec<KeyRecord>), StoreError> {
        let mut snapshot = self.snapshot().await?;
        // Before the keys: one that is changed between the two is read again.
        let revision = revisions::revisions(&mut snapshot.access())
            .await?
            .of(Revised::Keys);
        let changed = api_keys::changed(&mut snapshot.access(), after, limit).await?;
        Ok((revision, changed))
    }

    /// Notes when keys were used.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn note_key_uses(&self, uses: Vec<KeyUse>) -> Result<(), StoreError> {
        self.single(uses, |uses, tx| Box::pin(api_keys::used(tx, uses)))
            .await
    }
}
