//! Creating notifications.

use common::http::{Problem, body_too_large, check_depth, parse_json, refuse_nul};
use http::StatusCode;
use proto::{
    json::timestamp,
    v1::{
        self, SendBulkNotificationRequest, SendBulkNotificationResponse, SendNotificationRequest,
        SendNotificationResponse, bulk_result,
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    super::{
        accept::{Route, Submission, accept, answer, no_answer},
        bulk::{self, BulkSubmission, FIELD, accept_all},
        create::sent,
        limits::Refusal,
        state::ApiState,
    },
    body::body,
    call::{Call, Told},
};

/// The scope that it takes.
const SCOPE: &str = "notifications:write";

/// Creates one.
pub(super) async fn one(
    state: &ApiState,
    call: Call,
    request: SendNotificationRequest,
) -> Result<Told<SendNotificationResponse>, Refusal> {
    call.caller.require(SCOPE)?;
    let text = answer(&body(request)?);
    check(&text, state.limits.body_bytes.0, state.limits.json_depth)?;
    refuse_nul(text.as_bytes())?;
    let submission = Submission {
        headers: call.credentials.metadata().clone(),
        caller: call.caller,
        body: parse_json(text.as_bytes())?,
        raw: text.into(),
        dry_run: false,
    };
    let route = Route {
        name: "grpc/SendNotification",
        status: StatusCode::OK,
    };
    let answered = accept(state, submission, route, sent).await?;
    let sent: Sent = read(&answered.body)?;
    Ok(Told {
        message: SendNotificationResponse {
            id: sent.id,
            status: sent.status,
            created_at: timestamp(&sent.created_at),
            replayed: answered.replayed,
        },
        budget: answered.budget,
    })
}

/// Creates many.
pub(super) async fn many(
    state: &ApiState,
    call: Call,
    request: SendBulkNotificationRequest,
) -> Result<Told<SendBulkNotificationResponse>, Refusal> {
    call.caller.require(SCOPE)?;
    let mut bodies = Vec::with_capacity(request.notifications.len());
    for (index, notification) in request.notifications.into_iter().enumerate() {
        let body = body(notification).map_err(|problem| bulk::at(problem, FIELD, index))?;
        bodies.push(to_raw_value(&body).map_err(|_| no_answer())?);
    }
    let bodies: Vec<&RawValue> = bodies.iter().map(AsRef::as_ref).collect();
    let text = answer(&bodies);
    check(&text, state.limits.bulk_body_bytes.0, state.limits.json_depth)?;
    let submission = BulkSubmission {
        headers: call.credentials.metadata().clone(),
        caller: call.caller,
        raw: text.into(),
        dry_run: false,
    };
    let route = Route {
        name: "grpc/SendBulkNotification",
        status: StatusCode::OK,
    };
    let answered = accept_all(state, &submission, &bodies, FIELD, route).await?;
    let bulk: Bulk = read(&answered.body)?;
    Ok(Told {
        message: SendBulkNotificationResponse {
            total: bulk.total,
            created: bulk.created,
            repeated: bulk.repeated,
            failed: bulk.failed,
            results: bulk.results.into_iter().map(Into::into).collect(),
            replayed: answered.replayed,
        },
        budget: answered.budget,
    })
}

/// The bounds that REST's bodies have.
fn check(text: &str, limit: usize, depth: usize) -> Result<(), Problem> {
    if text.len() > limit {
        return Err(body_too_large(limit));
    }
    check_depth(text.as_bytes(), depth)
}

/// Answers are kept as JSON, for repeats.
fn read<T: DeserializeOwned>(kept: &str) -> Result<T, Problem> {
    serde_json::from_str(kept).map_err(|error| {
        tracing::error!(%error, "a kept answer cannot be read");
        no_answer()
    })
}

/// Of every answer to a creation, by whichever route it was made first.
#[derive(Debug, Deserialize)]
struct Sent {
    #[serde(alias = "job_id")]
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    created_at: String,
}

#[derive(Debug, Deserialize)]
struct Bulk {
    total: u32,
    created: u32,
    repeated: u32,
    failed: u32,
    results: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    index: u32,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum What {
    Created { id: String, status: String },
    Repeat { id: String },
    Problem { problem: Refused },
}

#[derive(Debug, Deserialize)]
struct Refused {
    code: String,
    detail: String,
    field: Option<String>,
    status: u32,
}

impl From<Item> for v1::BulkResult {
    fn from(item: Item) -> Self {
        let result = match item.what {
            What::Created { id, status } => bulk_result::Result::Created(v1::Created { id, status }),
            What::Repeat { id } => bulk_result::Result::Repeated(v1::Repeated { id }),
            What::Problem { problem } => bulk_result::Result::Problem(v1::Problem {
                code: problem.code,
                detail: problem.detail,
                field: problem.field,
                status: problem.status,
            }),
        };
        Self {
            index: item.index,
            result: Some(result),
        }
    }
}
