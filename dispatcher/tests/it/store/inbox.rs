use std::time::Duration;

use common::{ids::TenantId, topic::TopicKey};
use dispatcher::{
    model::{Change, Kind, ListFilter, ReaderKeys},
    store::Mark,
};

use super::{
    aged, changes, filtered, fresh, known, listed, mark, name, note, plain, present, put, reader, role_key,
    store_key, tenant, to, user_key,
};
use crate::support::by;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn the_inbox_is_the_union_over_the_readers_keys() {
    let store = fresh().await;
    let me = reader("u", &["r"]);
    let wanted = [
        put(&store, to(user_key("u"))).await,
        put(&store, to(role_key("r"))).await,
        put(&store, to(TopicKey::tenant(&tenant()))).await,
        put(&store, to(TopicKey::everyone())).await,
    ];
    put(&store, to(user_key("v"))).await;
    put(&store, to(role_key("s"))).await;
    put(&store, to(TopicKey::tenant(&TenantId::new("t2").unwrap()))).await;
    // Reading works for who was never seen, and after.
    for _ in 0..2 {
        let newest_first: Vec<_> = wanted.iter().rev().copied().collect();
        assert_eq!(listed(&store, &me).await, newest_first);
        assert_eq!(store.unread_count(&me).await.unwrap(), 4);
        store.touch_reader(&me).await.unwrap();
    }
    for page in 0..3 {
        let filter = ListFilter {
            limit: 2,
            offset: page * 2,
            ..ListFilter::default()
        };
        let ids: Vec<_> = store
            .list(&me, &filter)
            .await
            .unwrap()
            .into_iter()
            .map(|item| item.id)
            .collect();
        let expected: Vec<_> = wanted
            .iter()
            .rev()
            .copied()
            .skip(page as usize * 2)
            .take(2)
            .collect();
        assert_eq!(ids, expected);
    }
}

#[tokio::test]
async fn lists_are_filtered() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    let mut alert = to(user_key("u"));
    alert.content.kind = Kind::Alert;
    alert.content.category = Some("orders".to_owned());
    let alert = put(&store, alert).await;
    let other = put(&store, to(role_key("r"))).await;
    mark(&store, &me, alert, Mark::Read).await;
    let find = async |is_read: Option<bool>, kind: Option<&str>, category: Option<&str>| {
        let filter = ListFilter {
            is_read,
            kind: kind.map(str::to_owned),
            category: category.map(str::to_owned),
            limit: 10,
            ..ListFilter::default()
        };
        store
            .list(&me, &filter)
            .await
            .unwrap()
            .into_iter()
            .map(|item| item.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(find(Some(true), None, None).await, [alert]);
    assert_eq!(find(Some(false), None, None).await, [other]);
    assert_eq!(find(None, Some("alert"), None).await, [alert]);
    assert_eq!(find(None, Some("info"), Some("orders")).await, []);
    assert_eq!(find(Some(true), Some("alert"), Some("orders")).await, [alert]);
    // Below a watermark what was reopened is found.
    store.mark_all_read(&me, None).await.unwrap();
    assert_eq!(find(Some(false), None, None).await, []);
    mark(&store, &me, alert, Mark::Unread).await;
    let newer = put(&store, to(user_key("u"))).await;
    assert_eq!(find(Some(false), None, None).await, [newer, alert]);
    assert_eq!(find(Some(true), None, None).await, [other]);
}

#[tokio::test]
async fn marks_are_the_readers_own() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    let you = known(&store, "v", &["r"]).await;
    let id = put(&store, to(role_key("r"))).await;
    let foreign = put(&store, to(user_key("v"))).await;
    let marked = store.mark(&me, vec![id, foreign, id], Mark::Read).await.unwrap();
    assert_eq!((marked.changed, marked.unread), (vec![id], 0));
    assert!(mark(&store, &me, id, Mark::Read).await.changed.is_empty());
    let item = store.item(&me, id).await.unwrap().unwrap();
    assert!(item.is_read && item.read_at.is_some());
    assert!(store.item(&me, foreign).await.unwrap().is_none());
    assert_eq!(store.unread_count(&you).await.unwrap(), 2);
    // Deleting hides it from one reader.
    assert_eq!(mark(&store, &me, id, Mark::Deleted).await.changed, [id]);
    assert!(store.item(&me, id).await.unwrap().is_none());
    assert!(listed(&store, &me).await.is_empty());
    assert!(mark(&store, &me, id, Mark::Unread).await.changed.is_empty());
    assert_eq!(listed(&store, &you).await, [foreign, id]);
}

#[tokio::test]
async fn archived_is_out_of_list_and_count_and_comes_back() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    let id = put(&store, to(user_key("u"))).await;
    assert_eq!(mark(&store, &me, id, Mark::Archived).await.unread, 0);
    assert!(listed(&store, &me).await.is_empty());
    assert!(store.item(&me, id).await.unwrap().unwrap().archived_at.is_some());
    assert_eq!(mark(&store, &me, id, Mark::Unarchived).await.unread, 1);
    assert_eq!(listed(&store, &me).await, [id]);
}

#[tokio::test]
async fn read_all_is_a_watermark_and_unread_overrides_it() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    let first = put(&store, to(user_key("u"))).await;
    let second = put(&store, to(role_key("r"))).await;
    let up_to = present(&store, &me).await;
    let third = put(&store, to(role_key("r"))).await;
    let read = store.mark_all_read(&me, Some(&up_to)).await.unwrap();
    assert_eq!((read.count, read.unread), (2, 1));
    let is_read = async |id| store.item(&me, id).await.unwrap().unwrap().is_read;
    assert!(is_read(first).await && is_read(second).await && !is_read(third).await);
    assert_eq!(mark(&store, &me, second, Mark::Unread).await.unread, 2);
    assert!(!is_read(second).await);
    // An older watermark takes nothing back.
    assert_eq!(
        store
            .mark_all_read(&me, Some(&Default::default()))
            .await
            .unwrap()
            .count,
        0
    );
    assert_eq!(store.mark_all_read(&me, None).await.unwrap().unread, 0);
    assert!(is_read(second).await && is_read(third).await);
    let fourth = put(&store, to(role_key("r"))).await;
    assert_eq!(store.unread_count(&me).await.unwrap(), 1);
    assert!(!is_read(fourth).await);
}

#[tokio::test]
async fn a_withdrawn_notification_is_gone_for_all() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    let you = known(&store, "v", &["r"]).await;
    let kept = put(&store, to(role_key("r"))).await;
    let id = put(&store, to(role_key("r"))).await;
    mark(&store, &me, id, Mark::Read).await;
    store.mark_all_read(&you, None).await.unwrap();
    mark(&store, &you, id, Mark::Unread).await;
    let before = present(&store, &me).await;
    assert!(
        !store
            .withdraw(&TenantId::new("t2").unwrap(), id, &by("op"))
            .await
            .unwrap()
    );
    assert!(store.withdraw(&tenant(), id, &by("op")).await.unwrap());
    for reader in [&me, &you] {
        assert_eq!(listed(&store, reader).await, [kept]);
        assert!(store.item(reader, id).await.unwrap().is_none());
    }
    assert_eq!(store.unread_count(&me).await.unwrap(), 1);
    assert_eq!(store.unread_count(&you).await.unwrap(), 0);
    assert_eq!(
        changes(&store, &me, Some(&before), 10).await.changes,
        [Change::Delete(id)]
    );
}

#[tokio::test]
async fn first_sight_looks_back_and_a_new_key_does_not() {
    let store = fresh().await;
    for age in [40, 35, 31] {
        put(&store, aged(to(role_key("r")), DAY * age)).await;
        put(&store, aged(to(role_key("s")), DAY * age)).await;
        put(
            &store,
            aged(note("x", vec![filtered(role_key("r"), &[], &["z"])]), DAY * age),
        )
        .await;
    }
    let own = put(&store, aged(to(user_key("u")), DAY * 90)).await;
    let mut seen = vec![own];
    for age in [29, 10] {
        seen.push(put(&store, aged(to(role_key("r")), DAY * age)).await);
        seen.push(
            put(
                &store,
                aged(note("x", vec![filtered(role_key("r"), &[], &["z"])]), DAY * age),
            )
            .await,
        );
        put(&store, aged(to(role_key("s")), DAY * age)).await;
    }
    let me = known(&store, "u", &["r"]).await;
    seen.reverse();
    let mut found = listed(&store, &me).await;
    found.sort_unstable();
    let mut wanted = seen.clone();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    assert_eq!(store.unread_count(&me).await.unwrap(), 5);
    // A role that a known user gets counts from now.
    let more = reader("u", &["r", "s"]);
    let before = present(&store, &me).await;
    store.touch_reader(&more).await.unwrap();
    assert_eq!(store.unread_count(&more).await.unwrap(), 5);
    let new = put(&store, to(role_key("s"))).await;
    assert_eq!(store.unread_count(&more).await.unwrap(), 6);
    let changes = changes(&store, &more, Some(&before), 10).await.changes;
    assert!(
        matches!(changes.as_slice(), [Change::Upsert(item)] if item.id == new),
        "{changes:?}"
    );
}

#[tokio::test]
async fn expressions_reach_who_fits() {
    let store = fresh().await;
    let both = ReaderKeys {
        tenant: tenant(),
        user: name("u"),
        keys: vec![user_key("u"), role_key("manager"), store_key("12")],
    };
    let one = ReaderKeys {
        tenant: tenant(),
        user: name("v"),
        keys: vec![user_key("v"), store_key("12")],
    };
    store.touch_reader(&both).await.unwrap();
    store.touch_reader(&one).await.unwrap();
    let all_of = put(
        &store,
        note("x", vec![filtered(store_key("12"), &[role_key("manager")], &[])]),
    )
    .await;
    let except = put(&store, note("x", vec![filtered(store_key("12"), &[], &["u"])])).await;
    assert_eq!(listed(&store, &both).await, [all_of]);
    assert_eq!(listed(&store, &one).await, [except]);
    assert_eq!(store.unread_count(&both).await.unwrap(), 1);
    assert!(mark(&store, &one, all_of, Mark::Read).await.changed.is_empty());
    assert_eq!(mark(&store, &both, all_of, Mark::Read).await.unread, 0);
    assert_eq!(mark(&store, &both, all_of, Mark::Unread).await.unread, 1);
    assert_eq!(store.mark_all_read(&both, None).await.unwrap().unread, 0);
    assert_eq!(mark(&store, &both, all_of, Mark::Unread).await.unread, 1);
    assert_eq!(mark(&store, &both, all_of, Mark::Deleted).await.unread, 0);
    // A tombstone says nothing to who could not see the row.
    let (mine, theirs) = (present(&store, &both).await, present(&store, &one).await);
    store.withdraw(&tenant(), except, &by("op")).await.unwrap();
    assert!(changes(&store, &both, Some(&mine), 10).await.changes.is_empty());
    assert_eq!(
        changes(&store, &one, Some(&theirs), 10).await.changes,
        [Change::Delete(except)]
    );
}

#[tokio::test]
async fn any_of_is_one_notification() {
    let store = fresh().await;
    let me = known(&store, "u", &["a", "b"]).await;
    let before = present(&store, &me).await;
    let id = put(
        &store,
        note("x", vec![plain(role_key("a")), filtered(role_key("b"), &[], &[])]),
    )
    .await;
    assert_eq!(listed(&store, &me).await, [id]);
    assert_eq!(store.unread_count(&me).await.unwrap(), 1);
    let feed = changes(&store, &me, Some(&before), 10).await;
    assert_eq!(feed.changes.len(), 1);
    assert_eq!(mark(&store, &me, id, Mark::Read).await.unread, 0);
    assert_eq!(mark(&store, &me, id, Mark::Unread).await.unread, 1);
    assert_eq!(store.mark_all_read(&me, None).await.unwrap().unread, 0);
}

#[tokio::test]
async fn many_users_have_a_row_each() {
    let store = fresh().await;
    let routes = (0..100)
        .map(|number| plain(user_key(&format!("u{number}"))))
        .collect();
    let id = put(&store, note("x", routes)).await;
    for user in ["u0", "u99"] {
        let one = reader(user, &[]);
        assert_eq!(listed(&store, &one).await, [id]);
        assert_eq!(mark(&store, &one, id, Mark::Read).await.unread, 0);
    }
    assert_eq!(store.unread_count(&reader("u50", &[])).await.unwrap(), 1);
}

#[tokio::test]
async fn a_group_is_listed_alone() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    let grouped = |group: Option<&str>| {
        let mut new = to(user_key("u"));
        new.content.group_key = group.map(str::to_owned);
        new
    };
    put(&store, grouped(None)).await;
    put(&store, grouped(Some("orders"))).await;
    let wanted = put(&store, grouped(Some("o\"' \u{0}%"))).await;
    let read = put(&store, grouped(Some("orders"))).await;
    mark(&store, &me, read, Mark::Read).await;
    store.mark_all_read(&me, None).await.unwrap();
    mark(&store, &me, wanted, Mark::Unread).await;
    let list = async |group: &str, is_read| {
        let filter = ListFilter {
            group_key: Some(group.to_owned()),
            is_read,
            limit: 10,
            ..ListFilter::default()
        };
        let found = store.list(&me, &filter).await.unwrap();
        found.into_iter().map(|item| item.id).collect::<Vec<_>>()
    };
    assert_eq!(list("orders", None).await.len(), 2);
    assert!(list("orders", Some(false)).await.is_empty());
    assert!(list("other", None).await.is_empty());
}
