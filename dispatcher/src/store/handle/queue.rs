//! The queue: claims, attempts, ends, leases, fan-outs.

use std::{
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::ids::{DeliveryId, NotificationId};

use crate::{
    model::{Channel, Claimed, Lane, Micros, NewDelivery, Settlement},
    store::{
        AttemptStart, ClaimRequest, JobClaim, JobPage, LaneDepth, OnUnknown, Place, Rescued, Store,
        StoreError, claim, fair::Flow, horizon::Horizon, jobs, probe, queue, writer::Work,
    },
};

/// An answer that takes longer may be waiting for a connection that is refused.
const KNOCK_AFTER: Duration = Duration::from_millis(50);

impl Store {
    /// Leases due deliveries of a lane: the tenants that have some in turn, and of each those that are due first, first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<Claimed>, StoreError> {
        let flows = self.flows(&request).await?;
        if flows.is_empty() {
            return Ok(Vec::new());
        }
        let lane = request.lane;
        let floors = self.horizon().floors(lane, &flows, Instant::now());
        let whole = floors.is_none();
        let (claimed, seen) = self
            .claiming((request, flows, floors), |(request, flows, floors), tx| {
                Box::pin(claim::claim(tx, request, flows, floors.as_deref()))
            })
            .await?;
        // SQLite keeps no entries of rows that are gone.
        if matches!(self.0.config.place, Place::Server(_)) {
            self.horizon().saw(lane, &seen, whole, Instant::now());
        }
        Ok(claimed)
    }

    /// Up to when about `count` notifications expire of those that do after `after` and before `now`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn expiry_step(
        &self,
        after: Micros,
        now: Micros,
        count: u32,
    ) -> Result<Micros, StoreError> {
        claim::expiry_step(&mut self.snapshot().await?.access(), after, now, count).await
    }

    /// Leases up to `limit` deliveries of a lane whose notification expired after `after` and before `now`, whether they are
    /// paused, or due at all.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn claim_expired(
        &self,
        worker: &str,
        lane: Lane,
        (after, now): (Micros, Micros),
        lease_until: Micros,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        let request = claim::ExpiredRequest {
            worker: worker.to_owned(),
            lane,
            after,
            now,
            lease_until,
            limit,
        };
        self.claiming(request, |request, tx| Box::pin(claim::expired(tx, request)))
            .await
    }

    /// Whose work is due in the request's lane.
    async fn flows(&self, request: &ClaimRequest) -> Result<Vec<Flow>, StoreError> {
        let (lane, channels) = (request.lane, &request.channels);
        let known = self.horizon().flows(lane, channels, Instant::now());
        if let Some(flows) = known {
            return Ok(flows);
        }
        let mut snapshot = self.snapshot().await?;
        let began = Instant::now();
        let flows = claim::flows(&mut snapshot.access(), request).await?;
        if matches!(self.0.config.place, Place::Server(_)) {
            let now = Instant::now();
            self.horizon().saw_flows(lane, channels, &flows, now - began, now);
        }
        Ok(flows)
    }

    fn horizon(&self) -> MutexGuard<'_, Horizon> {
        self.0.horizon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records attempts before their providers are called. False: the lease is lost or the number is taken; the provider
    /// must not be called.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn begin_attempts(&self, starts: Vec<AttemptStart>) -> Result<Vec<bool>, StoreError> {
        self.many(starts, Work::Begin).await
    }

    /// Ends claims. False: the lease is lost, nothing was written. A pending one whose notification was withdrawn is
    /// cancelled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<bool>, StoreError> {
        self.many(settlements, Work::Settle).await
    }

    /// Holds leases longer. False: the lease is lost.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn extend(
        &self,
        leases: Vec<(DeliveryId, i64)>,
        until: Micros,
    ) -> Result<Vec<bool>, StoreError> {
        let leases = leases
            .into_iter()
            .map(|(delivery, token)| (delivery, token, until))
            .collect();
        self.many(leases, Work::Extend).await
    }

    /// Gives leases back in an orderly stop; an attempt that was begun does not count against the limit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn release(&self, leases: Vec<(DeliveryId, i64)>) -> Result<(), StoreError> {
        self.single(leases, |leases, tx| Box::pin(queue::release(tx, leases)))
            .await
    }

    /// Takes back leases that ran out before `now`. An attempt with a start and no end gets the outcome `unknown`, and the
    /// channel's policy says what becomes of its delivery.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn rescue(
        &self,
        now: Micros,
        limit: u32,
        on_unknown: fn(Channel) -> OnUnknown,
    ) -> Result<Rescued, StoreError> {
        self.claiming((now, limit, on_unknown), |(now, limit, on_unknown), tx| {
            Box::pin(queue::rescue(tx, *now, *limit, *on_unknown))
        })
        .await
    }

    /// Whether the database answers now: nothing that is remembered says so. A refused connection is known at once, though
    /// the readers' pool tries for one until its time is out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn answers(&self) -> Result<(), StoreError> {
        self.answered_by(async {
            let mut snapshot = self.snapshot().await?;
            queue::answers(&mut snapshot.access()).await
        })
        .await
    }

    /// What is asked, unless connections are refused meanwhile.
    pub(super) async fn answered_by<T>(
        &self,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let refused = async {
            tokio::time::sleep(KNOCK_AFTER).await;
            match probe(&self.0.config.place).await {
                Ok(()) => std::future::pending().await,
                Err(error) => StoreError::Unavailable {
                    reason: error.to_string(),
                },
            }
        };
        tokio::select! {
            biased;
            answer = asked => answer,
            error = refused => Err(error),
        }
    }

    /// What the database does not answer within this time counts as away; none for a file, which is always there.
    pub(crate) fn away_after(&self) -> Option<Duration> {
        match &self.0.config.place {
            Place::File(_) => None,
            Place::Server(server) => Some(server.away_after),
        }
    }

    /// When [`Self::claim`], [`Self::make_visible`] or [`Self::next_job`] next have something to do; it may be past.
    /// Where looking is dear, as of a moment ago.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn next_due(&self) -> Result<Option<Micros>, StoreError> {
        let known = self.horizon().next_due(Instant::now());
        if let Some(due) = known {
            return Ok(due);
        }
        let mut snapshot = self.snapshot().await?;
        let began = Instant::now();
        let due = queue::next_due(&mut snapshot.access()).await?;
        if matches!(self.0.config.place, Place::Server(_)) {
            let now = Instant::now();
            self.horizon().saw_next_due(due, now - began, now);
        }
        Ok(due)
    }

    /// Scheduled notifications whose time has come get their positions; their rows in the inbox count as delivered.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn make_visible(&self, now: Micros, limit: u32) -> Result<Vec<NotificationId>, StoreError> {
        self.single((now, limit), |(now, limit), tx| {
            Box::pin(queue::make_visible(tx, *now, *limit))
        })
        .await
    }

    /// Leases a group's fan-out that is due or whose lease ran out.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn next_job(
        &self,
        worker: &str,
        now: Micros,
        lease_until: Micros,
    ) -> Result<Option<JobClaim>, StoreError> {
        self.single(
            (worker.to_owned(), now, lease_until),
            |(worker, now, until), tx| Box::pin(jobs::next_job(tx, worker, *now, *until)),
        )
        .await
    }

    /// The next page of a job's recipients: looks at `limit` contacts and answers those who are meant.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn job_page(&self, claim: &JobClaim, limit: u32) -> Result<JobPage, StoreError> {
        jobs::page(&mut self.snapshot().await?.access(), claim, limit).await
    }

    /// Inserts a page's deliveries and moves the job's cursor in one transaction; a repeat of notification, user, channel
    /// and address is left out. `next` none ends the job. The claim's `cursor` is the caller's to move. False: the lease
    /// is lost, nothing was stored.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn advance_job(
        &self,
        claim: &JobClaim,
        deliveries: Vec<NewDelivery>,
        next: Option<String>,
        lease_until: Micros,
    ) -> Result<bool, StoreError> {
        let step = jobs::Advance {
            claim: claim.clone(),
            deliveries,
            next,
            lease_until,
        };
        self.single(step, |step, tx| Box::pin(jobs::advance(tx, step)))
            .await
    }

    /// What waits in each lane, the most important first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn queue_depths(&self) -> Result<Vec<LaneDepth>, StoreError> {
        queue::depths(&mut self.snapshot().await?.access()).await
    }
}
