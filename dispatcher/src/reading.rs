//! How reading from topics goes, for who asks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

/// How reading goes, as it was seen last. Cheap to clone; shared between who reads and who asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadingStatus(Arc<Mutex<Option<Reading>>>);

/// What was seen of reading.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Brokers that are connected.
    pub(crate) brokers_up: usize,
    /// The group's state as this process sees it: `up` where it takes part.
    pub(crate) group: String,
    /// Partitions that this process has work of.
    pub(crate) partitions: usize,
    /// Events in them that are not done.
    pub(crate) lag: i64,
}

/// Events from Kafka.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KafkaHealth {
    /// `healthy`; `degraded`: no broker is connected, or the group has no place for this process; `off`: not configured, or
    /// just begun.
    pub(crate) status: &'static str,
    /// The group's state as this process sees it.
    group_state: String,
    /// Partitions of which this process has read something.
    partitions: usize,
    /// Events in them that are not done.
    lag: i64,
}

impl ReadingStatus {
    /// Notes what was seen.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "nothing else is read"))]
    pub(crate) fn note(&self, seen: Reading) {
        *self.seen() = Some(seen);
    }

    /// How it goes.
    pub(crate) fn health(&self) -> KafkaHealth {
        let seen = self.seen().clone();
        KafkaHealth {
            status: match &seen {
                None => "off",
                Some(seen) if seen.brokers_up == 0 || seen.group != "up" => "degraded",
                Some(_) => "healthy",
            },
            group_state: seen.as_ref().map(|seen| seen.group.clone()).unwrap_or_default(),
            partitions: seen.as_ref().map_or(0, |seen| seen.partitions),
            lag: seen.as_ref().map_or(0, |seen| seen.lag),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Option<Reading>> {
        // Numbers are whole after a panic, too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
