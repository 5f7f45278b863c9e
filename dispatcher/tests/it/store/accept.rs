use std::collections::HashSet;

use common::ids::NotificationId;
use dispatcher::{
    model::{Accepted, IdempotencyKey, Lane, Micros, NewNotification},
    store::{Store, StoreError},
};

use super::{ask, fresh, listed, mailed, note, plain, present, put, reader, role_key, tenant, to, user_key};

fn keyed(mut new: NewNotification, credential: &str, key: &str, body: &str) -> NewNotification {
    new.idempotency.push(IdempotencyKey {
        credential: credential.to_owned(),
        route: "notifications".into(),
        key: key.to_owned(),
        request_hash: body.as_bytes().to_vec(),
        status: 201,
        response: new.id.to_string(),
    });
    new
}

#[tokio::test]
async fn what_was_accepted_is_there_after_opening_again() {
    let fresh = fresh().await;
    let id = put(&fresh, to(user_key("u"))).await;
    fresh.close().await;
    assert!(matches!(
        fresh.accept(vec![to(user_key("u"))]).await,
        Err(StoreError::Unavailable { .. })
    ));
    let store = Store::open(&fresh.config).await.unwrap();
    assert_eq!(listed(&store, &reader("u", &[])).await, [id]);
    let (notification, _) = store.notification(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(notification.content.content, "n \u{0} 文");
    assert_eq!(notification.channels, ["in_app"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_with_one_key_exactly_one_is_stored() {
    let fresh = fresh().await;
    let tasks = (0..64).map(|_| {
        let store = fresh.store.clone();
        tokio::spawn(async move {
            let new = keyed(to(user_key("u")), "c", "k", "same");
            (new.id, store.accept(vec![new]).await.unwrap().remove(0))
        })
    });
    let mut first = None;
    let mut repeats = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            (id, Accepted::New) => assert_eq!(first.replace(id), None),
            (_, Accepted::Repeat { status, response }) => repeats.push((status, response)),
            (_, other) => panic!("the requests were the same: {other:?}"),
        }
    }
    let first = first.unwrap();
    assert_eq!(repeats.len(), 63);
    assert!(repeats.iter().all(|answer| *answer == (201, first.to_string())));
    assert_eq!(listed(&fresh, &reader("u", &[])).await, [first]);
    assert_eq!(fresh.stats(&tenant()).await.unwrap().created, 1);
}

/// Two processes on one database: each has its own writers, and none sees what the other has not committed yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_with_one_key_at_two_processes_exactly_one_is_stored() {
    let fresh = fresh().await;
    let beside = Store::open(&fresh.config).await.unwrap();
    for round in 0..8 {
        let tasks: Vec<_> = (0..64)
            .map(|number| {
                let store = if number % 2 == 0 { &fresh.store } else { &beside };
                let store = store.clone();
                let key = format!("k{round}");
                tokio::spawn(async move {
                    let new = keyed(to(user_key("u")), "", &key, "same");
                    (new.id, store.accept(vec![new]).await.unwrap().remove(0))
                })
            })
            .collect();
        let (mut first, mut repeats) = (None, Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                (id, Accepted::New) => assert_eq!(first.replace(id), None),
                (_, Accepted::Repeat { response, .. }) => repeats.push(response),
                (_, answer) => panic!("{answer:?}"),
            }
        }
        let first = first.unwrap().to_string();
        assert_eq!(repeats, vec![first; 63]);
    }
    assert_eq!(fresh.stats(&tenant()).await.unwrap().created, 8);
    beside.close().await;
}

#[tokio::test]
async fn a_key_belongs_to_credential_and_request() {
    let store = fresh().await;
    let one = |credential: &str, key: &str, body: &str| keyed(to(user_key("u")), credential, key, body);
    assert_eq!(
        store.accept(vec![one("c", "k", "a")]).await.unwrap(),
        [Accepted::New]
    );
    assert_eq!(
        store.accept(vec![one("c", "k", "b")]).await.unwrap(),
        [Accepted::Mismatch]
    );
    assert_eq!(
        store.accept(vec![one("d", "k", "b")]).await.unwrap(),
        [Accepted::New]
    );
    assert_eq!(
        store.accept(vec![one("c", "l", "b")]).await.unwrap(),
        [Accepted::New]
    );
    assert_eq!(listed(&store, &reader("u", &[])).await.len(), 3);
}

#[tokio::test]
async fn a_bulk_shares_the_key_of_its_request_and_its_items_have_their_own() {
    let store = fresh().await;
    let bulk = || {
        vec![
            keyed(to(user_key("u")), "c", "request", "bulk"),
            keyed(keyed(to(user_key("u")), "c", "request", "bulk"), "", "item", "i"),
            keyed(keyed(to(user_key("u")), "c", "request", "bulk"), "", "item", "i"),
        ]
    };
    let answers = store.accept(bulk()).await.unwrap();
    assert!(
        matches!(
            answers.as_slice(),
            [Accepted::New, Accepted::New, Accepted::Repeat { .. }]
        ),
        "{answers:?}"
    );
    let again = store.accept(bulk()).await.unwrap();
    assert!(
        again
            .iter()
            .all(|answer| matches!(answer, Accepted::Repeat { .. })),
        "{again:?}"
    );
    assert_eq!(listed(&store, &reader("u", &[])).await.len(), 2);
}

#[tokio::test]
async fn expired_keys_are_forgotten() {
    let store = fresh().await;
    let new = || keyed(to(user_key("u")), "c", "k", "a");
    assert_eq!(store.accept(vec![new()]).await.unwrap(), [Accepted::New]);
    let tomorrow = Micros::now().plus(std::time::Duration::from_hours(25));
    assert_eq!(store.prune(Micros::now(), 10).await.unwrap(), 0);
    assert_eq!(store.prune(tomorrow, 10).await.unwrap(), 1);
    assert_eq!(store.accept(vec![new()]).await.unwrap(), [Accepted::New]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_faulty_operation_fails_alone() {
    let fresh = fresh().await;
    let taken = put(&fresh, to(user_key("u"))).await;
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let store = fresh.store.clone();
            tokio::spawn(async move {
                let mut new = to(user_key("u"));
                if number % 16 == 7 {
                    new.id = taken;
                }
                (new.id, store.accept(vec![new]).await)
            })
        })
        .collect();
    let mut stored = HashSet::from([taken]);
    for task in tasks {
        match task.await.unwrap() {
            (id, Ok(answers)) => {
                assert_eq!(answers, [Accepted::New]);
                stored.insert(id);
            }
            (id, Err(error)) => {
                assert_eq!(id, taken);
                assert_eq!(error, StoreError::Conflict("an id"));
            }
        }
    }
    assert_eq!(stored.len(), 61);
    let listed: HashSet<NotificationId> = listed(&fresh, &reader("u", &[])).await.into_iter().collect();
    assert_eq!(listed, stored);
}

#[tokio::test]
async fn a_scheduled_notification_appears_when_it_is_due() {
    let store = fresh().await;
    let reader = reader("u", &["r"]);
    store.touch_reader(&reader).await.unwrap();
    let before = present(&store, &reader).await;
    let mut new = mailed("u");
    new.inbox = vec![plain(role_key("r"))];
    new.visible_at = new.created_at.plus(std::time::Duration::from_hours(1));
    new.deliveries[0].due_at = new.visible_at;
    let due = new.visible_at;
    let id = put(&store, new).await;
    let later = put(&store, note("later", vec![plain(role_key("r"))])).await;
    assert_eq!(listed(&store, &reader).await, [later]);
    assert_eq!(store.unread_count(&reader).await.unwrap(), 1);
    assert_eq!(store.next_due().await.unwrap(), Some(due));
    assert!(store.claim(ask(Lane::Medium, 10)).await.unwrap().is_empty());
    assert!(store.make_visible(Micros::now(), 10).await.unwrap().is_empty());
    let mut watch = store.watch(&reader);
    assert_eq!(store.make_visible(due, 10).await.unwrap(), [id]);
    watch.changed().await;
    assert!(store.make_visible(due, 10).await.unwrap().is_empty());
    // Its position is that of its appearance: after what came meanwhile.
    let changes = super::changes(&store, &reader, Some(&before), 10).await;
    let ids: Vec<_> = changes
        .changes
        .iter()
        .map(|change| match change {
            dispatcher::model::Change::Upsert(item) => item.id,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [later, id]);
    assert_eq!(store.unread_count(&reader).await.unwrap(), 2);
}
