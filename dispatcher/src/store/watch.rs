//! Waking those who wait for changes under their keys.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use common::topic::TopicKey;
use dashmap::DashMap;
use tokio::sync::Notify;

/// Who waits for which key.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    next: AtomicU64,
    waiting: DashMap<String, Vec<(u64, Arc<Notify>)>>,
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
            let mut waiting = self.waiting.entry(key.as_str().to_owned()).or_default();
            waiting.push((watch.id, Arc::clone(&watch.notify)));
        }
        watch
    }

    /// To be called after the commit.
    pub(super) fn wake<'a>(&self, keys: impl IntoIterator<Item = &'a str>) {
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
            self.watchers.waiting.remove_if_mut(key.as_str(), |_, waiting| {
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
        watchers.wake([":e"]);
        one.changed().await;
        two.changed().await;
        drop(one);
        watchers.wake([":e", "t:a"]);
        two.changed().await;
        drop(two);
        assert!(watchers.waiting.is_empty());
    }
}
