//! What a node wants to hear, and which connection brings it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use super::names::Names;
use crate::topic::{TopicHasher, TopicKey};

/// A connection of a listener. None of a process has the number of another, so that what an old one left behind counts
/// for nothing.
pub(super) type Serial = u32;

/// How far the subscription of a topic is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stand {
    #[default]
    Nowhere,
    /// It is being asked for over this connection.
    Asked(Serial),
    /// Redis confirmed it over this connection.
    Confirmed(Serial),
}

/// A topic that is wanted.
#[derive(Debug, Clone, Copy, Default)]
struct Subscription {
    stand: Stand,
    /// It was confirmed once, over whichever connection: what came since then is missed.
    heard: bool,
}

/// Somebody who waits until several topics are confirmed.
#[derive(Debug)]
pub(super) struct Tracker {
    missing: AtomicUsize,
    done: Notify,
}

impl Tracker {
    pub(super) fn new(topics: usize) -> Arc<Self> {
        Arc::new(Self {
            missing: AtomicUsize::new(topics),
            done: Notify::new(),
        })
    }

    /// One more is confirmed.
    pub(super) fn one(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }

    pub(super) async fn until_done(&self) {
        while self.missing.load(Ordering::Acquire) > 0 {
            self.done.notified().await;
        }
    }
}

/// The topics of a node, by partition.
#[derive(Debug)]
pub(super) struct Wanted {
    names: Arc<Names>,
    partitions: Vec<HashMap<TopicKey, Subscription, TopicHasher>>,
    waiting: HashMap<TopicKey, Arc<Tracker>, TopicHasher>,
}

impl Wanted {
    pub(super) fn new(names: Arc<Names>) -> Self {
        Self {
            partitions: vec![HashMap::default(); names.partitions()],
            names,
            waiting: HashMap::default(),
        }
    }

    /// Wants a topic; true where it was not wanted before. `current` is the connection that its partition is heard over now.
    pub(super) fn want(&mut self, key: &TopicKey, current: Serial, tracker: &Arc<Tracker>) -> bool {
        let partition = self.names.partition(key);
        let topics = &mut self.partitions[partition];
        let (new, stand) = match topics.get(key) {
            Some(its) => (false, its.stand),
            None => {
                topics.insert(key.clone(), Subscription::default());
                (true, Stand::Nowhere)
            }
        };
        if current != 0 && stand == Stand::Confirmed(current) {
            tracker.one();
        } else if let Some(before) = self.waiting.insert(key.clone(), Arc::clone(tracker)) {
            // Who waited before is answered with what is there: topics are asked for by one task of a node.
            before.one();
        }
        new
    }

    /// Whether somebody waits for its confirmation.
    pub(super) fn is_waited_for(&self, key: &TopicKey) -> bool {
        self.waiting.contains_key(key)
    }

    /// Wants it no more; false where it was not wanted.
    pub(super) fn forget(&mut self, key: &TopicKey) -> bool {
        self.waiting.remove(key);
        let partition = self.names.partition(key);
        self.partitions[partition].remove(key).is_some()
    }

    /// The topic as it is kept here, and how it stands.
    pub(super) fn find(&self, text: &str, partition: usize) -> Option<(&TopicKey, Stand)> {
        let (key, its) = self.partitions.get(partition)?.get_key_value(text)?;
        Some((key, its.stand))
    }

    /// It is asked for over a connection, or not any more.
    pub(super) fn set(&mut self, key: &TopicKey, stand: Stand) {
        let partition = self.names.partition(key);
        if let Some(its) = self.partitions[partition].get_mut(key) {
            its.stand = stand;
        }
    }

    /// Redis confirmed it.
    pub(super) fn confirm(&mut self, text: &str, partition: usize, serial: Serial) {
        let Some(its) = self
            .partitions
            .get_mut(partition)
            .and_then(|topics| topics.get_mut(text))
        else {
            return;
        };
        *its = Subscription {
            stand: Stand::Confirmed(serial),
            heard: true,
        };
        if let Some(tracker) = self.waiting.remove(text) {
            tracker.one();
        }
    }

    /// The topics of a partition that nobody asked for over this connection, which are asked for from now on; and whether
    /// one of them was heard before, so that something may be missed.
    pub(super) fn ask(&mut self, partition: usize, serial: Serial) -> (Vec<TopicKey>, bool) {
        let mut missed = false;
        let mut keys = Vec::new();
        for (key, its) in &mut self.partitions[partition] {
            if !matches!(its.stand, Stand::Asked(by) | Stand::Confirmed(by) if by == serial) {
                its.stand = Stand::Asked(serial);
                missed |= its.heard;
                keys.push(key.clone());
            }
        }
        (keys, missed)
    }

    /// How a partition stands with the connection that it is to be heard over.
    pub(super) fn progress(&self, partition: usize, serial: Serial) -> Progress {
        let mut progress = Progress::default();
        for its in self.partitions[partition].values() {
            match its.stand {
                Stand::Confirmed(by) if by == serial => {}
                Stand::Asked(by) if by == serial => progress.missed |= its.heard,
                _ => {
                    progress.open = true;
                    progress.missed |= its.heard;
                }
            }
        }
        progress
    }
}

/// How far a partition's subscriptions are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Something has still to be asked for.
    pub(super) open: bool,
    /// Something that was heard is not heard now. Topics that are new are missed by nobody yet.
    pub(super) missed: bool,
}
