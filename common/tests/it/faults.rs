//! What happens to the bus when something happens to Redis. Each of fred's traps that the bus was built around has its case.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    bus::{Bus, BusError, BusEvent, BusEvents, BusLimits, Publication, Published, Subscriptions},
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header, Message},
    policy::Policies,
    redis::{RedisConfig, RedisKind},
    topic::TopicKey,
};
use rig::{
    link::Link,
    redis::{Cluster, ClusterOptions, Options, Restart, Sentinel, Server},
};
use tokio::time::timeout;

use crate::support::{config, connect, until};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

pub(crate) fn key(name: &str) -> TopicKey {
    TopicKey::topic(&TenantId::new("t").unwrap(), &Name::new(name).unwrap())
}

fn publication(key: &TopicKey, number: usize) -> Publication {
    Publication {
        key: key.clone(),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: Bytes::from(format!("{{\"n\":{number}}}")),
        history: true,
        idempotency_key: Some(format!("k{number}")),
    }
}

async fn publish(bus: &Bus, key: &TopicKey, number: usize) -> Result<Published, BusError> {
    bus.publish(publication(key, number)).await
}

/// Publishes until it is acknowledged, as a caller with an idempotency key may.
async fn publish_surely(bus: &Bus, key: &TopicKey, number: usize) -> Published {
    let publication = publication(key, number);
    timeout(LONG, async {
        loop {
            if let Ok(published) = bus.publish(publication.clone()).await {
                return published;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the bus comes back")
}

/// A node of a bus, and what it has heard.
struct Node {
    subscriptions: Subscriptions,
    events: BusEvents,
    waiting: Vec<BusEvent>,
}

impl Node {
    fn attach(bus: &Bus) -> Self {
        let (subscriptions, events) = bus.attach(100_000);
        Self {
            subscriptions,
            events,
            waiting: Vec::new(),
        }
    }

    async fn subscribe(&self, keys: &[TopicKey]) {
        self.subscriptions.subscribe(keys).await.expect("confirmed");
    }

    async fn next(&mut self) -> BusEvent {
        if self.waiting.is_empty() {
            let heard = timeout(LONG, self.events.next_batch(&mut self.waiting, 1000)).await;
            heard.expect("something is heard");
        }
        self.waiting.remove(0)
    }

    async fn message(&mut self) -> Arc<Message> {
        loop {
            if let BusEvent::Message(message) = self.next().await {
                return message;
            }
        }
    }

    /// Until the bus says that messages may have been lost.
    async fn until_unsure(&mut self) {
        while !matches!(self.next().await, BusEvent::Unsure) {}
    }
}

async fn one_server(options: &Options) -> (Server, RedisConfig) {
    let server = Server::start(options).unwrap();
    let config = config(RedisKind::Servers, &[server.url()]);
    (server, config)
}

async fn bus(config: &RedisConfig) -> Bus {
    connect(config, BusLimits::default(), Policies::default()).await
}

/// Trap 1: `subscribe` that answers before the command is written. Trap 4: several confirmations to one command.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_there_when_it_is_confirmed() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    for round in 0..50 {
        let keys: Vec<TopicKey> = (0..100).map(|number| key(&format!("{round}-{number}"))).collect();
        node.subscribe(&keys).await;
        let publications = keys.iter().map(|key| publication(key, round)).collect();
        for published in bus.publish_many(publications).await {
            assert_eq!(published.unwrap().nodes, 1, "Redis knows of the subscription");
        }
        for _ in 0..100 {
            assert!(keys.contains(&node.message().await.key));
        }
    }
    let channels = server.command(&["PUBSUB", "SHARDCHANNELS"]).unwrap();
    // All topics, and the probe.
    assert_eq!(channels.as_list().len(), 5001);
    let classic = server.command(&["PUBSUB", "CHANNELS"]).unwrap();
    // Trap 7: a classic channel goes to every node of a cluster.
    assert_eq!(classic.as_list().len(), 0);
}

/// Trap 2: a slot that moves ends its subscriptions, and nobody is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_takes_its_subscriptions_along() {
    let cluster = Cluster::start(&ClusterOptions::bare()).unwrap();
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
    let moving = {
        let bus = bus.clone();
        let keys = keys.clone();
        tokio::spawn(async move {
            for number in 1..40 {
                for key in &keys {
                    publish_surely(&bus, key, number).await;
                }
            }
        })
    };
    let moved = tokio::task::block_in_place(|| cluster.migrate_slots(from, to, 0..=700).unwrap());
    assert!(moved > 0, "keys moved");
    moving.await.unwrap();
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

/// Trap 3: a consumer that lags ends its own subscription.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lags_is_told_and_goes_on() {
    let (_server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let (subscriptions, mut events) = bus.attach(10);
    subscriptions.subscribe(&[key("a")]).await.unwrap();
    let mut batch = Vec::new();
    for round in 0..3 {
        let publications = (0..1000).map(|number| publication(&key("a"), round * 1000 + number));
        bus.publish_many(publications.collect()).await;
        let (mut heard, mut dropped) = (0, 0);
        while heard + dropped < 1000 {
            timeout(LONG, events.next_batch(&mut batch, 100)).await.unwrap();
            for event in batch.drain(..) {
                match event {
                    BusEvent::Message(_) => heard += 1,
                    BusEvent::Dropped(count) => dropped += count,
                    BusEvent::Unsure => {}
                }
            }
        }
        assert!(dropped > 0);
    }
}

/// Trap 5: a connection that died silently. Trap 6: resubscribing that fails is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_went_silent_is_noticed_by_a_probe() {
    let server = Server::start(&Options::default()).unwrap();
    let link = Link::to(server.address()).unwrap();
    let direct = config(RedisKind::Servers, &[server.url()]);
    let mut through = RedisConfig {
        urls: vec![format!("redis://{}", link.address()).parse().unwrap()],
        ..direct.clone()
    };
    through.probe_after.0 = Duration::from_millis(300);
    through.timeout.0 = Duration::from_millis(500);
    let publisher = bus(&direct).await;
    let bus = bus(&through).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    link.stall();
    publish(&publisher, &key("a"), 1).await.unwrap();
    until("it is not ready", LONG, || !bus.ready()).await;
    link.refuse();
    publish(&publisher, &key("a"), 2).await.unwrap();
    link.heal();
    node.until_unsure().await;
    until("it is ready", LONG, || bus.ready()).await;
    publish(&publisher, &key("a"), 3).await.unwrap();
    assert_eq!(node.message().await.position.unwrap().offset, 3);
    assert_eq!(bus.history(&key("a"), 0, 10).await.unwrap().messages.len(), 3);
}

/// Only the subscribing connection is dead: publishing works, so that nothing but a probe can show it.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_redis_kills_come_back() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    let keys: Vec<TopicKey> = (0..1000).map(|number| key(&number.to_string())).collect();
    node.subscribe(&keys).await;
    for kind in ["pubsub", "normal"] {
        server
            .command(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"])
            .unwrap();
        if kind == "pubsub" {
            node.until_unsure().await;
        }
        for key in &keys {
            publish_surely(&bus, key, 1).await;
        }
    }
    until("it is ready", LONG, || bus.ready()).await;
    node.waiting.clear();
    let publications = keys.iter().map(|key| publication(key, 2)).collect();
    assert!(
        bus.publish_many(publications)
            .await
            .iter()
            .all(|published| published.as_ref().unwrap().nodes == 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_buffer_that_overflows_costs_no_more_than_a_healing() {
    let options = Options::default().line("client-output-buffer-limit pubsub 64kb 64kb 1");
    let server = Server::start(&options).unwrap();
    let link = Link::to(server.address()).unwrap();
    let direct = config(RedisKind::Servers, &[server.url()]);
    let through = RedisConfig {
        urls: vec![format!("redis://{}", link.address()).parse().unwrap()],
        ..direct.clone()
    };
    let publisher = bus(&direct).await;
    let bus = bus(&through).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    link.stall();
    let large = Bytes::from(format!("{{\"x\":\"{}\"}}", "x".repeat(100_000)));
    let mut evicted = false;
    for number in 0..200 {
        let publication = Publication {
            payload: large.clone(),
            ..publication(&key("a"), number)
        };
        evicted |= publisher.publish(publication).await.unwrap().nodes == 0;
    }
    assert!(evicted, "Redis gave the subscriber up");
    link.heal();
    node.until_unsure().await;
    until("it is ready", LONG, || bus.ready()).await;
    assert_eq!(publish(&publisher, &key("a"), 1000).await.unwrap().nodes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_refuses_publishes_and_changes_nothing() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    node.message().await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let refused = publish(&bus, &key("a"), 2).await.unwrap_err();
    assert!(refused.to_string().contains("OOM"), "{refused}");
    assert!(bus.ready(), "what is there can be heard");
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(
        publish(&bus, &key("a"), 3)
            .await
            .unwrap()
            .position
            .unwrap()
            .offset,
        2
    );
    assert_eq!(node.message().await.position.unwrap().offset, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_were_flushed_are_loaded_again() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    server.command(&["SCRIPT", "FLUSH"]).unwrap();
    publish_surely(&bus, &key("a"), 2).await;
    assert_eq!(bus.heads(&[key("a")]).await.unwrap()[0].offset, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_is_found_again_and_data_that_is_gone_is_a_new_epoch() {
    let (server, config) = one_server(&Options::default()).await;
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    let before = publish(&bus, &key("a"), 1).await.unwrap().position.unwrap();
    server.kill().unwrap();
    until("it is not ready", LONG, || !bus.ready()).await;
    let refused = publish(&bus, &key("a"), 2).await.unwrap_err();
    let BusError::Unavailable { retry_after, .. } = refused;
    assert!(!retry_after.is_zero());
    server.restart(Restart::Empty).unwrap();
    node.until_unsure().await;
    until("it is ready", LONG, || bus.ready()).await;
    let after = publish(&bus, &key("a"), 3).await.unwrap().position.unwrap();
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_paused_answers_nobody_and_nothing_waits_without_end() {
    let (server, mut config) = one_server(&Options::default()).await;
    config.timeout.0 = Duration::from_millis(500);
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    server.pause().unwrap();
    let refused = timeout(Duration::from_secs(5), publish(&bus, &key("a"), 1)).await;
    assert!(refused.expect("it is answered").is_err());
    until("it is not ready", LONG, || !bus.ready()).await;
    server.resume().unwrap();
    until("it is ready", LONG, || bus.ready()).await;
    // The key says whether the first was carried out after all.
    let published = publish_surely(&bus, &key("a"), 1).await;
    assert_eq!(published.position.unwrap().offset, 1);
    assert_eq!(node.message().await.position.unwrap().offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_killed_loses_nothing_that_was_acknowledged() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    let config = config(RedisKind::Cluster, &cluster.urls());
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    let keys: Vec<TopicKey> = (0..60).map(|number| key(&format!("k{number}"))).collect();
    node.subscribe(&keys).await;
    let publishing = {
        let (bus, keys) = (bus.clone(), keys.clone());
        tokio::spawn(async move {
            for number in 0..100 {
                for key in &keys {
                    publish_surely(&bus, key, number).await;
                }
            }
        })
    };
    let primary = cluster.owner_of(100).unwrap();
    tokio::task::block_in_place(|| {
        cluster.kill(primary).unwrap();
        cluster.wait_for_failover(primary, LONG).unwrap();
    });
    publishing.await.unwrap();
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
    let sentinel = Sentinel::start().unwrap();
    let urls: Vec<String> = sentinel
        .addresses()
        .iter()
        .map(|at| format!("redis://{at}"))
        .collect();
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
    let sentinel = Sentinel::start().unwrap();
    let urls: Vec<String> = sentinel
        .addresses()
        .iter()
        .map(|at| format!("redis://{at}"))
        .collect();
    let config = config(RedisKind::Sentinel, &urls);
    let bus = bus(&config).await;
    let mut node = Node::attach(&bus);
    node.subscribe(&[key("a")]).await;
    publish(&bus, &key("a"), 1).await.unwrap();
    for paused in [false, true] {
        let old = tokio::task::block_in_place(|| {
            if paused {
                sentinel.pause_primary()
            } else {
                sentinel.kill_primary()
            }
            .unwrap()
        });
        tokio::task::block_in_place(|| sentinel.wait_for_failover(old, LONG).unwrap());
        publish_surely(&bus, &key("a"), 2 + usize::from(paused)).await;
        node.until_unsure().await;
        until("it is ready", LONG, || bus.ready()).await;
        tokio::task::block_in_place(|| {
            if paused {
                sentinel.nodes()[old].resume().unwrap();
            } else {
                sentinel.restart(old).unwrap();
            }
        });
    }
    let history = bus.history(&key("a"), 0, 10).await.unwrap();
    assert_eq!(history.messages.len(), 3);
    let published = publish_surely(&bus, &key("a"), 9).await;
    assert_eq!((published.nodes, published.position.unwrap().offset), (1, 4));
}
