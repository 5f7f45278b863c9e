//! Realtime: frames for the open sockets, by the bus.
//!
//! The node that accepted a notification publishes it right after the commit, from memory, without keeping the answer back for
//! the bus; the row, leased to it, is the safety net. To a group a delivery is `delivered` when the bus took it. To a single
//! user it is `delivered` at the first receipt (a hub wrote it to a socket, or a client says it has it) and `skipped` when none
//! came in time.

mod frame;
mod hint;
mod outbox;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::{
    bus::{Bus, BusError},
    ids::{DeliveryId, MessageId},
    topic::TopicKey,
};
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::outbox::Waiters;
use self::{
    frame::{Outgoing, Source, outgoing},
    outbox::{Outbox, Ready, Waiter},
    waiting::Waiting,
};
use crate::{
    config::RealtimeConfig,
    lease::{Done, Ended, Lease, Leases, RetryPolicy, Settler, decide},
    metrics::Metrics,
    model::{Channel, Claimed, DeliveryState, Micros, NewNotification, Outcome, Reason, Settlement},
    spool::{self, Outcomes},
    store::OnUnknown,
};

/// The token of the acceptor's lease.
const FIRST_TOKEN: i64 = 1;

/// Publishes frames and settles their deliveries. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Realtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bus: Bus,
    outbox: Outbox,
    config: RealtimeConfig,
    settler: Settler,
    leases: Leases,
    waiting: Mutex<Waiting<Sent>>,
    /// A first one waits.
    begun: Notify,
    /// Where ends are told of frames whose deliveries are not stored yet.
    outcomes: Option<Outcomes>,
    metrics: Metrics,
}

/// A delivery that is on the bus, or about to be.
#[derive(Debug)]
struct Sent {
    hold: Hold,
    /// An attempt was recorded, with this number.
    attempt: Option<u32>,
    visible_at: Micros,
    expires_at: Micros,
}

/// By what a delivery is this node's to end.
#[derive(Debug)]
enum Hold {
    Leased(Lease),
    /// It is spooled, and nobody else has it.
    Spooled(DeliveryId),
}

impl Hold {
    fn delivery(&self) -> DeliveryId {
        match self {
            Self::Leased(lease) => lease.id,
            Self::Spooled(delivery) => *delivery,
        }
    }
}

/// What one accepted notification sends, made before it is stored, so that nothing waits after the commit.
#[derive(Debug)]
pub(crate) struct Frames {
    message: Outgoing,
    deliveries: Vec<(DeliveryId, Micros, Option<TopicKey>)>,
}

impl Realtime {
    pub(crate) fn new(
        bus: Bus,
        config: RealtimeConfig,
        settler: Settler,
        leases: Leases,
        outcomes: Option<Outcomes>,
        metrics: Metrics,
    ) -> (Self, Waiters) {
        let (outbox, waiters) = outbox::new();
        let realtime = Self(Arc::new(Inner {
            bus,
            outbox,
            config,
            settler,
            leases,
            waiting: Mutex::default(),
            begun: Notify::new(),
            outcomes,
            metrics,
        }));
        (realtime, waiters)
    }

    /// When a frame that became visible then is worth nothing any more.
    pub(crate) fn expiry(&self, visible_at: Micros, expires_at: Option<Micros>) -> Micros {
        let aged = visible_at.plus(self.0.config.max_age.0);
        expires_at.map_or(aged, |expires_at| expires_at.min(aged))
    }

    /// What a notification sends as soon as it is committed; none where it has no realtime delivery of its acceptor's.
    pub(crate) fn prepare(notification: &NewNotification) -> Option<Frames> {
        let audience = notification.audience.as_ref()?;
        let deliveries: Vec<_> = notification
            .deliveries
            .iter()
            .filter(|one| one.channel == Channel::Realtime && one.state == DeliveryState::Running)
            .map(|one| {
                (
                    one.id,
                    one.lease_until.unwrap_or(Micros(0)),
                    one.user
                        .as_ref()
                        .map(|user| TopicKey::user(&notification.tenant, user)),
                )
            })
            .collect();
        if deliveries.is_empty() {
            return None;
        }
        let single = deliveries.iter().any(|(.., key)| key.is_some());
        let message = outgoing(&Source {
            id: notification.id,
            tenant: &notification.tenant,
            audience,
            content: &notification.content,
            lane: notification.lane,
            created_at: notification.created_at,
            visible_at: notification.visible_at,
            expires_at: notification.expires_at,
            single,
        });
        Some(Frames { message, deliveries })
    }

    /// Whether the bus takes frames at the moment.
    pub(crate) fn bus_is_ready(&self) -> bool {
        self.0.bus.ready()
    }

    /// Hands what was prepared to the bus, after the commit and in its order. Nobody who accepts waits for the bus: where too
    /// much waits already, the queue tries again.
    pub(crate) async fn publish_accepted(&self, frames: Frames) {
        self.put(frames, |delivery, until| {
            Hold::Leased(self.0.leases.hold(delivery, FIRST_TOKEN, until, None))
        })
        .await;
    }

    /// The same for what is spooled: no row says so yet, and its end is kept until there is one.
    pub(crate) async fn publish_spooled(&self, frames: Frames) {
        self.put(frames, |delivery, _| Hold::Spooled(delivery)).await;
    }

    async fn put(&self, frames: Frames, hold: impl Fn(DeliveryId, Micros) -> Hold) {
        let Frames { message, deliveries } = frames;
        let mut ready = Vec::with_capacity(deliveries.len());
        for (delivery, until, key) in deliveries {
            ready.push((self.sent(hold(delivery, until), None, &message), key));
        }
        let ready = Ready {
            message,
            deliveries: ready,
        };
        if let Err(Waiter::Frames(ready)) = self.0.outbox.put(Waiter::Frames(ready)) {
            self.refuse_all(ready, &outbox::full()).await;
        }
    }

    /// Publishes what the queue claimed: scheduled, rescued, or refused by the bus before.
    pub(crate) async fn publish_claimed(&self, delivery: Claimed, lease: Lease) {
        let Some(audience) = &delivery.audience else {
            // Realtime without a target is not accepted; a row that says so all the same reaches nobody.
            let sent = Sent {
                hold: Hold::Leased(lease),
                attempt: Some(delivery.attempts + 1),
                visible_at: delivery.visible_at,
                expires_at: self.expiry(delivery.visible_at, delivery.expires_at),
            };
            return self
                .settle(
                    sent,
                    DeliveryState::Skipped,
                    None,
                    Some("no_target"),
                    Some("skipped"),
                )
                .await;
        };
        let key = delivery
            .user
            .as_ref()
            .map(|user| TopicKey::user(&delivery.tenant, user));
        let mut message = outgoing(&Source {
            id: delivery.notification,
            tenant: &delivery.tenant,
            audience,
            content: &delivery.content,
            lane: delivery.lane,
            created_at: delivery.created_at,
            visible_at: delivery.visible_at,
            expires_at: delivery.expires_at,
            single: key.is_some(),
        });
        if let Some(key) = &key {
            // Each of several users has a delivery; this one is for one of them.
            message.publications.retain(|publication| publication.key == *key);
        }
        let sent = self.sent(Hold::Leased(lease), Some(delivery.attempts + 1), &message);
        let deliveries = vec![(sent, key)];
        self.publish([Waiter::Frames(Ready { message, deliveries })])
            .await;
    }

    fn sent(&self, hold: Hold, attempt: Option<u32>, message: &Outgoing) -> Sent {
        Sent {
            hold,
            attempt,
            visible_at: message.visible_at,
            expires_at: self.expiry(message.visible_at, message.expires_at),
        }
    }

    /// The bus did not take it: the queue tries again until the frame is too old.
    async fn refused(&self, sent: Sent, error: &BusError) {
        let BusError::Unavailable { retry_after, .. } = error;
        tracing::warn!(delivery = %sent.hold.delivery(), %error, "a frame is not on the bus");
        self.0.metrics.bus_retries.inc();
        let ended = Ended {
            channel: Channel::Realtime,
            outcome: &Outcome::Retry,
            number: sent.attempt.unwrap_or(1),
            max_attempts: u32::MAX,
            visible_at: sent.visible_at,
            expires_at: Some(sent.expires_at),
            on_unknown: OnUnknown::Resend,
        };
        let policy = RetryPolicy::list(vec![*retry_after]);
        let next = decide(&ended, &policy, Micros::now(), fastrand::f64());
        let reason = if next.state == DeliveryState::Pending {
            "bus_unavailable"
        } else {
            "expired"
        };
        self.settle(sent, next.state, next.due_at, Some(reason), Some("retry"))
            .await;
    }

    async fn settle(
        &self,
        sent: Sent,
        state: DeliveryState,
        due_at: Option<Micros>,
        reason: Option<&'static str>,
        outcome: Option<&'static str>,
    ) {
        let Sent {
            hold,
            attempt,
            visible_at,
            ..
        } = sent;
        let lease = match hold {
            Hold::Leased(lease) => lease,
            Hold::Spooled(delivery) => {
                if let Some(outcomes) = &self.0.outcomes {
                    outcomes.tell(spool::Outcome {
                        delivery,
                        state,
                        reason: reason.map(Reason::Borrowed),
                    });
                }
                return;
            }
        };
        let settlement = Settlement {
            delivery: lease.id,
            token: lease.token,
            state,
            due_at,
            reason: reason.map(Reason::Borrowed),
            outcome: outcome.filter(|_| attempt.is_some()),
            response: None,
        };
        self.0
            .settler
            .settle(Done {
                settlement,
                lease,
                channel: Channel::Realtime,
                visible_at,
            })
            .await;
    }

    /// The bus took the message to the user of this topic: its receipt has so long from now on.
    fn await_receipt(&self, id: MessageId, key: TopicKey) {
        let wait = self.0.config.receipt_wait.0;
        if self.lock().taken_by_bus((id, key), Instant::now(), wait) {
            self.0.begun.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Sent>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message reached a device of the user whose topic this is. False: no delivery of this process waits for that.
    pub(crate) async fn received(&self, key: &TopicKey, id: MessageId) -> bool {
        let sent = self.lock().received((id, key.clone()));
        let Some(sent) = sent else { return false };
        self.settle(sent, DeliveryState::Delivered, None, None, Some("delivered"))
            .await;
        true
    }

    /// Settles as `skipped` what no receipt came for in time. Runs until it is killed.
    pub(crate) async fn give_up_waiting(self) {
        loop {
            let next = self.lock().next();
            match next {
                None => self.0.begun.notified().await,
                Some(at) => tokio::time::sleep_until(at).await,
            }
            let late = self.lock().take_until(Instant::now());
            for sent in late {
                self.settle(
                    sent,
                    DeliveryState::Skipped,
                    None,
                    Some("nobody_online"),
                    Some("skipped"),
                )
                .await;
            }
        }
    }

    /// Ends all waiting: what got no receipt so far is given back, to be published again by the next life. A bus that outlives
    /// this process sends nothing twice; clients of another drop a repeat by its id.
    pub(crate) fn stop_waiting(&self) -> Vec<(DeliveryId, i64)> {
        self.lock()
            .drain()
            .filter_map(|sent| match sent.hold {
                Hold::Leased(lease) => Some((lease.id, lease.token)),
                Hold::Spooled(_) => None,
            })
            .collect()
    }
}
