//! What both ends count.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Of a hub's end.
#[derive(Debug, Clone, Default)]
pub(super) struct SinkMetrics {
    pub(super) written: Counter,
    pub(super) waiting: Gauge<i64, AtomicI64>,
    pub(super) retries: Counter,
    pub(super) dropped: Counter,
}

impl SinkMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let m = new.clone();
        registry.register("receipts_written", "Receipts that Redis has taken", m.written);
        registry.register("receipts_waiting", "Receipts that wait for Redis", m.waiting);
        registry.register(
            "receipts_write_retries",
            "Times that Redis did not take receipts at first",
            m.retries,
        );
        registry.register(
            "receipts_entries_dropped",
            "Entries that this hub dropped from the full stream, unread",
            m.dropped,
        );
        new
    }
}

/// Of a dispatcher's end.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamMetrics {
    pub(super) read: Counter,
    pub(super) claimed: Counter,
    pub(super) poisoned: Counter,
    pub(super) lost: Counter,
    pub(super) upkeeps: Counter,
    pub(super) entries: Gauge<i64, AtomicI64>,
    pub(super) age: Gauge<f64, AtomicU64>,
}

impl StreamMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let m = new.clone();
        registry.register(
            "receipts_entries_read",
            "Entries of the stream that were read, repeats included",
            m.read,
        );
        registry.register(
            "receipts_entries_claimed",
            "Entries taken over from a dispatcher that did not finish them",
            m.claimed,
        );
        registry.register(
            "receipts_poisoned",
            "Receipts that could not be read and were passed over",
            m.poisoned,
        );
        registry.register(
            "receipts_entries_lost",
            "Entries dropped from the full stream before a dispatcher had stored them",
            m.lost,
        );
        registry.register(
            "receipts_upkeeps",
            "Looks at the stream as a whole and at what other dispatchers left",
            m.upkeeps,
        );
        registry.register(
            "receipts_stream_entries",
            "Entries of the stream that are not stored yet",
            m.entries,
        );
        registry.register_with_unit(
            "receipts_stream_age",
            "Age of the oldest entry that is not stored yet",
            Unit::Seconds,
            m.age,
        );
        new
    }
}
