//! A worker's topics and their members. Plain data: no socket, no bus.

use std::collections::HashMap;

use common::{
    bus::Head,
    policy::{Policies, TopicPolicy},
    topic::{TopicKey, TopicKind},
};
use slab::Slab;

use super::recovery::Progress;

/// One session's place in a topic, as the session keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The topic's number.
    pub topic: u32,
    /// The place in the topic's member list.
    pub(crate) place: u32,
    /// Since when, in the worker's seconds.
    pub(crate) since: u32,
    /// Low bits of the offset that the client was last told.
    pub(crate) told: u32,
    /// Low bits of the offset at which the session joined: what comes behind it comes live.
    pub(crate) joined: u32,
    /// History is being replayed: live messages with history wait in history.
    pub(crate) replaying: bool,
    /// Of a last-value topic: all values up to the joining were handed over.
    pub(crate) handed_over: bool,
}

/// One member, as the topic keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The session's number.
    pub session: u32,
}

/// Who waits for a topic's confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) session: super::SessionId,
    /// It asked for the topic by `subscribe` or `resume`, rather than by its token.
    pub(crate) explicit: bool,
}

/// A topic with members on this worker.
#[derive(Debug)]
pub struct Topic {
    /// Its key.
    pub key: TopicKey,
    /// What holds for it, looked up once.
    pub(crate) policy: TopicPolicy,
    /// Sessions that have it.
    pub members: Vec<Member>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) progress: Progress,
}

impl Topic {
    /// Whether nobody has or wants the topic. An unconfirmed one is waited for, also when its waiters have gone: its
    /// subscription is on the way.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.waiters.is_empty() && self.progress.position().is_some()
    }
}

/// Topic keys to topics.
#[derive(Debug, Default)]
pub struct Index {
    by_key: HashMap<TopicKey, u32>,
    topics: Slab<Topic>,
    policies: Policies,
}

impl Index {
    /// An index without topics, in which these policies hold.
    #[must_use]
    pub fn new(policies: Policies) -> Self {
        Self {
            policies,
            ..Self::default()
        }
    }

    /// The number of a topic, if it has members or waiters here.
    #[must_use]
    pub fn find(&self, key: &TopicKey) -> Option<u32> {
        self.by_key.get(key.as_str()).copied()
    }

    /// The number of a topic, new and unconfirmed where there was none.
    pub(crate) fn find_or_insert(&mut self, key: &TopicKey) -> u32 {
        if let Some(number) = self.find(key) {
            return number;
        }
        let topic = Topic {
            key: key.clone(),
            policy: self.policies.of(key),
            members: Vec::new(),
            waiters: Vec::new(),
            progress: Progress::unconfirmed(),
        };
        // Slab numbers stay below the number of topics, which memory keeps far under four billion.
        let number = self.topics.insert(topic) as u32;
        self.by_key.insert(key.clone(), number);
        number
    }

    /// Makes a confirmed topic: for benches and tests.
    pub fn insert_confirmed(&mut self, key: &TopicKey, head: Head) -> u32 {
        let number = self.find_or_insert(key);
        self.topics[number as usize].progress = Progress::confirmed(head);
        number
    }

    /// A topic by its number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<&Topic> {
        self.topics.get(number as usize)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Topic> {
        self.topics.get_mut(number as usize)
    }

    /// Adds a member; the session keeps what is returned.
    pub fn join(&mut self, number: u32, session: u32, now: u32) -> Option<Membership> {
        let topic = self.topics.get_mut(number as usize)?;
        topic.members.push(Member { session });
        let told = topic
            .progress
            .position()
            .map_or(0, |position| position.offset as u32);
        Some(Membership {
            topic: number,
            place: (topic.members.len() - 1) as u32,
            since: now,
            told,
            joined: told,
            replaying: false,
            handed_over: false,
        })
    }

    /// Takes a member out. The member that fills its place is returned: its session has to be told the new place.
    pub fn leave(&mut self, membership: Membership) -> Option<(Member, u32)> {
        let topic = self.topics.get_mut(membership.topic as usize)?;
        topic.members.swap_remove(membership.place as usize);
        if topic.members.len() < topic.members.capacity() / 4 {
            topic.members.shrink_to(topic.members.len() * 2);
        }
        topic
            .members
            .get(membership.place as usize)
            .map(|moved| (*moved, membership.place))
    }

    /// Forgets a topic without members and waiters.
    pub(crate) fn remove_unused(&mut self, number: u32) -> Option<TopicKey> {
        let topic = self
            .topics
            .get(number as usize)
            .filter(|topic| topic.is_unused())?;
        let key = topic.key.clone();
        self.by_key.remove(key.as_str());
        self.topics.remove(number as usize);
        Some(key)
    }

    /// Forgets a topic whose subscription failed, with those who wait for it.
    pub(crate) fn remove(&mut self, key: &TopicKey) -> Option<Topic> {
        let number = self.by_key.remove(key.as_str())?;
        self.topics.try_remove(number as usize)
    }

    /// Topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether there is no topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The topics of the `part`-th of `parts` equal shares that wait for nothing, and where they stand.
    pub(crate) fn live_share(&self, part: usize, parts: usize) -> Vec<(TopicKey, Head)> {
        (part..self.topics.capacity())
            .step_by(parts.max(1))
            .filter_map(|number| self.topics.get(number))
            .filter_map(|topic| Some((topic.key.clone(), topic.progress.live()?)))
            .collect()
    }

    /// Something was dropped: topics that wait for a confirmation or a healing read history once more behind it.
    pub(crate) fn spill(&mut self) {
        self.topics
            .iter_mut()
            .for_each(|(_, topic)| topic.progress.spill());
    }

    /// How many explicit topics a session has.
    pub(crate) fn explicit(&self, memberships: &[Membership]) -> usize {
        let is_explicit = |membership: &&Membership| {
            self.get(membership.topic)
                .is_some_and(|topic| topic.key.kind() == TopicKind::Topic)
        };
        memberships.iter().filter(is_explicit).count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use common::ids::{Name, TenantId};
    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> TopicKey {
        TopicKey::topic(
            &TenantId::new("t").unwrap(),
            &Name::new(&name.to_string()).unwrap(),
        )
    }

    proptest! {
        /// Whatever joins and leaves, every membership points at its member and every member at its session.
        #[test]
        fn places_stay_right(steps in prop::collection::vec((any::<bool>(), 0u32..8, 0u8..4), 0..200)) {
            let mut index = Index::default();
            let mut sessions: HashMap<(u32, u8), Membership> = HashMap::new();
            for (join, session, name) in steps {
                let number = index.find_or_insert(&key(name));
                match sessions.get(&(session, name)).copied() {
                    None if join => {
                        sessions.insert((session, name), index.join(number, session, 0).unwrap());
                    }
                    Some(membership) if !join => {
                        sessions.remove(&(session, name));
                        if let Some((moved, place)) = index.leave(membership) {
                            sessions.get_mut(&(moved.session, name)).unwrap().place = place;
                        }
                    }
                    _ => {}
                }
                for ((session, name), membership) in &sessions {
                    let topic = index.get(membership.topic).unwrap();
                    prop_assert_eq!(&topic.key, &key(*name));
                    prop_assert_eq!(topic.members[membership.place as usize].session, *session);
                }
                let members: usize = (0..index.len() as u32).filter_map(|n| index.get(n)).map(|t| t.members.len()).sum();
                prop_assert_eq!(members, sessions.len());
            }
        }
    }
}
