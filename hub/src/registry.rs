//! Which workers have members of a topic: what all workers share. A message wakes only those.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicUsize, Ordering},
};

use common::topic::{TopicHasher, TopicKey, TopicKind};
use dashmap::DashMap;

/// Workers are bits of a word.
pub(crate) const MAX_WORKERS: usize = 64;

/// A set of workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Workers(u64);

impl Workers {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The workers' numbers.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let number = left.trailing_zeros() as usize;
            left &= left - 1;
            Some(number)
        })
    }
}

/// Topic to workers. Written only by the interest task, so that subscribing and unsubscribing on the bus are in order.
///
/// A user's devices share one worker, so a user's topic is known by its name alone and needs no entry: there are as many
/// of them as sessions, and a look-up among them is the dearest part of a message to one user.
#[derive(Debug)]
pub(crate) struct Registry {
    topics: DashMap<TopicKey, u64, TopicHasher>,
    /// Users' topics that some worker has.
    users: AtomicUsize,
    workers: usize,
    hasher: TopicHasher,
}

impl Registry {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            // More shards than cores, so that look-ups for messages seldom meet a change.
            topics: DashMap::with_hasher_and_shard_amount(TopicHasher::default(), 64),
            users: AtomicUsize::new(0),
            workers: workers.max(1),
            hasher: TopicHasher::default(),
        }
    }

    /// The worker of a user, by the key of the user's topic.
    pub(crate) fn home(&self, user: &TopicKey) -> usize {
        self.hasher.hash_one(user) as usize % self.workers
    }

    /// The workers that may have members of a topic. A user's is always named, whether the user is here or not: the bus
    /// sends what this node is subscribed to.
    pub(crate) fn workers(&self, key: &TopicKey) -> Workers {
        if key.kind() == TopicKind::User {
            return Workers(1 << self.home(key));
        }
        Workers(self.topics.get(key).map_or(0, |workers| *workers))
    }

    /// The key as it is kept here, where it is: sessions of a topic share its text.
    pub(crate) fn shared(&self, key: &TopicKey) -> TopicKey {
        self.topics
            .get(key)
            .map_or_else(|| key.clone(), |entry| entry.key().clone())
    }

    /// A worker adds a topic once, before it removes it.
    pub(crate) fn add(&self, key: &TopicKey, worker: usize) {
        if key.kind() == TopicKind::User {
            debug_assert_eq!(worker, self.home(key), "a user's sessions are on one worker");
            self.users.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *self.topics.entry(key.clone()).or_default() |= 1 << worker;
    }

    /// Whether the topic has no worker any more.
    pub(crate) fn remove(&self, key: &TopicKey, worker: usize) -> bool {
        if key.kind() == TopicKind::User {
            self.users.fetch_sub(1, Ordering::Relaxed);
            return true;
        }
        let Some(mut workers) = self.topics.get_mut(key) else {
            return true;
        };
        *workers &= !(1 << worker);
        let last = *workers == 0;
        drop(workers);
        if last {
            self.topics.remove_if(key, |_, workers| *workers == 0);
        }
        last
    }

    pub(crate) fn topics(&self) -> usize {
        self.topics.len() + self.users.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{Name, TenantId};

    use super::*;

    #[test]
    fn a_topic_lives_as_long_as_a_worker_wants_it() {
        let registry = Registry::new(MAX_WORKERS);
        let key = TopicKey::everyone();
        registry.add(&key, 0);
        registry.add(&key, 63);
        assert_eq!(registry.workers(&key).iter().collect::<Vec<_>>(), [0, 63]);
        assert!(!registry.remove(&key, 0));
        assert!(registry.remove(&key, 63));
        assert!(registry.workers(&key).is_empty());
        assert_eq!(registry.topics(), 0);
    }

    #[test]
    fn a_users_topic_is_at_the_users_worker() {
        let registry = Registry::new(5);
        let tenant = TenantId::new("t").unwrap();
        for user in ["a", "b", "c", "d", "e", "f"] {
            let key = TopicKey::user(&tenant, &Name::new(user).unwrap());
            let home = registry.home(&key);
            registry.add(&key, home);
            assert_eq!(registry.workers(&key).iter().collect::<Vec<_>>(), [home]);
            assert_eq!(registry.topics(), 1);
            assert!(registry.remove(&key, home));
        }
        assert_eq!(registry.topics(), 0);
    }
}
