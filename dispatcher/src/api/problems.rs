//! Answers for what goes wrong beneath, and for what is not there.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use common::http::Problem;
use http::StatusCode;

use crate::store::StoreError;

/// How long a caller waits before it tries again when the store is not available.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// The answer to a failure of the store. Nothing of the request was stored.
pub(crate) fn store_problem(error: StoreError) -> Problem {
    match error {
        StoreError::Unavailable { .. } | StoreError::Again => {
            tracing::warn!(%error, "the store is not available");
            Problem::unavailable(
                "the database is busy or away; nothing was stored, try again",
                STORE_RETRY,
            )
        }
        StoreError::Corrupt { reason } => {
            tracing::error!(%reason, "the store cannot be used");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the database holds what this version cannot read; the server's log says more",
            )
        }
        StoreError::Conflict(what) => {
            Problem::new(StatusCode::CONFLICT, "name_taken", format!("{what} is taken")).field("name")
        }
    }
}

/// 404 for a notification that does not exist, or not for this caller.
pub(crate) fn no_notification() -> Problem {
    Problem::not_found("there is no such notification for you")
}

/// 404 for paths that no route has.
pub async fn not_found() -> Response {
    Problem::not_found("there is nothing at this path; /docs lists what there is").into_response()
}

/// 405 for methods that a path does not have.
pub async fn method_not_allowed() -> Response {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "this path does not have this method; /docs lists what there is",
    )
    .into_response()
}
