//! The two listeners of the standalone server.

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
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
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use utoipa::OpenApi;

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

/// Whether requests should come here
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses(
    (status = 200, description = "Storage and bus work, and no stop has begun"),
    (status = 503, description = "Not now")))]
async fn ready(State(parts): State<Parts>) -> Response {
    if parts.hub.ready() && dispatcher::api::is_ready(&parts.api).await {
        (StatusCode::OK, "ready\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
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
