//! What this node wants from the bus: one task that subscribes with a topic's first worker and unsubscribes after its
//! last, strictly one after the other, so that no unsubscribe can overtake a newer subscribe.

use std::{collections::HashMap, sync::Arc};

use common::{
    bus::{Head, Subscriptions},
    topic::{TopicKey, TopicKind},
};
use tokio::sync::{mpsc, oneshot};

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
    /// A trace watches the topic, whoever has members.
    Watch {
        key: TopicKey,
        confirmed: oneshot::Sender<()>,
    },
    /// It watches no more.
    Unwatch { key: TopicKey },
}

/// The answer to [`Wish::Join`].
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) keys: Vec<TopicKey>,
    /// None for a topic that the bus did not confirm.
    pub(crate) heads: Vec<Option<Head>>,
}

/// Whether a worker has the topic, or waits for it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) key: TopicKey,
    pub(crate) answer: oneshot::Sender<bool>,
}

/// Carries wishes out until every worker is gone. `Answer` is what workers take their inputs as.
///
/// What waits together is asked of the bus together, as each answer costs a way to it and back; but nothing overtakes: a
/// leave that stands between two joins is carried out between them.
pub(crate) async fn run<Answer: From<Joined> + From<Asked>>(
    mut wishes: mpsc::Receiver<Wish>,
    workers: Vec<mpsc::WeakSender<Answer>>,
    registry: Arc<Registry>,
    subscriptions: Subscriptions,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut watched: HashMap<TopicKey, usize> = HashMap::new();
    while wishes.recv_many(&mut batch, BATCH).await > 0 {
        let mut joins = Vec::new();
        let mut leaves = Vec::new();
        for wish in batch.drain(..) {
            if !matches!(wish, Wish::Join { .. }) {
                join(std::mem::take(&mut joins), &workers, &registry, &subscriptions).await;
            }
            if !matches!(wish, Wish::Leave { .. }) && !leaves.is_empty() {
                subscriptions.unsubscribe(&std::mem::take(&mut leaves)).await;
            }
            match wish {
                Wish::Join { worker, keys } => joins.push((worker, keys)),
                Wish::Leave { worker, key } => {
                    if registry.remove(&key, worker) && !watched.contains_key(&key) {
                        leaves.push(key);
                    }
                }
                Wish::Watch { key, confirmed } => {
                    let subscribed = subscriptions.subscribe(std::slice::from_ref(&key)).await;
                    if subscribed.is_ok() {
                        confirmed.send(()).ok();
                    }
                    *watched.entry(key).or_default() += 1;
                }
                Wish::Unwatch { key } => {
                    let watchers = watched.get_mut(&key).map_or(0, |watchers| {
                        *watchers -= 1;
                        *watchers
                    });
                    if watchers == 0 {
                        watched.remove(&key);
                        if !has_members(&key, &workers, &registry).await {
                            leaves.push(key);
                        }
                    }
                }
            }
        }
        join(joins, &workers, &registry, &subscriptions).await;
        if !leaves.is_empty() {
            subscriptions.unsubscribe(&leaves).await;
        }
    }
}

/// Subscribes what several joins ask for, and answers each; nobody fails for another's topic.
async fn join<Answer: From<Joined>>(
    joins: Vec<(usize, Vec<TopicKey>)>,
    workers: &[mpsc::WeakSender<Answer>],
    registry: &Registry,
    subscriptions: &Subscriptions,
) {
    // First the registry: what comes between the confirmation and its answer must find the worker.
    for (worker, keys) in &joins {
        keys.iter().for_each(|key| registry.add(key, *worker));
    }
    let all: Vec<TopicKey> = joins.iter().flat_map(|(_, keys)| keys.iter().cloned()).collect();
    if all.is_empty() {
        return;
    }
    let mut found = subscriptions.subscribe_each(&all).await.into_iter();
    for (worker, keys) in joins {
        let heads: Vec<Option<Head>> = found.by_ref().take(keys.len()).collect();
        for (key, _) in keys.iter().zip(&heads).filter(|(_, head)| head.is_none()) {
            registry.remove(key, worker);
        }
        if let Some(sender) = workers.get(worker).and_then(mpsc::WeakSender::upgrade) {
            // A worker that has ended needs no answer.
            drop(sender.send(Joined { keys, heads }.into()).await);
        }
    }
}

/// Whether a worker has the topic. The registry does not know it of users, so the user's worker is asked; what it wishes for
/// meanwhile stands behind this in the queue.
async fn has_members<Answer: From<Asked>>(
    key: &TopicKey,
    workers: &[mpsc::WeakSender<Answer>],
    registry: &Registry,
) -> bool {
    if key.kind() != TopicKind::User {
        return !registry.workers(key).is_empty();
    }
    let (answer, answered) = oneshot::channel();
    let home = workers
        .get(registry.home(key))
        .and_then(mpsc::WeakSender::upgrade);
    let Some(home) = home else { return false };
    let asked = Asked {
        key: key.clone(),
        answer,
    };
    home.send(asked.into()).await.is_ok() && answered.await == Ok(true)
}
