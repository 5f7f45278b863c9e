//! Storing what became of deliveries: what is ready goes to the store in one call.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::hold::Lease;
use crate::{
    metrics::Metrics,
    model::{Channel, DeliveryState, Micros, Settlement},
    store::{Store, StoreError},
    wake::Wake,
};

/// Settlements that may wait for the store; beyond, whoever has one waits too, and with it its place in the channel.
const WAITING: usize = 4096;

/// Settlements in one call.
const BATCH: usize = 512;

/// Pauses while the store is away: the first one, doubled up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

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
            let kept = insist(settlements, |part| {
                let (store, metrics) = (store.clone(), metrics.clone());
                async move {
                    let started = Instant::now();
                    let result = store.settle(part).await;
                    match &result {
                        Ok(_) => metrics.settle_seconds.observe(started.elapsed().as_secs_f64()),
                        Err(_) => drop(metrics.store_refusals.inc()),
                    }
                    result
                }
            })
            .await;
            for (done, kept) in batch.drain(..).zip(kept) {
                if kept {
                    count(&done, &wake, &metrics);
                } else if done.channel == Channel::Realtime {
                    // Also where another process got the receipt, and ended it.
                    let delivery = done.settlement.delivery;
                    tracing::debug!(%delivery, "a frame's delivery was ended by somebody else");
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

/// Stores settlements by `store`; one answer for each, false where it is not stored. What the store cannot take now is
/// tried again for ever: the token says in the end whether the lease held so long. What it can never take is found by
/// halves, so that it is in nobody's way.
async fn insist<F>(settlements: Vec<Settlement>, store: impl Fn(Vec<Settlement>) -> F) -> Vec<bool>
where
    F: Future<Output = Result<Vec<bool>, StoreError>>,
{
    let mut answers = Vec::with_capacity(settlements.len());
    // Parts in order, the next one last.
    let mut parts = vec![settlements];
    let mut pause = FIRST_PAUSE;
    while let Some(mut part) = parts.pop() {
        match store(part.clone()).await {
            Ok(kept) => {
                pause = FIRST_PAUSE;
                answers.extend(kept);
            }
            Err(error @ StoreError::Unavailable { .. }) => {
                tracing::warn!(%error, results = part.len(), "results could not be stored; trying again");
                parts.push(part);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            Err(error) if part.len() <= 1 => {
                for one in &part {
                    tracing::error!(%error, delivery = %one.delivery, "a result cannot be stored");
                }
                answers.extend(part.iter().map(|_| false));
            }
            Err(_) => {
                let second = part.split_off(part.len() / 2);
                parts.push(second);
                parts.push(part);
            }
        }
    }
    answers
}

fn count(done: &Done, wake: &Wake, metrics: &Metrics) {
    let settlement = &done.settlement;
    let reason = settlement.reason.as_deref().unwrap_or("unknown");
    match settlement.state {
        DeliveryState::Delivered => {
            metrics.count_sent(done.channel);
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use common::ids::DeliveryId;

    use super::*;

    fn settlement(token: i64) -> Settlement {
        Settlement {
            delivery: DeliveryId::generate(),
            token,
            state: DeliveryState::Delivered,
            due_at: None,
            reason: None,
            outcome: Some("delivered"),
            response: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn results_wait_for_a_store_that_is_away() {
        let calls = Mutex::new(0);
        let kept = insist(vec![settlement(1), settlement(2)], |part| {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            std::future::ready(if *calls <= 100 {
                Err(StoreError::Unavailable {
                    reason: "away".to_owned(),
                })
            } else {
                Ok(part.iter().map(|one| one.token == 1).collect())
            })
        })
        .await;
        assert_eq!(kept, [true, false]);
        assert_eq!(*calls.lock().unwrap(), 101);
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_that_cannot_be_stored_is_in_nobodys_way() {
        let stored = Mutex::new(Vec::new());
        let kept = insist((1..=9).map(settlement).collect(), |part| {
            std::future::ready(if part.iter().any(|one| one.token == 6) {
                Err(StoreError::Corrupt {
                    reason: "six".to_owned(),
                })
            } else {
                stored.lock().unwrap().extend(part.iter().map(|one| one.token));
                Ok(vec![true; part.len()])
            })
        })
        .await;
        assert_eq!(kept, [true, true, true, true, true, false, true, true, true]);
        assert_eq!(*stored.lock().unwrap(), [1, 2, 3, 4, 5, 7, 8, 9]);
    }
}
