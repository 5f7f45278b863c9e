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

/// Ends what expired, until the queue stops. The first look takes what expired in any life before.
pub(super) async fn run(context: Arc<Context>) {
    let mut after = Micros(0);
    loop {
        let now = Micros::now();
        match end(&context, after, now).await {
            Ok(()) => after = Micros(now.0.saturating_sub(Micros(0).plus(OVERLAP).0)),
            Err(error) => tracing::warn!(%error, "what expired could not be ended"),
        }
        let paused = context.stop.run_until_cancelled(tokio::time::sleep(LOOK));
        if paused.await.is_none() {
            return;
        }
    }
}

async fn end(context: &Arc<Context>, after: Micros, now: Micros) -> Result<(), StoreError> {
    for lane in Lane::ALL {
        loop {
            if context.stop.is_cancelled() || !context.can_hold.load(Ordering::Acquire) {
                return Ok(());
            }
            let until = context.lease_until();
            let claimed = context
                .store
                .claim_expired(&context.worker, lane, (after, now), until, BATCH)
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
