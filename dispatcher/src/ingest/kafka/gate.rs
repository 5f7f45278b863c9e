//! What a partition has waiting in this process is bounded: no more of it is read until it is less.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::metrics::gauge::Gauge;
use rdkafka::{
    TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
};

use super::watch::Watch;

/// Whether a partition is read.
#[derive(Debug)]
pub(super) struct Gate {
    partition: TopicPartitionList,
    paused: Mutex<bool>,
    gauge: Gauge,
}

impl Gate {
    pub(super) fn new(topic: &str, partition: i32, gauge: Gauge) -> Self {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        Self {
            partition: list,
            paused: Mutex::new(false),
            gauge,
        }
    }

    /// Reads no more of it where it `is_full`, which is asked once nobody else can open the gate.
    pub(super) fn close(&self, consumer: &Arc<StreamConsumer<Watch>>, is_full: impl FnOnce() -> bool) {
        let mut paused = self.paused();
        if *paused || !is_full() {
            return;
        }
        match consumer.pause(&self.partition) {
            Ok(()) => {
                // librdkafka's destructor waits for ever once a partition was resumed (its issue 4362), so from here on nobody
                // destroys the consumer: `Reader` leaves the group by itself, and the process's end takes the rest.
                if consumer.context().keep() {
                    mem::forget(Arc::clone(consumer));
                }
                *paused = true;
                self.gauge.inc();
            }
            // It is no longer ours, and then it brings nothing either.
            Err(error) => tracing::debug!(%error, "a partition could not be paused"),
        }
    }

    /// Reads on.
    pub(super) fn open(&self, consumer: &StreamConsumer<Watch>) {
        let mut paused = self.paused();
        if !*paused {
            return;
        }
        if let Err(error) = consumer.resume(&self.partition) {
            tracing::debug!(%error, "a partition could not be resumed");
        }
        *paused = false;
        self.gauge.dec();
    }

    fn paused(&self) -> MutexGuard<'_, bool> {
        // A flag is whole after a panic, too.
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if *self.paused() {
            self.gauge.dec();
        }
    }
}
