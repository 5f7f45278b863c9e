//! What the bus keeps of a topic, and of the nodes that subscribed to it.

use std::sync::{Arc, atomic::AtomicUsize};

use tokio::time::Instant;

use super::{
    super::{
        Head,
        retained::{Bounds, Retained},
    },
    keys::Keys,
};
use crate::{ids::MessageId, policy::TopicPolicy};

/// Nodes of a process are bits of a word.
pub(super) const MAX_NODES: usize = 64;

/// A node of [`MemoryBus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIndex(pub(super) u8);

/// A set of nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Nodes(u64);

impl Nodes {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn insert(&mut self, node: NodeIndex) {
        self.0 |= 1 << node.0;
    }

    pub(super) fn remove(&mut self, node: NodeIndex) {
        self.0 &= !(1 << node.0);
    }

    /// Whether the node at this place among the attached ones is in the set.
    pub(super) fn contains(self, place: usize) -> bool {
        self.0 >> place & 1 == 1
    }
}

/// A topic. Most are users' own that nothing was ever published to with history, so what publishing gives lies elsewhere.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) epoch: u64,
    pub(super) subscribers: Nodes,
    pub(super) given: Option<Box<Given>>,
}

/// What a topic has once an offset was given or a key remembered. It outlives history by a month, so what can be read
/// again lies elsewhere.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) offset: u64,
    pub(super) kept: Option<Box<Kept>>,
    pub(super) last: Option<MessageId>,
    /// The bus's second in which the topic was last published to or left.
    pub(super) used: u32,
    /// What holds for the topic, looked up once.
    pub(super) policy: TopicPolicy,
}

/// What a topic has while something of it can be read again.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) retained: Retained,
    /// None where no publish had one, as on most topics.
    keys: Option<Box<Keys>>,
}

impl Topic {
    pub(super) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            subscribers: Nodes::default(),
            given: None,
        }
    }

    pub(super) fn head(&self) -> Head {
        let given = self.given.as_deref();
        Head {
            epoch: self.epoch,
            offset: given.map_or(0, |given| given.offset),
            id: given.and_then(|given| given.last),
        }
    }

    /// Whether another message, or none, has the place of one that was read.
    pub(super) fn has_lost(&self, read: Head) -> bool {
        let head = self.head();
        if head.offset <= read.offset {
            return head != read;
        }
        let kept = self.given.as_deref().and_then(|given| given.kept.as_deref());
        let found = kept.and_then(|kept| kept.retained.after(read.offset.saturating_sub(1), 1).pop());
        // What cannot be compared any more proves no loss.
        found.is_some_and(|found| {
            found.position.is_some_and(|at| at.offset == read.offset) && Some(found.header.id) != read.id
        })
    }

    /// Whether nothing tells it from a topic that is new: no offset was given, so none can be given twice.
    pub(super) fn is_blank(&self) -> bool {
        self.subscribers.is_empty() && self.given.is_none()
    }

    /// When it was used, where nobody is subscribed.
    pub(super) fn idle_since(&self) -> Option<u32> {
        let given = self.given.as_deref().filter(|_| self.subscribers.is_empty());
        given.map(|given| given.used)
    }

    /// The idempotency keys that it remembers.
    pub(super) fn keys(&mut self) -> Option<&mut Keys> {
        self.given.as_mut()?.kept.as_mut()?.keys.as_deref_mut()
    }

    /// Forgets what is out of the topic's bounds, and keys from before a second of the bus.
    pub(super) fn trim(&mut self, bounds: impl FnOnce(TopicPolicy) -> Bounds, oldest_key: u32, now: Instant) {
        let Some(given) = &mut self.given else { return };
        if let Some(kept) = &mut given.kept {
            kept.retained.trim(&bounds(given.policy), now);
            if let Some(keys) = &mut kept.keys {
                keys.forget_before(oldest_key);
                keys.shrink();
            }
            kept.keys.take_if(|keys| keys.is_empty());
            if kept.retained.is_empty() && kept.keys.is_none() {
                given.kept = None;
            }
        }
        if given.kept.is_none() && given.offset == 0 {
            self.given = None;
        }
    }
}

impl Given {
    pub(super) fn new(policy: TopicPolicy) -> Self {
        Self {
            offset: 0,
            kept: None,
            last: None,
            used: 0,
            policy,
        }
    }

    pub(super) fn kept(&mut self) -> &mut Kept {
        let (policy, offset) = (self.policy, self.offset);
        self.kept.get_or_insert_with(|| {
            Box::new(Kept {
                // Whatever was there before is not there any more.
                retained: Retained::new(policy.history, offset),
                keys: None,
            })
        })
    }
}

impl Kept {
    /// The topic's keys; `held` counts those of all topics.
    pub(super) fn keys(&mut self, held: &Arc<AtomicUsize>) -> &mut Keys {
        self.keys.get_or_insert_with(|| Box::new(Keys::new(held)))
    }
}
