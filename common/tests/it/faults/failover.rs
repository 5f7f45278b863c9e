//! Several servers: slots that move, primaries that are replaced, copies that are missing.

use rig::redis::{Cluster, ClusterOptions, Sentinel};

use super::*;
use crate::support::until;

/// Trap 2: a slot that moves ends its subscriptions, and nobody is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_its_subscriptions_along() {
    let cluster = Arc::new(Cluster::start(&ClusterOptions::bare()).unwrap());
    let mut config = config(RedisKind::Cluster, &cluster.urls());
    config.wait_replicas = Some(0);
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    let keys: Vec<TopicKey> = (0..200).map(|number| key(&format!("m{number}"))).collect();
    node.subscribe(&keys).await;
    for key in &keys {
        publish(&bus, key, 0).await.unwrap();
        node.message().await;
    }
    let (from, to) = (cluster.owner_of(0).unwrap(), cluster.owner_of(16_383).unwrap());
    let publishing = async {
        for number in 1..40 {
            for key in &keys {
                publish_surely(&bus, key, number).await;
            }
        }
    };
    let moving = blocking(&cluster, move |cluster| {
        cluster.migrate_slots(from, to, 0..=700).unwrap()
    });
    let ((), moved) = tokio::join!(publishing, moving);
    assert!(moved > 0, "keys moved");
    node.until_unsure().await;
    until("all is heard again", LONG, || bus.ready()).await;
    // What came meanwhile is in history, and what comes now is heard.
    for key in &keys {
        let history = bus.history(key, 0, 1000).await.unwrap();
        assert_eq!(history.head.offset, 40, "each key once");
        assert_eq!(history.messages.len(), 40);
    }
    node.waiting.clear();
    let publications = keys.iter().map(|key| publication(key, 99)).collect();
    for published in bus.publish_many(publications).await {
        assert_eq!(published.unwrap().nodes, 1);
    }
    let mut heard = 0;
    while heard < keys.len() {
        let last = node.message().await;
        heard += usize::from(last.position.unwrap().offset == 41);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_loses_nothing_that_was_acknowledged() {
    let cluster = Arc::new(Cluster::start(&ClusterOptions::default()).unwrap());
    let config = config(RedisKind::Cluster, &cluster.urls());
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    let keys: Vec<TopicKey> = (0..60).map(|number| key(&format!("k{number}"))).collect();
    node.subscribe(&keys).await;
    let publishing = async {
        for number in 0..100 {
            for key in &keys {
                publish_surely(&bus, key, number).await;
            }
        }
    };
    let primary = cluster.owner_of(100).unwrap();
    let failing_over = blocking(&cluster, move |cluster| {
        cluster.kill(primary).unwrap();
        cluster.wait_for_failover(primary, LONG).unwrap();
    });
    tokio::join!(publishing, failing_over);
    node.until_unsure().await;
    until("it is ready", LONG, || bus.ready()).await;
    for key in &keys {
        let history = bus.history(key, 0, 1000).await.unwrap();
        let mut numbers: Vec<_> = history
            .messages
            .iter()
            .map(|message| message.payload.clone())
            .collect();
        numbers.dedup();
        assert_eq!(numbers.len(), 100, "all are there, each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_is_not_enough_where_two_were_promised() {
    let sentinel = Arc::new(Sentinel::start().unwrap());
    let urls = sentinel.urls();
    let config = config(RedisKind::Sentinel, &urls);
    let bus = bus(&config).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    let primary = sentinel.primary().unwrap();
    let replicas: Vec<usize> = (0..sentinel.nodes().len())
        .filter(|node| *node != primary)
        .collect();
    for replica in &replicas {
        sentinel.nodes()[*replica].pause().unwrap();
    }
    assert!(publish(&bus, &key("a"), 2).await.is_err(), "no replica has it");
    for replica in &replicas {
        sentinel.nodes()[*replica].resume().unwrap();
    }
    let published = publish_surely(&bus, &key("a"), 2).await;
    assert!(published.repeated, "it was there, and has copies now");
    assert_eq!(published.position.unwrap().offset, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_sentinel_replaces_is_followed() {
    let sentinel = Arc::new(Sentinel::start().unwrap());
    let urls = sentinel.urls();
    let config = config(RedisKind::Sentinel, &urls);
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    for paused in [false, true] {
        let old = blocking(&sentinel, move |sentinel| {
            let old = if paused {
                sentinel.pause_primary()
            } else {
                sentinel.kill_primary()
            };
            let old = old.unwrap();
            sentinel.wait_for_failover(old, LONG).unwrap();
            old
        })
        .await;
        publish_surely(&bus, &key("a"), 2 + usize::from(paused)).await;
        node.until_unsure().await;
        until("it is ready", LONG, || bus.ready()).await;
        blocking(&sentinel, move |sentinel| {
            if paused {
                sentinel.nodes()[old].resume().unwrap();
            } else {
                sentinel.restart(old).unwrap();
            }
        })
        .await;
    }
    let history = bus.history(&key("a"), 0, 10).await.unwrap();
    assert_eq!(history.messages.len(), 3);
    let published = publish_surely(&bus, &key("a"), 9).await;
    assert_eq!((published.nodes, published.position.unwrap().offset), (1, 4));
}
