//! Health, for people, probes, and callers who wonder whether their token is good.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
};
use common::http::{API_KEY_HEADER, Caller, Problem};
use http::{StatusCode, header, request::Parts};
use serde::Serialize;
use utoipa::ToSchema;

use super::state::ApiState;

/// How the service is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct HealthView {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    /// Which service this is.
    service: &'static str,
    /// Its version.
    version: &'static str,
}

fn view(status: &'static str) -> HealthView {
    HealthView {
        status,
        service: "carillon",
        version: env!("CARGO_PKG_VERSION"),
    }
}

/// A token where there is one; a bad one is refused, none is fine.
#[derive(Debug)]
pub(crate) struct MaybeCaller;

impl<S: Send + Sync> FromRequestParts<S> for MaybeCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let shows = |name| parts.headers.contains_key(name);
        if shows(header::AUTHORIZATION) || shows(API_KEY_HEADER) {
            Caller::from_request_parts(parts, state).await?;
        }
        Ok(Self)
    }
}

/// Check the service, and the token
///
/// 200 without a token and with a good one, 401 with a bad one.
#[utoipa::path(
    get, path = "/api/v1/health", tag = "health",
    responses((status = 200, body = HealthView), (status = 401, body = Problem))
)]
pub(crate) async fn with_token(_caller: MaybeCaller) -> Json<HealthView> {
    Json(view("healthy"))
}

/// Check the service
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses((status = 200, body = HealthView)))]
pub async fn health() -> Json<HealthView> {
    Json(view("healthy"))
}

/// Whether requests should come here: they can be accepted, and the process is not about to stop.
pub async fn ready(State(state): State<ApiState>) -> Response {
    if readiness(&state).await.reason.is_none() {
        Json(view("healthy")).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(view("unhealthy"))).into_response()
    }
}

/// How the dispatcher is, for a process that asks several parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why no requests should come: `stopping`, or `storage`, which does not answer while nothing can be spooled.
    pub reason: Option<&'static str>,
    /// What does not work although they should: `storage`, which does not answer, so that what is accepted is spooled;
    /// `draining`, as something is spooled; `spool`, which could take nothing if the database went away.
    pub degraded: Vec<&'static str>,
}

/// See [`Readiness`].
pub async fn readiness(state: &ApiState) -> Readiness {
    if state.closing.is_cancelled() {
        return Readiness {
            reason: Some("stopping"),
            degraded: Vec::new(),
        };
    }
    let stored = state.service.read(state.store().answers()).await.is_ok();
    let Some(spool) = state.service.spool() else {
        return Readiness {
            reason: (!stored).then_some("storage"),
            degraded: Vec::new(),
        };
    };
    judge(stored, spool.unusable().is_none(), spool.is_open())
}

fn judge(stored: bool, usable: bool, open: bool) -> Readiness {
    let mut degraded = Vec::new();
    if !stored && usable {
        degraded.push("storage");
    }
    if open {
        degraded.push("draining");
    }
    if !usable {
        degraded.push("spool");
    }
    Readiness {
        // What is spooled may not be overtaken, and nothing can be put behind it.
        reason: (!usable && (!stored || open)).then_some("storage"),
        degraded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_accept_is_ready() {
        for (stored, usable, open, reason, degraded) in [
            (true, true, false, None, &[][..]),
            (false, true, false, None, &["storage"][..]),
            (false, true, true, None, &["storage", "draining"][..]),
            (true, true, true, None, &["draining"][..]),
            (true, false, false, None, &["spool"][..]),
            (false, false, false, Some("storage"), &["spool"][..]),
            (true, false, true, Some("storage"), &["draining", "spool"][..]),
        ] {
            let readiness = judge(stored, usable, open);
            assert_eq!(
                (readiness.reason, readiness.degraded.as_slice()),
                (reason, degraded)
            );
        }
    }
}
