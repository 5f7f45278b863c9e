//! The dispatcher's Prometheus metrics. Names and labels stand here and nowhere else.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use serde::Serialize;

use crate::model::{Channel, Lane};

/// A channel's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChannelLabel {
    channel: &'static str,
}

/// A channel's name and why it failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabel {
    channel: &'static str,
    reason: String,
}

/// What became of a schedule's time: `run`, `failed`, `missed`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ScheduleLabel {
    pub(crate) result: &'static str,
}

/// Where events came from and what became of them: `stored`, `repeated`, `ignored`, `retried`, `dead`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabel {
    pub(crate) source: &'static str,
    pub(crate) result: &'static str,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabel {
    topic: String,
    partition: i32,
}

impl PartitionLabel {
    /// That of a partition.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
        }
    }
}

/// A lane's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabel {
    lane: &'static str,
}

impl From<Channel> for ChannelLabel {
    fn from(channel: Channel) -> Self {
        Self {
            channel: channel.as_str(),
        }
    }
}

impl From<Lane> for LaneLabel {
    fn from(lane: Lane) -> Self {
        Self { lane: lane.as_str() }
    }
}

type Histograms = Family<ChannelLabel, Histogram, fn() -> Histogram>;

/// The dispatcher's metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Notifications accepted.
    pub created: Counter,
    /// Deliveries that a channel took. Without labels, like `created`, so that one divides by the other (S1.12).
    pub sent_all: Counter,
    /// Deliveries that are dead or expired.
    pub failed_all: Counter,
    /// Deliveries that a channel took, by channel.
    pub sent: Family<ChannelLabel, Counter>,
    /// Deliveries that are dead or expired, by channel and reason.
    pub failed: Family<FailureLabel, Counter>,
    /// Realtime deliveries for which nobody was online.
    pub skipped: Counter,
    /// From visible to delivered, seconds.
    pub duration: Histograms,
    /// Pending deliveries of a lane.
    pub depth: Family<LaneLabel, Gauge>,
    /// How long the first of a lane is overdue, seconds.
    pub age: Family<LaneLabel, Gauge<f64, AtomicU64>>,
    /// Time of one claim, seconds.
    pub claim_seconds: Histogram,
    /// Time of one storing of results, seconds.
    pub settle_seconds: Histogram,
    /// Deliveries taken back from a lease that ran out.
    pub rescued: Counter,
    /// Those among them whose attempt has a start and no end.
    pub rescued_unknown: Counter,
    /// Rows of inboxes, notifications and months that were older than the retention.
    pub forgotten: Counter,
    /// Attempts of which nobody can tell whether they went out.
    pub unknown: Family<ChannelLabel, Counter>,
    /// Leases that another worker had taken when this one looked again.
    pub leases_lost: Counter,
    /// Claims, attempts, results and leases of the queue that the store did not take at first.
    pub store_refusals: Counter,
    /// Time of one mail's transmission, seconds.
    pub email_seconds: Histogram,
    /// Time of one webhook call, seconds.
    pub webhook_seconds: Histogram,
    /// Deliveries that waited for their turn without having been tried, by channel.
    pub throttled: Family<ChannelLabel, Counter>,
    /// Realtime frames that the bus did not take at first.
    pub bus_retries: Counter,
    /// Receipts that were taken from the stream.
    pub receipts: Counter,
    /// Notifications that were refused as the queue was full.
    pub queue_full: Counter,
    /// Times of schedules, by what became of them.
    pub schedule_runs: Family<ScheduleLabel, Counter>,
    /// Notifications that wait in the spool for the database.
    pub spool_depth: Gauge,
    /// Age of the first of them, seconds.
    pub spool_oldest: Gauge<f64, AtomicU64>,
    /// Notifications that this process spooled.
    pub spooled: Counter,
    /// Notifications that this process took out of the spool, as the database has them.
    pub drained: Counter,
    /// Times that what is spooled could not be stored.
    pub drain_errors: Counter,
    /// Chains whose next step was begun by time, or passed over.
    pub steps: Counter,
    /// Channels that a failover left because they failed.
    pub failovers: Family<ChannelLabel, Counter>,
    /// Pauses of the queue that hold.
    pub pauses: Gauge,
    /// Dead letters that were sent again.
    pub redriven: Counter,
    /// Events of other systems, by where they came from and what became of them.
    pub events: Family<EventLabel, Counter>,
    /// Events of a partition that this process reads and that are not done.
    pub kafka_lag: Family<PartitionLabel, Gauge>,
    /// Partitions of which no more is read at the moment, as too much of them waits.
    pub kafka_paused: Gauge,
}

/// Sums since the process began.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(crate) struct Totals {
    /// Notifications accepted.
    created: u64,
    /// Deliveries that a channel took.
    sent: u64,
    /// Deliveries that are dead or expired.
    failed: u64,
    /// Realtime deliveries for which nobody was online.
    skipped: u64,
    /// Deliveries that a channel took, by channel.
    #[schema(value_type = Object)]
    sent_by_channel: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// Registers all metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::new();
        registry.register(
            "notification_created",
            "Notifications accepted",
            metrics.created.clone(),
        );
        registry.register(
            "notification_sent",
            "Deliveries that a channel took",
            metrics.sent_all.clone(),
        );
        registry.register(
            "notification_failed",
            "Deliveries that are dead or expired",
            metrics.failed_all.clone(),
        );
        registry.register(
            "delivery_sent",
            "Deliveries that a channel took, by channel",
            metrics.sent.clone(),
        );
        registry.register(
            "delivery_failed",
            "Deliveries that are dead or expired, by channel and reason",
            metrics.failed.clone(),
        );
        registry.register(
            "notification_skipped",
            "Realtime deliveries for which nobody was online",
            metrics.skipped.clone(),
        );
        registry.register_with_unit(
            "notification_delivery_duration",
            "From visible to delivered",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "queue_depth",
            "Pending deliveries of a lane",
            metrics.depth.clone(),
        );
        registry.register_with_unit(
            "queue_age",
            "How long the first of a lane is overdue",
            Unit::Seconds,
            metrics.age.clone(),
        );
        registry.register_with_unit(
            "queue_claim",
            "Time of one claim",
            Unit::Seconds,
            metrics.claim_seconds.clone(),
        );
        registry.register(
            "queue_store_refusals",
            "Claims, attempts, results and leases of the queue that the store did not take at first",
            metrics.store_refusals.clone(),
        );
        registry.register_with_unit(
            "queue_settle",
            "Time of one storing of results",
            Unit::Seconds,
            metrics.settle_seconds.clone(),
        );
        registry.register(
            "queue_rescued",
            "Deliveries taken back from a lease that ran out",
            metrics.rescued.clone(),
        );
        registry.register(
            "queue_rescued_unknown",
            "Rescued deliveries whose attempt has a start and no end",
            metrics.rescued_unknown.clone(),
        );
        registry.register(
            "history_forgotten",
            "Rows of inboxes, notifications, and months of them, that were older than the retention",
            metrics.forgotten.clone(),
        );
        registry.register(
            "queue_unknown",
            "Attempts of which nobody can tell whether they went out",
            metrics.unknown.clone(),
        );
        registry.register(
            "queue_leases_lost",
            "Leases that another worker had taken",
            metrics.leases_lost.clone(),
        );
        registry.register_with_unit(
            "email_send",
            "Time of one mail's transmission",
            Unit::Seconds,
            metrics.email_seconds.clone(),
        );
        registry.register_with_unit(
            "webhook_send",
            "Time of one webhook call",
            Unit::Seconds,
            metrics.webhook_seconds.clone(),
        );
        registry.register(
            "delivery_throttled",
            "Deliveries that waited for their turn without having been tried, by channel",
            metrics.throttled.clone(),
        );
        registry.register(
            "realtime_bus_retries",
            "Frames that the bus did not take at first",
            metrics.bus_retries.clone(),
        );
        registry.register(
            "receipts_received",
            "Receipts that were taken from the stream",
            metrics.receipts.clone(),
        );
        registry.register(
            "queue_pauses",
            "Pauses of the queue that hold",
            metrics.pauses.clone(),
        );
        registry.register(
            "queue_redriven",
            "Dead letters that were sent again",
            metrics.redriven.clone(),
        );
        registry.register(
            "queue_full",
            "Notifications that were refused as the queue was full",
            metrics.queue_full.clone(),
        );
        registry.register(
            "schedule_runs",
            "Times of schedules, by what became of them",
            metrics.schedule_runs.clone(),
        );
        metrics.register_spool(registry);
        metrics.register_events(registry);
        registry.register(
            "chain_steps",
            "Chains whose next step was begun by time, or passed over",
            metrics.steps.clone(),
        );
        registry.register(
            "chain_failovers",
            "Channels that a failover left because they failed",
            metrics.failovers.clone(),
        );
        metrics
    }

    fn register_spool(&self, registry: &mut Registry) {
        registry.register(
            "spool_depth",
            "Notifications that wait in the spool for the database",
            self.spool_depth.clone(),
        );
        registry.register_with_unit(
            "spool_oldest",
            "Age of the first notification in the spool",
            Unit::Seconds,
            self.spool_oldest.clone(),
        );
        registry.register(
            "spooled",
            "Notifications that this process spooled",
            self.spooled.clone(),
        );
        registry.register(
            "drained",
            "Notifications that this process took out of the spool, as the database has them",
            self.drained.clone(),
        );
        registry.register(
            "drain_errors",
            "Times that what is spooled could not be stored",
            self.drain_errors.clone(),
        );
    }

    fn register_events(&self, registry: &mut Registry) {
        registry.register(
            "events",
            "Events of other systems, by where they came from and what became of them",
            self.events.clone(),
        );
        registry.register(
            "kafka_lag",
            "Events of a partition that are not done",
            self.kafka_lag.clone(),
        );
        registry.register(
            "kafka_paused_partitions",
            "Partitions of which no more is read, as too much of them waits",
            self.kafka_paused.clone(),
        );
    }

    /// Metrics that nobody reads.
    #[must_use]
    pub fn new() -> Self {
        Self {
            created: Counter::default(),
            sent_all: Counter::default(),
            failed_all: Counter::default(),
            sent: Family::default(),
            failed: Family::default(),
            skipped: Counter::default(),
            duration: Family::new_with_constructor(seconds),
            depth: Family::default(),
            age: Family::default(),
            claim_seconds: seconds(),
            settle_seconds: seconds(),
            rescued: Counter::default(),
            rescued_unknown: Counter::default(),
            forgotten: Counter::default(),
            unknown: Family::default(),
            leases_lost: Counter::default(),
            store_refusals: Counter::default(),
            email_seconds: seconds(),
            webhook_seconds: seconds(),
            throttled: Family::default(),
            bus_retries: Counter::default(),
            receipts: Counter::default(),
            queue_full: Counter::default(),
            schedule_runs: Family::default(),
            spool_depth: Gauge::default(),
            spool_oldest: Gauge::default(),
            spooled: Counter::default(),
            drained: Counter::default(),
            drain_errors: Counter::default(),
            steps: Counter::default(),
            failovers: Family::default(),
            pauses: Gauge::default(),
            redriven: Counter::default(),
            events: Family::default(),
            kafka_lag: Family::default(),
            kafka_paused: Gauge::default(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let of_channel = |channel: Channel| self.sent.get(&channel.into()).map_or(0, |sent| sent.get());
        Totals {
            created: self.created.get(),
            sent: self.sent_all.get(),
            failed: self.failed_all.get(),
            skipped: self.skipped.get(),
            sent_by_channel: Channel::ALL
                .into_iter()
                .map(|channel| (channel.as_str(), of_channel(channel)))
                .collect(),
        }
    }

    pub(crate) fn count_sent(&self, channel: Channel) {
        self.sent_all.inc();
        self.sent.get_or_create(&channel.into()).inc();
    }

    pub(crate) fn count_failed(&self, channel: Channel, reason: &str) {
        let label = FailureLabel {
            channel: channel.as_str(),
            reason: reason.to_owned(),
        };
        self.failed_all.inc();
        self.failed.get_or_create(&label).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From half a millisecond to about half an hour.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 22))
}
