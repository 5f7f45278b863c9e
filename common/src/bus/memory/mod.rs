//! The bus inside one process: standalone, and the reference for the other forms.

mod keys;
mod topic;

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use dashmap::DashMap;
use tokio::{
    sync::{mpsc, mpsc::error::TrySendError},
    time::Instant,
};

pub(super) use self::topic::NodeIndex;
use self::{
    keys::Print,
    topic::{Given, MAX_NODES, Topic},
};
use super::{
    BusEvent, BusLimits, Head, History, Publication, Published, attendance::MemoryAttendance,
    retained::Bounds,
};
use crate::{
    message::{Message, Position},
    policy::{HistoryPolicy, Policies, TopicPolicy},
    topic::{TopicHasher, TopicKey},
};

/// The bus inside one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    topics: DashMap<TopicKey, Topic, TopicHasher>,
    nodes: std::sync::RwLock<Vec<Node>>,
    limits: BusLimits,
    policies: Policies,
    /// What [`Topic::used`] counts from.
    began: Instant,
    /// The epoch that a new topic begins with. It grows when a topic's offsets are forgotten, so that no offset is ever
    /// given twice in one epoch.
    epoch: AtomicU64,
    /// Idempotency keys that topics remember.
    keys: Arc<AtomicUsize>,
    attendance: MemoryAttendance,
}

#[derive(Debug)]
struct Node {
    sender: mpsc::Sender<Arc<Message>>,
    dropped: Arc<AtomicU64>,
}

impl Inner {
    /// What a topic may keep: what its rule says, else what holds for all. Values of a last-value topic stand until
    /// newer ones come, unless its rule says how old they may get.
    fn bounds(&self, policy: TopicPolicy) -> Bounds {
        let own = self.policies.bounds(policy);
        let age = (policy.history != HistoryPolicy::LastValue).then_some(self.limits.age);
        Bounds {
            count: own.count.unwrap_or(self.limits.count),
            bytes: own.bytes.unwrap_or(self.limits.bytes),
            age: own.age.or(age),
        }
    }
}

impl MemoryBus {
    /// A bus without topics. Its first epoch is random, so that positions of an earlier process are told from its own.
    #[must_use]
    pub fn new(limits: BusLimits) -> Self {
        Self::with_policies(limits, Policies::default())
    }

    /// As [`MemoryBus::new`]; the policies say what differs for some topics.
    #[must_use]
    pub fn with_policies(limits: BusLimits, policies: Policies) -> Self {
        let inner = Inner {
            topics: DashMap::default(),
            nodes: std::sync::RwLock::default(),
            limits,
            policies,
            began: Instant::now(),
            // 40 random bits leave room to grow and keep positions short.
            epoch: AtomicU64::new(fastrand::u64(1..1 << 40)),
            keys: Arc::default(),
            attendance: MemoryAttendance::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// # Panics
    /// Where a process attaches more than 64 nodes: it has one, and tests have a few.
    pub(super) fn attach(&self, capacity: usize) -> (NodeIndex, NodeEvents) {
        let (sender, receiver) = mpsc::channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut nodes = self
            .inner
            .nodes
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(nodes.len() < MAX_NODES, "a process has at most {MAX_NODES} nodes");
        nodes.push(Node {
            sender,
            dropped: Arc::clone(&dropped),
        });
        (
            NodeIndex((nodes.len() - 1) as u8),
            NodeEvents {
                receiver,
                dropped,
                buffer: Vec::new(),
            },
        )
    }

    /// Publishes. The topic's lock is held while its offset is given and while the message is put before the nodes, so
    /// that every node gets a topic's messages in the order of their offsets.
    pub(super) fn publish(&self, publication: Publication) -> Published {
        let Publication {
            key,
            header,
            payload,
            history,
            idempotency_key,
        } = publication;
        let now = Instant::now();
        let keyed = idempotency_key.as_deref().map(Print::of);
        let found = if history || keyed.is_some() {
            Some(self.topic(&key))
        } else {
            self.inner.topics.get_mut(&key)
        };
        let Some(mut topic) = found else {
            return Published {
                position: None,
                nodes: 0,
                repeated: false,
            };
        };
        // The text that is kept anyway, so that history and those who look it up share it.
        let key = topic.key().clone();
        let topic = &mut *topic;
        if let Some(known) = &keyed
            && let Some(keys) = topic.keys()
        {
            keys.forget_before(self.oldest_key(now));
            if let Some(first) = keys.get(known) {
                return first;
            }
        }
        let id = header.id;
        let mut message = Message {
            key,
            position: None,
            header,
            payload,
        };
        let given = (history || keyed.is_some()).then(|| {
            topic
                .given
                .get_or_insert_with(|| Box::new(Given::new(self.inner.policies.of(&message.key))))
        });
        if let Some(given) = given
            && history
            && given.policy.history != HistoryPolicy::None
        {
            // Before the offset is given: who is new to it begins here.
            given.kept();
            given.offset += 1;
            given.last = Some(id);
            message.position = Some(Position {
                epoch: topic.epoch,
                offset: given.offset,
                check: id.check(),
            });
        }
        let position = message.position;
        let message = Arc::new(message);
        if let Some(given) = &mut topic.given {
            given.used = self.second(now);
            if position.is_some() {
                let bounds = self.inner.bounds(given.policy);
                given.kept().retained.push(Arc::clone(&message), &bounds, now);
            }
        }
        let mut receivers = 0;
        if !topic.subscribers.is_empty() {
            let nodes = self
                .inner
                .nodes
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let subscribed = |(place, _): &(usize, &Node)| topic.subscribers.contains(*place);
            for (_, node) in nodes.iter().enumerate().filter(subscribed) {
                match node.sender.try_send(Arc::clone(&message)) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => {
                        node.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                    // A node that has ended without a word counts no more, as one whose connection to a server is gone.
                    Err(TrySendError::Closed(_)) => continue,
                }
                receivers += 1;
            }
        }
        let published = Published {
            position,
            nodes: receivers,
            repeated: false,
        };
        if let Some(key) = keyed
            && let Some(given) = &mut topic.given
        {
            let keys = given.kept().keys(&self.inner.keys);
            keys.insert(key, &published, self.second(now), self.inner.limits.keys);
        }
        published
    }

    pub(super) fn subscribe(&self, node: NodeIndex, key: &TopicKey) -> Head {
        let mut topic = self.topic(key);
        topic.subscribers.insert(node);
        topic.head()
    }

    /// A topic that was never published to is forgotten with its last subscriber: users who come and go leave nothing.
    pub(super) fn unsubscribe(&self, node: NodeIndex, key: &TopicKey) {
        let used = self.second(Instant::now());
        self.inner.topics.remove_if_mut(key, |_, topic| {
            topic.subscribers.remove(node);
            if let Some(given) = &mut topic.given {
                given.used = used;
            }
            topic.is_blank()
        });
    }

    pub(super) fn attendance(&self) -> MemoryAttendance {
        self.inner.attendance.clone()
    }

    /// Messages that wait for the node.
    pub(super) fn waiting(&self, node: NodeIndex) -> usize {
        let nodes = self
            .inner
            .nodes
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        nodes.get(usize::from(node.0)).map_or(0, |node| {
            node.sender.max_capacity().saturating_sub(node.sender.capacity())
        })
    }

    pub(super) fn head(&self, key: &TopicKey) -> Head {
        let topic = self.inner.topics.get(key);
        topic.map_or_else(|| Topic::new(self.epoch()).head(), |topic| topic.head())
    }

    pub(super) fn history(&self, key: &TopicKey, after: u64, limit: usize) -> History {
        let Some(mut topic) = self.inner.topics.get_mut(key) else {
            return History {
                head: Topic::new(self.epoch()).head(),
                messages: Vec::new(),
                superseded_after: None,
            };
        };
        let now = Instant::now();
        topic.trim(|policy| self.inner.bounds(policy), self.oldest_key(now), now);
        let kept = topic.given.as_deref().and_then(|given| given.kept.as_deref());
        History {
            head: topic.head(),
            messages: kept.map_or_else(Vec::new, |kept| kept.retained.after(after, limit)),
            superseded_after: kept.and_then(|kept| kept.retained.superseded_after()),
        }
    }

    /// Begins a new epoch, if the old one is still that of the topic and what stood at `old` is not there.
    pub(super) fn renew(&self, key: &TopicKey, old: Head) -> Head {
        let mut topic = self.topic(key);
        if topic.epoch == old.epoch && topic.has_lost(old) {
            // Other topics may have begun in any epoch up to the bus's own.
            topic.epoch = self.inner.epoch.fetch_add(1, Ordering::Relaxed) + 1;
            let policy = self.inner.policies.of(key);
            let given = topic.given.get_or_insert_with(|| Box::new(Given::new(policy)));
            given.offset = given.offset.max(old.offset);
            given.last = None;
            given.kept = None;
        }
        topic.head()
    }

    /// Forgets what is past its age, and what lies beyond [`BusLimits::meta_topics`] and [`BusLimits::keys`]. Called
    /// now and then by whoever owns the bus; a topic that is used trims itself.
    pub fn sweep(&self) {
        let now = Instant::now();
        let oldest = self.oldest_kept(now);
        let oldest_key = self.oldest_kept_key(now);
        let mut forgotten = false;
        self.inner.topics.retain(|_, topic| {
            topic.trim(|policy| self.inner.bounds(policy), oldest_key, now);
            let forget = topic.idle_since().is_some_and(|used| used < oldest);
            if forget && !forgotten {
                // Before it is gone, so that a topic of the same key can only begin in a later epoch.
                self.inner.epoch.fetch_add(1, Ordering::Relaxed);
                forgotten = true;
            }
            !forget && !topic.is_blank()
        });
        if self.inner.topics.len() < self.inner.topics.capacity() / 4 {
            self.inner.topics.shrink_to_fit();
        }
    }

    /// The second since which a topic without subscribers has to have been used to be remembered.
    fn oldest_kept(&self, now: Instant) -> u32 {
        let limits = &self.inner.limits;
        let age = u32::try_from(limits.meta_age.as_secs()).unwrap_or(u32::MAX);
        // One second later than `used` can be, so that the age is whole.
        let by_age = (self.second(now) + 1).saturating_sub(age);
        let topics = &self.inner.topics;
        if topics.len() <= limits.meta_topics {
            return by_age;
        }
        let mut used: Vec<u32> = topics.iter().filter_map(|topic| topic.idle_since()).collect();
        let Some(beyond) = used.len().checked_sub(limits.meta_topics).filter(|&n| n > 0) else {
            return by_age;
        };
        // Those of the same second go together: a few more are forgotten than have to be.
        let (_, last, _) = used.select_nth_unstable(beyond - 1);
        by_age.max(*last + 1)
    }

    /// The second since which an idempotency key has to have been used not to be past its age.
    fn oldest_key(&self, now: Instant) -> u32 {
        let age = u32::try_from(self.inner.limits.key_age.as_secs()).unwrap_or(u32::MAX);
        self.second(now).saturating_sub(age)
    }

    /// The second since which an idempotency key has to have been used to be remembered.
    fn oldest_kept_key(&self, now: Instant) -> u32 {
        let by_age = self.oldest_key(now);
        let held = self.inner.keys.load(Ordering::Relaxed);
        let Some(beyond) = held.checked_sub(self.inner.limits.keys).filter(|&n| n > 0) else {
            return by_age;
        };
        let mut used: Vec<u32> = Vec::with_capacity(held);
        for mut topic in self.inner.topics.iter_mut() {
            if let Some(keys) = topic.keys() {
                used.extend(keys.seconds());
            }
        }
        // Some may have been forgotten since they were counted.
        if used.len() < beyond {
            return by_age;
        }
        // Those of the same second go together: a few more are forgotten than have to be.
        let (_, last, _) = used.select_nth_unstable(beyond - 1);
        by_age.max(*last + 1)
    }

    /// The bus's clock. Seconds are enough for ages of minutes and more.
    fn second(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.inner.began);
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX - 1)
    }

    fn epoch(&self) -> u64 {
        self.inner.epoch.load(Ordering::Relaxed)
    }

    fn topic(&self, key: &TopicKey) -> dashmap::mapref::one::RefMut<'_, TopicKey, Topic> {
        if let Some(topic) = self.inner.topics.get_mut(key) {
            return topic;
        }
        let new = || Topic::new(self.epoch());
        self.inner.topics.entry(key.clone()).or_insert_with(new)
    }
}

/// What waits for a node.
#[derive(Debug)]
pub struct NodeEvents {
    receiver: mpsc::Receiver<Arc<Message>>,
    dropped: Arc<AtomicU64>,
    buffer: Vec<Arc<Message>>,
}

impl NodeEvents {
    pub(super) async fn next_batch(&mut self, batch: &mut Vec<BusEvent>, limit: usize) -> usize {
        let taken = self.receiver.recv_many(&mut self.buffer, limit).await;
        batch.extend(self.buffer.drain(..).map(BusEvent::Message));
        // Read after the messages were taken: what was dropped came behind some of them.
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            batch.push(BusEvent::Dropped(dropped));
        }
        taken
    }
}

#[cfg(test)]
mod tests;
