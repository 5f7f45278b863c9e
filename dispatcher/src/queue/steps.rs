//! Chains: steps whose time has come are begun, and a channel that failed is told to administrators (S1.8).

use std::{sync::Arc, time::Duration};

use common::ids::{Name, TenantId};

use super::{Context, alert};
use crate::{
    model::{Accepted, Micros},
    store::{FailedOver, StoreError},
};

/// Chains in one transaction.
const BATCH: u32 = 200;

/// Begins steps and tells failures until the queue stops. What others do with the same store is in nobody's way: a chain
/// that somebody holds is passed over.
pub(super) async fn run(context: Arc<Context>) {
    while !context.stop.is_cancelled() {
        let wait = match round(&context).await {
            Ok(wait) => wait,
            Err(error) => {
                tracing::warn!(%error, "steps of chains could not be begun");
                context.config.poll.0
            }
        };
        context.stop.run_until_cancelled(tokio::time::sleep(wait)).await;
    }
}

/// One look; how long the next one may wait.
async fn round(context: &Context) -> Result<Duration, StoreError> {
    let poll = context.config.poll.0;
    let now = Micros::now();
    let begun = context.store.start_steps(now, BATCH).await?;
    if begun > 0 {
        context.metrics.steps.inc_by(begun);
        context.wake.all();
    }
    let told = tell(context).await?;
    if begun >= u64::from(BATCH) || told >= BATCH as usize {
        return Ok(Duration::ZERO);
    }
    let next = context.store.next_step().await?;
    let until = next.map_or(i64::MAX, |next| next.0.saturating_sub(Micros::now().0).max(0));
    let until = Duration::from_micros(u64::try_from(until).unwrap_or_default());
    // What is due and was not found is in somebody else's hands.
    Ok(until.clamp(Duration::from_millis(5).min(poll), poll))
}

/// Logs channels that failed, and tells administrators. A process that dies in between logs them again, and the alert's key
/// keeps it from being there twice.
async fn tell(context: &Context) -> Result<usize, StoreError> {
    let failed = context.store.failed_over(BATCH).await?;
    if failed.is_empty() {
        return Ok(0);
    }
    let mut first: Vec<(&TenantId, &FailedOver)> = Vec::new();
    for one in &failed {
        log(context, one);
        if !first.iter().any(|(tenant, _)| *tenant == &one.tenant) {
            first.push((&one.tenant, one));
        }
    }
    if let Ok(role) = Name::new(&context.strategy.alert_role) {
        for (tenant, one) in first {
            let alert = alert::of(one, &role, context.strategy.alert_every, context.lease_until());
            if context.service.accept(vec![alert]).await?.first() == Some(&Accepted::New) {
                tracing::info!(%tenant, %role, "administrators are told that a channel failed");
            }
        }
    }
    let number = failed.len();
    context
        .store
        .told(failed.into_iter().map(|one| one.chain).collect())
        .await?;
    Ok(number)
}

fn log(context: &Context, one: &FailedOver) {
    let steps = &one.chain.steps;
    for (index, step) in steps.iter().enumerate() {
        if !step.is_news() {
            continue;
        }
        let next = steps.get(index + 1).map_or("none", |next| next.channel.as_str());
        context
            .metrics
            .failovers
            .get_or_create(&step.channel.into())
            .inc();
        tracing::warn!(
            tenant = %one.tenant,
            notification = %one.notification,
            channel = step.channel.as_str(),
            reason = step.reason.as_deref().unwrap_or("unknown"),
            next,
            "a channel failed; its failover goes on"
        );
    }
}
