//! Waking those who wait for changes under their keys.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use common::topic::TopicKey;
use dashmap::DashMap;
use tokio::sync::Notify;

/// A key, as processes tell each other of it. Two keys of one hash wake each other's readers, who look and find nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyHash(pub(super) u64);

impl KeyHash {
    /// The same in every process of a version (FNV-1a).
    pub(super) fn of(key: &str) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(key.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

/// Who waits for which key.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    next: AtomicU64,
    waiting: DashMap<KeyHash, Vec<(u64, Arc<Notify>)>>,
}

impl Watchers {
    pub(super) fn watch(self: &Arc<Self>, keys: &[TopicKey]) -> Watch {
        let watch = Watch {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            keys: keys.to_vec(),
            notify: Arc::new(Notify::new()),
            watchers: Arc::clone(self),
        };
        for key in keys {
            let mut waiting = self.waiting.entry(KeyHash::of(key.as_str())).or_default();
            waiting.push((watch.id, Arc::clone(&watch.notify)));
        }
        watch
    }

    /// To be called after the commit.
    pub(super) fn wake_hashes(&self, keys: &[KeyHash]) {
        if self.waiting.is_empty() {
            return;
        }
        for key in keys {
            if let Some(waiting) = self.waiting.get(key) {
                for (_, notify) in waiting.iter() {
                    // Keeps one permit where nobody waits at the moment: a wake-up between query and wait is not lost.
                    notify.notify_one();
                }
            }
        }
    }

    /// Everything may have changed.
    pub(super) fn wake_all(&self) {
        for waiting in &self.waiting {
            for (_, notify) in waiting.iter() {
                notify.notify_one();
            }
        }
    }
}

/// A wait for what touches a reader's keys. Subscribe, then query, then wait: no wake-up is lost.
#[derive(Debug)]
pub struct Watch {
    id: u64,
    keys: Vec<TopicKey>,
    notify: Arc<Notify>,
    watchers: Arc<Watchers>,
}

impl Watch {
    /// Returns when something was committed under the reader's keys since the last call, or since the subscription.
    /// Safe to drop and call again.
    pub async fn changed(&mut self) {
        self.notify.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for key in &self.keys {
            self.watchers
                .waiting
                .remove_if_mut(&KeyHash::of(key.as_str()), |_, waiting| {
                    if let Some(at) = waiting.iter().position(|(id, _)| *id == self.id) {
                        waiting.swap_remove(at);
                    }
                    waiting.is_empty()
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_before_the_wait_counts_and_nothing_stays_behind() {
        let watchers = Arc::new(Watchers::default());
        let key = TopicKey::everyone();
        let mut one = watchers.watch(std::slice::from_ref(&key));
        let mut two = watchers.watch(std::slice::from_ref(&key));
        watchers.wake_hashes(&[KeyHash::of(":e")]);
        one.changed().await;
        two.changed().await;
        drop(one);
        watchers.wake_hashes(&[KeyHash::of(":e"), KeyHash::of("t:a")]);
        two.changed().await;
        watchers.wake_all();
        two.changed().await;
        drop(two);
        assert!(watchers.waiting.is_empty());
    }
}
