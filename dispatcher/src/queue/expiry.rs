//! What expires ends then, also what is paused or waits for its next attempt.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Context, work};
use crate::{
    model::{Lane, Micros},
    store::StoreError,
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);

/// What expired so long before the last look is looked at again: it may have been on its way then.
const OVERLAP: Duration = Duration::from_mins(1);

/// Deliveries in one transaction.
const BATCH: u32 = 500;

/// Notifications that are looked at in one transaction.
const STEP: u32 = 1000;

/// Between two steps, so that what waits for the writer goes first.
const STEP_PAUSE: Duration = Duration::from_millis(20);

/// Ends what expired, until the queue stops, in steps. The first look takes what expired in any life before.
pub(super) async fn run(context: Arc<Context>) {
    let mut after = Micros(0);
    loop {
        let now = Micros::now();
        let pause = match step(&context, after, now).await {
            Ok(up_to) if up_to < now => {
                after = up_to;
                STEP_PAUSE
            }
            Ok(_) => {
                after = Micros(now.0.saturating_sub(Micros(0).plus(OVERLAP).0));
                LOOK
            }
            Err(error) => {
                tracing::warn!(%error, "what expired could not be ended");
                LOOK
            }
        };
        let paused = context.stop.run_until_cancelled(tokio::time::sleep(pause));
        if paused.await.is_none() {
            return;
        }
    }
}

/// Ends what expired after a time, up to the one that is answered.
async fn step(context: &Arc<Context>, after: Micros, now: Micros) -> Result<Micros, StoreError> {
    let up_to = context.store.expiry_step(after, now, STEP).await?;
    end(context, after, up_to).await?;
    Ok(up_to)
}

async fn end(context: &Arc<Context>, after: Micros, up_to: Micros) -> Result<(), StoreError> {
    for lane in Lane::ALL {
        loop {
            if context.stop.is_cancelled() || !context.can_hold.load(Ordering::Acquire) {
                return Ok(());
            }
            let until = context.lease_until();
            let claimed = context
                .store
                .claim_expired(&context.worker, lane, (after, up_to), until, BATCH)
                .await?;
            let found = claimed.len();
            let batch = claimed
                .into_iter()
                .map(|one| {
                    let lease = context.leases.hold(one.id, one.token, until, None);
                    (one, lease)
                })
                .collect();
            // Nothing of it is sent, so it takes no room; it says of itself that it expired.
            work::run(Arc::clone(context), batch).await;
            if found < BATCH as usize {
                break;
            }
        }
    }
    Ok(())
}
