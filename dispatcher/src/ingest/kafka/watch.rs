//! What librdkafka calls back with: partitions that come and go, statistics, its log.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::{
    ClientContext, Statistics,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance},
    error::KafkaError,
    message::OwnedMessage,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use crate::{
    metrics::{Metrics, PartitionLabel},
    reading::{Reading, ReadingStatus},
};

/// A partition.
pub(super) type Place = (String, i32);

/// The way to a partition's task. Dropping it ends the task behind the batch at hand.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) messages: mpsc::Sender<OwnedMessage>,
    pub(super) gate: Arc<Gate>,
    pub(super) stop: CancellationToken,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// librdkafka's context.
pub(super) struct Watch {
    lanes: Mutex<HashMap<Place, Lane>>,
    /// The consumer is never destroyed.
    kept: AtomicBool,
    metrics: Metrics,
    status: ReadingStatus,
}

impl Watch {
    pub(super) fn new(metrics: Metrics, status: ReadingStatus) -> Self {
        Self {
            lanes: Mutex::default(),
            kept: AtomicBool::new(false),
            metrics,
            status,
        }
    }

    /// Notes that the consumer is never destroyed. True the first time.
    pub(super) fn keep(&self) -> bool {
        !self.kept.swap(true, Ordering::AcqRel)
    }

    /// Whether the consumer is never destroyed.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Acquire)
    }

    /// The tasks of partitions.
    pub(super) fn lanes(&self) -> MutexGuard<'_, HashMap<Place, Lane>> {
        // Entries are whole after a panic, too.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Warning => tracing::info!(facility, "kafka: {message}"),
            _ => tracing::debug!(facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::info!(%error, "kafka: {reason}");
    }

    fn stats(&self, statistics: Statistics) {
        let own: Vec<Place> = self.lanes().keys().cloned().collect();
        let mut lag = 0;
        for (topic, of_topic) in &statistics.topics {
            for (number, partition) in &of_topic.partitions {
                // -1: not known.
                if partition.consumer_lag_stored >= 0
                    && own.iter().any(|(name, own)| name == topic && own == number)
                {
                    lag += partition.consumer_lag_stored;
                    let label = PartitionLabel::new(topic, *number);
                    self.metrics
                        .kafka_lag
                        .get_or_create(&label)
                        .set(partition.consumer_lag_stored);
                }
            }
        }
        self.status.note(Reading {
            brokers_up: statistics
                .brokers
                .values()
                .filter(|broker| broker.state == "UP")
                .count(),
            group: statistics.cgrp.map(|group| group.state).unwrap_or_default(),
            partitions: own.len(),
            lag,
        });
    }
}

impl ConsumerContext for Watch {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                tracing::info!(partitions = partitions.count(), "partitions to read have come");
            }
            Rebalance::Revoke(partitions) => {
                tracing::info!(partitions = partitions.count(), "partitions have gone");
                let mut lanes = self.lanes();
                for element in partitions.elements() {
                    let (topic, number) = (element.topic(), element.partition());
                    lanes.remove(&(topic.to_owned(), number));
                    self.metrics.kafka_lag.remove(&PartitionLabel::new(topic, number));
                }
            }
            Rebalance::Error(error) => tracing::warn!(%error, "the group could not share its partitions out"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance
            && let Err(error) = consumer.resume(partitions)
        {
            // One that was paused when it went would stay so.
            tracing::debug!(%error, "partitions that have come could not be resumed");
        }
    }
}
