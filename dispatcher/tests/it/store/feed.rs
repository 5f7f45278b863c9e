use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use common::ids::NotificationId;
use dispatcher::{
    model::{Change, Cursor, Micros},
    store::{ChangesResult, Mark},
};

use super::{
    changes, fresh, fresh_with, known, listed, mark, note, plain, present, put, reader, role_key, tenant, to,
    user_key,
};
use crate::support::by;

fn upserts(changes: &[Change]) -> Vec<NotificationId> {
    changes
        .iter()
        .filter_map(|change| {
            if let Change::Upsert(item) = change {
                Some(item.id)
            } else {
                None
            }
        })
        .collect()
}

#[tokio::test]
async fn the_feed_tells_what_happened_with_the_state_at_hand() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    let start = present(&store, &me).await;
    let a = put(&store, to(user_key("u"))).await;
    let b = put(&store, to(role_key("r"))).await;
    let c = put(&store, to(role_key("r"))).await;
    mark(&store, &me, a, Mark::Read).await;
    mark(&store, &me, c, Mark::Deleted).await;
    // Several entries of one notification are one change, and what is deleted does not arrive.
    let all = changes(&store, &me, Some(&start), 100).await;
    assert!(!all.more);
    assert_eq!(all.changes.len(), 3, "{:?}", all.changes);
    assert!(matches!(&all.changes[0], Change::Upsert(item) if item.id == a && item.is_read));
    assert!(all.changes.contains(&Change::Delete(c)));
    assert!(upserts(&all.changes).contains(&b));
    assert!(
        changes(&store, &me, Some(&all.cursor), 100)
            .await
            .changes
            .is_empty()
    );
    mark(&store, &me, b, Mark::Read).await;
    let next = changes(&store, &me, Some(&all.cursor), 100).await;
    assert!(matches!(next.changes.as_slice(), [Change::State(item)] if item.id == b && item.is_read));
    // That a device has it is nothing to draw.
    mark(&store, &me, b, Mark::Seen).await;
    assert!(
        changes(&store, &me, Some(&next.cursor), 100)
            .await
            .changes
            .is_empty()
    );
    let d = put(&store, to(role_key("r"))).await;
    store.mark_all_read(&me, None).await.unwrap();
    mark(&store, &me, d, Mark::Unread).await;
    let last = changes(&store, &me, Some(&next.cursor), 100).await.changes;
    assert!(
        matches!(last.as_slice(), [Change::ReadAll(_), Change::Upsert(item)] if item.id == d && !item.is_read),
        "{last:?}"
    );
}

#[tokio::test]
async fn the_feed_comes_in_parts_without_a_gap_or_a_repeat() {
    let store = fresh().await;
    let me = known(&store, "u", &["r", "s"]).await;
    let mut cursor = present(&store, &me).await;
    let mut sent = HashSet::new();
    for number in 0..50 {
        let key = [user_key("u"), role_key("r"), role_key("s")][number % 3].clone();
        sent.insert(put(&store, to(key)).await);
    }
    let mut got = HashSet::new();
    loop {
        let part = changes(&store, &me, Some(&cursor), 7).await;
        assert!(part.changes.len() <= 7);
        for id in upserts(&part.changes) {
            assert!(got.insert(id), "twice");
        }
        // The text is what callers keep.
        cursor = Cursor::decode(&part.cursor.encode()).unwrap();
        if !part.more {
            break;
        }
    }
    assert_eq!(got, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_polling_reader_misses_nothing_and_sees_nothing_twice() {
    let fresh = fresh().await;
    let me = reader("u", &["r", "s"]);
    fresh.touch_reader(&me).await.unwrap();
    let mut cursor = present(&fresh, &me).await;
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = fresh.store.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for number in 0..40 {
                    let key = [user_key("u"), role_key("r"), role_key("s")][(writer + number) % 3].clone();
                    ids.push(put(&store, to(key)).await);
                }
                ids
            })
        })
        .collect();
    let poller = {
        let (store, me) = (fresh.store.clone(), me.clone());
        tokio::spawn(async move {
            let mut seen: HashMap<NotificationId, u32> = HashMap::new();
            let mut watch = store.watch(&me);
            loop {
                let part = changes(&store, &me, Some(&cursor), 9).await;
                for id in upserts(&part.changes) {
                    *seen.entry(id).or_default() += 1;
                }
                cursor = part.cursor;
                if part.more {
                    continue;
                }
                if seen.len() == 640 {
                    return (seen, cursor);
                }
                watch.changed().await;
            }
        })
    };
    let mut sent = HashSet::new();
    for writer in writers {
        sent.extend(writer.await.unwrap());
    }
    // A missed entry or a lost wake-up would let it wait for ever.
    let (seen, cursor) = tokio::time::timeout(Duration::from_secs(60), poller)
        .await
        .unwrap()
        .unwrap();
    assert!(seen.values().all(|times| *times == 1));
    assert_eq!(seen.keys().copied().collect::<HashSet<_>>(), sent);
    assert!(changes(&fresh, &me, Some(&cursor), 9).await.changes.is_empty());
    assert_eq!(listed(&fresh, &me).await.len(), 640);
}

#[tokio::test]
async fn a_watch_wakes_for_its_own_keys_only() {
    let store = fresh().await;
    let (me, you) = (reader("u", &["r"]), reader("v", &[]));
    let (mut mine, mut yours) = (store.watch(&me), store.watch(&you));
    put(&store, to(role_key("r"))).await;
    mine.changed().await;
    let nothing = tokio::time::timeout(Duration::ZERO, yours.changed()).await;
    assert!(nothing.is_err());
    put(&store, to(user_key("v"))).await;
    yours.changed().await;
}

#[tokio::test]
async fn a_cursor_of_another_database_or_from_before_what_is_kept_is_told_so() {
    let store = fresh_with(|config| config.feed_retention = Duration::ZERO).await;
    let me = known(&store, "u", &[]).await;
    let id = put(&store, to(user_key("u"))).await;
    let old = present(&store, &me).await;
    let foreign = Cursor(std::iter::once((user_key("u").as_str().to_owned(), 7)).collect());
    assert_eq!(
        store.changes(&me, Some(&foreign), 10).await.unwrap(),
        ChangesResult::Resync
    );
    let unknown = Cursor(std::iter::once((role_key("r").as_str().to_owned(), 7)).collect());
    assert_eq!(
        store
            .changes(&reader("u", &["r"]), Some(&unknown), 10)
            .await
            .unwrap(),
        ChangesResult::Resync
    );
    mark(&store, &me, id, Mark::Read).await;
    let current = present(&store, &me).await;
    assert_eq!(store.prune(Micros::now(), 10).await.unwrap(), 1);
    assert_eq!(
        store.changes(&me, Some(&old), 10).await.unwrap(),
        ChangesResult::Resync
    );
    assert!(changes(&store, &me, Some(&current), 10).await.changes.is_empty());
}

#[tokio::test]
async fn a_tombstone_follows_a_withdrawal_into_each_key() {
    let store = fresh().await;
    let (me, you) = (reader("u", &[]), reader("v", &[]));
    let id = put(
        &store,
        note("x", vec![plain(user_key("u")), plain(user_key("v"))]),
    )
    .await;
    let (mine, yours) = (present(&store, &me).await, present(&store, &you).await);
    store.withdraw(&tenant(), id, &by("op")).await.unwrap();
    assert_eq!(
        changes(&store, &me, Some(&mine), 10).await.changes,
        [Change::Delete(id)]
    );
    assert_eq!(
        changes(&store, &you, Some(&yours), 10).await.changes,
        [Change::Delete(id)]
    );
}
