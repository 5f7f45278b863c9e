//! Pages of the inbox: nothing twice, nothing left out, under each filter and folded.

use std::{collections::BTreeMap, time::Duration};

use common::ids::NotificationId;
use dispatcher::{
    model::{InboxPage, InboxRow, Kind, ListFilter, Micros, NewNotification, Place, ReaderKeys, WalkCursor},
    store::{Mark, Store, migrate_down, migrate_up},
};

use super::{
    aged, filtered, fresh, known, listed, mark, note, plain, put, reader, role_key, store_key, to, user_key,
};
use crate::support::Database;

/// Three, so that pages end in the middle of everything.
fn few() -> ListFilter {
    ListFilter {
        limit: 3,
        ..ListFilter::default()
    }
}

fn folded() -> ListFilter {
    ListFilter { fold: true, ..few() }
}

fn grouped(mut new: NewNotification, group: &str) -> NewNotification {
    new.content.group_key = Some(group.to_owned());
    new
}

fn ids(rows: &[InboxRow]) -> Vec<NotificationId> {
    rows.iter().map(|row| row.item.id).collect()
}

/// All pages from a cursor on. The cursor goes the way of callers.
pub(super) async fn rest(
    store: &Store,
    reader: &ReaderKeys,
    filter: &ListFilter,
    mut from: Option<WalkCursor>,
) -> Vec<InboxRow> {
    let mut rows = Vec::new();
    loop {
        let InboxPage { rows: page, next } = store.page(reader, filter, from.as_ref()).await.unwrap();
        assert!(page.len() <= filter.limit as usize);
        rows.extend(page);
        match next {
            Some(next) => from = Some(WalkCursor::decode(&next.encode()).unwrap()),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn pages_go_on_where_they_ended_whatever_arrives() {
    let store = fresh().await;
    let me = known(&store, "u", &["r", "s"]).await;
    let mut wanted = Vec::new();
    for number in 0..20 {
        let inbox = match number % 4 {
            0 => vec![plain(user_key("u"))],
            1 => vec![plain(role_key("r"))],
            2 => vec![filtered(role_key("s"), &[user_key("u")], &[])],
            // By two keys.
            _ => vec![plain(role_key("r")), plain(role_key("s"))],
        };
        wanted.push(put(&store, note("n", inbox)).await);
    }
    put(&store, note("n", vec![filtered(role_key("s"), &[], &["u"])])).await;
    wanted.reverse();
    let (mut seen, mut from) = (Vec::new(), None);
    loop {
        let page = store.page(&me, &few(), from.as_ref()).await.unwrap();
        seen.extend(ids(&page.rows));
        for key in [user_key("u"), role_key("r"), store_key("new")] {
            put(&store, to(key)).await;
        }
        let Some(next) = page.next else { break };
        from = Some(next);
    }
    assert_eq!(seen, wanted);
    // What arrived stands at the top.
    let all = rest(&store, &me, &few(), None).await;
    assert_eq!(ids(&all), listed(&store, &me).await);
    assert_eq!(all.len(), 20 + 2 * 7);
}

#[tokio::test]
async fn a_key_that_was_empty_at_the_first_page_is_not_on_the_way() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    for _ in 0..4 {
        put(&store, to(user_key("u"))).await;
    }
    let first = store.page(&me, &few(), None).await.unwrap();
    put(&store, to(role_key("r"))).await;
    assert_eq!(rest(&store, &me, &few(), first.next).await.len(), 1);
}

#[tokio::test]
async fn filters_narrow_each_other_on_every_page() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    let mut sent = Vec::new();
    for number in 0..48 {
        let mut new = to([user_key("u"), role_key("r")][number % 2].clone());
        new.content.kind = [Kind::Info, Kind::Alert][number / 2 % 2];
        new.content.category = [None, Some("a"), Some("b")][number % 3].map(str::to_owned);
        new.content.group_key = [None, Some("g")][number / 4 % 2].map(str::to_owned);
        let (kind, category, group) = (
            new.content.kind,
            new.content.category.clone(),
            new.content.group_key.clone(),
        );
        sent.push((put(&store, new).await, kind, category, group));
    }
    for (number, (id, ..)) in sent.iter().enumerate() {
        match number % 5 {
            0 => mark(&store, &me, *id, Mark::Read).await,
            1 => mark(&store, &me, *id, Mark::Seen).await,
            2 => mark(&store, &me, *id, Mark::Archived).await,
            _ => continue,
        };
    }
    let states: [(&str, ListFilter); 6] = [
        ("any", few()),
        (
            "unread",
            ListFilter {
                is_read: Some(false),
                ..few()
            },
        ),
        (
            "read",
            ListFilter {
                is_read: Some(true),
                ..few()
            },
        ),
        (
            "seen",
            ListFilter {
                is_seen: Some(true),
                ..few()
            },
        ),
        (
            "unseen",
            ListFilter {
                is_seen: Some(false),
                ..few()
            },
        ),
        (
            "archived",
            ListFilter {
                place: Place::Archived,
                ..few()
            },
        ),
    ];
    for (state, filter) in states {
        for kind in [None, Some(Kind::Alert)] {
            for category in [None, Some("a")] {
                for group in [None, Some("g")] {
                    let filter = ListFilter {
                        kind: kind.map(|kind| kind.as_str().to_owned()),
                        category: category.map(str::to_owned),
                        group_key: group.map(str::to_owned),
                        ..filter.clone()
                    };
                    let expected: Vec<_> = sent
                        .iter()
                        .enumerate()
                        .rev()
                        .filter(|(number, (_, of, in_category, in_group))| {
                            let fits = match state {
                                "any" => number % 5 != 2,
                                "unread" => !matches!(number % 5, 0 | 2),
                                "read" => number % 5 == 0,
                                "seen" => matches!(number % 5, 0 | 1),
                                "unseen" => number % 5 > 2,
                                _ => number % 5 == 2,
                            };
                            fits && kind.is_none_or(|kind| kind == *of)
                                && (category.is_none() || category == in_category.as_deref())
                                && (group.is_none() || group == in_group.as_deref())
                        })
                        .map(|(_, (id, ..))| *id)
                        .collect();
                    let found = rest(&store, &me, &filter, None).await;
                    assert_eq!(ids(&found), expected, "{state} {kind:?} {category:?} {group:?}");
                    assert!(found.iter().all(|row| filter.fits(&row.item)));
                    let folded = ListFilter { fold: true, ..filter };
                    let groups = rest(&store, &me, &folded, None).await;
                    let all: u64 = groups.iter().map(|row| row.group.count).sum();
                    assert_eq!(all as usize, expected.len());
                }
            }
        }
    }
}

#[tokio::test]
async fn a_group_is_its_newest_with_its_sums() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    // By several keys, and by expressions.
    let old = put(&store, grouped(to(user_key("u")), "orders")).await;
    put(&store, grouped(to(role_key("r")), "orders")).await;
    let alone = put(&store, to(user_key("u"))).await;
    let chat = put(&store, grouped(to(role_key("r")), "chat")).await;
    let both = note("n", vec![plain(role_key("r")), plain(user_key("u"))]);
    put(&store, grouped(both, "orders")).await;
    let away = put(&store, grouped(to(user_key("u")), "orders")).await;
    let newest = put(&store, grouped(to(user_key("u")), "orders")).await;
    put(&store, grouped(to(user_key("v")), "orders")).await;
    mark(&store, &me, old, Mark::Read).await;
    mark(&store, &me, away, Mark::Archived).await;
    let rows = rest(&store, &me, &folded(), None).await;
    let sums: Vec<_> = rows
        .iter()
        .map(|row| (row.item.id, row.group.count, row.group.unread))
        .collect();
    assert_eq!(sums, [(newest, 4, 3), (chat, 1, 1), (alone, 1, 1)]);
    store.mark_all_read(&me, None).await.unwrap();
    let rows = rest(&store, &me, &folded(), None).await;
    assert_eq!(
        rows.iter().map(|row| row.group.unread).collect::<Vec<_>>(),
        [0, 0, 0]
    );
    // In the archive it stands for itself.
    let archive = ListFilter {
        place: Place::Archived,
        ..folded()
    };
    let rows = rest(&store, &me, &archive, None).await;
    assert_eq!((rows[0].item.id, rows[0].group.count), (away, 1));
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn folded_pages_neither_repeat_nor_miss_a_group() {
    let store = fresh().await;
    let me = known(&store, "u", &["r", "s"]).await;
    let mut sent = Vec::new();
    for number in 0..60_usize {
        let key = [user_key("u"), role_key("r"), role_key("s")][number % 3].clone();
        // Groups lie across keys and pages; every seventh has none.
        let new = match number % 7 {
            0 => to(key),
            _ => grouped(to(key), &format!("g{}", number * number % 11)),
        };
        let group = new.content.group_key.clone();
        sent.push((put(&store, new).await, group));
    }
    let mut newest = Vec::new();
    let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for (id, group) in sent.iter().rev() {
        let count = counts.entry(group.clone()).or_default();
        if *count == 0 || group.is_none() {
            newest.push(*id);
        }
        *count += 1;
    }
    let (mut seen, mut from) = (Vec::new(), None);
    loop {
        let page = store.page(&me, &folded(), from.as_ref()).await.unwrap();
        for row in &page.rows {
            let group = &row.item.content.group_key;
            let count = if group.is_none() { 1 } else { counts[group] };
            assert_eq!(row.group.count, count, "{group:?}");
        }
        seen.extend(ids(&page.rows));
        // Neither a new row of a group that is still to come nor a new group stands in its way.
        for group in ["g0", "g1", "g4", "later"] {
            put(&store, grouped(to(role_key("s")), group)).await;
        }
        let Some(next) = page.next else { break };
        from = Some(next);
    }
    assert_eq!(seen, newest);
}

#[tokio::test]
async fn a_page_looks_at_a_bounded_part_and_the_next_goes_on() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    let wanted = put(&store, grouped(to(user_key("u")), "first")).await;
    for _ in 0..12 {
        let many = (0..1000).map(|_| grouped(to(user_key("u")), "g")).collect();
        store.accept(many).await.unwrap();
    }
    let first = store.page(&me, &folded(), None).await.unwrap();
    assert_eq!(
        first.rows.iter().map(|row| row.group.count).collect::<Vec<_>>(),
        [1_000],
        "the newest that are counted"
    );
    let second = store.page(&me, &folded(), first.next.as_ref()).await.unwrap();
    assert_eq!(ids(&second.rows), [wanted]);
    assert_eq!(second.next, None);
}

#[tokio::test]
async fn a_group_whose_unread_lie_below_what_is_counted_comes_once() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    for _ in 0..3 {
        put(&store, to(user_key("u"))).await;
        put(&store, grouped(to(user_key("u")), "g")).await;
    }
    let unread = listed(&store, &me).await;
    let many: Vec<_> = (0..1000).map(|_| grouped(to(user_key("u")), "g")).collect();
    let read = many.iter().map(|new| new.id).collect();
    store.accept(many).await.unwrap();
    store.mark(&me, read, Mark::Read).await.unwrap();
    let filter = ListFilter {
        is_read: Some(false),
        limit: 1,
        ..folded()
    };
    let rows = rest(&store, &me, &filter, None).await;
    assert_eq!(ids(&rows), [unread[0], unread[1], unread[3], unread[5]]);
}

#[tokio::test]
async fn a_group_is_found_whenever_its_row_came() {
    let database = Database::new();
    let config = database.config();
    let store = Store::open(&config).await.unwrap();
    let me = known(&store, "u", &[]).await;
    let wanted = put(&store, grouped(to(user_key("u")), "o\"' \u{0}%")).await;
    let mut scheduled = grouped(to(user_key("u")), "later");
    scheduled.visible_at = Micros::now().plus(Duration::from_hours(1));
    let later = put(&store, scheduled.clone()).await;
    put(&store, aged(to(user_key("u")), Duration::from_secs(60))).await;
    // The group is written beside rows that were filed before there was room for it.
    store.close().await;
    while migrate_down(&config.place)
        .await
        .unwrap()
        .iter()
        .any(|migration| migration.applied && migration.version >= 10)
    {}
    migrate_up(&config.place).await.unwrap();
    let store = Store::open(&config).await.unwrap();
    let due = scheduled.visible_at.plus(Duration::from_secs(1));
    assert_eq!(store.make_visible(due, 10).await.unwrap(), [later]);
    for (group, found) in [
        ("o\"' \u{0}%", vec![wanted]),
        ("later", vec![later]),
        ("x", vec![]),
    ] {
        let filter = ListFilter {
            group_key: Some(group.to_owned()),
            ..few()
        };
        assert_eq!(ids(&rest(&store, &me, &filter, None).await), found, "{group:?}");
    }
    let all = rest(&store, &reader("u", &[]), &few(), None).await;
    assert_eq!(all.len(), 3);
    store.close().await;
}

#[test]
fn cursors_of_other_kinds_and_forged_ones_are_refused() {
    let walk = WalkCursor([("k".to_owned(), (3, 7))].into());
    assert_eq!(WalkCursor::decode(&walk.encode()).unwrap(), walk);
    assert!(dispatcher::model::Cursor::decode(&walk.encode()).is_err());
    let feed = dispatcher::model::Cursor([("k".to_owned(), 3)].into());
    assert!(WalkCursor::decode(&feed.encode()).is_err());
    for forged in [(7, 3), (-1, 3), (i64::MIN, i64::MIN)] {
        let text = WalkCursor([("k".to_owned(), forged)].into()).encode();
        assert!(WalkCursor::decode(&text).is_err(), "{forged:?}");
    }
}
