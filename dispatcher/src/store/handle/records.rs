//! Notifications as they are shown, contacts, templates, sums.

use common::{
    audit::Origin,
    ids::{Name, NotificationId, TenantId},
};
use uuid::Uuid;

use crate::{
    model::{Contact, Delivery, NewTemplate, Notification, Template},
    store::{Store, StoreError, TenantStats, records},
};

impl Store {
    /// A tenant's notification with its deliveries (the first 2,000) and their attempts.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn notification(
        &self,
        tenant: &TenantId,
        id: NotificationId,
    ) -> Result<Option<(Notification, Vec<Delivery>)>, StoreError> {
        records::notification(&mut self.snapshot_or_stale().await?.access(), tenant, id).await
    }

    /// Replaces what is known of a user.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_contact(
        &self,
        tenant: &TenantId,
        user: &Name,
        contact: &Contact,
        by: &Origin,
    ) -> Result<(), StoreError> {
        self.put_contacts(tenant, vec![(user.clone(), contact.clone())], by)
            .await
    }

    /// Replaces what is known of many users, all or none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_contacts(
        &self,
        tenant: &TenantId,
        contacts: Vec<(Name, Contact)>,
        by: &Origin,
    ) -> Result<(), StoreError> {
        self.single(
            (tenant.clone(), contacts, by.clone()),
            |(tenant, contacts, by), tx| Box::pin(records::put_contacts(tx, tenant, contacts, by)),
        )
        .await
    }

    /// What is known of a user.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn contact(&self, tenant: &TenantId, user: &Name) -> Result<Option<Contact>, StoreError> {
        let mut found = self.contacts(tenant, std::slice::from_ref(user)).await?;
        Ok(found.pop().flatten())
    }

    /// What is known of users, in the order asked.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn contacts(
        &self,
        tenant: &TenantId,
        users: &[Name],
    ) -> Result<Vec<Option<Contact>>, StoreError> {
        records::contacts(&mut self.snapshot_or_stale().await?.access(), tenant, users).await
    }

    /// Forgets a user; false where there was none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete_contact(
        &self,
        tenant: &TenantId,
        user: &Name,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        self.single(
            (tenant.clone(), user.clone(), by.clone()),
            |(tenant, user, by), tx| Box::pin(records::delete_contact(tx, tenant, user, by)),
        )
        .await
    }

    /// Stores a template's first version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the tenant has one of the name; [`StoreError::Unavailable`].
    pub async fn create_template(
        &self,
        tenant: &TenantId,
        template: NewTemplate,
        by: &Origin,
    ) -> Result<Template, StoreError> {
        self.single(
            (tenant.clone(), template, by.clone()),
            |(tenant, template, by), tx| Box::pin(records::create_template(tx, tenant, template, by)),
        )
        .await?
    }

    /// A tenant's template.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn template_by_id(&self, tenant: &TenantId, id: Uuid) -> Result<Option<Template>, StoreError> {
        records::template_by_id(&mut self.snapshot_or_stale().await?.access(), tenant, id).await
    }

    /// A tenant's template.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn template_by_name(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<Option<Template>, StoreError> {
        records::template_by_name(&mut self.snapshot_or_stale().await?.access(), tenant, name).await
    }

    /// A tenant's templates by name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn templates(&self, tenant: &TenantId) -> Result<Vec<Template>, StoreError> {
        records::templates(&mut self.snapshot_or_stale().await?.access(), tenant).await
    }

    /// A tenant's sums.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn stats(&self, tenant: &TenantId) -> Result<TenantStats, StoreError> {
        records::stats(&mut self.snapshot_or_stale().await?.access(), tenant).await
    }
}
