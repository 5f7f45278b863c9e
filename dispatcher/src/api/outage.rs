//! Requests that need the database do not wait for one that is away: they end as soon as that is known.

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use common::http::Problem;
use http::Method;

use super::{
    problems::{STORE_RETRY, store_problem},
    state::ApiState,
};
use crate::store::StoreError;

/// What creates: where there is a spool, it waits there.
const CREATES: [&str; 6] = [
    "/api/v1/notifications",
    "/api/v1/notifications/send",
    "/api/v1/notifications/multi-channel",
    "/api/v1/notifications/template",
    "/api/v1/notifications/bulk",
    "/api/v1/notifications/batch",
];

/// What a process says of itself, also during an outage.
const OF_ITSELF: [&str; 5] = ["/health", "/api/v1/health", "/openapi.json", "/docs", "/ready"];

/// What no replica answers.
const OF_THE_PRIMARY: [&str; 5] = [
    "/api/v1/audit",
    "/api/v1/dead-letters",
    "/api/v1/queue",
    "/api/v1/schedules",
    "/api/v1/inbox/changes",
];

/// Ends a request that needs the database when that is away, or goes away meanwhile.
pub(crate) async fn bound(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let Some(away) = state.service.away() else {
        return next.run(request).await;
    };
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    let spools = state.service.spool().is_some();
    if !needs_the_database(
        request.method(),
        path.as_str(),
        spools,
        state.store().may_be_stale(),
    ) {
        return next.run(request).await;
    }
    if away.is_down() {
        let reason = "the database is away".to_owned();
        return store_problem(StoreError::Unavailable { reason }).into_response();
    }
    let reads = is_read(request.method());
    tokio::select! {
        biased;
        answer = next.run(request) => answer,
        () = away.gone() => unclear(reads).into_response(),
    }
}

/// The database went away while a request was at work.
fn unclear(reads: bool) -> Problem {
    let detail = if reads {
        "the database is away; try again"
    } else {
        "the database went away meanwhile, and it is not known whether this was stored; look before you try again, or use \
         the same Idempotency-Key"
    };
    Problem::unavailable(detail, STORE_RETRY)
}

fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn begins(path: &str, with: &str) -> bool {
    path.strip_prefix(with)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether nothing but the database can answer. `replica`: one answers what only reads.
fn needs_the_database(method: &Method, path: &str, spools: bool, replica: bool) -> bool {
    if OF_ITSELF.iter().any(|own| begins(path, own)) {
        return false;
    }
    if is_read(method) {
        return !replica || OF_THE_PRIMARY.iter().any(|primary| begins(path, primary));
    }
    !(spools && method == Method::POST && CREATES.contains(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_do_without_the_database_goes_on_without_it() {
        let create = "/api/v1/notifications";
        assert!(!needs_the_database(&Method::POST, create, true, false));
        assert!(needs_the_database(&Method::POST, create, false, false));
        assert!(needs_the_database(&Method::GET, create, true, false));
        assert!(!needs_the_database(&Method::GET, create, true, true));
        for primary in OF_THE_PRIMARY {
            assert!(needs_the_database(&Method::GET, primary, true, true), "{primary}");
        }
        for own in ["/health", "/api/v1/health/detailed", "/docs"] {
            assert!(!needs_the_database(&Method::GET, own, false, false), "{own}");
        }
        let cancel = "/api/v1/notifications/{id}/cancel";
        assert!(needs_the_database(&Method::POST, cancel, true, true));
    }
}
