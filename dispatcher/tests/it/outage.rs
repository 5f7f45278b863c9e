//! Realtime over Redis: receipts decide, also those that come while Redis does not answer; what the bus counts does not.

use std::time::Duration;

use common::{
    bus::RedisBus,
    config::Span,
    ids::NodeId,
    redis::{RedisConfig, RedisKind},
    target::{Audience, Target},
    topic::TopicKey,
};
use dispatcher::{
    channels::Channels,
    config::DispatcherConfig,
    model::{Channel, DeliveryState},
};
use rig::redis::{Options, Server};

use crate::support::{World, by_realtime, eventually, name, notification, quick, tenant, user_key};

/// A world whose bus is in Redis, where no hub is.
async fn over(server: &Server) -> World {
    let prefix = format!("t{}", NodeId::generate());
    let mut config = RedisConfig::for_test(RedisKind::Servers, &[server.url()], &prefix);
    config.timeout = Span(Duration::from_millis(400));
    let bus = RedisBus::for_test(&config);
    let mut world = World::new().await;
    world.bus = bus;
    eventually("the bus is ready", async || world.bus.ready().then_some(())).await;
    world
}

/// Settings under which only a receipt ends the wait within a test.
fn patient() -> DispatcherConfig {
    let mut config = quick();
    config.realtime.receipt_wait = Span(Duration::from_secs(60));
    config
}

async fn published(world: &World, key: &TopicKey) {
    eventually("it is on the bus", async || {
        let heads = world.bus.heads(std::slice::from_ref(key)).await;
        heads[0].filter(|head| head.offset > 0)
    })
    .await;
}

#[tokio::test]
async fn a_receipt_of_what_redis_seemed_to_refuse_counts() {
    let server = Server::start(&Options::default()).unwrap();
    let world = over(&server).await;
    let running = world.start_with(quick(), Channels::default(), true).await;
    server.pause().unwrap();
    let id = running
        .accept_one(by_realtime(notification("u1"), Some("u1")))
        .await;
    eventually("the bus did not take it", async || {
        (world.metrics.bus_retries.get() > 0).then_some(())
    })
    .await;
    // A hub has it from the first try, and Redis remembers the key: the next try sends nothing.
    running.written("u1", id).await;
    eventually("the receipt was read", async || {
        (world.metrics.receipts.get() > 0).then_some(())
    })
    .await;
    server.resume().unwrap();
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}

#[tokio::test]
async fn after_an_outage_a_receipt_has_its_whole_time() {
    let server = Server::start(&Options::default()).unwrap();
    let world = over(&server).await;
    let mut config = quick();
    config.realtime.receipt_wait = Span(Duration::from_secs(1));
    let running = world.start_with(config, Channels::default(), true).await;
    server.pause().unwrap();
    let id = running
        .accept_one(by_realtime(notification("u1"), Some("u1")))
        .await;
    // Tries of 400 ms each: the first began longer ago than a receipt is waited for.
    eventually("the bus did not take it again and again", async || {
        (world.metrics.bus_retries.get() >= 4).then_some(())
    })
    .await;
    server.resume().unwrap();
    published(&world, &user_key("u1")).await;
    running.written("u1", id).await;
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}

#[tokio::test]
async fn how_many_nodes_were_counted_decides_nothing() {
    let server = Server::start(&Options::default()).unwrap();
    let world = over(&server).await;
    let running = world.start_with(patient(), Channels::default(), true).await;
    // No node is subscribed where this is published, as with a nearby replica: the count is 0.
    let id = running
        .accept_one(by_realtime(notification("u1"), Some("u1")))
        .await;
    published(&world, &user_key("u1")).await;
    running.written("u1", id).await;
    world.delivered(id, Channel::Realtime).await;

    let mut group = by_realtime(notification("x"), None);
    group.audience = Some(Audience::from(Target::Role(name("manager"))));
    let id = running.accept_one(group).await;
    world.delivered(id, Channel::Realtime).await;
    published(&world, &TopicKey::role(&tenant(), &name("manager"))).await;
    running.stop().await;
}

#[tokio::test]
async fn a_node_that_is_there_is_no_receipt() {
    let server = Server::start(&Options::default()).unwrap();
    let world = over(&server).await;
    let running = world.start_with(quick(), Channels::default(), true).await;
    let (subscriptions, _events) = world.bus.attach(16);
    subscriptions.subscribe(&[user_key("u1")]).await.unwrap();
    let id = running
        .accept_one(by_realtime(notification("u1"), Some("u1")))
        .await;
    let delivery = world.ended(id, Channel::Realtime).await;
    assert_eq!(delivery.state, DeliveryState::Skipped);
    assert_eq!(delivery.reason.as_deref(), Some("nobody_online"));
    running.stop().await;
}

#[tokio::test]
async fn a_receipt_that_the_life_before_did_not_read_counts_for_the_next_try() {
    let server = Server::start(&Options::default()).unwrap();
    let world = over(&server).await;
    let one = by_realtime(notification("u1"), Some("u1"));
    let id = one.id;
    let running = world.start_with(patient(), Channels::default(), true).await;
    // Two receipts, one behind the other, are read before the row is there: a later batch says that the first was worked off.
    running.written("u1", id).await;
    for read in 1..=2 {
        eventually("the receipt was read", async || {
            (world.metrics.receipts.get() >= read).then_some(())
        })
        .await;
        running.written("u2", id).await;
    }
    running.accept_one(one).await;
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}
