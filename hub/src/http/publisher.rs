//! Publishing without sockets: what the publish API stands on, also in a process that has no hub.

use common::{
    bus::Bus,
    http::{Caller, Problem, body_too_large},
    telemetry::Metrics,
};
use http::HeaderMap;
use prometheus_client::metrics::counter::Counter;

use super::{ENVELOPE, answer::Answer, key, publish, round::publish_one};

/// Takes publishes to the bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    pub(super) bus: Bus,
    /// Bytes of a frame at the most.
    pub(super) max_publish: usize,
    pub(super) published: Counter,
}

impl Publisher {
    /// Of a hub, which counts what it takes.
    pub(crate) fn new(bus: Bus, max_publish: usize, published: Counter) -> Self {
        Self {
            bus,
            max_publish,
            published,
        }
    }

    /// Of a process without a hub. A frame has at most `max_publish` bytes.
    #[must_use]
    pub fn without_hub(bus: Bus, max_publish: usize, metrics: &Metrics) -> Self {
        let published = Counter::default();
        metrics.register(|registry| {
            registry.register(
                "hub_published",
                "Publishes taken by the publish API",
                published.clone(),
            );
        });
        Self::new(bus, max_publish, published)
    }

    /// Bytes of one publish's body at the most: beside its data it has a target of up to 1,000 names.
    #[must_use]
    pub fn max_body(&self) -> usize {
        self.max_publish.saturating_add(ENVELOPE)
    }

    /// Carries out a publish whose body is that of `POST /api/v1/publish`, with that request's `headers`.
    ///
    /// # Errors
    /// The problem that the request is told.
    pub async fn publish(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Answer, Problem> {
        if body.len() > self.max_body() {
            return Err(body_too_large(self.max_body()));
        }
        let key = key::read(headers)?;
        publish_one(self, publish::read(self, caller, body, key.as_deref())?).await
    }
}
