//! Which workers have members of a topic: what all workers share. A message wakes only those.

use common::topic::TopicKey;
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
#[derive(Debug)]
pub(crate) struct Registry {
    topics: DashMap<TopicKey, u64>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        // More shards than cores, so that look-ups for messages seldom meet a change.
        Self {
            topics: DashMap::with_shard_amount(64),
        }
    }

    pub(crate) fn workers(&self, key: &TopicKey) -> Workers {
        Workers(self.topics.get(key.as_str()).map_or(0, |workers| *workers))
    }

    /// The key as it is kept here, where it is: sessions of a topic share its text.
    pub(crate) fn shared(&self, key: &TopicKey) -> TopicKey {
        self.topics
            .get(key.as_str())
            .map_or_else(|| key.clone(), |entry| entry.key().clone())
    }

    pub(crate) fn add(&self, key: &TopicKey, worker: usize) {
        *self.topics.entry(key.clone()).or_default() |= 1 << worker;
    }

    /// Whether the topic has no worker any more.
    pub(crate) fn remove(&self, key: &TopicKey, worker: usize) -> bool {
        let Some(mut workers) = self.topics.get_mut(key.as_str()) else {
            return true;
        };
        *workers &= !(1 << worker);
        let last = *workers == 0;
        drop(workers);
        if last {
            self.topics.remove_if(key.as_str(), |_, workers| *workers == 0);
        }
        last
    }

    pub(crate) fn topics(&self) -> usize {
        self.topics.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_lives_as_long_as_a_worker_wants_it() {
        let registry = Registry::new();
        let key = TopicKey::everyone();
        registry.add(&key, 0);
        registry.add(&key, 63);
        assert_eq!(registry.workers(&key).iter().collect::<Vec<_>>(), [0, 63]);
        assert!(!registry.remove(&key, 0));
        assert!(registry.remove(&key, 63));
        assert!(registry.workers(&key).is_empty());
        assert_eq!(registry.topics(), 0);
    }
}
