//! A node's subscriptions: which of its topics are heard where, and who sees to it that they stay so.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    events::EventSender,
    link::{Dialing, Place},
    listener::{Listener, ORDERS, Order, State, probe_item},
    metrics::BusMetrics,
    names::Names,
    router::{Router, unavailable},
    topology::Map,
    wanted::{Progress, Serial, Tracker, Wanted},
};
use crate::{bus::BusError, topic::TopicKey};

/// While topics are heard nowhere, the servers are looked at again so often.
const SOON: Duration = Duration::from_millis(50);

/// What listeners and their node share.
#[derive(Debug)]
pub(super) struct NodeShared {
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
    map: watch::Receiver<Arc<Map>>,
    wanted: Mutex<Wanted>,
    listeners: Mutex<HashMap<Place, Listening>>,
    serials: AtomicU32,
    /// Every topic is confirmed where it belongs.
    settled: AtomicBool,
}

#[derive(Debug, Clone)]
struct Listening {
    orders: mpsc::Sender<Order>,
    state: Arc<State>,
}

impl NodeShared {
    pub(super) fn map(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    pub(super) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<Place, Listening>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Sends a message to this node itself; answered with whether Redis took it.
    pub(super) fn send_probe(&self, partition: usize) -> oneshot::Receiver<bool> {
        let (taken, answer) = oneshot::channel();
        let router = Arc::clone(&self.router);
        let (way, item) = probe_item(self, partition);
        tokio::spawn(async move {
            let mut results = router.run(way, vec![item]).await;
            // A listener that ended meanwhile needs no answer.
            taken
                .send(results.pop().is_some_and(|result| result.is_ok()))
                .ok();
        });
        answer
    }

    fn listening(&self, partition: usize) -> Option<Listening> {
        let map = self.map.borrow();
        let place = map.listening(partition)?;
        self.listeners().get(place).cloned()
    }
}

/// What a node is made with.
pub(super) struct NodeParts {
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

/// A node's handle to its subscriptions. Cheap to clone; with the last one they end.
#[derive(Debug, Clone)]
pub struct RedisNode {
    shared: Arc<NodeShared>,
    /// Ends the task that looks after the listeners.
    _alive: Arc<oneshot::Sender<()>>,
}

impl RedisNode {
    pub(super) fn start(parts: NodeParts) -> Self {
        let shared = Arc::new(NodeShared {
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
            listeners: Mutex::default(),
            serials: AtomicU32::new(0),
            settled: AtomicBool::new(false),
        });
        let (alive, ended) = oneshot::channel();
        tokio::spawn(look_after(Arc::clone(&shared), ended));
        Self {
            shared,
            _alive: Arc::new(alive),
        }
    }

    /// Subscribes: after this every later message of the topics comes, or is told to be missing.
    pub(super) async fn subscribe(&self, keys: &[TopicKey]) -> Result<(), BusError> {
        let shared = &self.shared;
        let tracker = Tracker::new(keys.len());
        let mut orders: Vec<(Listening, Vec<TopicKey>)> = Vec::new();
        let mut new = Vec::new();
        for key in keys {
            let listening = shared.listening(shared.names.partition(key));
            let serial = listening.as_ref().map_or(0, |its| its.state.serial());
            if shared.wanted().want(key, serial, &tracker) {
                new.push(key.clone());
            }
            // Where nobody listens yet, all that is wanted is asked for with the connection.
            let Some(listening) = listening else { continue };
            match orders
                .iter_mut()
                .find(|(its, _)| Arc::ptr_eq(&its.state, &listening.state))
            {
                Some((_, topics)) => topics.push(key.clone()),
                None => orders.push((listening, vec![key.clone()])),
            }
        }
        let confirmed = async {
            for (listening, topics) in orders {
                // A listener that has ended is followed by another, which asks for all.
                drop(listening.orders.send(Order::Topics(topics)).await);
            }
            tracker.until_done().await;
        };
        if timeout(shared.dialing.timeout, confirmed).await.is_ok() {
            return Ok(());
        }
        self.unsubscribe(&new).await;
        shared.unsettle();
        Err(unavailable(
            "Redis did not confirm a subscription in time".to_owned(),
        ))
    }

    pub(in crate::bus) async fn unsubscribe(&self, keys: &[TopicKey]) {
        for key in keys {
            let wanted = self.shared.wanted().forget(key);
            let listening = self.shared.listening(self.shared.names.partition(key));
            if let Some(listening) = listening.filter(|its| wanted && its.state.serial() != 0) {
                let leave = listening.orders.send(Order::Leave(vec![key.clone()]));
                // Where it cannot be ordered, the next connection does not ask for it.
                drop(timeout(self.shared.dialing.timeout, leave).await);
            }
        }
    }

    /// Messages that have arrived and that the node has not taken.
    pub(in crate::bus) fn waiting(&self) -> usize {
        self.shared.events.waiting()
    }

    /// A way to know that which does not keep the node alive.
    pub(super) fn weak(&self) -> std::sync::Weak<NodeShared> {
        Arc::downgrade(&self.shared)
    }
}

impl NodeShared {
    /// Whether all topics are heard.
    pub(super) fn is_receiving(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }
}

/// Keeps a listener at each server that has topics, and moves topics with their slots, until the node's last handle is gone.
async fn look_after(shared: Arc<NodeShared>, mut ended: oneshot::Receiver<()>) {
    let mut map = shared.map.clone();
    loop {
        let now = Arc::clone(&map.borrow_and_update());
        let settled = settle(&shared, &now);
        shared.settled.store(settled, Ordering::Release);
        tokio::select! {
            changed = map.changed() => if changed.is_err() { break },
            () = shared.attention.notified() => {}
            () = sleep(SOON), if !settled => {}
            _ = &mut ended => break,
        }
    }
    shared.listeners().clear();
}

/// Brings listeners and partitions to where the map has them; whether all is confirmed there.
fn settle(shared: &Arc<NodeShared>, map: &Map) -> bool {
    let names = &shared.names;
    let mut orders = Vec::new();
    let mut settled = map.is_whole();
    {
        let mut listeners = shared.listeners();
        let partitions: Vec<usize> = (0..names.partitions()).collect();
        let needed: Vec<&Place> = partitions
            .iter()
            .filter_map(|partition| map.listening(*partition))
            .collect();
        listeners.retain(|place, _| needed.contains(&place));
        for place in needed {
            if !listeners.contains_key(place) {
                listeners.insert(place.clone(), listen(shared, place));
            }
        }
        let wanted = shared.wanted();
        for partition in partitions {
            let Some(listening) = map.listening(partition).and_then(|place| listeners.get(place)) else {
                continue;
            };
            let serial = listening.state.serial();
            settled &= serial != 0 && listening.state.is_restored();
            match wanted.progress(partition, serial) {
                // Who connects asks for all that is wanted.
                Progress::Open if serial != 0 => {
                    orders.push((listening.orders.clone(), partition));
                    settled = false;
                }
                Progress::Open | Progress::Asked => settled = false,
                Progress::Settled => {}
            }
        }
    }
    if !orders.is_empty() {
        shared.trouble.notify_one();
    }
    for (listener, partition) in orders {
        // In a full queue it is ordered again.
        drop(listener.try_send(Order::Partition(partition)));
    }
    settled
}

fn listen(shared: &Arc<NodeShared>, place: &Place) -> Listening {
    let (orders, waiting) = mpsc::channel(ORDERS);
    let state = Arc::new(State::default());
    let listener = Listener {
        place: place.clone(),
        shared: Arc::clone(shared),
        state: Arc::clone(&state),
        orders: waiting,
    };
    tokio::spawn(listener.run());
    Listening { orders, state }
}
