//! The promises of the bus, over every form of Redis.

use std::time::Duration;

use common::{
    bus::{BusLimits, conformance},
    policy::Policies,
    redis::{RedisConfig, RedisKind},
    topic::TopicKey,
};
use rig::redis::{Cluster, ClusterOptions, Options, Sentinel, Server};

use crate::support::{config, connect, until};

async fn keeps_its_promises(kind: RedisKind, urls: &[String]) {
    conformance::run(async |limits, policies| {
        let config: RedisConfig = config(kind, urls);
        connect(&config, limits, policies).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_over_one_server() {
    let server = Server::start(&Options::default()).unwrap();
    keeps_its_promises(RedisKind::Servers, &[server.url()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_over_independent_servers() {
    let servers: Vec<Server> = (0..3)
        .map(|_| Server::start(&Options::default()).unwrap())
        .collect();
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    keeps_its_promises(RedisKind::Servers, &urls).await;
    for server in &servers {
        let keys = server.command(&["DBSIZE"]).unwrap().as_integer();
        assert!(keys > Some(0), "every server has its share");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_over_sentinel() {
    let sentinel = Sentinel::start().unwrap();
    let urls = sentinel.urls();
    keeps_its_promises(RedisKind::Sentinel, &urls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_its_promises_over_a_cluster() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    keeps_its_promises(RedisKind::Cluster, &cluster.urls()).await;
}

/// What follows the servers ends with the last handle, and leaves no connection behind.
#[tokio::test]
async fn nothing_of_a_bus_outlives_it() {
    let cluster = Cluster::start(&ClusterOptions::bare()).unwrap();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let config = RedisConfig {
        wait_replicas: Some(0),
        ..config(RedisKind::Cluster, &cluster.urls())
    };
    let bus = connect(&config, BusLimits::default(), Policies::default()).await;
    let (subscriptions, events) = bus.attach(10);
    let key = TopicKey::everyone();
    subscriptions.subscribe(std::slice::from_ref(&key)).await.unwrap();
    assert!(tasks() > before);
    drop((bus, subscriptions, events));
    until("its tasks have ended", Duration::from_secs(10), || {
        tasks() == before
    })
    .await;
}
