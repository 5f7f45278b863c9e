//! The count against a model that is counted by brute force.

use std::collections::BTreeMap;

use common::ids::NotificationId;
use dispatcher::{
    model::{InboxItem, ListFilter, Micros, Place},
    store::Mark,
};
use proptest::prelude::*;

use super::{Fresh, filtered, fresh, note, pages::rest, plain, put, reader, role_key, tenant, user_key};
use crate::support::{Database, by};

#[derive(Debug, Clone)]
enum Step {
    Accept(usize, usize),
    Mark(usize, Mark),
    ReadAll,
    ReadUpTo(usize),
    Withdraw(usize),
    NewRole,
}

fn step() -> impl Strategy<Value = Step> {
    let mark = prop_oneof![
        Just(Mark::Read),
        Just(Mark::Unread),
        Just(Mark::Unread),
        Just(Mark::Archived),
        Just(Mark::Unarchived),
        Just(Mark::Deleted),
        Just(Mark::Seen),
        Just(Mark::Snoozed(Micros(i64::MAX / 2))),
        Just(Mark::Woken(Micros(i64::MAX))),
        Just(Mark::Woken(Micros(0))),
    ];
    prop_oneof![
        4 => (0usize..6, 0usize..3).prop_map(|(kind, group)| Step::Accept(kind, group)),
        8 => (0usize..2, mark).prop_map(|(which, mark)| Step::Mark(which, mark)),
        2 => Just(Step::ReadAll),
        1 => (0usize..10).prop_map(Step::ReadUpTo),
        2 => (0usize..2).prop_map(Step::Withdraw),
        1 => Just(Step::NewRole),
    ]
}

#[derive(Debug, Default, Clone)]
struct Known {
    read: bool,
    place: Place,
    gone: bool,
}

impl Known {
    /// What is put off comes back as it was, whatever is read at once meanwhile.
    fn read_with_all(&mut self) {
        self.read |= self.place != Place::Snoozed;
    }
}

struct Model {
    store: Fresh,
    roles: Vec<&'static str>,
    sent: Vec<NotificationId>,
    visible: BTreeMap<NotificationId, Known>,
    cursors: Vec<(dispatcher::model::Cursor, Vec<NotificationId>)>,
}

impl Model {
    fn expected(&self) -> u64 {
        self.visible
            .values()
            .filter(|known| !known.read && known.place == Place::Inbox && !known.gone)
            .count() as u64
    }

    /// Few, so that steps meet.
    fn recent(&self, which: usize) -> Option<NotificationId> {
        self.sent.iter().rev().nth(which).copied()
    }

    async fn apply(&mut self, step: Step) {
        let me = reader("u", &self.roles);
        match step {
            Step::Accept(kind, group) => {
                let inbox = match kind {
                    0 => vec![plain(user_key("u"))],
                    1 => vec![plain(role_key("a"))],
                    2 => vec![filtered(role_key("a"), &[user_key("u")], &[])],
                    3 => vec![plain(role_key("a")), plain(role_key("b"))],
                    4 => vec![plain(role_key("b"))],
                    _ => vec![filtered(user_key("u"), &[], &["u"])],
                };
                let seen = match kind {
                    0..=3 => true,
                    4 => self.roles.contains(&"b"),
                    _ => false,
                };
                let mut new = note("n", inbox);
                new.content.group_key = [None, Some("g"), Some("h")][group].map(str::to_owned);
                let id = put(&self.store, new).await;
                self.sent.push(id);
                if seen {
                    self.visible.insert(id, Known::default());
                }
                let cursor = super::present(&self.store, &me).await;
                self.cursors
                    .push((cursor, self.visible.keys().copied().collect()));
            }
            Step::Mark(which, mark) => {
                let Some(id) = self.recent(which) else { return };
                self.store.mark(&me, vec![id], mark).await.unwrap();
                let Some(known) = self.visible.get_mut(&id).filter(|known| !known.gone) else {
                    return;
                };
                match mark {
                    Mark::Read | Mark::Acknowledged => known.read = true,
                    Mark::Unread => known.read = false,
                    Mark::Archived => known.place = Place::Archived,
                    Mark::Unarchived if known.place == Place::Archived => known.place = Place::Inbox,
                    Mark::Snoozed(_) => known.place = Place::Snoozed,
                    Mark::Woken(by) if known.place == Place::Snoozed && by.0 > 0 => {
                        known.place = Place::Inbox;
                    }
                    Mark::Unarchived | Mark::Woken(_) => {}
                    Mark::Deleted => known.gone = true,
                    Mark::Seen | Mark::Delivered => {}
                }
            }
            Step::ReadAll => {
                let unread = self.expected();
                let read = self.store.mark_all_read(&me, None).await.unwrap();
                assert_eq!((read.count, read.unread), (unread, 0));
                self.visible.values_mut().for_each(Known::read_with_all);
            }
            Step::ReadUpTo(which) => {
                let Some((cursor, covered)) = self.cursors.get(which) else {
                    return;
                };
                self.store.mark_all_read(&me, Some(cursor)).await.unwrap();
                for id in covered {
                    if let Some(known) = self.visible.get_mut(id) {
                        known.read_with_all();
                    }
                }
            }
            Step::Withdraw(which) => {
                let Some(id) = self.recent(which) else { return };
                self.store.withdraw(&tenant(), id, &by("op")).await.unwrap();
                self.visible.remove(&id);
            }
            Step::NewRole => {
                self.roles = vec!["a", "b"];
                self.store.touch_reader(&reader("u", &self.roles)).await.unwrap();
            }
        }
    }

    async fn check(&self) {
        let me = reader("u", &self.roles);
        assert_eq!(self.store.unread_count(&me).await.unwrap(), self.expected());
        for wanted in [None, Some(true), Some(false)] {
            let filter = ListFilter {
                is_read: wanted,
                limit: 1000,
                ..ListFilter::default()
            };
            let mut listed: Vec<_> = self
                .store
                .list(&me, &filter)
                .await
                .unwrap()
                .iter()
                .map(|item| (item.id, item.is_read))
                .collect();
            listed.sort_unstable();
            let expected: Vec<_> = self
                .visible
                .iter()
                .filter(|(_, known)| {
                    let in_inbox = !known.gone && known.place == Place::Inbox;
                    in_inbox && wanted.is_none_or(|read| read == known.read)
                })
                .map(|(id, known)| (*id, known.read))
                .collect();
            assert_eq!(listed, expected, "{wanted:?}");
        }
        for place in [Place::Archived, Place::Snoozed, Place::All] {
            let filter = ListFilter {
                place,
                limit: 1000,
                ..ListFilter::default()
            };
            let listed = self.store.list(&me, &filter).await.unwrap();
            let mut listed: Vec<_> = listed.iter().map(|item| item.id).collect();
            listed.sort_unstable();
            let lies_there = |known: &Known| place == Place::All || known.place == place;
            let there = self
                .visible
                .iter()
                .filter(|(_, known)| !known.gone && lies_there(known));
            assert_eq!(listed, there.map(|(id, _)| *id).collect::<Vec<_>>(), "{place:?}");
        }
    }

    /// Pages are the list, and folded ones its groups.
    async fn check_pages(&self) {
        let me = reader("u", &self.roles);
        for place in [Place::Inbox, Place::Archived, Place::Snoozed, Place::All] {
            for is_read in [None, Some(false)] {
                let filter = ListFilter {
                    place,
                    is_read,
                    limit: 1000,
                    ..ListFilter::default()
                };
                let listed = self.store.list(&me, &filter).await.unwrap();
                let filter = ListFilter { limit: 5, ..filter };
                let rows = rest(&self.store, &me, &filter, None).await;
                assert!(
                    rows.iter().map(|row| &row.item).eq(&listed),
                    "{place:?} {is_read:?}"
                );
                let mut groups: Vec<(&InboxItem, u64, u64)> = Vec::new();
                for item in &listed {
                    let group = &item.content.group_key;
                    let unread = u64::from(!item.is_read);
                    match groups
                        .iter_mut()
                        .find(|(newest, ..)| group.is_some() && newest.content.group_key == *group)
                    {
                        Some((_, count, sum)) => {
                            *count += 1;
                            *sum += unread;
                        }
                        None => groups.push((item, 1, unread)),
                    }
                }
                let filter = ListFilter { fold: true, ..filter };
                let rows = rest(&self.store, &me, &filter, None).await;
                assert!(
                    rows.iter()
                        .map(|row| (&row.item, row.group.count, row.group.unread))
                        .eq(groups),
                    "{place:?} {is_read:?}"
                );
            }
        }
    }
}

/// Each is some hundred transactions, for which a server takes ten times as long as a file.
fn cases() -> u32 {
    if Database::is_file() { 32 } else { 8 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn counts_are_exact(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model {
                store: fresh().await,
                roles: vec!["a"],
                sent: Vec::new(),
                visible: BTreeMap::new(),
                cursors: Vec::new(),
            };
            model.store.touch_reader(&reader("u", &["a"])).await.unwrap();
            for step in steps {
                model.apply(step).await;
                model.check().await;
            }
            model.check_pages().await;
        });
    }
}

/// What may happen between users of a tenant: who comes, gets, reads and loses.
#[derive(Debug, Clone)]
enum Event {
    Comes(usize, bool),
    Accept(usize),
    Mark(usize, usize, Mark),
    ReadAll(usize),
    Withdraw(usize),
}

const USERS: [&str; 4] = ["u", "v", "with:colon", "never"];

fn event() -> impl Strategy<Value = Event> {
    let mark = prop_oneof![
        Just(Mark::Read),
        Just(Mark::Unread),
        Just(Mark::Archived),
        Just(Mark::Unarchived),
        Just(Mark::Snoozed(Micros(i64::MAX / 2))),
        Just(Mark::Woken(Micros(i64::MAX))),
        Just(Mark::Deleted),
    ];
    prop_oneof![
        2 => (0usize..3, any::<bool>()).prop_map(|(user, role)| Event::Comes(user, role)),
        5 => (0usize..6).prop_map(Event::Accept),
        5 => (0usize..3, 0usize..4, mark).prop_map(|(user, which, mark)| Event::Mark(user, which, mark)),
        1 => (0usize..3).prop_map(Event::ReadAll),
        2 => (0usize..4).prop_map(Event::Withdraw),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_tenants_sum_is_that_of_its_users(events in prop::collection::vec(event(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = fresh().await;
            let mut came: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
            let mut sent: Vec<(NotificationId, Option<usize>, bool)> = Vec::new();
            // Another tenant's are not counted.
            let mut foreign = note("n", Vec::new());
            foreign.tenant = common::ids::TenantId::new("t10").unwrap();
            foreign.inbox.push(plain(common::topic::TopicKey::user(&foreign.tenant, &super::name("u"))));
            put(&store, foreign).await;
            for event in events {
                let recent = |which: usize| sent.len().checked_sub(which + 1);
                match event {
                    Event::Comes(user, role) => {
                        let roles = if role { vec!["a"] } else { Vec::new() };
                        store.touch_reader(&reader(USERS[user], &roles)).await.unwrap();
                        came.insert(user, roles);
                    }
                    Event::Accept(kind) => {
                        let key = match kind {
                            0..4 => user_key(USERS[kind]),
                            4 => role_key("a"),
                            _ => common::topic::TopicKey::tenant(&tenant()),
                        };
                        let id = put(&store, note("n", vec![plain(key)])).await;
                        sent.push((id, (kind < 4).then_some(kind), false));
                    }
                    Event::Mark(user, which, mark) => {
                        if let (Some(roles), Some(at)) = (came.get(&user), recent(which)) {
                            let me = reader(USERS[user], roles);
                            store.mark(&me, vec![sent[at].0], mark).await.unwrap();
                        }
                    }
                    Event::ReadAll(user) => {
                        if let Some(roles) = came.get(&user) {
                            store.mark_all_read(&reader(USERS[user], roles), None).await.unwrap();
                        }
                    }
                    Event::Withdraw(which) => {
                        if let Some(at) = recent(which) {
                            store.withdraw(&tenant(), sent[at].0, &by("op")).await.unwrap();
                            sent[at].2 = true;
                        }
                    }
                }
                let mut expected = 0;
                for (user, roles) in &came {
                    expected += store.unread_count(&reader(USERS[*user], roles)).await.unwrap();
                }
                let to_absent = |user: &Option<usize>| user.is_some_and(|user| !came.contains_key(&user));
                expected += sent.iter().filter(|(_, user, gone)| to_absent(user) && !gone).count() as u64;
                assert_eq!(store.stats(&tenant()).await.unwrap().unread, expected);
            }
        });
    }
}
