//! Bounds of what the bus remembers.

use std::time::Duration;

use crate::config::BusConfig;

/// Bounds of what history and what goes with it may take.
#[derive(Debug, Clone, Copy)]
pub struct BusLimits {
    /// Messages a topic.
    pub count: usize,
    /// Payload bytes a topic; over Redis with their headers.
    pub bytes: usize,
    /// Age of a message.
    pub age: Duration,
    /// How long a topic that nobody uses keeps its offsets.
    pub meta_age: Duration,
    /// In memory: topics that nobody is subscribed to and that keep their offsets; beyond, those unused for longest are
    /// forgotten with the next sweep.
    pub meta_topics: usize,
    /// How long an idempotency key gives the first result, unless its topic is forgotten before.
    pub key_age: Duration,
    /// In memory: idempotency keys that are remembered; beyond, the oldest of all topics are forgotten with the next sweep.
    /// One topic has at most a tenth of them.
    pub keys: usize,
}

impl Default for BusLimits {
    fn default() -> Self {
        Self {
            count: 256,
            bytes: 256 * 1024,
            age: Duration::from_secs(600),
            meta_age: Duration::from_secs(30 * 24 * 3600),
            meta_topics: 1_000_000,
            key_age: Duration::from_secs(24 * 3600),
            keys: 1_000_000,
        }
    }
}

impl From<&BusConfig> for BusLimits {
    fn from(config: &BusConfig) -> Self {
        Self {
            count: config.history_count,
            bytes: config.history_bytes.0,
            age: config.history_age.0,
            meta_age: config.meta_age.0,
            meta_topics: config.meta_topics,
            key_age: config.idempotency_age.0,
            keys: config.idempotency_keys,
        }
    }
}
