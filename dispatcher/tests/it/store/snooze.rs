//! What readers put off.

use std::time::Duration;

use dispatcher::{
    model::{Change, ListFilter, Micros, Place},
    store::{Mark, Store},
};

use super::{changes, fresh, known, listed, mark, present, put, role_key, to, user_key};
use crate::support::Database;

const DAY: Duration = Duration::from_hours(24);

#[tokio::test]
async fn what_is_put_off_is_gone_until_its_time_and_comes_back_as_it_was() {
    let store = fresh().await;
    let me = known(&store, "u", &["r"]).await;
    let a = put(&store, to(user_key("u"))).await;
    let b = put(&store, to(role_key("r"))).await;
    mark(&store, &me, b, Mark::Read).await;
    let start = present(&store, &me).await;
    let now = Micros::now();
    let (soon, later) = (now.plus(DAY), now.plus(2 * DAY));
    assert_eq!(mark(&store, &me, a, Mark::Snoozed(soon)).await.unread, 0);
    mark(&store, &me, b, Mark::Snoozed(later)).await;
    assert!(listed(&store, &me).await.is_empty());
    let filter = ListFilter {
        place: Place::Snoozed,
        limit: 10,
        ..ListFilter::default()
    };
    let away = store.list(&me, &filter).await.unwrap();
    assert_eq!(away.iter().map(|item| item.id).collect::<Vec<_>>(), [b, a]);
    assert_eq!(away[1].snoozed_until, Some(soon));
    let told = changes(&store, &me, Some(&start), 10).await;
    assert_eq!(told.changes.len(), 2);
    assert!(
        matches!(&told.changes[0], Change::State(item) if item.id == a && item.snoozed_until == Some(soon))
    );

    // Reading everything meanwhile changes nothing of what is to come back.
    store.mark_all_read(&me, None).await.unwrap();
    assert!(store.due_snoozes(now, 10).await.unwrap().is_empty());
    let due = store.due_snoozes(soon, 10).await.unwrap();
    let [(reader, ids)] = due.as_slice() else {
        panic!("{due:?}")
    };
    assert_eq!((&reader.user, ids.as_slice()), (&me.user, [a].as_slice()));
    assert!(reader.keys.contains(&role_key("r")));
    let told = present(&store, &me).await;
    for changed in [1, 0] {
        // Another dispatcher looks too.
        let woken = store.mark(reader, ids.clone(), Mark::Woken(soon)).await.unwrap();
        assert_eq!((woken.changed.len(), woken.unread), (changed, 1));
    }
    let back = changes(&store, &me, Some(&told), 10).await.changes;
    assert!(
        matches!(back.as_slice(), [Change::State(item)] if item.id == a && !item.is_read && item.snoozed_until.is_none()),
        "{back:?}"
    );
    assert_eq!(listed(&store, &me).await, [a]);
    // Who puts it off again before the time is not woken.
    mark(&store, &me, b, Mark::Snoozed(later.plus(DAY))).await;
    let early = store.mark(&me, vec![b], Mark::Woken(later)).await.unwrap();
    assert!(early.changed.is_empty());
    // What its reader no longer sees waits.
    let cook = known(&store, "u", &[]).await;
    let last = later.plus(2 * DAY);
    let woken = store.mark(&cook, vec![b], Mark::Woken(last)).await.unwrap();
    assert!(woken.changed.is_empty());
    store.put_off_snoozes(&cook, vec![b], last).await.unwrap();
    assert_eq!(store.due_snoozes(last, 10).await.unwrap()[0].1, [b]);
    // What was read is read when it is back.
    assert_eq!(mark(&store, &me, b, Mark::Woken(last)).await.changed, [b]);
    assert!(store.item(&me, b).await.unwrap().unwrap().is_read);
}

#[tokio::test]
async fn it_lies_in_one_place() {
    let store = fresh().await;
    let me = known(&store, "u", &[]).await;
    let id = put(&store, to(user_key("u"))).await;
    let until = Micros::now().plus(DAY);
    let state = async || {
        let item = store.item(&me, id).await.unwrap().unwrap();
        (
            item.archived_at.is_some(),
            item.snoozed_until.is_some(),
            item.is_read,
        )
    };
    mark(&store, &me, id, Mark::Snoozed(until)).await;
    mark(&store, &me, id, Mark::Archived).await;
    assert_eq!(state().await, (true, false, false));
    assert!(store.due_snoozes(until, 10).await.unwrap().is_empty());
    mark(&store, &me, id, Mark::Snoozed(until)).await;
    assert_eq!(state().await, (false, true, false));
    // Read where it lies: it comes back read.
    mark(&store, &me, id, Mark::Read).await;
    mark(&store, &me, id, Mark::Woken(until)).await;
    assert_eq!(state().await, (false, false, true));
    mark(&store, &me, id, Mark::Snoozed(until)).await;
    mark(&store, &me, id, Mark::Deleted).await;
    assert!(store.due_snoozes(until, 10).await.unwrap().is_empty());
}

/// On PostgreSQL, whichever database the others run on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_dispatchers_bring_it_back_once_also_after_a_restart() {
    let database = Database::shared();
    let first = Store::open(&database.config()).await.unwrap();
    let me = known(&first, "u", &["r"]).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(put(&first, to(role_key("r"))).await);
    }
    let until = Micros::now().plus(DAY);
    first.mark(&me, ids.clone(), Mark::Snoozed(until)).await.unwrap();
    let start = present(&first, &me).await;
    first.close().await;

    let mut looking = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let store = Store::open(&database.config()).await.unwrap();
        looking.spawn(async move {
            let mut changed = 0;
            for (reader, ids) in store.due_snoozes(until, 100).await.unwrap() {
                let woken = store.mark(&reader, ids, Mark::Woken(until)).await.unwrap();
                changed += woken.changed.len();
            }
            (store, changed)
        });
    }
    let mut changed = 0;
    let mut last = None;
    while let Some(done) = looking.join_next().await {
        let (store, woken) = done.unwrap();
        changed += woken;
        last = Some(store);
    }
    assert_eq!(changed, ids.len());
    let store = last.unwrap();
    assert_eq!(
        changes(&store, &me, Some(&start), 100).await.changes.len(),
        ids.len()
    );
    assert_eq!(store.unread_count(&me).await.unwrap(), ids.len() as u64);
}
