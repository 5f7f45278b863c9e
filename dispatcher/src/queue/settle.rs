//! Storing what became of deliveries: what is ready goes to the store in one call.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{lease::Lease, wake::Wake};
use crate::{
    metrics::Metrics,
    model::{Channel, DeliveryState, Micros, Settlement},
    store::Store,
};

/// Settlements that may wait for the store; beyond, whoever has one waits too, and with it its place in the channel.
const WAITING: usize = 4096;

/// Settlements in one call.
const BATCH: usize = 512;

/// The end of one delivery's claim.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) settlement: Settlement,
    /// Dropped, and with it the place, only when the settlement is stored.
    pub(crate) lease: Lease,
    pub(crate) channel: Channel,
    /// When the notification became visible.
    pub(crate) visible_at: Micros,
}

/// Takes settlements. Cheap to clone; the flushing task ends when all are gone.
#[derive(Debug, Clone)]
pub(crate) struct Settler(mpsc::Sender<Done>);

impl Settler {
    pub(crate) fn new() -> (Self, Flush) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), Flush(receiver))
    }

    /// Hands a settlement over. Where the flush has ended, the process is ending: the lease runs out by itself.
    pub(crate) async fn settle(&self, done: Done) {
        if self.0.send(done).await.is_err() {
            tracing::debug!("a settlement came after the flush had ended");
        }
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Flush(mpsc::Receiver<Done>);

impl Flush {
    /// Stores what comes until every [`Settler`] is gone. While the store is away it waits; the heartbeat keeps the
    /// leases.
    pub(crate) async fn run(mut self, store: Store, wake: Wake, metrics: Metrics) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.0.recv_many(&mut batch, BATCH).await > 0 {
            let settlements: Vec<Settlement> = batch.iter().map(|done| done.settlement.clone()).collect();
            let kept = store_all(&store, settlements, &metrics).await;
            for (done, kept) in batch.drain(..).zip(kept) {
                if kept {
                    count(&done, &wake, &metrics);
                } else {
                    metrics.leases_lost.inc();
                    let delivery = done.settlement.delivery;
                    tracing::warn!(%delivery, "the lease was lost; the result is not stored");
                }
                drop(done.lease);
            }
            wake.room();
        }
    }
}

async fn store_all(store: &Store, settlements: Vec<Settlement>, metrics: &Metrics) -> Vec<bool> {
    let mut pause = Duration::from_millis(50);
    loop {
        let started = Instant::now();
        match store.settle(settlements.clone()).await {
            Ok(kept) => {
                metrics.settle_seconds.observe(started.elapsed().as_secs_f64());
                return kept;
            }
            Err(error) => {
                tracing::warn!(%error, results = settlements.len(), "results could not be stored; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
    }
}

fn count(done: &Done, wake: &Wake, metrics: &Metrics) {
    let settlement = &done.settlement;
    let reason = settlement.reason.as_deref().unwrap_or("unknown");
    match settlement.state {
        DeliveryState::Delivered => {
            metrics.sent.get_or_create(&done.channel.into()).inc();
            let micros = Micros::now().0.saturating_sub(done.visible_at.0).max(0);
            metrics
                .duration
                .get_or_create(&done.channel.into())
                .observe(micros as f64 / 1e6);
        }
        DeliveryState::Skipped => {
            metrics.skipped.inc();
        }
        DeliveryState::Dead | DeliveryState::Expired => metrics.count_failed(done.channel, reason),
        DeliveryState::Pending => {
            if let Some(due_at) = settlement.due_at {
                wake.due(due_at);
            }
        }
        DeliveryState::Running | DeliveryState::Suppressed | DeliveryState::Cancelled => {}
    }
    if settlement.outcome == Some("unknown") {
        metrics.unknown.get_or_create(&done.channel.into()).inc();
    }
}
