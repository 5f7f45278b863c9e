//! What a node and its listeners share: the topics that are wanted, where they go, and who is told what.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, oneshot, watch};

use super::{
    events::EventSender,
    link::{Dialing, Place},
    metrics::BusMetrics,
    names::Names,
    router::{Item, Router, Way},
    topology::Map,
    wanted::{Serial, Wanted},
    wire::Commands,
};
use crate::topic::TopicKey;

/// Orders that may wait for a listener.
pub(super) const ORDERS: usize = 1024;

/// What a listener is asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// Subscribe these.
    Topics(Vec<TopicKey>),
    /// Subscribe what is wanted of a partition and not asked for here.
    Partition(usize),
    /// End these.
    Leave(Vec<TopicKey>),
}

/// What others see of a listener.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The connection's number; 0 where there is none.
    pub(super) serial: AtomicU32,
    /// All that was wanted when it connected is confirmed.
    pub(super) restored: AtomicBool,
}

impl State {
    pub(super) fn serial(&self) -> Serial {
        self.serial.load(Ordering::Acquire)
    }

    pub(super) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }
}

/// What [`Hearing`] is made with.
pub(super) struct HearingParts {
    pub(super) node: String,
    pub(super) names: Arc<Names>,
    pub(super) dialing: Dialing,
    pub(super) probe_after: Duration,
    pub(super) events: EventSender,
    pub(super) metrics: BusMetrics,
    pub(super) trouble: Arc<Notify>,
    pub(super) router: Arc<Router>,
    pub(super) map: watch::Receiver<Arc<Map>>,
}

/// What listeners and their node share.
#[derive(Debug)]
pub(super) struct Hearing {
    /// As probes and `CLIENT LIST` show it.
    pub(super) node: String,
    pub(super) names: Arc<Names>,
    pub(super) dialing: Dialing,
    pub(super) probe_after: Duration,
    pub(super) events: EventSender,
    pub(super) metrics: BusMetrics,
    /// Told when something is wrong with a server.
    pub(super) trouble: Arc<Notify>,
    /// Told when subscriptions have to be looked at.
    pub(super) attention: Notify,
    router: Arc<Router>,
    pub(super) map: watch::Receiver<Arc<Map>>,
    wanted: Mutex<Wanted>,
    serials: AtomicU32,
    /// Every topic is confirmed where it belongs.
    pub(super) settled: AtomicBool,
    /// A subscription was refused since this was looked at.
    pub(super) refused: AtomicBool,
}

impl Hearing {
    pub(super) fn new(parts: HearingParts) -> Self {
        Self {
            node: parts.node,
            wanted: Mutex::new(Wanted::new(Arc::clone(&parts.names))),
            names: parts.names,
            dialing: parts.dialing,
            probe_after: parts.probe_after,
            events: parts.events,
            metrics: parts.metrics,
            trouble: parts.trouble,
            attention: Notify::new(),
            router: parts.router,
            map: parts.map,
            serials: AtomicU32::new(0),
            settled: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }

    pub(super) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    pub(super) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// 1 and up.
    pub(super) fn next_serial(&self) -> Serial {
        self.serials.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A topic is not heard where it should be.
    pub(super) fn unsettle(&self) {
        self.settled.store(false, Ordering::Release);
        self.trouble.notify_one();
        self.attention.notify_one();
    }

    /// Redis will not have a subscription, which asking at once again does not change.
    pub(super) fn refused(&self, place: &Place, reason: &str) {
        if !self.refused.swap(true, Ordering::AcqRel) {
            tracing::error!(server = %place, %reason, "Redis refuses a subscription");
        }
    }

    /// Sends a message to this node itself; answered with whether Redis took it.
    pub(super) fn send_probe(&self, partition: usize) -> oneshot::Receiver<bool> {
        let (taken, answer) = oneshot::channel();
        let router = Arc::clone(&self.router);
        let channel = self.names.probe(partition, &self.node);
        let mut command = Commands::default();
        command.push(&[b"SPUBLISH", channel.as_bytes(), b"probe"]);
        let item = Item { partition, command };
        tokio::spawn(async move {
            let mut results = router.run(Way::Read, vec![item]).await;
            // A listener that ended meanwhile needs no answer.
            taken
                .send(results.pop().is_some_and(|result| result.is_ok()))
                .ok();
        });
        answer
    }

    /// Whether all topics are heard.
    pub(super) fn is_receiving(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}
