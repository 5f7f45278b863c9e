use std::time::{Duration, Instant};

use dispatcher::{
    model::Lane,
    store::{Store, StoreError},
};

use super::{ask, fresh, fresh_with, listed, mailed, put, reader, to, user_key};

#[tokio::test]
async fn on_sqlite_a_full_disk_refuses_the_new_and_keeps_the_old() {
    let store = fresh().await;
    let me = reader("u", &[]);
    let mut stored = vec![put(&store, to(user_key("u"))).await];
    store.limit_size(Some(64 * 1024)).await.unwrap();
    let refused = loop {
        let mut new = to(user_key("u"));
        new.content.content = "x".repeat(8 * 1024);
        let id = new.id;
        match store.accept(vec![new]).await {
            Ok(_) => stored.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
    stored.reverse();
    assert_eq!(listed(&store, &me).await, stored);
    assert_eq!(store.unread_count(&me).await.unwrap(), stored.len() as u64);
    store.limit_size(None).await.unwrap();
    stored.insert(0, put(&store, to(user_key("u"))).await);
    assert_eq!(listed(&store, &me).await, stored);
}

#[tokio::test]
async fn on_sqlite_a_full_queue_makes_callers_wait_but_not_for_ever() {
    let fresh = fresh_with(|config| config.queue_max = 1).await;
    let store = fresh.store.clone();
    // From here on the clock jumps whenever everybody waits for the database.
    tokio::time::pause();
    let callers: Vec<_> = (0..50)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.accept(vec![mailed(&format!("u{number}"))]).await })
        })
        .collect();
    let mut stored = 0;
    for caller in callers {
        match caller.await.unwrap() {
            Ok(_) => stored += 1,
            Err(error) => {
                let reason = "the writers' queue is full".to_owned();
                assert_eq!(error, StoreError::Unavailable { reason });
            }
        }
    }
    assert!((1..50).contains(&stored), "{stored}");
    tokio::time::resume();
    assert_eq!(store.claim(ask(Lane::Medium, 100)).await.unwrap().len(), stored);
}

#[tokio::test]
async fn a_filled_database_opens_at_once() {
    let fresh = fresh().await;
    for _ in 0..5 {
        fresh
            .accept((0..1000).map(|number| mailed(&format!("u{number}"))).collect())
            .await
            .unwrap();
    }
    fresh.close().await;
    let begin = Instant::now();
    let store = Store::open(&fresh.config).await.unwrap();
    // 200 ms are promised on a machine that does nothing else.
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(store.queue_depths().await.unwrap()[2].depth, 5000);
}
