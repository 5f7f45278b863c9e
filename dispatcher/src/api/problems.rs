//! Answers for what goes wrong beneath, and for what is not there.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use common::http::Problem;
use http::StatusCode;

use crate::{service::AcceptError, spool::SpoolError, store::StoreError};

/// How long a caller waits before it tries again when the store is not available.
pub(super) const STORE_RETRY: Duration = Duration::from_secs(1);

/// The same when too much waits for the database.
const SPOOL_RETRY: Duration = Duration::from_secs(5);

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

/// The answer where a request was not accepted.
pub(crate) fn accept_problem(error: AcceptError) -> Problem {
    match error {
        AcceptError::Store(error) => store_problem(error),
        AcceptError::Spool(SpoolError::Full) => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "spool_full",
            "the database is away, and as much waits for it as may; nothing was taken, try again later",
        )
        .retry_after(SPOOL_RETRY),
        AcceptError::Spool(SpoolError::Away { reason }) => {
            tracing::debug!(%reason, "nothing can be spooled");
            Problem::unavailable(
                format!(
                    "the database is away, and this cannot wait for it, as {reason}; nothing was taken, try again"
                ),
                STORE_RETRY,
            )
        }
        AcceptError::Spool(SpoolError::Unclear { reason }) => {
            tracing::warn!(%reason, "it is not known whether a notification was spooled");
            Problem::unavailable(
                "the database is away, and it is not known whether this was kept for it; try again with the same \
                 Idempotency-Key, so that it is sent once",
                STORE_RETRY,
            )
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
