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
    topology::Map,
    wanted::{Progress, Tracker},
};
use crate::topic::TopicKey;

/// After a refusal they are asked for again so late.
const LATER: Duration = Duration::from_secs(2);

/// While topics are heard nowhere, the servers are looked at again so often.
const SOON: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
struct Listening {
    orders: mpsc::Sender<Order>,
    state: Arc<State>,
}

/// What became of a topic that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// It was not wanted before.
    pub(super) new: bool,
    /// Redis has it.
    pub(super) confirmed: bool,
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

    /// Subscribes: after this every later message of the topics that are confirmed comes, or is told to be missing.
    pub(super) async fn subscribe(&self, keys: &[TopicKey]) -> Vec<Asked> {
        let hearing = &self.hearing;
        let tracker = Tracker::new(keys.len());
        let mut orders: Vec<(Listening, Vec<TopicKey>)> = Vec::new();
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            let listening = self.listeners.of(hearing, hearing.names.partition(key));
            let serial = listening.as_ref().map_or(0, |its| its.state.serial());
            asked.push(Asked {
                new: hearing.wanted().want(key, serial, &tracker),
                confirmed: true,
            });
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
        if timeout(hearing.dialing.timeout, confirmed).await.is_err() {
            hearing.unsettle();
            let wanted = hearing.wanted();
            for (key, asked) in keys.iter().zip(&mut asked) {
                asked.confirmed = !wanted.is_waited_for(key);
            }
        }
        asked
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
        let Looked { settled, again } = settle(&hearing, &listeners, &now);
        hearing.settled.store(settled, Ordering::Release);
        if hearing.refused.load(Ordering::Acquire) {
            // Rights and the like do not come back in milliseconds.
            sleep(LATER).await;
            hearing.refused.store(false, Ordering::Release);
        }
        tokio::select! {
            changed = map.changed() => if changed.is_err() { break },
            () = hearing.attention.notified() => {}
            () = sleep(SOON), if again => {}
            _ = &mut ended => break,
        }
    }
    listeners.all().clear();
}

/// Brings listeners and partitions to where the map has them.
fn settle(hearing: &Arc<Hearing>, listeners: &Listeners, map: &Map) -> Looked {
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
            }
        }
    }
    if !orders.is_empty() {
        hearing.trouble.notify_one();
    }
    let again = !settled || !orders.is_empty();
    for (listener, partition) in orders {
        // In a full queue it is ordered again.
        drop(listener.try_send(Order::Partition(partition)));
    }
    Looked { settled, again }
}

/// What a look at the subscriptions showed.
struct Looked {
    /// Everything that was heard before is heard.
    settled: bool,
    /// Something is on its way: look again soon.
    again: bool,
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
