//! Metrics of the bus over Redis.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Handles. Cheap to clone; the default counts for nobody.
#[derive(Debug, Clone, Default)]
pub struct BusMetrics {
    pub(super) flushes: Counter,
    pub(super) commands: Counter,
    pub(super) retried: Counter,
    pub(super) unclear: Counter,
    pub(super) not_copied: Counter,
    pub(super) reconnects: Counter,
    pub(super) probes: Counter,
    pub(super) probes_lost: Counter,
    pub(super) moved: Counter,
    pub(super) resubscribed: Counter,
    pub(super) dropped: Counter,
    pub(super) unreadable: Counter,
    pub(super) renewed: Counter,
}

impl BusMetrics {
    /// Registers all of them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut add = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("carillon_bus_{name}"), help, counter.clone());
        };
        add(
            "flushes",
            "Batches of commands written to Redis",
            &metrics.flushes,
        );
        add(
            "commands",
            "Commands of the bus written to Redis",
            &metrics.commands,
        );
        add(
            "retried",
            "Commands that Redis did not carry out and that were sent again",
            &metrics.retried,
        );
        add(
            "unclear",
            "Commands that were under way when their connection broke",
            &metrics.unclear,
        );
        add(
            "not_copied",
            "Publishes that too few replicas had in time",
            &metrics.not_copied,
        );
        add(
            "reconnects",
            "Connections to Redis that broke",
            &metrics.reconnects,
        );
        add(
            "probes",
            "Probes of subscriptions that heard nothing",
            &metrics.probes,
        );
        add(
            "probes_lost",
            "Probes that did not come back, so that the connection was made anew",
            &metrics.probes_lost,
        );
        add(
            "moved",
            "Subscriptions that Redis ended because their slot moved",
            &metrics.moved,
        );
        add(
            "resubscribed",
            "Topics subscribed again after a reconnect or a move",
            &metrics.resubscribed,
        );
        add(
            "dropped",
            "Messages that found no room in this node's queue",
            &metrics.dropped,
        );
        add(
            "unreadable",
            "Messages of another version or another program",
            &metrics.unreadable,
        );
        add(
            "renewed",
            "Epochs begun because the end of a topic was lost",
            &metrics.renewed,
        );
        metrics
    }
}
