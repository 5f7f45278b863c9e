//! The table inside one process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Entered, MAX_USERS, Purged};
use crate::{
    ids::{Name, NodeId},
    topic::{TopicHasher, TopicKey},
};

/// The table of the nodes of one process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct MemoryAttendance {
    topics: Arc<Mutex<HashMap<TopicKey, Attended, TopicHasher>>>,
}

/// Who is in a topic.
#[derive(Debug, Default)]
struct Attended {
    /// How many nodes have the user.
    users: HashMap<Name, u32>,
    nodes: BTreeMap<NodeId, BTreeSet<Name>>,
}

impl Attended {
    /// Whether nobody has the user any more.
    fn release(&mut self, user: &Name) -> bool {
        let Some(count) = self.users.get_mut(user) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.users.remove(user);
        true
    }
}

impl MemoryAttendance {
    fn topics(&self) -> MutexGuard<'_, HashMap<TopicKey, Attended, TopicHasher>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, topic: &TopicKey, node: &NodeId, users: &[Name]) -> Entered {
        let mut topics = self.topics();
        let attended = topics.entry(topic.clone()).or_default();
        let its = attended.nodes.entry(node.clone()).or_default();
        let mut joined = Vec::new();
        for user in users {
            if !its.insert(user.clone()) {
                continue;
            }
            let count = attended.users.entry(user.clone()).or_default();
            *count += 1;
            if *count == 1 {
                joined.push(user.clone());
            }
        }
        Entered {
            joined,
            nodes: attended.nodes.keys().cloned().collect(),
        }
    }

    pub(super) fn exit(&self, topic: &TopicKey, node: &NodeId, users: &[Name]) -> Vec<Name> {
        let mut topics = self.topics();
        let Some(attended) = topics.get_mut(topic) else {
            return Vec::new();
        };
        let mut its = attended.nodes.remove(node).unwrap_or_default();
        let mut left = Vec::new();
        for user in users {
            if its.remove(user) && attended.release(user) {
                left.push(user.clone());
            }
        }
        if !its.is_empty() {
            attended.nodes.insert(node.clone(), its);
        }
        if attended.nodes.is_empty() {
            topics.remove(topic);
        }
        left
    }

    pub(super) fn purge(&self, topic: &TopicKey, node: &NodeId) -> Purged {
        let users: Vec<Name> = {
            let topics = self.topics();
            let its = topics.get(topic).and_then(|attended| attended.nodes.get(node));
            its.into_iter().flatten().take(MAX_USERS + 1).cloned().collect()
        };
        let more = users.len() > MAX_USERS;
        Purged {
            left: self.exit(topic, node, &users[..users.len().min(MAX_USERS)]),
            more,
        }
    }
}
