//! A node's subscriptions: which of its topics are heard where, and who sees to it that they stay so.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    hearing::{Hearing, ORDERS, Order, State},
    link::Place,
    listener::Listener,
    router::unavailable,
    topology::Map,
    wanted::{Progress, Tracker},
};
use crate::{bus::BusError, topic::TopicKey};

/// While topics are heard nowhere, the servers are looked at again so often.
const SOON: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
struct Listening {
    orders: mpsc::Sender<Order>,
    state: Arc<State>,
}

/// The listeners of a node.
#[derive(Debug, Default)]
struct Listeners(Mutex<HashMap<Place, Listening>>);

impl Listeners {
    fn all(&self) -> MutexGuard<'_, HashMap<Place, Listening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, hearing: &Hearing, partition: usize) -> Option<Listening> {
        let map = hearing.map();
        let place = map.listening(partition)?;
        self.all().get(place).cloned()
    }
}

/// A node's handle to its subscriptions. Cheap to clone; with the last one they end.
#[derive(Debug, Clone)]
pub struct RedisNode {
    hearing: Arc<Hearing>,
    listeners: Arc<Listeners>,
    /// Ends the task that looks after the listeners.
    _alive: Arc<oneshot::Sender<()>>,
}

impl RedisNode {
    pub(super) fn start(hearing: Hearing) -> Self {
        let hearing = Arc::new(hearing);
        let listeners = Arc::new(Listeners::default());
        let (alive, ended) = oneshot::channel();
        tokio::spawn(look_after(Arc::clone(&hearing), Arc::clone(&listeners), ended));
        Self {
            hearing,
            listeners,
            _alive: Arc::new(alive),
        }
    }

    /// Subscribes: after this every later message of the topics comes, or is told to be missing. Answers which of them were
    /// not wanted before.
    pub(super) async fn subscribe(&self, keys: &[TopicKey]) -> Result<Vec<TopicKey>, BusError> {
        let hearing = &self.hearing;
        let tracker = Tracker::new(keys.len());
        let mut orders: Vec<(Listening, Vec<TopicKey>)> = Vec::new();
        let mut new = Vec::new();
        for key in keys {
            let listening = self.listeners.of(hearing, hearing.names.partition(key));
            let serial = listening.as_ref().map_or(0, |its| its.state.serial());
            if hearing.wanted().want(key, serial, &tracker) {
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
        if timeout(hearing.dialing.timeout, confirmed).await.is_ok() {
            return Ok(new);
        }
        self.unsubscribe(&new).await;
        hearing.unsettle();
        Err(unavailable(
            "Redis did not confirm a subscription in time".to_owned(),
        ))
    }

    pub(in crate::bus) async fn unsubscribe(&self, keys: &[TopicKey]) {
        for key in keys {
            let wanted = self.hearing.wanted().forget(key);
            let listening = self
                .listeners
                .of(&self.hearing, self.hearing.names.partition(key));
            if let Some(listening) = listening.filter(|its| wanted && its.state.serial() != 0) {
                let leave = listening.orders.send(Order::Leave(vec![key.clone()]));
                // Where it cannot be ordered, the next connection does not ask for it.
                drop(timeout(self.hearing.dialing.timeout, leave).await);
            }
        }
    }

    /// Messages that have arrived and that the node has not taken.
    pub(in crate::bus) fn waiting(&self) -> usize {
        self.hearing.events.waiting()
    }

    /// A way to know that which does not keep the node alive.
    pub(super) fn weak(&self) -> Weak<Hearing> {
        Arc::downgrade(&self.hearing)
    }
}

/// Keeps a listener at each server that has topics, and moves topics with their slots, until the node's last handle is gone.
async fn look_after(hearing: Arc<Hearing>, listeners: Arc<Listeners>, mut ended: oneshot::Receiver<()>) {
    let mut map = hearing.map.clone();
    loop {
        let now = Arc::clone(&map.borrow_and_update());
        let settled = settle(&hearing, &listeners, &now);
        hearing.settled.store(settled, Ordering::Release);
        tokio::select! {
            changed = map.changed() => if changed.is_err() { break },
            () = hearing.attention.notified() => {}
            () = sleep(SOON), if !settled => {}
            _ = &mut ended => break,
        }
    }
    listeners.all().clear();
}

/// Brings listeners and partitions to where the map has them; whether all is confirmed there.
fn settle(hearing: &Arc<Hearing>, listeners: &Listeners, map: &Map) -> bool {
    let names = &hearing.names;
    let mut orders = Vec::new();
    let mut settled = map.is_whole();
    {
        let mut listeners = listeners.all();
        let partitions: Vec<usize> = (0..names.partitions()).collect();
        let needed: Vec<&Place> = partitions
            .iter()
            .filter_map(|partition| map.listening(*partition))
            .collect();
        listeners.retain(|place, _| needed.contains(&place));
        for place in needed {
            if !listeners.contains_key(place) {
                listeners.insert(place.clone(), listen(hearing, place));
            }
        }
        let wanted = hearing.wanted();
        for partition in partitions {
            let Some(listening) = map.listening(partition).and_then(|place| listeners.get(place)) else {
                continue;
            };
            let serial = listening.state.serial();
            settled &= serial != 0 && listening.state.is_restored();
            let Progress { open, missed } = wanted.progress(partition, serial);
            settled &= !missed;
            // Who connects asks for all that is wanted.
            if open && serial != 0 {
                orders.push((listening.orders.clone(), partition));
                settled = false;
            }
        }
    }
    if !orders.is_empty() {
        hearing.trouble.notify_one();
    }
    for (listener, partition) in orders {
        // In a full queue it is ordered again.
        drop(listener.try_send(Order::Partition(partition)));
    }
    settled
}

fn listen(hearing: &Arc<Hearing>, place: &Place) -> Listening {
    let (orders, waiting) = mpsc::channel(ORDERS);
    let state = Arc::new(State::default());
    let listener = Listener {
        place: place.clone(),
        hearing: Arc::clone(hearing),
        state: Arc::clone(&state),
        orders: waiting,
    };
    tokio::spawn(listener.run());
    Listening { orders, state }
}
