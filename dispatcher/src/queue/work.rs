//! The work on claimed deliveries: look again, commit the attempt, send, decide what follows.

use std::{sync::Arc, time::Duration};

use super::{Context, claim::VISIBLE_BATCH};
use crate::{
    fail_point,
    lease::{Done, Ended, Lease, Next, decide, wait},
    model::{Channel, Claimed, DeliveryState, Micros, Reason, Settlement},
    store::AttemptStart,
};

/// Between tries to give deliveries back.
const GIVE_BACK_PAUSE: Duration = Duration::from_millis(500);

/// Works a batch off that was claimed together.
pub(super) async fn run(context: Arc<Context>, batch: Vec<(Claimed, Lease)>) {
    // First the inbox, then the channels: nobody is told of what cannot be seen. This process, or another, may have claimed
    // a scheduled one before it knew that its time had come.
    let scheduled = |one: &Claimed| one.attempts == 0 && one.visible_at > one.created_at;
    if batch.iter().any(|(delivery, _)| scheduled(delivery))
        && let Err(error) = context.store.make_visible(Micros::now(), VISIBLE_BATCH).await
    {
        tracing::warn!(%error, "scheduled notifications could not be made visible; nothing is sent");
        return give_back(&context, batch).await;
    }
    let mut ready = Vec::with_capacity(batch.len());
    let mut paused = Vec::new();
    let pauses = context.pausing.current();
    let now = Micros::now();
    for (delivery, lease) in batch {
        // What was begun is looked at once more when its turn has come.
        let refused = if delivery.begun {
            None
        } else {
            refusal(&context, &delivery)
        };
        match refused {
            Some(next) => {
                context
                    .settler
                    .settle(done(&delivery, lease, next, None, None))
                    .await
            }
            // Paused since it was claimed.
            None if pauses.of(&delivery.tenant, delivery.channel, now).is_some() => {
                paused.push((delivery, lease));
            }
            None => ready.push((delivery, lease)),
        }
    }
    if !paused.is_empty() {
        give_back(&context, paused).await;
    }
    if ready.is_empty() {
        return;
    }
    if context.stop.is_cancelled() {
        return give_back(&context, ready).await;
    }
    let (begun, ready): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(delivery, _)| delivery.begun);
    for (delivery, lease) in begun {
        context
            .tasks
            .spawn(attempt(Arc::clone(&context), delivery, lease));
    }
    if ready.is_empty() {
        return;
    }
    let now = Micros::now();
    let starts = ready.iter().map(|(delivery, _)| AttemptStart::of(delivery, now));
    match context.store.begin_attempts(starts.collect()).await {
        Ok(kept) => {
            for ((delivery, lease), kept) in ready.into_iter().zip(kept) {
                if kept {
                    context
                        .tasks
                        .spawn(attempt(Arc::clone(&context), delivery, lease));
                } else {
                    context.metrics.leases_lost.inc();
                    tracing::warn!(delivery = %delivery.id, "the lease was lost before the attempt");
                    drop(lease);
                    context.wake.room();
                }
            }
        }
        Err(error) => {
            context.metrics.store_refusals.inc();
            tracing::warn!(%error, deliveries = ready.len(), "attempts could not be recorded; nothing is sent");
            give_back(&context, ready).await;
        }
    }
}

/// What ends a delivery without an attempt, or puts it off.
fn refusal(context: &Context, delivery: &Claimed) -> Option<Next> {
    let end = |state, reason| {
        Some(Next {
            state,
            due_at: None,
            reason: Some(Reason::Borrowed(reason)),
        })
    };
    if delivery.cancelled {
        end(DeliveryState::Cancelled, "cancelled")
    } else if context.expiry(delivery).is_some_and(|at| at <= Micros::now()) {
        end(DeliveryState::Expired, "expired")
    } else if !context.channels.is_configured(delivery.channel) {
        end(DeliveryState::Dead, "not_configured")
    } else if delivery.channel != Channel::Realtime && delivery.attempts >= delivery.max_attempts {
        // Only unknown ends lead here: each was counted as an attempt when it began.
        end(DeliveryState::Dead, "attempts_exhausted")
    } else {
        let until = context.channels.admit(delivery).err()?;
        context
            .metrics
            .throttled
            .get_or_create(&delivery.channel.into())
            .inc();
        Some(wait(
            until,
            delivery.visible_at,
            delivery.expires_at,
            &context.retries.of(delivery.channel),
        ))
    }
}

async fn attempt(context: Arc<Context>, delivery: Claimed, lease: Lease) {
    if delivery.channel == Channel::Realtime {
        return Box::pin(context.realtime.publish_claimed(delivery, lease)).await;
    }
    let turn = lease.turn().await;
    if lease.is_lost() {
        drop(turn);
        context.metrics.leases_lost.inc();
        tracing::warn!(delivery = %delivery.id, "the lease was lost while the delivery waited for its turn");
        // Where nobody else has it yet, it is known that nothing was sent.
        return give_back(&context, vec![(delivery, lease)]).await;
    }
    // The wait may have been long. What is given back counts no attempt, and who claims it next says that it expired.
    let now = Micros::now();
    if context.expiry(&delivery).is_some_and(|at| at <= now)
        || context
            .pausing
            .current()
            .of(&delivery.tenant, delivery.channel, now)
            .is_some()
    {
        drop(turn);
        return give_back(&context, vec![(delivery, lease)]).await;
    }
    fail_point::reached(delivery.channel.as_str(), "before_call");
    let report = context.channels.send(&delivery).await;
    fail_point::reached(delivery.channel.as_str(), "after_call");
    drop(turn);
    let ended = Ended {
        channel: delivery.channel,
        outcome: &report.outcome,
        number: delivery.attempts + 1,
        max_attempts: delivery.max_attempts,
        visible_at: delivery.visible_at,
        expires_at: delivery.expires_at,
        on_unknown: context.channels.on_unknown(delivery.channel),
    };
    let policy = context.retries.of(delivery.channel);
    let next = decide(&ended, &policy, Micros::now(), fastrand::f64());
    let outcome = report.outcome.as_str();
    context
        .settler
        .settle(done(&delivery, lease, next, Some(outcome), report.response))
        .await;
}

fn done(
    delivery: &Claimed,
    lease: Lease,
    next: Next,
    outcome: Option<&'static str>,
    response: Option<String>,
) -> Done {
    Done {
        settlement: Settlement {
            delivery: delivery.id,
            token: delivery.token,
            state: next.state,
            due_at: next.due_at,
            reason: next.reason,
            outcome,
            response,
        },
        lease,
        channel: delivery.channel,
        visible_at: delivery.visible_at,
    }
}

/// Back into the queue, with no attempt counted; of what somebody else has, nothing is written. While the store is away
/// it is tried again as long as the leases may hold, so that nothing that was not sent comes to look unknown.
async fn give_back(context: &Context, batch: Vec<(Claimed, Lease)>) {
    let leases: Vec<_> = batch
        .iter()
        .map(|(delivery, _)| (delivery.id, delivery.token))
        .collect();
    while let Err(error) = context.store.release(leases.clone()).await {
        context.metrics.store_refusals.inc();
        if batch.iter().all(|(_, lease)| lease.is_lost()) {
            tracing::warn!(%error, "deliveries could not be given back; their leases ran out");
            break;
        }
        tracing::debug!(%error, "deliveries cannot be given back yet");
        tokio::time::sleep(GIVE_BACK_PAUSE).await;
    }
    drop(batch);
    context.wake.all();
}

impl Context {
    /// Nothing is tried after this. A frame is worth nothing when it is old.
    fn expiry(&self, delivery: &Claimed) -> Option<Micros> {
        if delivery.channel == Channel::Realtime {
            Some(self.realtime.expiry(delivery.visible_at, delivery.expires_at))
        } else {
            delivery.expires_at
        }
    }
}
