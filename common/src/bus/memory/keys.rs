//! The idempotency keys that a topic remembers, and what became of the first publish with each.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sha2::{Digest, Sha256};

use super::super::Published;
use crate::{message::Position, topic::TopicHasher};

/// One topic takes at most this part of what the bus remembers.
const SHARE: usize = 10;

/// Keys that a topic keeps however many others have.
const FEW: usize = 16;

/// What a key is remembered by: half of its SHA-256. Callers choose keys, and no two of them may be found that meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Print([u64; 2]);

impl Print {
    pub(super) fn of(key: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| digest[at * 8 + byte]));
        Self([word(0), word(1)])
    }
}

/// The result of the first publish. Many are kept, so it is smaller than [`Published`].
#[derive(Debug, Clone, Copy)]
struct First {
    epoch: u64,
    offset: u64,
    check: u32,
    /// A process has at most 64 nodes.
    nodes: u8,
    has_position: bool,
}

impl First {
    fn of(published: &Published) -> Self {
        let at = published.position;
        Self {
            epoch: at.map_or(0, |at| at.epoch),
            offset: at.map_or(0, |at| at.offset),
            check: at.map_or(0, |at| at.check),
            nodes: u8::try_from(published.nodes).unwrap_or(u8::MAX),
            has_position: at.is_some(),
        }
    }

    fn again(self) -> Published {
        let position = Position {
            epoch: self.epoch,
            offset: self.offset,
            check: self.check,
        };
        Published {
            position: self.has_position.then_some(position),
            nodes: usize::from(self.nodes),
            repeated: true,
        }
    }
}

/// A topic's keys.
#[derive(Debug)]
pub(super) struct Keys {
    results: HashMap<Print, First, TopicHasher>,
    /// By age, the oldest first, with the bus's second in which each was used.
    order: VecDeque<(u32, Print)>,
    /// Keys of all topics.
    held: Arc<AtomicUsize>,
}

impl Keys {
    pub(super) fn new(held: &Arc<AtomicUsize>) -> Self {
        Self {
            results: HashMap::default(),
            order: VecDeque::new(),
            held: Arc::clone(held),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The result of the first publish with the key, as that of a repeat.
    pub(super) fn get(&self, key: &Print) -> Option<Published> {
        self.results.get(key).map(|first| first.again())
    }

    /// Remembers a key that is not known yet. `most` is what the bus remembers of all topics; its sweep sees to that, and
    /// between two sweeps there may be twice as many.
    pub(super) fn insert(&mut self, key: Print, published: &Published, second: u32, most: usize) {
        let share = (most / SHARE).max(FEW);
        while self.order.len() >= share
            || (self.order.len() >= FEW && self.held.load(Ordering::Relaxed) >= most.saturating_mul(2))
        {
            self.forget_oldest();
        }
        self.results.insert(key, First::of(published));
        self.order.push_back((second, key));
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what was used before this second.
    pub(super) fn forget_before(&mut self, second: u32) {
        while self.order.front().is_some_and(|(used, _)| *used < second) {
            self.forget_oldest();
        }
    }

    /// Gives back memory that a former crowd of keys took.
    pub(super) fn shrink(&mut self) {
        if self.order.len() < self.order.capacity() / 4 {
            self.order.shrink_to_fit();
            self.results.shrink_to_fit();
        }
    }

    /// The seconds in which the keys were used.
    pub(super) fn seconds(&self) -> impl Iterator<Item = u32> {
        self.order.iter().map(|(used, _)| *used)
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.results.remove(&key);
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.held.fetch_sub(self.order.len(), Ordering::Relaxed);
    }
}
