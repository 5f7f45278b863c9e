//! Runs what recurs: claims schedules that are due, makes their notifications, moves them on.
//!
//! An occurrence is taken by one transaction: its notification is accepted and the schedule moves to the next one, guarded by
//! the claim's token. A crash before it leaves the occurrence to whoever claims it when the lease has run out; after it,
//! nobody finds it any more.

use std::time::Duration;

use common::http::Problem;
use futures_util::future::join_all;
use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::{
    api::{ApiState, occurrence},
    capacity::Room,
    metrics::{Metrics, ScheduleLabel},
    model::{CatchUp, Micros, Occurred, ScheduleClaim, ScheduleEnd},
    store::StoreError,
};

/// Schedules at work at once.
const BATCH: u32 = 32;

/// How often it is looked for what other processes made, and did not live to run.
const LOOK: Duration = Duration::from_secs(5);

/// The pause before an occurrence that could not be accepted for lack of room is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What a scheduler stands on.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) api: ApiState,
    /// This process's name in claims.
    pub(crate) worker: String,
    /// How long a claim holds.
    pub(crate) lease: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

impl Scheduler {
    /// Works until it is stopped.
    pub(crate) async fn run(self) {
        while !self.stop.is_cancelled() {
            match self.round().await {
                Ok(true) => {}
                Ok(false) => self.rest().await,
                Err(error) => {
                    tracing::warn!(%error, "schedules that are due could not be claimed");
                    self.pause(RETRY).await;
                }
            }
        }
    }

    /// Claims what is due and runs it. False: nothing is.
    async fn round(&self) -> Result<bool, StoreError> {
        let now = Micros::now();
        let claims = self
            .api
            .store()
            .claim_schedules(&self.worker, now, now.plus(self.lease), BATCH)
            .await?;
        let any = !claims.is_empty();
        join_all(claims.into_iter().map(|claim| self.take(claim))).await;
        Ok(any)
    }

    /// Makes a due schedule's notification, and moves it on.
    async fn take(&self, claim: ScheduleClaim) {
        let schedule = &claim.schedule;
        let bounds = CatchUp {
            missed_after: self.api.schedules.missed_after.0,
            most: self.api.schedules.catch_up,
        };
        let timing = &schedule.body.timing;
        let step = timing.step(schedule.id, claim.next_at, Micros::now(), schedule.runs, bounds);
        let mut held = None;
        let occurred = match step.run {
            None => Occurred::Nothing,
            Some(at) => match occurrence(&self.api, schedule, at).await {
                Ok((notification, room)) => {
                    held = Some(room);
                    Occurred::Ran(at, Box::new(notification))
                }
                Err(problem) if is_passing(&problem) => return self.put_off(&claim, &problem.detail).await,
                Err(problem) => {
                    let reason = match &problem.field {
                        Some(field) => format!("{field}: {}", problem.detail),
                        None => problem.detail,
                    };
                    tracing::warn!(schedule = %schedule.id, code = problem.code, field = problem.field, "a scheduled notification could not be made");
                    Occurred::Failed(at, reason)
                }
            },
        };
        let result = match &occurred {
            Occurred::Ran(..) => Some("run"),
            Occurred::Failed(..) => Some("failed"),
            Occurred::Nothing => None,
        };
        let due_at = step.next.map(|next| timing.due(schedule.id, next));
        let end = ScheduleEnd {
            id: schedule.id,
            token: claim.token,
            occurred,
            missed: step.missed,
            next_at: step.next,
            due_at,
        };
        let moved_on = ScheduleEnd {
            occurred: Occurred::Nothing,
            ..end.clone()
        };
        let ended = match self.api.service.end_occurrence(end).await {
            // The clock went back, and the occurrence has had its run.
            Err(StoreError::Conflict(_)) => self.api.service.end_occurrence(moved_on).await,
            ended => ended,
        };
        match ended {
            Ok(true) => {
                held.into_iter().for_each(Room::keep);
                self.count(result, step.missed);
            }
            Ok(false) => {
                tracing::debug!(schedule = %schedule.id, "a schedule was changed while it ran, or another runs it")
            }
            Err(error) => self.put_off(&claim, &error.to_string()).await,
        }
    }

    fn count(&self, result: Option<&'static str>, missed: u64) {
        if let Some(result) = result {
            self.metrics
                .schedule_runs
                .get_or_create(&ScheduleLabel { result })
                .inc();
        }
        if missed > 0 {
            let label = ScheduleLabel { result: "missed" };
            self.metrics.schedule_runs.get_or_create(&label).inc_by(missed);
        }
    }

    /// Gives a claim back, to be tried again soon. Where that cannot be said, the lease runs out.
    async fn put_off(&self, claim: &ScheduleClaim, reason: &str) {
        let schedule = claim.schedule.id;
        tracing::warn!(%schedule, reason, "a scheduled notification is put off");
        let until = Micros::now().plus(RETRY);
        if let Err(error) = self
            .api
            .store()
            .put_off_schedule(schedule, claim.token, until)
            .await
        {
            tracing::debug!(%schedule, %error, "the lease of a schedule runs out");
        }
    }

    async fn rest(&self) {
        let next = self.api.store().next_schedule().await.unwrap_or_default();
        let until = next.map_or(LOOK, |next| {
            let micros = next.0.saturating_sub(Micros::now().0).max(0);
            Duration::from_micros(u64::try_from(micros).unwrap_or_default())
        });
        // Due, but another holds it at this moment.
        self.pause(until.clamp(Duration::from_millis(10), LOOK)).await;
    }

    async fn pause(&self, at_most: Duration) {
        tokio::select! {
            () = self.api.service.wake().schedule() => {}
            () = tokio::time::sleep(at_most) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Whether the same may succeed in a moment.
fn is_passing(problem: &Problem) -> bool {
    matches!(
        problem.status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR
    )
}
