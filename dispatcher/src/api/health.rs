//! Health, for people, probes, and callers who wonder whether their token is good.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    response::{IntoResponse, Response},
};
use common::http::{Caller, Problem, bearer};
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
        if parts.headers.contains_key(header::AUTHORIZATION) || bearer(&parts.headers).is_some() {
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

/// Whether requests should come here: the store answers, and the process is not about to stop.
pub async fn ready(State(state): State<ApiState>) -> Response {
    if unready(&state).await.is_none() {
        Json(view("healthy")).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(view("unhealthy"))).into_response()
    }
}

/// Why [`ready`] answers that it is not, for a process that asks several parts: `stopping`, or `storage`, which does not
/// answer.
pub async fn unready(state: &ApiState) -> Option<&'static str> {
    if state.closing.is_cancelled() {
        return Some("stopping");
    }
    state.store().next_due().await.is_err().then_some("storage")
}
