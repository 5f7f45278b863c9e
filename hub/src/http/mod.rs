//! The hub's part of the two listeners.

mod admit;
mod front;
mod publish;
mod seat;
mod stats;
mod upgrade;

use axum::Extension;
use common::http::BodyLimit;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::front::front;
use crate::Hub;

/// Bytes of a publish's body beside its data.
const ENVELOPE: usize = 512 * 1024;

/// A batch's body may be as large as so many of the largest publishes.
const BATCH_SIZE: usize = 64;

/// Public: sockets, broadcast and statistics of the caller's tenant.
#[must_use]
pub fn public(hub: &Hub) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(stats::stats))
        .routes(routes!(publish::broadcast))
        .routes(routes!(upgrade::carillon))
        .routes(routes!(upgrade::cashup))
        .routes(routes!(upgrade::voice_assistant))
        .with_state(hub.clone())
}

/// Internal: publish, beside broadcast and statistics.
#[must_use]
pub fn internal(hub: &Hub) -> OpenApiRouter {
    let limit = hub.inner.shared.config.max_publish.0;
    // Beside its data a publish has a target of up to 1,000 names.
    let single = BodyLimit(limit.saturating_add(ENVELOPE));
    let batch = BodyLimit(limit.saturating_mul(BATCH_SIZE).saturating_add(ENVELOPE));
    OpenApiRouter::new()
        .merge(
            OpenApiRouter::new()
                .routes(routes!(publish::publish))
                .layer(Extension(single)),
        )
        .merge(
            OpenApiRouter::new()
                .routes(routes!(publish::publish_batch))
                .layer(Extension(batch)),
        )
        .routes(routes!(stats::stats))
        .routes(routes!(publish::broadcast))
        .with_state(hub.clone())
}
