//! Keeping what is held, taking back what was lost, forgetting what is too old, measuring what waits.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::ids::NotificationId;
use futures_util::future::join_all;

use super::Context;
use crate::{model::Micros, store::Rescued};

/// Leases in one call.
const EXTEND_BATCH: usize = 1000;

/// Leases taken back in one transaction.
const RESCUE_BATCH: u32 = 1000;

/// Rows of each kind that are forgotten in one transaction.
const PRUNE_BATCH: u32 = 1000;

/// How often what is too old is looked for.
const PRUNE_EVERY: Duration = Duration::from_mins(5);

/// How often history is looked through for what is too old.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// Between two steps of forgetting.
const FORGET_PAUSE: Duration = Duration::from_millis(20);

/// How often the lanes are measured.
const MEASURE: Duration = Duration::from_secs(5);

/// How often what was taken back and is not ended is looked for.
const STOP_EVERY: Duration = Duration::from_secs(1);

/// Between two pages of ending it.
const STOP_PAUSE: Duration = Duration::from_millis(20);

/// Extends every lease of this process until it is killed: also while it stops, as sends may still be on the way.
pub(super) async fn keep_leases(context: Arc<Context>) {
    loop {
        tokio::time::sleep(context.config.heartbeat.0).await;
        let kept = extend(&context).await;
        let could = context.can_hold.swap(kept, Ordering::AcqRel);
        if !could && kept {
            context.wake.all();
        }
    }
}

/// Extends every lease of this process. False: the store did not answer for all of them.
async fn extend(context: &Context) -> bool {
    let held = context.leases.held();
    let until = context.lease_until();
    let calls = held
        .chunks(EXTEND_BATCH)
        .map(|chunk| context.store.extend(chunk.to_vec(), until));
    let mut failed = None;
    for (chunk, result) in held.chunks(EXTEND_BATCH).zip(join_all(calls).await) {
        match result {
            Ok(kept) => {
                for ((id, token), kept) in chunk.iter().zip(kept) {
                    if kept {
                        context.leases.extended(*id, *token, until);
                    } else {
                        // A settled one is no longer held; one that is still held belongs to somebody else now.
                        context.leases.lose(*id, *token);
                    }
                }
            }
            Err(error) => failed = Some(error),
        }
    }
    if let Some(error) = &failed {
        context.metrics.store_refusals.inc();
        tracing::warn!(%error, leases = held.len(), "leases could not be extended; nothing more is claimed");
    }
    failed.is_none()
}

/// Looks twice a lease for leases that ran out, so that none waits longer than one and a half.
pub(super) async fn rescue_regularly(context: Arc<Context>) {
    while pause(&context, context.config.lease.0 / 2).await {
        // What this process holds has not run out because the store, or this process, stood still for a while.
        if extend(&context).await {
            rescue(&context, Micros::now()).await;
        }
    }
}

/// Forgets what is too old, a bounded part of it at a time, at the start and now and then.
pub(super) async fn prune_regularly(context: Arc<Context>) {
    loop {
        match context.store.prune(Micros::now(), PRUNE_BATCH).await {
            // There is more; what waits for the writer goes first.
            Ok(pruned) if pruned >= u64::from(PRUNE_BATCH) => {
                tokio::task::yield_now().await;
                if !context.stop.is_cancelled() {
                    continue;
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "what is too old could not be forgotten"),
        }
        if !pause(&context, PRUNE_EVERY).await {
            return;
        }
    }
}

/// Makes room for the months to come, and forgets what is older than the retention in small steps, with a pause after each, so
/// that what waits for the writer goes first.
pub(super) async fn forget_regularly(context: Arc<Context>) {
    loop {
        if let Err(error) = context.store.make_room().await {
            tracing::warn!(%error, "room for the months to come could not be made");
        }
        let mut forgotten = 0;
        loop {
            match context.store.forget(PRUNE_BATCH).await {
                Ok(0) => break,
                Ok(step) => forgotten += step,
                Err(error) => {
                    tracing::warn!(%error, "history that is too old could not be forgotten");
                    break;
                }
            }
            if !pause(&context, FORGET_PAUSE).await {
                return;
            }
        }
        context.metrics.forgotten.inc_by(forgotten);
        if forgotten > 0 {
            tracing::info!(
                steps_rows = forgotten,
                "history that is older than the retention was forgotten"
            );
        }
        if !pause(&context, FORGET_EVERY).await {
            return;
        }
    }
}

/// Ends what is left of large notifications that were cancelled, withdrawn or replaced. Whoever claims it would do so too, but
/// not where it is paused, and at the cost of what is to be sent.
pub(super) async fn stop_regularly(context: Arc<Context>) {
    while pause(&context, STOP_EVERY).await {
        match context.store.open_stops().await {
            Ok(open) => {
                for (id, reason) in open {
                    stop(&context, id, &reason).await;
                }
            }
            Err(error) => tracing::debug!(%error, "what is to be stopped is not known"),
        }
    }
}

async fn stop(context: &Context, id: NotificationId, reason: &str) {
    let mut next = Some(String::new());
    while let Some(place) = next {
        match context.store.stop_page(id, reason, place).await {
            Ok(further) => next = further,
            Err(error) => {
                tracing::warn!(%error, notification = %id, "what was taken back could not be ended; it is not sent");
                return;
            }
        }
        if !pause(context, STOP_PAUSE).await {
            return;
        }
    }
}

/// False: the queue stops.
async fn pause(context: &Context, time: Duration) -> bool {
    context
        .stop
        .run_until_cancelled(tokio::time::sleep(time))
        .await
        .is_some()
}

/// Takes back everything whose lease ended before `now`.
pub(super) async fn rescue(context: &Context, now: Micros) {
    loop {
        match context
            .store
            .rescue(now, RESCUE_BATCH, context.on_unknown())
            .await
        {
            Ok(Rescued {
                released: 0, jobs: 0, ..
            }) => return,
            Ok(rescued) => {
                tracing::warn!(
                    deliveries = rescued.released,
                    unknown = rescued.unknown,
                    fan_outs = rescued.jobs,
                    "took back what a worker that is gone held"
                );
                context.metrics.rescued.inc_by(rescued.released);
                context.metrics.rescued_unknown.inc_by(rescued.unknown);
                context.wake.all();
                context.wake.jobs();
            }
            Err(error) => {
                tracing::warn!(%error, "leases that ran out could not be taken back");
                return;
            }
        }
    }
}

/// Puts the lanes' depths and ages into the metrics.
pub(super) async fn measure(context: Arc<Context>) {
    loop {
        match context.store.queue_depths().await {
            Ok(lanes) => {
                let now = Micros::now();
                for lane in lanes {
                    let label = lane.lane.into();
                    let depth = i64::try_from(lane.depth).unwrap_or(i64::MAX);
                    context.metrics.depth.get_or_create(&label).set(depth);
                    let overdue = lane
                        .oldest_due
                        .map_or(0, |due| now.0.saturating_sub(due.0).max(0));
                    context
                        .metrics
                        .age
                        .get_or_create(&label)
                        .set(overdue as f64 / 1e6);
                }
            }
            Err(error) => tracing::debug!(%error, "the lanes could not be measured"),
        }
        if !pause(&context, MEASURE).await {
            return;
        }
    }
}
