//! The batches of S0 and S3: many notifications, or one for many users.

use std::{borrow::Cow, collections::BTreeMap};

use axum::extract::State;
use common::{
    http::{Problem, parse_body, refuse_nul},
    target::Target,
};
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    accept::{Answered, Route, SPOOLED, Submission, accept, answer},
    body::NotificationBody,
    bulk::{self, BulkSubmission, FIELD, accept_all},
    dry_run::DryRunQuery,
    limits::{Refusal, charge},
    plan::Plan,
    state::ApiState,
};

/// S3's answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    /// For `GET /api/v1/jobs/{id}`; it is the notification's id.
    #[schema(format = "uuid")]
    job_id: String,
    /// How many users it is for.
    total_users: usize,
    /// `processing`, `scheduled`, `completed` where nothing is left to do, or `spooled` while the database is
    /// away.
    status: &'static str,
    /// RFC 3339.
    created_at: String,
}

/// Send a batch
///
/// With `notifications`: the same as `POST /api/v1/notifications/bulk`. With `user_ids` (up to 1000): one notification for
/// each of these users; all of it is stored when this answers, and `GET /api/v1/jobs/{id}` says how far it is. Ten users or
/// notifications cost as much of the caller's budget as one request. Needs the scope `notifications:write`.
#[utoipa::path(
    post, path = "/api/v1/notifications/batch", tag = "notifications", request_body = NotificationBody,
    params(
        DryRunQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key with the same body has the same answer, for 24 hours"),
    ),
    responses((status = 200, body = BatchAnswer), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn batch(
    State(state): State<ApiState>,
    mut submission: BulkSubmission,
) -> Result<Answered, Refusal> {
    let route = Route {
        name: "notifications/batch",
        status: StatusCode::OK,
    };
    let raw = submission.raw.clone();
    let mut spare = Vec::new();
    let fields: BTreeMap<Cow<'_, str>, &RawValue> = parse_body(&raw, &mut spare)?;
    if fields.contains_key(FIELD) {
        let mut spare = Vec::new();
        let items = bulk::items(&mut submission, &raw, &mut spare)?;
        return accept_all(&state, &submission, &items, FIELD, route).await;
    }
    refuse_nul(&raw)?;
    let mut spare = Vec::new();
    let body: NotificationBody = parse_body(&raw, &mut spare)?;
    let Some(users) = &body.user_ids else {
        return Err(Problem::invalid(
            "missing_field",
            "user_ids",
            "name the users, or send several `notifications`",
        )
        .into());
    };
    let budget = charge(&state, &submission.caller, users.len(), "user_ids")?;
    let submission = Submission {
        dry_run: submission.dry_run || body.dry_run.unwrap_or_default(),
        caller: submission.caller,
        headers: submission.headers,
        body,
        raw: submission.raw,
    };
    let answered = accept(&state, submission, route, accepted).await?;
    Ok(Answered { budget, ..answered })
}

fn accepted(plan: &Plan, status: &'static str) -> String {
    let new = &plan.notification;
    let users = match new.audience.as_ref().map(|audience| &audience.target) {
        Some(Target::Users(users)) => users.len(),
        _ => 1,
    };
    answer(&BatchAnswer {
        job_id: new.id.to_string(),
        total_users: users,
        status: match status {
            "pending" => "processing",
            "scheduled" => "scheduled",
            SPOOLED => SPOOLED,
            _ => "completed",
        },
        created_at: new.created_at.rfc3339(),
    })
}
