//! Events that are taken in, and the rules that make notifications of them.

use common::{audit::Origin, ids::TenantId};

use crate::{
    model::{EventRule, IncomingEvent, RuleBody, RuleVersion},
    store::{RuleWritten, Store, StoreError, rules, writer::Work},
};

impl Store {
    /// Stores the notifications of events, each event with all of its own in one transaction, and none that was taken in
    /// before. One answer for each event: whether it was new. Durable when it returns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: nothing was stored.
    pub async fn take_in(&self, events: Vec<IncomingEvent>) -> Result<Vec<bool>, StoreError> {
        self.many(events, Work::TakeIn).await
    }

    /// A tenant's own rules that hold, by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn rules(&self, tenant: &TenantId) -> Result<Vec<EventRule>, StoreError> {
        rules::rules(&mut self.snapshot().await?.access(), tenant).await
    }

    /// The versions of a rule that are kept, the newest first; one without a body deleted it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn rule_versions(&self, tenant: &TenantId, name: &str) -> Result<Vec<RuleVersion>, StoreError> {
        rules::versions(&mut self.snapshot().await?.access(), tenant, name).await
    }

    /// Makes a rule, or its next version. A tenant has at most so many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_rule(
        &self,
        tenant: &TenantId,
        name: &str,
        body: RuleBody,
        most: usize,
        by: &Origin,
    ) -> Result<RuleWritten, StoreError> {
        let input = (tenant.clone(), name.to_owned(), body, most, by.clone());
        self.single(input, |(tenant, name, body, most, by), tx| {
            Box::pin(rules::put(tx, tenant, name, body, *most, by))
        })
        .await
    }

    /// Deletes a rule; its versions stay readable. False: there was none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete_rule(&self, tenant: &TenantId, name: &str, by: &Origin) -> Result<bool, StoreError> {
        let input = (tenant.clone(), name.to_owned(), by.clone());
        self.single(input, |(tenant, name, by), tx| {
            Box::pin(rules::delete(tx, tenant, name, by))
        })
        .await
    }
}
