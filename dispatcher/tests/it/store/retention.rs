use std::time::Duration;

use common::ids::NotificationId;
use dispatcher::{
    model::{DeliveryState, Lane, ListFilter, Micros, NewNotification, ReaderKeys, Settlement},
    store::{ChangesResult, Mark, Store},
};
use uuid::Uuid;

use super::{
    Fresh, aged, ask, filtered, fresh_with, known, listed, mailed, mark, note, plain, present, put, reader,
    role_key, tenant, to,
};
use crate::support::{by, user_key};

const DAY: Duration = Duration::from_hours(24);

/// A store that keeps ten days.
async fn ten_days() -> Fresh {
    fresh_with(|config| config.retention = DAY * 10).await
}

/// The same, said so many days ago, with an id of that time. PostgreSQL has no partition for more than 31 days ago, where
/// rows go one by one.
fn days_ago(new: NewNotification, days: u32) -> NewNotification {
    let mut new = aged(new, DAY * days);
    let millis = u128::try_from(new.created_at.0 / 1000).unwrap();
    let random = new.id.0.as_u128() & ((1 << 80) - 1);
    new.id = NotificationId(Uuid::from_u128((millis << 80) | random));
    for delivery in &mut new.deliveries {
        delivery.due_at = new.created_at;
    }
    new
}

/// Forgets what is old, to the end.
async fn forget(store: &Store) {
    for _ in 0..1000 {
        if store.forget(1000).await.unwrap() == 0 {
            return;
        }
    }
    panic!("it never ends");
}

async fn is_there(store: &Store, id: NotificationId) -> bool {
    store.notification(&tenant(), id).await.unwrap().is_some()
}

/// What the list says is unread, and the count.
async fn unread(store: &Store, reader: &ReaderKeys) -> (usize, u64) {
    let filter = ListFilter {
        limit: 1000,
        is_read: Some(false),
        ..ListFilter::default()
    };
    (
        store.list(reader, &filter).await.unwrap().len(),
        store.unread_count(reader).await.unwrap(),
    )
}

#[tokio::test]
async fn unread_counts_stay_exact_when_old_rows_go() {
    let store = ten_days().await;
    let ann = known(&store, "ann", &["clerk"]).await;
    let bob = known(&store, "bob", &["clerk"]).await;
    let mut old = Vec::new();
    for days in (41..61).rev() {
        for key in [role_key("clerk"), user_key("ann")] {
            old.push(put(&store, days_ago(to(key), days)).await);
        }
        let row = filtered(role_key("clerk"), &[], &["nobody"]);
        old.push(put(&store, days_ago(note("x", vec![row]), days)).await);
    }
    let mut new = Vec::new();
    for _ in 0..5 {
        new.push(put(&store, days_ago(to(role_key("clerk")), 3)).await);
        new.push(put(&store, days_ago(to(user_key("ann")), 2)).await);
    }
    // Some are read, one by one and below a watermark; some are unread again, some withdrawn.
    for id in old.iter().step_by(3).chain(&new[..3]) {
        mark(&store, &ann, *id, Mark::Read).await;
    }
    let middle = store.mark_all_read_by(&bob, Micros::now().minus(DAY * 50)).await;
    assert!(middle.unwrap().count > 0);
    mark(&store, &bob, old[0], Mark::Unread).await;
    mark(&store, &bob, old[40], Mark::Archived).await;
    mark(&store, &bob, new[0], Mark::Deleted).await;
    for id in [old[1], old[30], new[2]] {
        assert!(store.withdraw(&tenant(), id, &by("op")).await.unwrap());
    }
    let cursor = present(&store, &ann).await;
    let before = (unread(&store, &ann).await, unread(&store, &bob).await);
    assert_eq!(before.0.0 as u64, before.0.1);
    assert_eq!(before.1.0 as u64, before.1.1);
    forget(&store).await;
    for reader in [&ann, &bob] {
        let (listed, counted) = unread(&store, reader).await;
        assert_eq!(listed as u64, counted);
    }
    // Of the new ones of ann's role and of her own ten, one was withdrawn, and two of the others are read.
    assert_eq!(unread(&store, &ann).await.0, 10 - 1 - 2);
    assert_eq!(unread(&store, &bob).await.0, 5 - 1 - 1);
    let shown = listed(&store, &ann).await;
    assert!(old.iter().all(|id| !shown.contains(id)));
    for id in &old {
        assert!(!is_there(&store, *id).await);
    }
    for id in &new {
        assert!(is_there(&store, *id).await);
    }
    // Who comes for the first time, and what comes afterwards, are counted as before.
    let eve = known(&store, "eve", &["clerk"]).await;
    assert_eq!(unread(&store, &eve).await, (4, 4));
    put(&store, to(role_key("clerk"))).await;
    assert_eq!(unread(&store, &ann).await, (8, 8));
    assert_eq!(store.stats(&tenant()).await.unwrap().unread, 8 + 4 + 5);
    // A cursor from before still says what came; one from before what went is told to read again.
    assert!(matches!(
        store.changes(&ann, Some(&cursor), 100).await.unwrap(),
        ChangesResult::Changes(changes) if changes.changes.len() == 1
    ));
    let mut early = cursor;
    for position in early.0.values_mut() {
        *position = 1;
    }
    assert_eq!(
        store.changes(&ann, Some(&early), 100).await.unwrap(),
        ChangesResult::Resync
    );
}

#[tokio::test]
async fn what_is_needed_stays_however_old() {
    let store = ten_days().await;
    let mut scheduled = days_ago(to(user_key("u")), 60);
    scheduled.visible_at = Micros::now().plus(DAY);
    let pending = days_ago(mailed("u"), 60);
    let (scheduled, pending) = (put(&store, scheduled).await, put(&store, pending).await);
    forget(&store).await;
    assert!(is_there(&store, scheduled).await && is_there(&store, pending).await);
    // It ends today, and is kept from today on.
    let claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let settlement = Settlement {
        delivery: claimed[0].id,
        token: claimed[0].token,
        state: DeliveryState::Dead,
        due_at: None,
        reason: Some("rejected".into()),
        outcome: None,
        response: None,
    };
    assert_eq!(store.settle(vec![settlement]).await.unwrap(), [true]);
    forget(&store).await;
    assert!(is_there(&store, pending).await);
    let later = Micros::now().plus(DAY * 2);
    assert_eq!(store.make_visible(later, 10).await.unwrap(), [scheduled]);
    let reader = reader("u", &[]);
    assert_eq!(listed(&store, &reader).await, [scheduled]);
    forget(&store).await;
    assert_eq!(listed(&store, &reader).await, [scheduled]);
}

#[tokio::test]
async fn without_a_retention_all_is_kept() {
    let store = super::fresh().await;
    let id = put(&store, days_ago(note("n", vec![plain(user_key("u"))]), 3000)).await;
    assert_eq!(store.forget(1000).await, Ok(0));
    assert!(is_there(&store, id).await);
    store.make_room().await.unwrap();
    assert_eq!(store.make_room().await, Ok(0));
}

/// Readers mark while rows go: whoever is first, no count is off.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn marks_and_forgetting_exclude_each_other() {
    let store = ten_days().await;
    let readers = [
        known(&store, "ann", &["clerk"]).await,
        known(&store, "bob", &["clerk"]).await,
    ];
    let mut ids = Vec::new();
    for days in (5..25).rev() {
        ids.push(put(&store, days_ago(to(role_key("clerk")), days)).await);
    }
    let markers = readers.clone().map(|reader| {
        let (store, ids) = (store.clone(), ids.clone());
        tokio::spawn(async move {
            for id in ids {
                mark(&store, &reader, id, Mark::Read).await;
            }
        })
    });
    forget(&store).await;
    for marker in markers {
        tokio::time::timeout(Duration::from_secs(60), marker)
            .await
            .unwrap()
            .unwrap();
    }
    forget(&store).await;
    for reader in &readers {
        assert_eq!(unread(&store, reader).await, (0, 0));
        assert_eq!(listed(&store, reader).await.len(), 5);
    }
    put(&store, to(role_key("clerk"))).await;
    for reader in &readers {
        assert_eq!(unread(&store, reader).await, (1, 1));
    }
}
