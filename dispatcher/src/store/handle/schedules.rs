//! Schedules.

use common::{
    audit::Origin,
    ids::{Name, TenantId},
};
use uuid::Uuid;

use crate::{
    model::{Micros, Schedule, ScheduleChange, ScheduleClaim, ScheduleEnd, ScheduleState},
    store::{Store, StoreError, schedules},
};

impl Store {
    /// Keeps a schedule. False: the tenant has `most` of them.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a name that the tenant has; [`StoreError::Unavailable`].
    pub async fn create_schedule(
        &self,
        schedule: Schedule,
        most: u32,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        self.single((schedule, most, by.clone()), |(schedule, most, by), tx| {
            Box::pin(schedules::create(tx, schedule, *most, by))
        })
        .await
    }

    /// A tenant's schedule.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn schedule(&self, tenant: &TenantId, id: Uuid) -> Result<Option<Schedule>, StoreError> {
        schedules::get(&mut self.snapshot().await?.access(), tenant, id).await
    }

    /// A tenant's schedules, or an author's, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn schedules(
        &self,
        tenant: &TenantId,
        author: Option<&Name>,
        state: Option<ScheduleState>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<Schedule>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        schedules::list(&mut snapshot.access(), tenant, author, state, after, limit).await
    }

    /// Changes a schedule, and takes it away from a dispatcher that runs it. The schedule as it is then; none where the
    /// tenant has none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a name that the tenant has; [`StoreError::Unavailable`].
    pub async fn change_schedule(
        &self,
        tenant: &TenantId,
        id: Uuid,
        change: ScheduleChange,
        by: &Origin,
    ) -> Result<Option<Schedule>, StoreError> {
        self.single(
            (tenant.clone(), id, change, by.clone()),
            |(tenant, id, change, by), tx| Box::pin(schedules::change(tx, tenant, *id, change, by)),
        )
        .await
    }

    /// Forgets a schedule. False: there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete_schedule(
        &self,
        tenant: &TenantId,
        id: Uuid,
        by: &Origin,
    ) -> Result<bool, StoreError> {
        self.single((tenant.clone(), id, by.clone()), |(tenant, id, by), tx| {
            Box::pin(schedules::delete(tx, tenant, *id, by))
        })
        .await
    }

    /// Leases schedules that are due, those that are due first, first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn claim_schedules(
        &self,
        worker: &str,
        now: Micros,
        lease_until: Micros,
        limit: u32,
    ) -> Result<Vec<ScheduleClaim>, StoreError> {
        self.claiming(
            (worker.to_owned(), now, lease_until, limit),
            |(worker, now, until, limit), tx| Box::pin(schedules::claim(tx, worker, *now, *until, *limit)),
        )
        .await
    }

    /// Ends a claim: the occurrence's notification is accepted and the schedule moves to its next time in one transaction.
    /// False: the claim is lost, nothing was stored.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where the occurrence's notification is there already; [`StoreError::Unavailable`].
    pub async fn end_occurrence(&self, end: ScheduleEnd) -> Result<bool, StoreError> {
        self.single(end, |end, tx| Box::pin(schedules::end(tx, end)))
            .await
    }

    /// Gives a claim back, to be looked at again at a time. False: the claim is lost.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_off_schedule(&self, id: Uuid, token: i64, until: Micros) -> Result<bool, StoreError> {
        self.single((id, token, until), |(id, token, until), tx| {
            Box::pin(schedules::put_off(tx, *id, *token, *until))
        })
        .await
    }

    /// When [`Self::claim_schedules`] next has something to do; it may be past.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn next_schedule(&self) -> Result<Option<Micros>, StoreError> {
        schedules::next(&mut self.snapshot().await?.access()).await
    }
}
