//! The bus inside one process: standalone, and the reference for the other forms.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use tokio::{
    sync::{mpsc, mpsc::error::TrySendError},
    time::Instant,
};

use super::{
    BusEvent, Head, History, Publication, Published,
    retained::{Bounds, Retained},
};
use crate::{
    ids::MessageId,
    message::{Message, Position},
    policy::{HistoryPolicy, Policies, TopicPolicy},
    topic::TopicKey,
};

/// Bounds of the memory that history may take.
#[derive(Debug, Clone, Copy)]
pub struct MemoryLimits {
    /// Messages a topic.
    pub count: usize,
    /// Payload bytes a topic.
    pub bytes: usize,
    /// Age of a message.
    pub age: Duration,
    /// How long a topic that nobody uses keeps its offsets, and an idempotency key its result.
    pub meta_age: Duration,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            count: 256,
            bytes: 256 * 1024,
            age: Duration::from_secs(600),
            meta_age: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// Idempotency keys that a topic remembers; beyond, the oldest is forgotten.
const KEYS_PER_TOPIC: usize = 1024;

/// A node of [`MemoryBus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIndex(usize);

/// The bus inside one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemoryBus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    topics: DashMap<TopicKey, Topic>,
    nodes: std::sync::RwLock<Vec<Node>>,
    limits: MemoryLimits,
    policies: Policies,
    /// The epoch that a new topic begins with. It grows when a topic's offsets are forgotten, so that no offset is ever
    /// given twice in one epoch.
    epoch: AtomicU64,
}

#[derive(Debug)]
struct Node {
    sender: mpsc::Sender<Arc<Message>>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Topic {
    epoch: u64,
    offset: u64,
    last: Option<MessageId>,
    policy: TopicPolicy,
    retained: Retained,
    used: Instant,
    subscribers: Vec<NodeIndex>,
    keys: VecDeque<(String, Published)>,
}

impl Topic {
    fn head(&self) -> Head {
        Head {
            epoch: self.epoch,
            offset: self.offset,
            id: self.last,
        }
    }
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
    pub fn new(limits: MemoryLimits) -> Self {
        Self::with_policies(limits, Policies::default())
    }

    /// As [`MemoryBus::new`]; the policies say what differs for some topics.
    #[must_use]
    pub fn with_policies(limits: MemoryLimits, policies: Policies) -> Self {
        let inner = Inner {
            topics: DashMap::new(),
            nodes: std::sync::RwLock::default(),
            limits,
            policies,
            // 40 random bits leave room to grow and keep positions short.
            epoch: AtomicU64::new(fastrand::u64(1..1 << 40)),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(super) fn attach(&self, capacity: usize) -> (NodeIndex, NodeEvents) {
        let (sender, receiver) = mpsc::channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut nodes = self
            .inner
            .nodes
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        nodes.push(Node {
            sender,
            dropped: Arc::clone(&dropped),
        });
        (
            NodeIndex(nodes.len() - 1),
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
        let mut topic = self.topic(&key, now);
        let topic = &mut *topic;
        if let Some(known) = &idempotency_key
            && let Some((_, first)) = topic.keys.iter().find(|(key, _)| key == known)
        {
            return Published {
                repeated: true,
                ..first.clone()
            };
        }
        let history = history && topic.retained.is_kept();
        let id = header.id;
        let position = history.then(|| {
            topic.offset += 1;
            topic.last = Some(id);
            Position {
                epoch: topic.epoch,
                offset: topic.offset,
                check: id.check(),
            }
        });
        let message = Arc::new(Message {
            key,
            position,
            header,
            payload,
        });
        if history {
            let bounds = self.inner.bounds(topic.policy);
            topic.retained.push(Arc::clone(&message), &bounds, now);
        }
        topic.used = now;
        if !topic.subscribers.is_empty() {
            let nodes = self
                .inner
                .nodes
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for NodeIndex(index) in &topic.subscribers {
                let node = &nodes[*index];
                if let Err(TrySendError::Full(_)) = node.sender.try_send(Arc::clone(&message)) {
                    node.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let published = Published {
            position,
            nodes: topic.subscribers.len(),
            repeated: false,
        };
        if let Some(key) = idempotency_key {
            if topic.keys.len() == KEYS_PER_TOPIC {
                topic.keys.pop_front();
            }
            topic.keys.push_back((key, published.clone()));
        }
        published
    }

    pub(super) fn subscribe(&self, node: NodeIndex, key: &TopicKey) -> Head {
        let mut topic = self.topic(key, Instant::now());
        if !topic.subscribers.contains(&node) {
            topic.subscribers.push(node);
        }
        topic.head()
    }

    pub(super) fn unsubscribe(&self, node: NodeIndex, key: &TopicKey) {
        if let Some(mut topic) = self.inner.topics.get_mut(key.as_str()) {
            topic.subscribers.retain(|other| *other != node);
        }
    }

    pub(super) fn head(&self, key: &TopicKey) -> Head {
        self.topic(key, Instant::now()).head()
    }

    pub(super) fn history(&self, key: &TopicKey, after: u64, limit: usize) -> History {
        let now = Instant::now();
        let mut topic = self.topic(key, now);
        let bounds = self.inner.bounds(topic.policy);
        topic.retained.trim(&bounds, now);
        History {
            head: topic.head(),
            messages: topic.retained.after(after, limit),
            superseded_after: topic.retained.superseded_after(),
        }
    }

    /// Forgets what is past its age. Called now and then by whoever owns the bus; a topic that is used trims itself.
    pub fn sweep(&self) {
        let now = Instant::now();
        let meta_age = self.inner.limits.meta_age;
        let mut forgotten = false;
        self.inner.topics.retain(|_, topic| {
            topic.retained.trim(&self.inner.bounds(topic.policy), now);
            let keep = !topic.subscribers.is_empty() || now.duration_since(topic.used) < meta_age;
            forgotten |= !keep;
            keep
        });
        if forgotten {
            self.inner.epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn topic(&self, key: &TopicKey, now: Instant) -> dashmap::mapref::one::RefMut<'_, TopicKey, Topic> {
        if let Some(topic) = self.inner.topics.get_mut(key.as_str()) {
            return topic;
        }
        self.inner.topics.entry(key.clone()).or_insert_with(|| {
            let policy = self.inner.policies.of(key);
            Topic {
                epoch: self.inner.epoch.load(Ordering::Relaxed),
                offset: 0,
                last: None,
                policy,
                retained: Retained::new(policy.history),
                used: now,
                subscribers: Vec::new(),
                keys: VecDeque::new(),
            }
        })
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
mod tests {
    use super::*;
    use crate::{
        bus::{Bus, conformance},
        message::{FrameKind, Header},
    };

    fn bus(limits: MemoryLimits, policies: Policies) -> Bus {
        Bus::Memory(MemoryBus::with_policies(limits, policies))
    }

    #[tokio::test]
    async fn keeps_the_promises_of_a_bus() {
        conformance::run(bus).await;
    }

    #[tokio::test(start_paused = true)]
    async fn history_ends_with_its_age_and_topics_with_theirs() {
        let limits = MemoryLimits {
            age: Duration::from_secs(60),
            meta_age: Duration::from_secs(600),
            ..MemoryLimits::default()
        };
        let memory = MemoryBus::new(limits);
        let key = TopicKey::everyone();
        let publish = || {
            memory.publish(Publication {
                key: key.clone(),
                header: Header::new(MessageId::generate(), FrameKind::Message),
                payload: bytes::Bytes::from_static(b"{}"),
                history: true,
                idempotency_key: None,
            })
        };
        let first = publish().position.unwrap();
        tokio::time::advance(Duration::from_secs(61)).await;
        memory.sweep();
        assert!(memory.history(&key, 0, 10).messages.is_empty());
        assert_eq!(memory.head(&key).offset, 1);
        tokio::time::advance(Duration::from_secs(601)).await;
        memory.sweep();
        let again = publish().position.unwrap();
        assert_eq!(again.offset, 1);
        assert_ne!(
            again.epoch, first.epoch,
            "offsets that were forgotten must not be given again in their epoch"
        );
    }
}
