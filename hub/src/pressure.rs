//! Publishers of many messages wait where this node's workers cannot keep up.
//!
//! The bus never waits for a node: what finds no room is dropped, counted, and read again from history. That is right for
//! many publishers that know nothing of each other. One that sends thousands of messages in a row would fill the queues
//! by itself, and reading again costs more than waiting; so batches and streams look here now and then.

use std::{sync::Arc, time::Duration};

use common::bus::Subscriptions;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    metrics::HubMetrics,
    receive::{Lane, Outgoing},
};

/// Publishes between two looks at the most.
const STRIDE: usize = 256;

/// A publisher goes on after so long, whatever waits: one worker that stands still must not stop those who publish.
const LONGEST: Duration = Duration::from_secs(1);

/// Turns that are given to other tasks before the publisher sleeps.
const TURNS: usize = 16;

/// What waits for the workers of this node.
#[derive(Debug)]
pub(crate) struct Pressure {
    subscriptions: Subscriptions,
    workers: Vec<mpsc::Sender<Arc<Outgoing>>>,
    metrics: HubMetrics,
}

impl Pressure {
    pub(crate) fn new(subscriptions: Subscriptions, lanes: &[Lane], metrics: HubMetrics) -> Self {
        Self {
            subscriptions,
            workers: lanes.iter().map(|lane| lane.sender.clone()).collect(),
            metrics,
        }
    }

    /// Publishes between two looks: no more than an eighth of a worker's queue, as others publish too.
    pub(crate) fn stride(&self) -> usize {
        let queues = self.workers.iter().map(mpsc::Sender::max_capacity);
        (queues.min().unwrap_or(STRIDE) / 8).clamp(1, STRIDE)
    }

    /// Whether what waits for the node would fill half of the fullest worker's queue. The other half is for who does
    /// not look here.
    fn is_high(&self) -> bool {
        let waiting = self.subscriptions.waiting();
        self.workers
            .iter()
            .any(|worker| high(worker.max_capacity(), worker.capacity(), waiting))
    }

    /// Returns when more can be published.
    pub(crate) async fn relief(&self) {
        if !self.is_high() {
            return;
        }
        self.metrics.held_back.inc();
        let began = Instant::now();
        for turn in 0usize.. {
            if turn < TURNS {
                tokio::task::yield_now().await;
            } else {
                sleep(Duration::from_millis(1)).await;
            }
            if !self.is_high() || began.elapsed() > LONGEST {
                return;
            }
        }
    }
}

fn high(capacity: usize, room: usize, coming: usize) -> bool {
    capacity.saturating_sub(room).saturating_add(coming) > capacity / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_a_queue_is_left_to_others() {
        assert!(!high(8192, 8192, 0));
        assert!(!high(8192, 8192, 4096));
        assert!(high(8192, 8192, 4097));
        assert!(!high(8192, 4096, 0));
        assert!(high(8192, 4095, 0));
        assert!(high(1, 1, 1));
    }
}
