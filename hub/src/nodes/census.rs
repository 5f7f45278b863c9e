//! How many sessions a tenant has on all hubs, asked by a process that has none itself.
//!
//! It is no node: it does not announce itself, and does not listen where all nodes do, as those who count listeners wait for
//! the answers of all of them. It asks there, and listens where it is answered.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use common::{
    bus::{Bus, BusEvent, BusEvents, Subscriptions},
    ids::{NodeId, TenantId},
    message::FrameKind,
    target::Target,
    topic::TopicKey,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{
    BUS_TIME,
    asking::{Came, Pending},
    desk::{Deed, Found},
    order::{Order, Question},
};
use crate::limits::TenantCount;

/// Hubs have so long to answer.
const WITHIN: Duration = Duration::from_millis(300);

/// Answers that may wait to be read.
const ANSWERS: usize = 1024;

/// Events that are looked at in one go.
const BATCH: usize = 64;

/// Asks all hubs.
#[derive(Debug)]
pub struct Census {
    node: NodeId,
    bus: Bus,
    pending: Pending,
    /// What is subscribed lasts as long as this.
    _subscriptions: Subscriptions,
}

impl Census {
    /// Begins to listen for answers, under a name that no other process has. Needs a runtime.
    #[must_use]
    pub fn start(bus: Bus, node: NodeId) -> Arc<Self> {
        let (subscriptions, events) = bus.attach(ANSWERS);
        let census = Arc::new(Self {
            node,
            bus,
            pending: Pending::default(),
            _subscriptions: subscriptions.clone(),
        });
        tokio::spawn(listen(subscriptions, TopicKey::node(&census.node)));
        tokio::spawn(read(Arc::downgrade(&census), events));
        census
    }

    /// The tenant's sessions, and on each hub its users, in sum: as far as hubs answer within 300 ms.
    pub async fn count(&self, tenant: &TenantId) -> TenantCount {
        let deadline = Instant::now() + WITHIN;
        let mut waiting = self.pending.begin();
        let question = Order::Ask(Box::new(Question {
            id: waiting.id(),
            within_ms: u32::try_from(WITHIN.as_millis()).unwrap_or(u32::MAX),
            tenant: tenant.clone(),
            all_tenants: false,
            to: Target::Tenant.into(),
            session: None,
            deed: Deed::Stats,
        }));
        let mut sum = TenantCount::default();
        let publishing = self
            .bus
            .publish(question.publication(&self.node, TopicKey::nodes()));
        let Ok(Ok(published)) = timeout_at(deadline, publishing).await else {
            return sum;
        };
        let expected = self.bus.counts_receivers().then_some(published.nodes);
        let mut answered = BTreeSet::new();
        while expected.is_none_or(|nodes| answered.len() < nodes) {
            let Ok(Some(came)) = timeout_at(deadline, waiting.next()).await else {
                break;
            };
            if let Came::Reply(node, reply) = came
                && answered.insert(node)
                && let Some(Found::Stats(stats)) = reply.found
            {
                sum.connections += stats.connections;
                sum.users += stats.users;
            }
        }
        sum
    }
}

/// Subscribes until the bus confirms; what is lost later comes back by itself.
async fn listen(subscriptions: Subscriptions, key: TopicKey) {
    let keys = [key];
    while !matches!(timeout(BUS_TIME, subscriptions.subscribe(&keys)).await, Ok(Ok(_))) {
        sleep(Duration::from_millis(fastrand::u64(500..1500))).await;
    }
}

async fn read(census: Weak<Census>, mut events: BusEvents) {
    let mut batch = Vec::with_capacity(BATCH);
    while events.next_batch(&mut batch, BATCH).await > 0 {
        let Some(census) = census.upgrade() else { return };
        let now = jiff::Timestamp::now().as_millisecond();
        for event in batch.drain(..) {
            if let BusEvent::Message(message) = event
                && message.header.kind == FrameKind::Order
                && let Ok((from, Order::Reply(reply))) = Order::read(&message, now)
            {
                census.pending.came(reply.id, Came::Reply(from, *reply));
            }
        }
    }
}
