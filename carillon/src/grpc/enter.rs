//! What every call passes first: how many there are, until when its caller waits, and what is logged of it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use common::{
    config::GrpcConfig,
    grpc::{Deadline, deadline_exceeded},
    http::Problem,
    telemetry::Metrics,
};
use http::HeaderMap;
use tokio::sync::Semaphore;

use super::{
    observed::{CallMetrics, Observed, Seen},
    told,
};
use crate::routes::LATER;

/// What calls share. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    calls: Arc<Semaphore>,
    metrics: CallMetrics,
}

impl Desk {
    pub(super) fn new(config: &GrpcConfig, metrics: &Metrics) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(config.max_calls)),
            metrics: CallMetrics::register(metrics),
        }
    }
}

/// Bounds a call, and observes it to the end of its answer.
pub(super) async fn enter(State(desk): State<Desk>, mut request: Request, next: Next) -> Response {
    let seen = Seen::begin(request.uri().path(), desk.metrics.clone());
    let response = match Deadline::of(request.headers(), tokio::time::Instant::now()) {
        Err(problem) => told(problem),
        Ok(deadline) => {
            if let Some(deadline) = deadline {
                request.extensions_mut().insert(deadline);
            }
            bounded(&desk, deadline, next.run(request)).await
        }
    };
    observe(response, seen)
}

async fn bounded(desk: &Desk, deadline: Option<Deadline>, work: impl Future<Output = Response>) -> Response {
    // A stream leaves its place when it begins: streams are bounded for themselves.
    let Ok(_place) = desk.calls.try_acquire() else {
        return told(Problem::unavailable(
            "as many calls are under way as may be; nothing was done, try again",
            LATER,
        ));
    };
    let Some(Deadline(deadline)) = deadline else {
        return work.await;
    };
    // What came too late is not begun.
    if deadline <= tokio::time::Instant::now() {
        return told(deadline_exceeded());
    }
    match tokio::time::timeout_at(deadline, work).await {
        Ok(response) => response,
        Err(_) => told(deadline_exceeded()),
    }
}

/// The end of a call is in its answer's head, or behind its last message.
fn observe(response: Response, seen: Seen) -> Response {
    let (parts, body) = response.into_parts();
    if let Some(code) = code(&parts.headers) {
        seen.end(code);
        return Response::from_parts(parts, body);
    }
    Response::from_parts(parts, Body::new(Observed::new(body, seen)))
}

/// The status that a head or trailers carry.
pub(super) fn code(headers: &HeaderMap) -> Option<tonic::Code> {
    let value = headers.get("grpc-status")?;
    Some(tonic::Code::from_bytes(value.as_bytes()))
}
