//! The hub's part of the two listeners.

mod admit;
mod answer;
mod control;
mod express;
pub(crate) mod fallback;
mod front;
mod head;
mod key;
mod lines;
mod publish;
mod publisher;
mod round;
mod seat;
mod stats;
mod stream;
mod upgrade;

use axum::Extension;
use common::http::BodyLimit;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::express::express;
pub use self::front::front;
pub use self::{
    answer::{Answer, TopicAnswer},
    publisher::Publisher,
};
use crate::Hub;

/// Bytes of a publish's body beside its data.
const ENVELOPE: usize = 512 * 1024;

/// A batch's body may be as large as so many of the largest publishes.
const BATCH_SIZE: usize = 64;

/// Public: sockets and their fallbacks, broadcast and statistics of the caller's tenant.
#[must_use]
pub fn public(hub: &Hub) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(stats::stats))
        .merge(broadcast(hub))
        .routes(routes!(fallback::sse::sse))
        .routes(routes!(fallback::poll::poll))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(fallback::say::say))
                .layer(Extension(BodyLimit(hub.inner.shared.config.max_message.0))),
        )
        .routes(routes!(upgrade::carillon))
        .routes(routes!(upgrade::cashup))
        .routes(routes!(upgrade::voice_assistant))
        .with_state(hub.clone())
}

/// Internal: publish and control, beside broadcast and statistics.
#[must_use]
pub fn internal(hub: &Hub) -> OpenApiRouter {
    let limit = hub.inner.shared.config.max_publish.0;
    let single = BodyLimit(single_limit(hub));
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
        .routes(routes!(stream::publish_stream))
        .routes(routes!(stats::stats))
        .merge(broadcast(hub))
        .merge(control::routes())
        .with_state(hub.clone())
}

fn broadcast(hub: &Hub) -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(publish::broadcast))
        .layer(Extension(BodyLimit(single_limit(hub))))
}

/// Bytes of one publish's body at the most: beside its data it has a target of up to 1,000 names.
fn single_limit(hub: &Hub) -> usize {
    hub.inner.publisher.max_body()
}
