//! Pages: the sessions with the smallest ids behind a cursor, and the users with the smallest keys.
//!
//! Ids of sessions grow with time, so a page's order is the order of arrival, and a session that is there while someone
//! pages stands on exactly one page, whoever comes and goes meanwhile.

use std::{
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use common::topic::TopicKey;
use serde::{Deserialize, Serialize};

use super::super::SessionId;

/// What a page is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page<Cursor> {
    /// Only what lies behind it.
    pub(crate) after: Option<Cursor>,
    /// At most so many.
    pub(crate) limit: usize,
}

/// The sessions of a page, while they are looked for.
#[derive(Debug)]
pub(super) struct Picked {
    page: Page<Box<str>>,
    heap: BinaryHeap<(Arc<str>, SessionOrder)>,
    more: bool,
}

/// A session's number, whose order does not matter.
#[derive(Debug, Clone, Copy)]
struct SessionOrder(SessionId);

impl PartialEq for SessionOrder {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SessionOrder {}

impl PartialOrd for SessionOrder {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SessionOrder {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Picked {
    pub(super) fn new(page: Page<Box<str>>) -> Self {
        Self {
            page,
            heap: BinaryHeap::new(),
            more: false,
        }
    }

    pub(super) fn add(&mut self, session: &Arc<str>, id: SessionId) {
        if self
            .page
            .after
            .as_deref()
            .is_some_and(|after| **session <= *after)
        {
            return;
        }
        if self.heap.len() < self.page.limit {
            self.heap.push((Arc::clone(session), SessionOrder(id)));
            return;
        }
        self.more = true;
        if let Some(mut largest) = self.heap.peek_mut()
            && *session < largest.0
        {
            *largest = (Arc::clone(session), SessionOrder(id));
        }
    }

    /// The page in order, and whether more lies behind it.
    pub(super) fn into_sorted(self) -> (Vec<(Arc<str>, SessionId)>, bool) {
        let sorted = self.heap.into_sorted_vec();
        (
            sorted.into_iter().map(|(id, place)| (id, place.0)).collect(),
            self.more,
        )
    }
}

/// The users of a page with their sessions, while they are counted. It holds one more than the page at the most.
#[derive(Debug)]
pub(super) struct Attendance {
    page: Page<TopicKey>,
    users: BTreeMap<TopicKey, usize>,
    sessions: usize,
    more: bool,
}

impl Attendance {
    pub(super) fn new(page: Page<TopicKey>) -> Self {
        Self {
            page,
            users: BTreeMap::new(),
            sessions: 0,
            more: false,
        }
    }

    pub(super) fn add(&mut self, user: &TopicKey) {
        self.sessions += 1;
        if self.page.after.as_ref().is_some_and(|after| user <= after) {
            return;
        }
        if let Some(count) = self.users.get_mut(user.as_str()) {
            *count += 1;
            return;
        }
        if self.users.len() == self.page.limit {
            self.more = true;
            // The largest never comes back: what is kept only gets smaller. So no count is lost on the way.
            match self.users.last_key_value() {
                Some((largest, _)) if user < largest => drop(self.users.pop_last()),
                _ => return,
            }
        }
        self.users.insert(user.clone(), 1);
    }

    pub(super) fn into_counted(self) -> Counted {
        let last = self.users.last_key_value().filter(|_| self.more);
        Counted {
            until: last.map(|(user, _)| user.clone()),
            users: self.users.into_iter().collect(),
            sessions: self.sessions,
        }
    }
}

/// Users and their sessions: on one worker, on a node, on all nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// A page of them, in the order of their keys.
    pub(crate) users: Vec<(TopicKey, usize)>,
    /// All sessions, not only those of the page.
    pub(crate) sessions: usize,
    /// More lies behind this user; none where these are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<TopicKey>,
}

impl Counted {
    /// One page of several. It ends where one of them has more: what follows there may come before what the others have, and
    /// the counts of users behind it are not whole.
    pub(crate) fn merged(parts: impl IntoIterator<Item = Self>, limit: usize) -> Self {
        let mut users: BTreeMap<TopicKey, usize> = BTreeMap::new();
        let mut merged = Self::default();
        for part in parts {
            merged.sessions += part.sessions;
            for (user, sessions) in part.users {
                *users.entry(user).or_default() += sessions;
            }
            merged.until = sooner(merged.until, part.until);
        }
        if let Some(until) = &merged.until {
            users.retain(|user, _| user <= until);
        }
        merged.users = users.into_iter().collect();
        merged.cut(limit, usize::MAX);
        merged
    }

    /// Ends the page after so many users, or so many bytes of their keys.
    pub(crate) fn cut(&mut self, limit: usize, bytes: usize) {
        let mut size = 0;
        let keep = self.users.iter().take(limit).take_while(|(user, _)| {
            size += user.as_str().len() + 16;
            size <= bytes
        });
        // The first one always: a page that does not go on would be asked for again and again.
        let keep = keep.count().max(1);
        if keep < self.users.len() {
            self.users.truncate(keep);
            self.until = self.users.last().map(|(user, _)| user.clone());
        }
    }
}

/// The smaller of two ends; none is behind all.
pub(super) fn sooner<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{Name, TenantId};
    use proptest::prelude::*;

    use super::*;

    fn user(number: u8) -> TopicKey {
        TopicKey::user(
            &TenantId::new("t").unwrap(),
            &Name::new(&format!("u{number:03}")).unwrap(),
        )
    }

    proptest! {
        /// In whatever order they are found, pages are those of the sorted list.
        #[test]
        fn pages_of_sessions_are_those_of_the_sorted_list(ids in prop::collection::hash_set(0u32..500, 0..80), limit in 1usize..10, after in prop::option::of(0u32..500)) {
            let name = |id: u32| format!("{id:05}");
            let mut picked = Picked::new(Page { after: after.map(|id| name(id).into()), limit });
            for id in &ids {
                picked.add(&name(*id).into(), SessionId { slot: *id, generation: 0 });
            }
            let (page, more) = picked.into_sorted();
            let mut sorted: Vec<u32> = ids.iter().copied().filter(|id| after.is_none_or(|after| *id > after)).collect();
            sorted.sort_unstable();
            prop_assert_eq!(more, sorted.len() > limit);
            sorted.truncate(limit);
            prop_assert_eq!(page.iter().map(|(_, id)| id.slot).collect::<Vec<_>>(), sorted.clone());
            prop_assert!(page.iter().all(|(id, place)| **id == *name(place.slot)));
        }

        /// Counts are whole, whatever the order in which a user's sessions are found.
        #[test]
        fn users_are_counted_whole(sessions in prop::collection::vec(0u8..30, 0..120), limit in 1usize..10, after in prop::option::of(0u8..30)) {
            let mut attendance = Attendance::new(Page { after: after.map(user), limit });
            let mut expected: BTreeMap<TopicKey, usize> = BTreeMap::new();
            for number in &sessions {
                attendance.add(&user(*number));
                if after.is_none_or(|after| *number > after) {
                    *expected.entry(user(*number)).or_default() += 1;
                }
            }
            let counted = attendance.into_counted();
            prop_assert_eq!(counted.sessions, sessions.len());
            prop_assert_eq!(counted.until.is_some(), expected.len() > limit);
            prop_assert_eq!(counted.users, expected.into_iter().take(limit).collect::<Vec<_>>());
        }

        /// Pages of several nodes, one after the other, are the whole, with a user's sessions on all nodes; also where a
        /// node's answer is cut.
        #[test]
        fn pages_of_several_are_the_whole(nodes in prop::collection::vec(prop::collection::vec(0u8..30, 0..60), 1..4), limit in 1usize..10, bytes in 1usize..200) {
            let mut expected: BTreeMap<TopicKey, usize> = BTreeMap::new();
            nodes.iter().flatten().for_each(|number| *expected.entry(user(*number)).or_default() += 1);
            let (mut got, mut after) = (Vec::new(), None);
            loop {
                let parts = nodes.iter().map(|sessions| {
                    let mut attendance = Attendance::new(Page { after: after.clone(), limit });
                    sessions.iter().for_each(|number| attendance.add(&user(*number)));
                    let mut counted = attendance.into_counted();
                    counted.cut(limit, bytes);
                    counted
                });
                let page = Counted::merged(parts, limit);
                prop_assert!(page.users.len() <= limit);
                prop_assert_eq!(page.sessions, nodes.iter().map(Vec::len).sum::<usize>());
                got.extend(page.users);
                after = page.until;
                if after.is_none() { break; }
            }
            prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
