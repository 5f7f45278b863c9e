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

/// What a request needs of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// It creates: where there is a spool, it waits there.
    Creates,
    /// It reads: where there is a replica, that answers.
    Reads,
    /// It reads what no replica answers.
    ReadsPrimary,
    /// It changes something.
    Changes,
}

/// What creates.
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
const OF_THE_PRIMARY: [&str; 6] = [
    "/api/v1/settings",
    "/api/v1/audit",
    "/api/v1/dead-letters",
    "/api/v1/queue",
    "/api/v1/schedules",
    "/api/v1/inbox/changes",
];

/// Ends a request that needs the database when that is away, or goes away meanwhile.
pub(crate) async fn bound(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let Some(needs) = path.and_then(|path| needs(request.method(), path.as_str())) else {
        return next.run(request).await;
    };
    let answer = within(&state, needs, next.run(request)).await;
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// Does what needs the database; not where that is away, and no longer than until it goes away.
///
/// # Errors
/// 503.
pub(crate) async fn within<T>(
    state: &ApiState,
    needs: Needs,
    work: impl Future<Output = T>,
) -> Result<T, Problem> {
    let spools = state.service.spool().is_some();
    let away = state.service.away();
    let Some(away) = away.filter(|_| needs.the_database(spools, state.store().may_be_stale())) else {
        return Ok(work.await);
    };
    if away.is_down() {
        let reason = "the database is away".to_owned();
        return Err(store_problem(StoreError::Unavailable { reason }));
    }
    tokio::select! {
        biased;
        answer = work => Ok(answer),
        () = away.gone() => Err(unclear(needs)),
    }
}

impl Needs {
    /// Whether nothing but the database can answer. `replica`: one answers what only reads.
    fn the_database(self, spools: bool, replica: bool) -> bool {
        match self {
            Self::Creates => !spools,
            Self::Reads => !replica,
            Self::ReadsPrimary | Self::Changes => true,
        }
    }
}

/// The database went away while a request was at work.
fn unclear(needs: Needs) -> Problem {
    let detail = if matches!(needs, Needs::Reads | Needs::ReadsPrimary) {
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

/// What a request needs of the database; none where it is about the process.
fn needs(method: &Method, path: &str) -> Option<Needs> {
    if OF_ITSELF.iter().any(|own| begins(path, own)) {
        return None;
    }
    Some(if is_read(method) {
        if OF_THE_PRIMARY.iter().any(|primary| begins(path, primary)) {
            Needs::ReadsPrimary
        } else {
            Needs::Reads
        }
    } else if method == Method::POST && CREATES.contains(&path) {
        Needs::Creates
    } else {
        Needs::Changes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_do_without_the_database_goes_on_without_it() {
        let needs_the_database = |method: Method, path: &str, spools, replica| {
            needs(&method, path).is_some_and(|needs| needs.the_database(spools, replica))
        };
        let create = "/api/v1/notifications";
        assert!(!needs_the_database(Method::POST, create, true, false));
        assert!(needs_the_database(Method::POST, create, false, false));
        assert!(needs_the_database(Method::GET, create, true, false));
        assert!(!needs_the_database(Method::GET, create, true, true));
        for primary in OF_THE_PRIMARY {
            assert!(needs_the_database(Method::GET, primary, true, true), "{primary}");
        }
        for own in ["/health", "/api/v1/health/detailed", "/docs"] {
            assert!(!needs_the_database(Method::GET, own, false, false), "{own}");
        }
        let cancel = "/api/v1/notifications/{id}/cancel";
        assert!(needs_the_database(Method::POST, cancel, true, true));
    }
}
