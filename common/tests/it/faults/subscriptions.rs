//! Subscriptions: confirmed, lagging, silent, killed.

use rig::link::Link;

use super::*;
use crate::support::until;

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
