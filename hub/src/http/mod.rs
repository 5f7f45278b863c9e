//! The hub's part of the two listeners.

mod publish;
mod stats;
mod upgrade;

use axum::routing::get;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Hub;

/// Public: sockets, broadcast and statistics of the caller's tenant.
#[must_use]
pub fn public(hub: &Hub) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(stats::stats))
        .routes(routes!(publish::broadcast))
        .route("/api/v1/ws", get(upgrade::carillon))
        .route("/api/v1/websocket/connect", get(upgrade::carillon))
        .route("/ws", get(upgrade::voice_assistant))
        .with_state(hub.clone())
}

/// Internal: publish, beside broadcast and statistics.
#[must_use]
pub fn internal(hub: &Hub) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(publish::publish))
        .routes(routes!(publish::publish_batch))
        .routes(routes!(stats::stats))
        .routes(routes!(publish::broadcast))
        .with_state(hub.clone())
}
