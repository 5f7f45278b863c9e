//! Every metric of the hub, named once.

use std::sync::atomic::AtomicI64;

use common::telemetry::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

/// A reason, from a closed set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Because {
    reason: &'static str,
}

/// How a session without a WebSocket is served.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct By {
    transport: &'static str,
}

/// A session of a fallback transport, counted as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenFallback(Gauge<i64, AtomicI64>);

impl Drop for OpenFallback {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Handles to the hub's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct HubMetrics {
    pub(crate) connections: Gauge<i64, AtomicI64>,
    pub(crate) opened: Counter,
    refused: Family<Because, Counter>,
    closed: Family<Because, Counter>,
    fallbacks: Family<By, Gauge<i64, AtomicI64>>,
    fallbacks_opened: Family<By, Counter>,
    pub(crate) received: Counter,
    pub(crate) messages: Counter,
    pub(crate) unwanted: Counter,
    pub(crate) deliveries: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) queued: Counter,
    pub(crate) waiting_bytes: Gauge<i64, AtomicI64>,
    pub(crate) blocked_sessions: Gauge<i64, AtomicI64>,
    evicted: Family<Because, Counter>,
    pub(crate) dropped_oldest: Counter,
    pub(crate) conflated: Counter,
    pub(crate) expired: Counter,
    pub(crate) gaps_told: Counter,
    pub(crate) dropped: Counter,
    pub(crate) healed: Counter,
    resyncs: Family<Because, Counter>,
    pub(crate) replayed: Counter,
    pub(crate) published: Counter,
    pub(crate) held_back: Counter,
    pub(crate) receipts_dropped: Counter,
    pub(crate) presence_dropped: Counter,
    pub(crate) nodes: Gauge<i64, AtomicI64>,
    pub(crate) traces: Gauge<i64, AtomicI64>,
    orders_ignored: Family<Because, Counter>,
    pub(crate) lag: Histogram,
}

impl HubMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let new = Self {
            connections: Gauge::default(),
            opened: Counter::default(),
            refused: Family::default(),
            closed: Family::default(),
            fallbacks: Family::default(),
            fallbacks_opened: Family::default(),
            received: Counter::default(),
            messages: Counter::default(),
            unwanted: Counter::default(),
            deliveries: Counter::default(),
            bytes_out: Counter::default(),
            queued: Counter::default(),
            waiting_bytes: Gauge::default(),
            blocked_sessions: Gauge::default(),
            evicted: Family::default(),
            dropped_oldest: Counter::default(),
            conflated: Counter::default(),
            expired: Counter::default(),
            gaps_told: Counter::default(),
            dropped: Counter::default(),
            healed: Counter::default(),
            resyncs: Family::default(),
            replayed: Counter::default(),
            published: Counter::default(),
            held_back: Counter::default(),
            receipts_dropped: Counter::default(),
            presence_dropped: Counter::default(),
            nodes: Gauge::default(),
            traces: Gauge::default(),
            orders_ignored: Family::default(),
            // From half a millisecond to half a minute.
            lag: Histogram::new((0..17).map(|power| 0.0005 * f64::from(1u32 << power))),
        };
        metrics.register(|registry| {
            let m = new.clone();
            registry.register("websocket_connections_active", "Open sessions", m.connections);
            registry.register("hub_sessions_opened", "Sessions that were welcomed", m.opened);
            registry.register(
                "hub_handshakes_refused",
                "Handshakes that were refused",
                m.refused,
            );
            registry.register("hub_sessions_closed", "Sessions that ended", m.closed);
            registry.register(
                "hub_fallbacks_active",
                "Open sessions without a WebSocket: event streams and polls that wait",
                m.fallbacks,
            );
            registry.register(
                "hub_fallbacks_opened",
                "Event streams and polls that were let in",
                m.fallbacks_opened,
            );
            registry.register("hub_commands_received", "Messages from clients", m.received);
            registry.register(
                "hub_messages",
                "Messages from the bus that had members here",
                m.messages,
            );
            registry.register(
                "hub_messages_unwanted",
                "Messages from the bus without members here",
                m.unwanted,
            );
            registry.register("hub_deliveries", "Frames handed to sessions", m.deliveries);
            registry.register("hub_outbound_bytes", "Bytes the kernel took", m.bytes_out);
            registry.register(
                "hub_outbound_queued",
                "Frames the kernel did not take at once",
                m.queued,
            );
            registry.register(
                "hub_outbound_waiting_bytes",
                "Bytes that wait in outbound queues, at the last full second",
                m.waiting_bytes,
            );
            registry.register(
                "hub_sessions_blocked",
                "Sessions with an outbound queue, at the last full second",
                m.blocked_sessions,
            );
            registry.register(
                "hub_outbound_evicted",
                "Sessions closed with 4008, by the bound that they were over",
                m.evicted,
            );
            registry.register(
                "hub_outbound_dropped_oldest",
                "Messages dropped from outbound queues by drop_oldest",
                m.dropped_oldest,
            );
            registry.register(
                "hub_outbound_conflated",
                "Messages in outbound queues that gave way to a newer one with the same key",
                m.conflated,
            );
            registry.register(
                "hub_outbound_expired",
                "Messages whose time passed in an outbound queue",
                m.expired,
            );
            registry.register("hub_gaps_told", "Gap frames sent to sessions", m.gaps_told);
            registry.register(
                "hub_messages_dropped",
                "Messages dropped on the way to a worker, to be healed",
                m.dropped,
            );
            registry.register("hub_gaps_healed", "Gaps closed from history", m.healed);
            registry.register(
                "hub_resyncs",
                "Times sessions of a topic, or one that resumes, were told to resync, by reason",
                m.resyncs,
            );
            registry.register(
                "hub_messages_replayed",
                "Messages replayed to sessions that resumed",
                m.replayed,
            );
            registry.register("hub_published", "Publishes taken by the publish API", m.published);
            registry.register(
                "hub_publishers_held_back",
                "Times a publisher of many messages waited for this node's workers",
                m.held_back,
            );
            registry.register(
                "hub_receipts_dropped",
                "Receipts that the dispatcher had no room for",
                m.receipts_dropped,
            );
            registry.register(
                "hub_presence_dropped",
                "Join and leave events that the bus had no room for",
                m.presence_dropped,
            );
            registry.register("hub_nodes", "Nodes that are there, this one included", m.nodes);
            registry.register(
                "hub_traces",
                "Live traces that run here, those of other nodes included",
                m.traces,
            );
            registry.register(
                "hub_node_orders_ignored",
                "Messages of other nodes that were not acted on",
                m.orders_ignored,
            );
            registry.register("hub_bus_lag_seconds", "From publish to receive", m.lag);
        });
        new
    }

    pub(crate) fn evicted(&self, reason: &'static str) {
        self.evicted.get_or_create(&Because { reason }).inc();
    }

    /// Sessions evicted for a reason.
    pub(crate) fn evictions(&self, reason: &'static str) -> u64 {
        self.evicted.get_or_create(&Because { reason }).get()
    }

    /// Sessions were told to resync.
    pub(crate) fn resynced(&self, reason: &'static str) {
        self.resyncs.get_or_create(&Because { reason }).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Because { reason }).inc();
    }

    /// Counts a session of a fallback transport.
    pub(crate) fn fallback(&self, transport: &'static str) -> OpenFallback {
        let by = By { transport };
        self.fallbacks_opened.get_or_create(&by).inc();
        let open = self.fallbacks.get_or_create(&by).clone();
        open.inc();
        OpenFallback(open)
    }

    pub(crate) fn order_ignored(&self, reason: &'static str) {
        self.orders_ignored.get_or_create(&Because { reason }).inc();
    }

    pub(crate) fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Because { reason }).inc();
    }
}
