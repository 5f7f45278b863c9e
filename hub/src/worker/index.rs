//! A worker's topics and their members. Plain data: no socket, no bus.
//!
//! Nearly every topic is a user's own, with one member or two, so all that such a topic does not need is elsewhere: its
//! members lie within it, and what waits for a confirmation is made when something does.

use std::hash::BuildHasher;

use common::{
    bus::Head,
    policy::{Policies, TopicPolicy},
    topic::{TopicHasher, TopicKey, TopicKind},
};
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

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
}

impl Membership {
    /// All values of a last-value topic are handed to the session, up to this offset: as if it had been there from the
    /// beginning. Low bits tell no more than so many messages.
    pub(crate) fn hand_over(&mut self, offset: u64) {
        self.joined = offset.saturating_sub(1 << 30) as u32;
    }

    pub(crate) fn was_handed_over(&self) -> bool {
        self.joined == 0
    }
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

/// Those who wait for a topic's confirmation; none for nearly every topic.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    list: Vec<Waiter>,
}

impl Waiters {
    pub(crate) fn push(&mut self, waiter: Waiter) {
        self.0.get_or_insert_with(Box::default).list.push(waiter);
    }

    /// Takes them out.
    pub(crate) fn take(&mut self) -> Vec<Waiter> {
        self.0.take().map(|waiting| waiting.list).unwrap_or_default()
    }

    /// The session does not wait any more.
    pub(crate) fn forget(&mut self, session: super::SessionId) {
        if let Some(waiting) = &mut self.0 {
            waiting.list.retain(|waiter| waiter.session != session);
            if waiting.list.is_empty() {
                self.0 = None;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

/// A topic with members on this worker.
#[derive(Debug)]
pub struct Topic {
    /// Its key.
    pub key: TopicKey,
    /// Sessions that have it.
    pub members: SmallVec<[Member; 4]>,
    pub(crate) waiters: Waiters,
    pub(crate) progress: Progress,
}

impl Topic {
    /// Whether nobody has or wants the topic. An unconfirmed one is waited for, also when its waiters have gone: its
    /// subscription is on the way.
    pub(crate) fn is_unused(&self) -> bool {
        self.members.is_empty() && self.waiters.is_empty() && self.progress.position().is_some()
    }
}

/// Where a topic is. A part of its key's hash is kept beside, so that neither a growing table nor a look-up that fails
/// has to visit topics.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    topic: u32,
}

impl Entry {
    /// The hash by which the table places it: both its ends are used, so the part that is kept is spread over all of it.
    fn place(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Topic keys to topics.
#[derive(Debug, Default)]
pub struct Index {
    by_key: HashTable<Entry>,
    hasher: TopicHasher,
    topics: Slab<Topic>,
    policies: Policies,
    /// What holds for topics, by their numbers, looked up once; empty where nothing but the defaults can hold.
    held: Vec<TopicPolicy>,
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
        self.find_hashed(self.hash(key), key)
    }

    fn hash(&self, key: &TopicKey) -> u32 {
        self.hasher.hash_one(key) as u32
    }

    fn find_hashed(&self, hash: u32, key: &TopicKey) -> Option<u32> {
        self.by_key
            .find(Entry::place(hash), |entry| {
                entry.hash == hash && self.has_key(entry.topic, key)
            })
            .map(|entry| entry.topic)
    }

    fn has_key(&self, number: u32, key: &TopicKey) -> bool {
        self.get(number).is_some_and(|topic| topic.key == *key)
    }

    /// The number of a topic, new and unconfirmed where there was none.
    pub(crate) fn find_or_insert(&mut self, key: &TopicKey) -> u32 {
        let hash = self.hash(key);
        if let Some(number) = self.find_hashed(hash, key) {
            return number;
        }
        let topic = Topic {
            key: key.clone(),
            members: SmallVec::new(),
            waiters: Waiters::default(),
            progress: Progress::unconfirmed(),
        };
        // Slab numbers stay below the number of topics, which memory keeps far under four billion.
        let number = self.topics.insert(topic) as u32;
        self.hold(number, key);
        let entry = Entry { hash, topic: number };
        self.by_key
            .insert_unique(Entry::place(hash), entry, |entry| Entry::place(entry.hash));
        number
    }

    /// Forgets where the topic is, and the topic.
    fn take(&mut self, number: u32) -> Option<Topic> {
        let hash = self.hash(&self.get(number)?.key);
        if let Ok(entry) = self
            .by_key
            .find_entry(Entry::place(hash), |entry| entry.topic == number)
        {
            entry.remove();
        }
        // Rooms that a peak needed are given back, with a margin, so that who comes and goes does not pay for it.
        if self.by_key.len() < self.by_key.capacity() / 8 {
            self.by_key
                .shrink_to(self.by_key.len() * 2, |entry| Entry::place(entry.hash));
        }
        self.topics.try_remove(number as usize)
    }

    fn hold(&mut self, number: u32, key: &TopicKey) {
        if self.policies.is_empty() {
            return;
        }
        let number = number as usize;
        if self.held.len() <= number {
            self.held.resize(number + 1, TopicPolicy::default());
        }
        self.held[number] = self.policies.of(key);
    }

    /// What holds for a topic of this number.
    pub(crate) fn policy(&self, number: u32) -> TopicPolicy {
        self.held.get(number as usize).copied().unwrap_or_default()
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
        })
    }

    /// Takes a member out. The member that fills its place is returned: its session has to be told the new place.
    pub fn leave(&mut self, membership: Membership) -> Option<(Member, u32)> {
        let topic = self.topics.get_mut(membership.topic as usize)?;
        let members = &mut topic.members;
        members.swap_remove(membership.place as usize);
        if members.spilled() && members.len() < members.capacity() / 4 {
            members.shrink_to_fit();
        }
        topic
            .members
            .get(membership.place as usize)
            .map(|moved| (*moved, membership.place))
    }

    /// Forgets a topic without members and waiters.
    pub(crate) fn remove_unused(&mut self, number: u32) -> Option<TopicKey> {
        self.get(number).filter(|topic| topic.is_unused())?;
        self.take(number).map(|topic| topic.key)
    }

    /// Forgets a topic whose subscription failed, with those who wait for it.
    pub(crate) fn remove(&mut self, key: &TopicKey) -> Option<Topic> {
        let number = self.find(key)?;
        self.take(number)
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

    #[test]
    fn a_topic_is_small() {
        assert!(size_of::<Topic>() <= 88, "{}", size_of::<Topic>());
        assert_eq!(
            size_of::<Option<Topic>>(),
            size_of::<Topic>(),
            "the slab needs no word of its own"
        );
        assert_eq!(size_of::<Membership>(), 20);
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
