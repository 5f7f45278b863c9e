//! The store: what was accepted is here, and every state of it.

mod types;

use std::{
    path::Path,
    sync::Arc,
};

use common::ids::{DeliveryId, Name, NotificationId, TenantId};
use uuid::Uuid;

pub use self::types::{
    AttemptStart, ChangesResult, ClaimRequest, JobClaim, JobPage, LaneDepth, Mark, Marked, OnUnknown, ReadAll, Rescued, StoreConfig,
    StoreError, TenantStats,
};
use crate::model::{
    Accepted, Channel, Claimed, Contact, Cursor, Delivery, InboxItem, ListFilter, Micros, NewDelivery, NewNotification, NewTemplate,
    Notification, ReaderKeys, Settlement, Template,
};

/// The store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<()>);

fn stub<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable { reason: "stub".to_owned() })
}

/// A wait for what touches a reader's keys. Subscribe, then query, then wait: no wake-up is lost.
#[derive(Debug)]
pub struct Watch;

impl Watch {
    /// Returns when something was committed under the reader's keys since the last call, or since the subscription.
    /// Safe to drop and call again.
    pub async fn changed(&mut self) {
        std::future::pending().await
    }
}

#[allow(unused_variables, clippy::unused_async, clippy::needless_pass_by_value, missing_docs, clippy::missing_errors_doc)]
impl Store {
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> { stub() }
    pub async fn close(&self) {}

    /// One answer for each notification, in order; durable when it returns.
    pub async fn accept(&self, notifications: Vec<NewNotification>) -> Result<Vec<Accepted>, StoreError> { stub() }

    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>, StoreError> { stub() }
    /// false: the lease is lost, do not call the provider.
    pub async fn begin_attempts(&self, starts: Vec<AttemptStart>) -> Result<Vec<bool>, StoreError> { stub() }
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, StoreError> { stub() }
    pub async fn extend(&self, leases: Vec<(DeliveryId, i64)>, until: Micros) -> Result<Vec<bool>, StoreError> { stub() }
    pub async fn release(&self, leases: Vec<(DeliveryId, i64)>) -> Result<(), StoreError> { stub() }
    pub async fn rescue(&self, now: Micros, limit: u32, on_unknown: fn(Channel) -> OnUnknown) -> Result<Rescued, StoreError> { stub() }
    pub async fn next_due(&self) -> Result<Option<Micros>, StoreError> { stub() }
    pub async fn make_visible(&self, now: Micros, limit: u32) -> Result<Vec<NotificationId>, StoreError> { stub() }
    pub async fn next_job(&self, worker: &str, now: Micros, lease_until: Micros) -> Result<Option<JobClaim>, StoreError> { stub() }
    /// The next page of the job's recipients; read only.
    pub async fn job_page(&self, claim: &JobClaim, limit: u32) -> Result<JobPage, StoreError> { stub() }
    /// Inserts the page's deliveries (a repeat of notification, user, channel and address is left out) and moves the job's cursor
    /// in one transaction; `next` none ends the job. false: the lease is lost, nothing was stored.
    pub async fn advance_job(&self, claim: &JobClaim, deliveries: Vec<NewDelivery>, next: Option<String>, lease_until: Micros) -> Result<bool, StoreError> { stub() }
    pub async fn queue_depths(&self) -> Result<Vec<LaneDepth>, StoreError> { stub() }

    /// Newest first.
    pub async fn list(&self, reader: &ReaderKeys, filter: &ListFilter) -> Result<Vec<InboxItem>, StoreError> { stub() }
    pub async fn item(&self, reader: &ReaderKeys, id: NotificationId) -> Result<Option<InboxItem>, StoreError> { stub() }
    pub async fn unread_count(&self, reader: &ReaderKeys) -> Result<u64, StoreError> { stub() }
    /// `after` none: no changes, and the cursor of the present.
    pub async fn changes(&self, reader: &ReaderKeys, after: Option<&Cursor>, limit: u32) -> Result<ChangesResult, StoreError> { stub() }
    /// To be called before any other inbox method for a reader; cached.
    pub async fn touch_reader(&self, reader: &ReaderKeys) -> Result<(), StoreError> { stub() }
    pub async fn mark(&self, reader: &ReaderKeys, ids: Vec<NotificationId>, mark: Mark) -> Result<Marked, StoreError> { stub() }
    pub async fn mark_all_read(&self, reader: &ReaderKeys, up_to: Option<&Cursor>) -> Result<ReadAll, StoreError> { stub() }
    pub async fn withdraw(&self, tenant: &TenantId, id: NotificationId) -> Result<bool, StoreError> { stub() }
    pub fn watch(&self, reader: &ReaderKeys) -> Watch { Watch }

    pub async fn notification(&self, tenant: &TenantId, id: NotificationId) -> Result<Option<(Notification, Vec<Delivery>)>, StoreError> { stub() }
    pub async fn put_contact(&self, tenant: &TenantId, user: &Name, contact: &Contact) -> Result<(), StoreError> { stub() }
    pub async fn put_contacts(&self, tenant: &TenantId, contacts: Vec<(Name, Contact)>) -> Result<(), StoreError> { stub() }
    pub async fn contact(&self, tenant: &TenantId, user: &Name) -> Result<Option<Contact>, StoreError> { stub() }
    /// In the order asked; none where there is none.
    pub async fn contacts(&self, tenant: &TenantId, users: &[Name]) -> Result<Vec<Option<Contact>>, StoreError> { stub() }
    pub async fn delete_contact(&self, tenant: &TenantId, user: &Name) -> Result<bool, StoreError> { stub() }
    pub async fn create_template(&self, tenant: &TenantId, template: NewTemplate) -> Result<Template, StoreError> { stub() }
    pub async fn template_by_id(&self, tenant: &TenantId, id: Uuid) -> Result<Option<Template>, StoreError> { stub() }
    pub async fn template_by_name(&self, tenant: &TenantId, name: &str) -> Result<Option<Template>, StoreError> { stub() }
    pub async fn templates(&self, tenant: &TenantId) -> Result<Vec<Template>, StoreError> { stub() }
    pub async fn stats(&self, tenant: &TenantId) -> Result<TenantStats, StoreError> { stub() }
}

/// One line for each migration: its number, its name, and whether it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus { pub version: i64, pub name: String, pub applied: bool }

#[allow(unused_variables, clippy::unused_async, missing_docs, clippy::missing_errors_doc)]
pub async fn migrate_up(path: &Path) -> Result<Vec<MigrationStatus>, StoreError> { stub() }
/// Takes the newest migration back.
#[allow(unused_variables, clippy::unused_async, missing_docs, clippy::missing_errors_doc)]
pub async fn migrate_down(path: &Path) -> Result<Vec<MigrationStatus>, StoreError> { stub() }
#[allow(unused_variables, clippy::unused_async, missing_docs, clippy::missing_errors_doc)]
pub async fn migrate_status(path: &Path) -> Result<Vec<MigrationStatus>, StoreError> { stub() }
