//! How far a batch or a group's fan-out is. A job is named by its notification.

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{Caller, Problem},
    ids::NotificationId,
    target::Target,
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    extract::{IdOf, Segment, Sender},
    operate::{self, CancelView},
    problems::store_problem,
    state::ApiState,
    view::mask,
};
use crate::model::{DeliveryState, Micros, Notification, Progress};

/// How far a job is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct JobView {
    /// The job's id, which is the notification's.
    #[schema(format = "uuid")]
    job_id: String,
    /// `scheduled`, `processing`, `completed`, `failed` (nothing of it was sent) or `cancelled`.
    status: &'static str,
    /// How many users it is for, where they are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_users: Option<usize>,
    /// For a group by its contacts: whether all its deliveries are made. Until then `total` grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    fanned_out: Option<bool>,
    /// Deliveries: one for each recipient and channel.
    total: u64,
    /// Those that have had their end.
    processed: u64,
    /// Their share in percent.
    progress: u64,
    /// A channel took them.
    succeeded: u64,
    /// Dead or expired.
    failed: u64,
    /// Cancelled before they were sent.
    cancelled: u64,
    /// Nobody was online, or policy said no.
    skipped: u64,
    /// The first 100 of those that failed.
    errors: Vec<JobError>,
    /// When it was accepted.
    created_at: String,
    /// Last change.
    updated_at: String,
}

/// A recipient who was not reached.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct JobError {
    /// For whom.
    user_id: Option<String>,
    /// By what.
    channel: &'static str,
    /// Where to, masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// `dead` or `expired`.
    state: &'static str,
    /// Why, for example `no_address`, `recipient_invalid`, `attempts_exhausted`.
    reason: Option<String>,
}

impl JobView {
    fn of(stored: &Notification, progress: &Progress, now: Micros) -> Self {
        let sum = |fits: fn(DeliveryState) -> bool| -> u64 {
            let fitting = progress.counts.iter().filter(|(_, state, ..)| fits(*state));
            fitting.map(|(.., number)| number).sum()
        };
        let total = sum(|_| true);
        let processed = sum(DeliveryState::is_terminal);
        let succeeded = sum(|state| state == DeliveryState::Delivered);
        let failed = sum(|state| matches!(state, DeliveryState::Dead | DeliveryState::Expired));
        let cancelled = sum(|state| state == DeliveryState::Cancelled);
        let open = processed < total || progress.fan_out == Some(false);
        let status = match open {
            _ if stored.withdrawn => "cancelled",
            true if stored.visible_at > now => "scheduled",
            true => "processing",
            false if succeeded == 0 && failed > 0 => "failed",
            false if succeeded == 0 && cancelled > 0 => "cancelled",
            false => "completed",
        };
        let total_users = match stored.audience.as_ref().map(|audience| &audience.target) {
            Some(Target::User(_)) => Some(1),
            Some(Target::Users(users)) => Some(users.len()),
            _ => None,
        };
        Self {
            job_id: stored.id.to_string(),
            status,
            total_users,
            fanned_out: progress.fan_out,
            total,
            processed,
            progress: match (total, open) {
                (0, true) => 0,
                (0, false) => 100,
                _ => processed * 100 / total,
            },
            succeeded,
            failed,
            cancelled,
            skipped: sum(|state| matches!(state, DeliveryState::Skipped | DeliveryState::Suppressed)),
            errors: progress
                .failures
                .iter()
                .map(|delivery| JobError {
                    user_id: delivery.user.as_ref().map(|user| user.as_str().to_owned()),
                    channel: delivery.channel.as_str(),
                    address: delivery.address.as_deref().map(mask),
                    state: delivery.state.as_str(),
                    reason: delivery.reason.clone(),
                })
                .collect(),
            created_at: stored.created_at.rfc3339(),
            updated_at: progress.updated_at.unwrap_or(stored.created_at).rfc3339(),
        }
    }
}

/// Get a job
///
/// Of a batch for users, or of any notification, by its id: how many deliveries were made, how many have had their end, and what
/// went wrong. For its sender and administrators.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "notifications",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = JobView), (status = 404, body = Problem))
)]
pub(crate) async fn job(
    State(state): State<ApiState>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<JobView>, Problem> {
    let id = id.parse().map_err(|_| no_job())?;
    let stored = owned(&state, &caller, id).await?;
    let progress = state.store().progress(id).await.map_err(store_problem)?;
    Ok(Json(JobView::of(&stored, &progress, Micros::now())))
}

/// Cancel a job
///
/// As `POST /api/v1/notifications/{id}/cancel`: stops what has not begun, also a fan-out, and says what had gone.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "notifications",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = CancelView), (status = 404, body = Problem))
)]
pub(crate) async fn cancel(
    state: State<ApiState>,
    caller: Sender,
    origin: Origin,
    Segment(id): Segment,
) -> Result<Json<CancelView>, Problem> {
    let id = id.parse().map_err(|_| no_job())?;
    operate::cancel(state, caller, origin, IdOf(id))
        .await
        .map_err(|problem| {
            if problem.status == StatusCode::NOT_FOUND {
                no_job()
            } else {
                problem
            }
        })
}

/// 404 for a job that does not exist, or not for this caller.
fn no_job() -> Problem {
    Problem::not_found("there is no such job for you")
}

/// The caller's own notification, or any of the tenant for its administrators.
async fn owned(state: &ApiState, caller: &Caller, id: NotificationId) -> Result<Notification, Problem> {
    let found = state.store().notification(&caller.tenant, id).await;
    match found.map_err(store_problem)? {
        Some((stored, _))
            if stored.sender == caller.user.as_str() || caller.has_scope("notifications:admin") =>
        {
            Ok(stored)
        }
        _ => Err(no_job()),
    }
}
