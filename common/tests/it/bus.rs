//! The promises of the bus, over every form of Redis.

use common::{
    bus::conformance,
    redis::{RedisConfig, RedisKind},
};
use rig::redis::{Cluster, ClusterOptions, Options, Sentinel, Server};

use crate::support::{config, connect};

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
