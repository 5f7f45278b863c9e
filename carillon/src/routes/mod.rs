//! What the two listeners of a process answer: the routes of its hub, of its dispatcher, and its own.

mod health;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use common::{
    bus::Bus,
    config::ServerConfig,
    credential::Credentials,
    http::{Authenticator, BodyLimit, Caller, Problem, TrustedProxies},
    telemetry::Metrics,
};
use dispatcher::api::ApiState;
use http::{HeaderValue, Method, StatusCode, header};
use hub::Hub;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};

use utoipa::OpenApi;

pub(crate) use self::health::{BusSeen, Ready};
use crate::page;

/// Largest body of a batch of publishes, in bytes.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// When a request is to come again while the process waits for its database.
pub(crate) const LATER: Duration = Duration::from_secs(2);

/// What the routes stand on.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    /// The hub of this process, where it has one.
    pub(crate) hub: Option<Hub>,
    /// The dispatcher's API, where this process has one.
    pub(crate) api: Option<ApiState>,
    pub(crate) bus: Bus,
    pub(crate) bus_seen: BusSeen,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) metrics: Metrics,
}

/// Public: sockets of the hub; page and API of the dispatcher. Each listener's document describes what it answers.
pub(crate) fn public(parts: &Parts, config: &ServerConfig) -> Router {
    let mut document = health::document();
    let mut router = Router::new();
    if let Some(hub) = &parts.hub {
        let (sockets, described) = hub::http::public(hub).split_for_parts();
        document.merge(described);
        document.merge(HubTags::openapi());
        router = router.merge(own(parts, sockets));
    }
    document.merge(MetricsByScope::openapi());
    let router = match &parts.api {
        Some(api) => router
            .merge(dispatcher::api::routes(api, document))
            .merge(page::routes()),
        None => router.merge(dispatcher::api::contract_routes(document)),
    };
    let router = router
        .route("/metrics", get(metrics_by_scope).with_state(parts.clone()))
        .merge(health::routes(parts))
        .fallback(dispatcher::api::not_found);
    finish(parts, router, config)
}

/// Internal: publish and control of the hub, metrics, health.
pub(crate) fn internal(parts: &Parts, config: &ServerConfig) -> Router {
    let mut document = health::document();
    let publish = match &parts.hub {
        Some(hub) => {
            let (publish, described) = hub::http::internal(hub).split_for_parts();
            document.merge(described);
            document.merge(HubTags::openapi());
            publish
        }
        None => Router::new(),
    };
    document.merge(OpenMetrics::openapi());
    let router = own(parts, publish)
        .merge(dispatcher::api::contract_routes(document))
        .route("/metrics", get(metrics).with_state(parts.clone()))
        .merge(health::routes(parts))
        .fallback(dispatcher::api::not_found);
    finish(parts, router, config)
}

/// Both, of a process that waits for its database: it lives, and requests should come later.
pub(crate) fn waiting() -> Router {
    health::waiting()
        .fallback(async || Problem::unavailable("the database is not there yet; try again", LATER))
}

/// Routes of the hub: callers are verified, bodies are bounded.
fn own(parts: &Parts, router: Router) -> Router {
    router
        .method_not_allowed_fallback(dispatcher::api::method_not_allowed)
        .layer(Extension(BodyLimit(BATCH_BYTES)))
        .layer(Extension(Authenticator(Arc::clone(&parts.credentials))))
}

fn finish(parts: &Parts, router: Router, config: &ServerConfig) -> Router {
    router
        .layer(Extension(Authenticator(Arc::clone(&parts.credentials))))
        .layer(Extension(TrustedProxies(
            config.trusted_proxies.as_slice().into(),
        )))
        .layer(cors(&config.allowed_origins))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(log_access))
}

/// Metrics as the public listener answers them.
#[derive(OpenApi)]
#[openapi(paths(metrics_by_scope))]
struct MetricsByScope;

/// Metrics as the internal listener answers them.
#[derive(OpenApi)]
#[openapi(paths(metrics))]
struct OpenMetrics;

/// Groups of the hub's operations.
#[derive(OpenApi)]
#[openapi(tags(
    (name = "sockets", description = "Open connections"),
    (name = "publish", description = "To whoever is connected now"),
    (name = "control", description = "What operators see of sessions and do to them")
))]
struct HubTags;

/// Metrics in Prometheus' text
#[utoipa::path(get, path = "/metrics", tag = "health", security(()), responses(
    (status = 200, description = "OpenMetrics text", content_type = "application/openmetrics-text")))]
async fn metrics(State(parts): State<Parts>) -> Response {
    (
        [(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)],
        parts.metrics.text(),
    )
        .into_response()
}

/// Metrics in Prometheus' text
///
/// Needs the scope `metrics`; the internal listener asks for none.
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
            common::http::API_KEY_HEADER,
            http::HeaderName::from_static("idempotency-key"),
            http::HeaderName::from_static("last-event-id"),
            common::http::REQUEST_ID,
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

/// A bug of ours.
fn panicked(reason: Box<dyn std::any::Any + Send + 'static>) -> Response {
    fault(reason).into_response()
}

/// A bug of ours: the caller gets a problem, the log the reason.
#[expect(clippy::needless_pass_by_value, reason = "the layers' signature")]
pub(crate) fn fault(reason: Box<dyn std::any::Any + Send + 'static>) -> Problem {
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
