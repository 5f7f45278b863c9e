//! What this node wants from the bus: one task that subscribes with a topic's first worker and unsubscribes after its
//! last, strictly one after the other, so that no unsubscribe can overtake a newer subscribe.

use std::sync::Arc;

use common::{
    bus::{BusError, Head, Subscriptions},
    topic::TopicKey,
};
use tokio::sync::mpsc;

use crate::registry::Registry;

/// Changes that one round of the task takes.
const BATCH: usize = 256;

/// A worker's wish.
#[derive(Debug)]
pub(crate) enum Wish {
    /// The worker has a member of these; it is answered with their ends when the bus has confirmed.
    Join { worker: usize, keys: Vec<TopicKey> },
    /// The worker's last member of the topic left a while ago.
    Leave { worker: usize, key: TopicKey },
}

/// The answer to [`Wish::Join`].
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) keys: Vec<TopicKey>,
    pub(crate) heads: Result<Vec<Head>, BusError>,
}

/// Carries wishes out until every worker is gone. `Answer` is what workers take their inputs as.
pub(crate) async fn run<Answer: From<Joined>>(
    mut wishes: mpsc::Receiver<Wish>,
    workers: Vec<mpsc::WeakSender<Answer>>,
    registry: Arc<Registry>,
    subscriptions: Subscriptions,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while wishes.recv_many(&mut batch, BATCH).await > 0 {
        for wish in batch.drain(..) {
            match wish {
                Wish::Join { worker, keys } => {
                    // First the registry: what comes between the confirmation and its answer must find the worker.
                    for key in &keys {
                        registry.add(key, worker);
                    }
                    let heads = subscriptions.subscribe(&keys).await;
                    if heads.is_err() {
                        for key in &keys {
                            registry.remove(key, worker);
                        }
                    }
                    if let Some(sender) = workers.get(worker).and_then(mpsc::WeakSender::upgrade) {
                        // A worker that has ended needs no answer.
                        drop(sender.send(Joined { keys, heads }.into()).await);
                    }
                }
                Wish::Leave { worker, key } => {
                    if registry.remove(&key, worker) {
                        subscriptions.unsubscribe(&[key]).await;
                    }
                }
            }
        }
    }
}
