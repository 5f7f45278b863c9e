//! The hub as one of several: which nodes there are, and what they say to each other over the bus.
//!
//! Nodes speak by messages of the kind `order` on topics that no client can name: [`TopicKey::nodes`], which all subscribe to,
//! and [`TopicKey::node`], a node's own, where it gets answers. Receiving hands orders over at once; this task does the rest,
//! beside the delivery path.

pub(crate) mod announcement;
pub(crate) mod asking;
mod attendance;
pub(crate) mod census;
pub(crate) mod desk;
mod order;
mod peers;
mod traces;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::{
    bus::{Bus, Subscriptions},
    ids::NodeId,
    message::Message,
    topic::TopicKey,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::traces::Told;
use self::{
    announcement::{Announcement, Own},
    asking::{Came, Pending},
    attendance::{Attending, Notice},
    desk::Desk,
    order::{Ignored, Order},
    peers::{Heard, Peers},
    traces::Tracings,
};
use crate::{
    metrics::HubMetrics,
    worker::{Control, Shared, presence::Attended},
};

/// Orders that may wait for this node; beyond, they are dropped and counted.
pub(crate) const ORDERS: usize = 4096;

/// Words to other nodes that may wait for the bus; beyond, they are dropped: the next announcement says it again.
const POST: usize = 256;

/// Nodes that came or went and that were not looked at yet.
const NOTICES: usize = 4096;

/// The bus confirms, or takes a word, within this time, or is asked again.
const BUS_TIME: Duration = Duration::from_secs(5);

/// A node that ends says so, if the bus takes it within this time.
const GOODBYE: Duration = Duration::from_millis(500);

/// What nodes are made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Vec<mpsc::Sender<Control>>,
    pub(crate) own: Own,
    /// From [`crate::receive`].
    pub(crate) orders: mpsc::Receiver<Arc<Message>>,
    /// From the workers.
    pub(crate) attended: mpsc::Receiver<Attended>,
    pub(crate) subscriptions: Subscriptions,
}

/// This node among the others.
#[derive(Debug)]
pub(crate) struct Nodes {
    node: NodeId,
    bus: Bus,
    desk: Desk,
    peers: Mutex<Peers>,
    pending: Pending,
    /// Whether those who are there can be known.
    settled: watch::Sender<Settled>,
    post: mpsc::Sender<(TopicKey, Order)>,
    notices: mpsc::Sender<Notice>,
    tracings: Tracings,
    every: Duration,
    grace: Duration,
    metrics: HubMetrics,
    ended: CancellationToken,
}

/// How far this node knows the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// Its first word is not out.
    No,
    /// So many heard it, and will answer.
    Expects(usize),
    /// They did, or had the time to.
    Yes,
}

/// A node as operators see it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) node: NodeId,
    pub(crate) said: Announcement,
    /// How long ago it was heard.
    pub(crate) silence: Duration,
}

impl Nodes {
    /// Makes this node one of them.
    pub(crate) fn start(parts: Parts) -> Arc<Self> {
        let (post, posted) = mpsc::channel(POST);
        let (notices, noticed) = mpsc::channel(NOTICES);
        let every = parts.shared.config.announce.0;
        let nodes = Arc::new(Self {
            node: parts.shared.node.clone(),
            bus: parts.shared.bus.clone(),
            desk: Desk::new(parts.workers, parts.own),
            peers: Mutex::new(Peers::new(every, Instant::now())),
            pending: Pending::default(),
            settled: watch::Sender::new(Settled::No),
            post,
            notices,
            tracings: Tracings::default(),
            every,
            grace: parts.shared.config.presence_grace.0,
            metrics: parts.shared.metrics.clone(),
            ended: CancellationToken::new(),
        });
        tokio::spawn(Arc::clone(&nodes).run(parts.orders));
        tokio::spawn(Arc::clone(&nodes).announce(parts.subscriptions));
        tokio::spawn(Arc::clone(&nodes).deliver(posted));
        tokio::spawn(Attending::new(Arc::clone(&nodes)).run(parts.attended, noticed));
        nodes
    }

    /// The other nodes that are there.
    pub(crate) fn known(&self) -> BTreeSet<NodeId> {
        self.peers().live().map(|(node, _)| node.clone()).collect()
    }

    /// Whether there is such a node; this one counts.
    pub(crate) fn is_known(&self, node: &NodeId) -> bool {
        *node == self.node || self.peers().knows(node)
    }

    /// All nodes, this one first; and whether every node that there is can be expected to be among them.
    pub(crate) fn all(&self) -> (Vec<Known>, bool) {
        let own = Known {
            node: self.node.clone(),
            said: self.desk.own().announcement(),
            silence: Duration::ZERO,
        };
        let now = Instant::now();
        let peers = self.peers();
        let others = peers.live().map(|(node, said)| Known {
            node: node.clone(),
            said: said.clone(),
            silence: peers.silence(node, now),
        });
        let all = std::iter::once(own).chain(others).collect();
        (all, peers.all_well(now) && *self.settled.borrow() == Settled::Yes)
    }

    /// The node's last word: it ends.
    pub(crate) async fn leave(&self) {
        if self.ended.is_cancelled() {
            return;
        }
        self.ended.cancel();
        let goodbye = Order::Leave.publication(&self.node, TopicKey::nodes());
        // Who does not hear it finds out by itself.
        if let Ok(Err(error)) = timeout(GOODBYE, self.bus.publish(goodbye)).await {
            tracing::debug!(%error, "the other nodes are not told that this one ends");
        }
    }

    /// Waits until those who are there can be known.
    async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        // The sender lives as long as this.
        drop(settled.wait_for(|settled| *settled == Settled::Yes).await);
    }

    fn all_well(&self) -> bool {
        self.peers().all_well(Instant::now())
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes orders until the node ends.
    async fn run(self: Arc<Self>, mut orders: mpsc::Receiver<Arc<Message>>) {
        let mut tick = tokio::time::interval(self.every / 3);
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return,
                order = orders.recv() => match order {
                    Some(message) => self.take(&message),
                    None => return,
                },
                _ = tick.tick() => self.look_for_silent(),
            }
        }
    }

    fn take(self: &Arc<Self>, message: &Message) {
        let (from, order) = match Order::read(message, jiff::Timestamp::now().as_millisecond()) {
            Ok(read) => read,
            Err(why) => {
                self.metrics.order_ignored(why.label());
                return;
            }
        };
        if from == self.node {
            match order {
                Order::Announce(_) => self.peers().echo(Instant::now()),
                Order::Ask(question) => self.pending.came(question.id, Came::Echo),
                _ => {}
            }
            return;
        }
        match order {
            Order::Announce(said) => {
                let to_all = message.key == TopicKey::nodes();
                self.heard(&from, *said, to_all);
                if !to_all {
                    // Said to this node alone: to the other it is new, or back.
                    self.notify(Notice::Missed);
                }
            }
            Order::Leave => {
                self.tracings.end_all_of(&from);
                if self.peers().leave(&from) {
                    tracing::info!(node = %from, "a node has ended");
                    self.notify(Notice::Gone(from, Instant::now() + self.grace));
                    self.count();
                }
            }
            Order::Ask(question) => {
                let nodes = Arc::clone(self);
                tokio::spawn(async move { nodes.answer(from, *question).await });
            }
            Order::Reply(reply) => self.pending.came(reply.id, Came::Reply(from, *reply)),
            Order::Trace(order) => drop(tokio::spawn(Arc::clone(self).help(from, *order))),
            Order::TraceEnd(id) => self.tracings.end(&from, id),
            Order::TraceLines(seen) => self.tracings.saw(*seen),
        }
    }

    fn heard(&self, from: &NodeId, said: Announcement, to_all: bool) {
        let heard = self.peers().heard(from, said, Instant::now());
        match heard {
            Heard::Known => {}
            Heard::Full => self.metrics.order_ignored(Ignored::Full.label()),
            Heard::New => {
                tracing::info!(node = %from, "a node is there");
                self.notify(Notice::Here(from.clone()));
                if to_all {
                    // So that it knows this one at once.
                    let own = Order::Announce(Box::new(self.desk.own().announcement()));
                    self.post.try_send((TopicKey::node(from), own)).ok();
                }
                self.tell_traces_to(from);
                self.count();
            }
        }
    }

    /// Others have come or gone.
    fn count(&self) {
        let known = self.peers().live().count();
        self.metrics
            .nodes
            .set(i64::try_from(known + 1).unwrap_or(i64::MAX));
        self.settled.send_if_modified(|settled| {
            let met = matches!(*settled, Settled::Expects(count) if count <= known);
            if met {
                *settled = Settled::Yes;
            }
            met
        });
    }

    fn look_for_silent(&self) {
        let gone = self.peers().take_silent(Instant::now());
        if gone.is_empty() {
            return;
        }
        // The silence counts for the grace.
        let due = Instant::now() + self.grace.saturating_sub(self.every * 3);
        for node in gone {
            tracing::warn!(%node, "a node is not heard any more");
            self.tracings.end_all_of(&node);
            self.notify(Notice::Gone(node, due));
        }
        self.count();
    }

    /// A node has users in the table that all share, and was never heard.
    fn suspect(&self, node: &NodeId) {
        self.peers().suspect(node, Instant::now());
    }

    fn notify(&self, notice: Notice) {
        if self.notices.try_send(notice).is_err() {
            self.metrics.order_ignored(Ignored::Full.label());
        }
    }

    /// Says that this node is there, now and ever again.
    async fn announce(self: Arc<Self>, subscriptions: Subscriptions) {
        let ended = self.ended.clone();
        let announcing = async {
            let keys = [TopicKey::nodes(), TopicKey::node(&self.node)];
            while !matches!(timeout(BUS_TIME, subscriptions.subscribe(&keys)).await, Ok(Ok(_))) {
                sleep(self.jittered()).await;
            }
            let mut first = true;
            loop {
                let own = Order::Announce(Box::new(self.desk.own().announce()));
                let published = self.publish(TopicKey::nodes(), &own).await;
                if first && let Some(nodes) = published {
                    first = false;
                    // The bus counts this one, too.
                    self.settled
                        .send_replace(Settled::Expects(nodes.saturating_sub(1)));
                    self.count();
                    sleep(self.jittered()).await;
                    self.settled.send_replace(Settled::Yes);
                } else {
                    sleep(self.jittered()).await;
                }
            }
        };
        tokio::select! {
            () = announcing => {}
            () = ended.cancelled() => {}
        }
    }

    /// Between nine and eleven tenths of the time between announcements, so that nodes do not speak at once.
    fn jittered(&self) -> Duration {
        self.every.mul_f64(0.9 + 0.2 * fastrand::f64())
    }

    /// Puts words to others on the bus, one after the other.
    async fn deliver(self: Arc<Self>, mut posted: mpsc::Receiver<(TopicKey, Order)>) {
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return,
                word = posted.recv() => match word {
                    Some((key, order)) => drop(self.publish(key, &order).await),
                    None => return,
                },
            }
        }
    }

    /// To how many nodes the bus gave it; none where it could not take it.
    async fn publish(&self, key: TopicKey, order: &Order) -> Option<usize> {
        match timeout(BUS_TIME, self.bus.publish(order.publication(&self.node, key))).await {
            Ok(Ok(published)) => Some(published.nodes),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a word to other nodes is not on the bus");
                None
            }
            Err(_) => None,
        }
    }
}
