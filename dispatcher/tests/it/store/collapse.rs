//! Of those with one collapse key for one target, the newest stands.

use std::time::Duration;

use common::{
    ids::{DeliveryId, NotificationId},
    target::{Audience, Target},
};
use dispatcher::{
    model::{Accepted, Change, DeliveryState, Lane, Micros, NewDelivery, NewNotification, Replaced},
    store::Store,
};

use super::{
    ask, changes, email, fresh, known, listed, note, plain, present, put, reader, role_key, tenant, user_key,
};
use crate::support::{by, name};

fn keyed(key: &str, user: &str) -> NewNotification {
    let mut new = note("n", vec![plain(user_key(user))]);
    new.audience = Some(Audience::from(Target::User(name(user))));
    new.content.collapse_key = Some(key.to_owned());
    new
}

#[tokio::test]
async fn the_newest_stands_in_the_inbox_and_the_feed_says_so() {
    let store = fresh().await;
    let reader = known(&store, "u", &[]).await;
    let first = put(&store, keyed("k", "u")).await;
    let cursor = present(&store, &reader).await;
    let second = put(&store, keyed("k", "u")).await;
    assert_eq!(listed(&store, &reader).await, [second]);
    assert_eq!(store.unread_count(&reader).await.unwrap(), 1);
    let changes = changes(&store, &reader, Some(&cursor), 10).await.changes;
    let mut told = Vec::new();
    for change in &changes {
        match change {
            Change::Upsert(item) => told.push(("new", item.id)),
            Change::Delete(id) => told.push(("gone", *id)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told, [("new", second), ("gone", first)]);
    // Another key, another user, another tenant's, and none: nothing is replaced by them.
    put(&store, keyed("l", "u")).await;
    put(&store, keyed("k", "v")).await;
    put(&store, note("n", vec![plain(user_key("u"))])).await;
    assert_eq!(store.unread_count(&reader).await.unwrap(), 3);
}

#[tokio::test]
async fn what_waits_of_the_older_is_cancelled_and_says_why() {
    let store = fresh().await;
    let with_mail = |due: Micros| {
        let mut new = keyed("k", "u");
        new.deliveries.push(email("u", due));
        new
    };
    let running = put(&store, with_mail(Micros::now())).await;
    let claimed = store.claim(ask(Lane::Medium, 10)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    let pending = put(&store, with_mail(Micros::now())).await;
    let later = put(&store, with_mail(Micros::now().plus(Duration::from_secs(3600)))).await;
    let states = async |id: NotificationId| {
        let (notification, deliveries) = store.notification(&tenant(), id).await.unwrap().unwrap();
        let states: Vec<_> = deliveries
            .into_iter()
            .map(|one| (one.state, one.reason.unwrap_or_default()))
            .collect();
        (notification.withdrawn, states)
    };
    // On its way: nobody can take that back; it is only not tried again.
    assert_eq!(states(running).await.1[0].0, DeliveryState::Running);
    assert_eq!(
        states(pending).await,
        (true, vec![(DeliveryState::Cancelled, "collapsed".to_owned())])
    );
    assert_eq!(states(later).await.1[0].0, DeliveryState::Pending);
    assert!(!states(later).await.0);
}

#[tokio::test]
async fn a_scheduled_one_is_replaced_before_it_was_seen() {
    let store = fresh().await;
    let mut later = keyed("k", "u");
    later.visible_at = later.created_at.plus(Duration::from_secs(60));
    put(&store, later).await;
    let now = put(&store, keyed("k", "u")).await;
    let after = Micros::now().plus(Duration::from_secs(120));
    assert!(store.make_visible(after, 10).await.unwrap().is_empty());
    assert_eq!(listed(&store, &reader("u", &[])).await, [now]);
}

/// Of what is changed before its time, only its new place counts.
#[tokio::test]
async fn a_changed_one_stands_where_it_is_now() {
    let store = fresh().await;
    let hour = Duration::from_secs(3600);
    let by_address = |address: &str| {
        let mut new = keyed("k", "u");
        new.audience = None;
        new.inbox.clear();
        new.deliveries.push(NewDelivery {
            address: Some(address.to_owned()),
            ..email("u", new.created_at.plus(hour))
        });
        new
    };
    for (before, after) in [
        (keyed("k", "u"), keyed("k", "v")),
        (keyed("k", "u"), keyed("l", "u")),
        (keyed("k", "u"), note("n", vec![plain(user_key("u"))])),
        (by_address("a@example.org"), by_address("b@example.org")),
    ] {
        let mut first = before.clone();
        first.visible_at = first.created_at.plus(hour);
        let id = put(&store, first.clone()).await;
        let mut changed = after.clone();
        (changed.id, changed.visible_at) = (id, first.visible_at);
        let replaced = store.replace(&tenant(), changed, &by("op")).await.unwrap();
        assert_eq!(replaced, Replaced::Done);
        let is_withdrawn = async || {
            let (stored, _) = store.notification(&tenant(), id).await.unwrap().unwrap();
            stored.withdrawn
        };
        let mut old = before;
        old.id = NotificationId::generate();
        old.deliveries
            .iter_mut()
            .for_each(|one| one.id = DeliveryId::generate());
        put(&store, old).await;
        assert!(!is_withdrawn().await, "it stands elsewhere: {after:?}");
        if after.content.collapse_key.is_some() {
            let mut new = after;
            new.id = NotificationId::generate();
            new.deliveries
                .iter_mut()
                .for_each(|one| one.id = DeliveryId::generate());
            put(&store, new).await;
            assert!(is_withdrawn().await, "it stands here");
        }
    }
}

/// And one that is changed without leaving its place stands there still.
#[tokio::test]
async fn a_changed_one_keeps_its_place() {
    let store = fresh().await;
    let mut first = keyed("k", "u");
    first.visible_at = first.created_at.plus(Duration::from_secs(60));
    let id = put(&store, first.clone()).await;
    first.content.title = "changed".to_owned();
    assert_eq!(
        store.replace(&tenant(), first, &by("op")).await.unwrap(),
        Replaced::Done
    );
    put(&store, keyed("k", "u")).await;
    let (stored, _) = store.notification(&tenant(), id).await.unwrap().unwrap();
    assert!(stored.withdrawn);
}

#[tokio::test]
async fn of_one_request_only_the_last_stands() {
    let store = fresh().await;
    let all: Vec<_> = (0..5).map(|_| keyed("k", "u")).collect();
    let last = all[4].id;
    assert_eq!(store.accept(all).await.unwrap(), vec![Accepted::New; 5]);
    assert_eq!(listed(&store, &reader("u", &[])).await, [last]);
    assert_eq!(store.unread_count(&reader("u", &[])).await.unwrap(), 1);
}

/// Whatever the order of the commits, one of them stands, and nothing waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_the_same_time_one_stands() {
    let store = fresh().await;
    let tasks: Vec<_> = (0..48)
        .map(|number| {
            let handle = store.store.clone();
            tokio::spawn(async move {
                // Groups of different keys, so that counters are taken in different orders.
                let (key, route) = if number % 2 == 0 { ("a", "x") } else { ("b", "y") };
                let mut new = note("n", vec![plain(role_key(route)), plain(user_key("u"))]);
                new.content.collapse_key = Some(key.to_owned());
                handle.accept(vec![new]).await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), [Accepted::New]);
    }
    let reader = known(&store, "u", &["x", "y"]).await;
    assert_eq!(listed(&store, &reader).await.len(), 2);
    assert_eq!(store.unread_count(&reader).await.unwrap(), 2);
}

/// Also where they come to two processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_two_processes_one_stands() {
    let fresh = fresh().await;
    let beside = Store::open(&fresh.config).await.unwrap();
    let tasks: Vec<_> = (0..32)
        .map(|number| {
            let store = if number % 2 == 0 { &fresh.store } else { &beside };
            let store = store.clone();
            tokio::spawn(async move { store.accept(vec![keyed("k", "u")]).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), [Accepted::New]);
    }
    let reader = known(&fresh, "u", &[]).await;
    assert_eq!(listed(&fresh, &reader).await.len(), 1);
    assert_eq!(fresh.unread_count(&reader).await.unwrap(), 1);
    beside.close().await;
}

#[tokio::test]
async fn who_stood_for_what_is_forgotten_like_the_feed() {
    let store = super::fresh_with(|config| config.feed_retention = Duration::ZERO).await;
    put(&store, keyed("k", "u")).await;
    assert_eq!(store.prune(Micros::now(), 10).await.unwrap(), 1);
    assert_eq!(store.prune(Micros::now(), 10).await.unwrap(), 0);
}
