//! Pages: the sessions with the smallest ids behind a cursor, and the users with the smallest keys.
//!
//! Ids of sessions grow with time, so a page's order is the order of arrival, and a session that is there while someone
//! pages stands on exactly one page, whoever comes and goes meanwhile.

use std::{
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use common::topic::TopicKey;

use super::super::SessionId;

/// What a page is asked for.
#[derive(Debug, Clone)]
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
        Counted {
            users: self.users.into_iter().collect(),
            sessions: self.sessions,
            more: self.more,
        }
    }
}

/// Users and their sessions on one worker.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// A page of them, in the order of their keys.
    pub(crate) users: Vec<(TopicKey, usize)>,
    /// All sessions, not only those of the page.
    pub(crate) sessions: usize,
    /// More users lie behind the page.
    pub(crate) more: bool,
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
            prop_assert_eq!(counted.more, expected.len() > limit);
            prop_assert_eq!(counted.users, expected.into_iter().take(limit).collect::<Vec<_>>());
        }
    }
}
