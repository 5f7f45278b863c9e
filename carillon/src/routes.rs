//! The two listeners of the standalone server.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use common::{
    config::ServerConfig,
    http::{Authenticator, BodyLimit, Caller, Problem},
    telemetry::Metrics,
    token::Verifier,
};
use dispatcher::api::ApiState;
use http::{HeaderValue, Method, StatusCode, header};
use hub::Hub;
use serde::Serialize;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use utoipa::{OpenApi, ToSchema};

use crate::page;

/// Largest body of a batch of publishes, in bytes.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// What the routes stand on.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) hub: Hub,
    pub(crate) api: ApiState,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) metrics: Metrics,
}

/// Public: page, API, sockets.
pub(crate) fn public(parts: &Parts, config: &ServerConfig) -> Router {
    let (sockets, mut document) = hub::http::public(&parts.hub).split_for_parts();
    let (_, publish) = hub::http::internal(&parts.hub).split_for_parts();
    document.merge(publish);
    document.merge(Own::openapi());
    let router = dispatcher::api::routes(&parts.api, document)
        .merge(own(parts, sockets))
        .merge(page::routes())
        .route("/metrics", get(metrics_by_scope).with_state(parts.clone()))
        .merge(health(parts))
        .fallback(dispatcher::api::not_found);
    finish(parts, router, config)
}

/// Internal: publish, metrics, health.
pub(crate) fn internal(parts: &Parts, config: &ServerConfig) -> Router {
    let (publish, _document) = hub::http::internal(&parts.hub).split_for_parts();
    let router = own(parts, publish)
        .route("/metrics", get(metrics).with_state(parts.clone()))
        .merge(health(parts))
        .fallback(dispatcher::api::not_found);
    finish(parts, router, config)
}

/// Routes of the hub: callers are verified, bodies are bounded.
fn own(parts: &Parts, router: Router) -> Router {
    router
        .method_not_allowed_fallback(dispatcher::api::method_not_allowed)
        .layer(Extension(BodyLimit(BATCH_BYTES)))
        .layer(Extension(Authenticator(Arc::clone(&parts.verifier))))
}

fn finish(parts: &Parts, router: Router, config: &ServerConfig) -> Router {
    router
        .layer(Extension(Authenticator(Arc::clone(&parts.verifier))))
        .layer(cors(&config.allowed_origins))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(log_access))
}

fn health(parts: &Parts) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready).with_state(parts.clone()))
}

/// What this process answers itself.
#[derive(OpenApi)]
#[openapi(paths(live, ready, metrics_by_scope), tags(
    (name = "sockets", description = "Open connections"),
    (name = "publish", description = "To whoever is connected now. `/api/v1/publish` is on the internal listener only."),
    (name = "control", description = "What operators see of sessions and do to them. Internal listener only.")
))]
struct Own;

/// Whether the process answers
#[utoipa::path(get, path = "/live", tag = "health", security(()), responses((status = 200, description = "It does")))]
async fn live() -> StatusCode {
    StatusCode::OK
}

/// Whether requests should come here, and why not.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// `stopping`: a stop has begun; `storage`: the database does not answer; `bus`: the bus cannot do its work; `worker`: a part
    /// of the hub has ended, and the process has to be restarted. Empty when ready.
    reasons: Vec<&'static str>,
}

impl Readiness {
    fn new(reasons: impl IntoIterator<Item = &'static str>) -> Self {
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_unstable();
        // Several parts know of a stop.
        reasons.dedup();
        let status = if reasons.is_empty() { "ready" } else { "not_ready" };
        Self { status, reasons }
    }
}

impl IntoResponse for Readiness {
    fn into_response(self) -> Response {
        let status = if self.reasons.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (status, Json(self)).into_response()
    }
}

/// Whether requests should come here
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses(
    (status = 200, body = Readiness, description = "Storage and bus work, and no stop has begun"),
    (status = 503, body = Readiness, description = "Not now, for these reasons")))]
async fn ready(State(parts): State<Parts>) -> Readiness {
    let storage = dispatcher::api::unready(&parts.api).await;
    Readiness::new(parts.hub.unready().into_iter().chain(storage))
}

async fn metrics(State(parts): State<Parts>) -> Response {
    (
        [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)],
        parts.metrics.text(),
    )
        .into_response()
}

/// Metrics in Prometheus' text
///
/// On the internal listener without a token; on the public one with the scope `metrics`.
#[utoipa::path(get, path = "/metrics", tag = "health", security(("bearer" = [])), responses(
    (status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text")))]
async fn metrics_by_scope(State(parts): State<Parts>, caller: Caller) -> Result<Response, Problem> {
    caller.require("metrics")?;
    Ok(metrics(State(parts)).await)
}

fn cors(allowed: &[String]) -> CorsLayer {
    let allowed = allowed.to_vec();
    let origin = AllowOrigin::predicate(move |origin: &HeaderValue, _| {
        let Ok(origin) = origin.to_str() else { return false };
        allowed
            .iter()
            .any(|pattern| common::topic::matches_pattern(pattern, origin))
    });
    // Tokens travel in a header, so no credentials of the browser are needed.
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            http::HeaderName::from_static("idempotency-key"),
            http::HeaderName::from_static("last-event-id"),
        ])
        .expose_headers(
            [
                "x-next-cursor",
                "retry-after",
                "idempotency-replayed",
                "ratelimit-limit",
                "ratelimit-remaining",
                "ratelimit-reset",
            ]
            .map(http::HeaderName::from_static),
        )
}

/// A bug of ours: the caller gets a problem, the log the reason.
#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(reason: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = reason
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| reason.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("without a text"), "a handler panicked");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "this is a fault of the server; its log says more",
    )
    .into_response()
}

/// The access log. It holds paths and never a query string: tokens may stand there.
async fn log_access(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let began = Instant::now();
    let response = next.run(request).await;
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: "access", %method, path, status = response.status().as_u16(), duration_ms, "request");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_says_why_not() {
        for (reasons, status, text) in [
            (&[][..], 200, r#"{"status":"ready","reasons":[]}"#),
            (
                &["stopping", "stopping"],
                503,
                r#"{"status":"not_ready","reasons":["stopping"]}"#,
            ),
            (
                &["worker", "storage"],
                503,
                r#"{"status":"not_ready","reasons":["storage","worker"]}"#,
            ),
        ] {
            let readiness = Readiness::new(reasons.iter().copied());
            assert_eq!(serde_json::to_string(&readiness).unwrap(), text);
            assert_eq!(readiness.into_response().status().as_u16(), status);
        }
    }
}
