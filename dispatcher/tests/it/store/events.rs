//! Events are taken in once.

use std::{sync::Arc, time::Duration};

use dispatcher::{
    model::{EventPlace, IncomingEvent, Micros, NewNotification},
    store::{RuleWritten, Store},
};
use serde_json::{Map, json};

use super::{fresh, fresh_with, listed, reader, tenant, to, user_key};
use crate::support::by;

fn event(position: i64, name: Option<&str>, notifications: Vec<NewNotification>) -> IncomingEvent {
    IncomingEvent {
        place: EventPlace {
            origin: Arc::from("kafka:a/0"),
            position,
            stamped: 1,
        },
        tenant: tenant(),
        kind: "a".to_owned(),
        source: name.map(|_| "s".to_owned()),
        id: name.map(str::to_owned),
        notifications,
    }
}

fn one(position: i64, name: Option<&str>) -> IncomingEvent {
    event(position, name, vec![to(user_key("u"))])
}

async fn stored(store: &Store) -> usize {
    listed(store, &reader("u", &[])).await.len()
}

#[tokio::test]
async fn s3_4_an_event_is_known_by_its_place_and_by_its_name() {
    let fresh = fresh().await;
    let batch = vec![
        one(1, None),
        one(2, Some("x")),
        // The same name in one batch, and the same place.
        one(3, Some("x")),
        one(1, None),
        event(4, None, vec![to(user_key("u")), to(user_key("u"))]),
    ];
    assert_eq!(
        fresh.take_in(batch).await.unwrap(),
        [true, true, false, false, true]
    );
    assert_eq!(stored(&fresh).await, 4);
    let again = vec![one(1, None), one(9, Some("x")), one(5, Some("y"))];
    assert_eq!(fresh.take_in(again).await.unwrap(), [false, false, true]);
    // A topic that was made anew counts from the start again.
    let mut anew = one(1, None);
    anew.place.stamped = 2;
    assert_eq!(fresh.take_in(vec![anew]).await.unwrap(), [true]);
    assert_eq!(stored(&fresh).await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_bring_the_same_events_each_is_stored_once() {
    let fresh = fresh().await;
    let tasks = (0..16).map(|task| {
        let store = fresh.store.clone();
        tokio::spawn(async move {
            // Half of them name the events another way round.
            let mut batch: Vec<_> = (0..40)
                .map(|number| one(number, Some(&format!("n{}", number % 30))))
                .collect();
            if task % 2 == 0 {
                batch.reverse();
            }
            store
                .take_in(batch)
                .await
                .unwrap()
                .into_iter()
                .filter(|new| *new)
                .count()
        })
    });
    let mut new = 0;
    for task in tasks.collect::<Vec<_>>() {
        new += task.await.unwrap();
    }
    assert_eq!((new, stored(&fresh).await), (30, 30));
}

#[tokio::test]
async fn what_is_old_is_forgotten() {
    let fresh = fresh_with(|config| config.event_retention = Duration::ZERO).await;
    assert_eq!(fresh.take_in(vec![one(1, Some("x"))]).await.unwrap(), [true]);
    assert_eq!(fresh.prune(Micros::now(), 100).await.unwrap(), 1);
    assert_eq!(fresh.take_in(vec![one(1, Some("x"))]).await.unwrap(), [true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_that_are_written_at_once_are_versions_of_each_other() {
    let fresh = fresh().await;
    let body = |number: u32| dispatcher::model::RuleBody {
        event: format!("e{number}"),
        when: None,
        notification: Map::from_iter([("title".to_owned(), json!("t"))]),
        enabled: true,
    };
    let tasks = (0..8).map(|number| {
        let store = fresh.store.clone();
        let body = body(number);
        tokio::spawn(async move { store.put_rule(&tenant(), "r", body, 10, &by("me")).await.unwrap() })
    });
    let mut versions = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            RuleWritten::Stored(version, _) => versions.push(version.version),
            RuleWritten::TooMany => panic!("there is one"),
        }
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    let rules = fresh.rules(&tenant()).await.unwrap();
    assert_eq!((rules.len(), rules[0].version), (1, 8));
    for number in 0..60 {
        fresh
            .put_rule(&tenant(), "r", body(number), 10, &by("me"))
            .await
            .unwrap();
    }
    assert_eq!(fresh.rule_versions(&tenant(), "r").await.unwrap().len(), 50);
}
