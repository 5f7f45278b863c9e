//! Whether the process lives, and whether requests should come to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use common::bus::Bus;
use dispatcher::api::ApiState;
use http::StatusCode;
use hub::Hub;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::Parts;

/// Between two looks whether the bus is there for the first time.
const LOOK: Duration = Duration::from_millis(500);

/// Who knows whether requests should come to this process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    hub: Option<Hub>,
    api: Option<ApiState>,
    bus: Bus,
    bus_seen: BusSeen,
}

/// Whether the bus could do its work once, since the process began; whichever listener is asked says the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct BusSeen(Arc<AtomicBool>);

impl BusSeen {
    /// Takes note of how the bus is. True where it can do its work, or could before.
    fn note(&self, ready: bool) -> bool {
        self.0.fetch_or(ready, Ordering::AcqRel) || ready
    }

    /// Looks until the bus was there once, also while nobody asks.
    pub(crate) async fn watch(self, bus: Bus) {
        while !self.note(bus.ready()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// `/live` and `/ready`.
pub(super) fn routes(parts: &Parts) -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready).with_state(Ready::new(parts)))
}

/// The same of a process that waits for its database.
pub(super) fn waiting() -> Router {
    Router::new()
        .route("/live", get(live))
        .route("/health", get(dispatcher::api::health))
        .route("/ready", get(async || Readiness::new(["storage"], None)))
}

/// Describes them.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Described::openapi()
}

#[derive(OpenApi)]
#[openapi(paths(live, ready))]
struct Described;

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
    /// What does not work although requests should come: `bus`, where a dispatcher accepts, stores and serves inboxes, and frames
    /// wait for the bus; `storage`, where what is accepted is spooled; `draining`, where something is spooled; `spool`, which could
    /// take nothing if the database went away. Left out where there is nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    degraded: Vec<&'static str>,
}

impl Readiness {
    fn new(
        reasons: impl IntoIterator<Item = &'static str>,
        degraded: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_unstable();
        // Several parts know of a stop.
        reasons.dedup();
        let status = if reasons.is_empty() { "ready" } else { "not_ready" };
        Self {
            status,
            reasons,
            degraded: degraded.into_iter().collect(),
        }
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
    (status = 200, body = Readiness, description = "This process does its work; `degraded` names what it does without"),
    (status = 503, body = Readiness, description = "Not now, for these reasons")))]
async fn ready(State(ready): State<Ready>) -> Readiness {
    ready.look().await
}

impl Ready {
    /// Of a process that is made of these.
    pub(crate) fn new(parts: &Parts) -> Self {
        Self {
            hub: parts.hub.clone(),
            api: parts.api.clone(),
            bus: parts.bus.clone(),
            bus_seen: parts.bus_seen.clone(),
        }
    }

    /// Whether requests should come here.
    pub(crate) async fn is_ready(&self) -> bool {
        self.look().await.reasons.is_empty()
    }

    async fn look(&self) -> Readiness {
        let dispatcher = match &self.api {
            Some(api) => dispatcher::api::readiness(api).await,
            None => dispatcher::api::Readiness::default(),
        };
        let storage = dispatcher.reason;
        let Some(hub) = &self.hub else {
            let bus = self.bus.ready();
            let seen = self.bus_seen.note(bus);
            let (reason, degraded) = dispatchers_bus(bus, seen);
            let degraded = degraded.into_iter().chain(dispatcher.degraded);
            return Readiness::new(reason.into_iter().chain(storage), degraded);
        };
        Readiness::new(hub.unready().into_iter().chain(storage), dispatcher.degraded)
    }
}

/// What a dispatcher without a hub says of its bus: whether it is why no requests should come, or a lack that is worth saying.
/// It never was there: something is set wrong, and a rollout has to stop. It went away: what is accepted is stored, and the inbox
/// is whole; taking all that away too would help nobody.
fn dispatchers_bus(ready: bool, seen: bool) -> (Option<&'static str>, Option<&'static str>) {
    match (ready, seen) {
        (true, _) => (None, None),
        (false, false) => (Some("bus"), None),
        (false, true) => (None, Some("bus")),
    }
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
            let readiness = Readiness::new(reasons.iter().copied(), None);
            assert_eq!(serde_json::to_string(&readiness).unwrap(), text);
            assert_eq!(readiness.into_response().status().as_u16(), status);
        }
    }

    #[test]
    fn a_dispatcher_is_of_use_without_its_bus_once_it_had_it() {
        assert_eq!(dispatchers_bus(false, false), (Some("bus"), None));
        assert_eq!(dispatchers_bus(true, true), (None, None));
        let (reason, degraded) = dispatchers_bus(false, true);
        let readiness = Readiness::new(reason, degraded);
        assert_eq!(
            serde_json::to_string(&readiness).unwrap(),
            r#"{"status":"ready","reasons":[],"degraded":["bus"]}"#
        );
        assert_eq!(readiness.into_response().status(), StatusCode::OK);
    }
}
