//! While the database is away: the spool over real Redis servers, and what comes out of it.

mod drain;
mod on_sqlite;
mod outage;
mod replica;
mod requests;
mod stream;
mod turns;

use std::time::Duration;

use common::{
    config::{Bytes, Span},
    ids::NodeId,
    redis::{RedisConfig, RedisKind},
};
use dispatcher::{
    config::SpoolConfig,
    metrics::Metrics,
    model::{Accepted, IdempotencyKey, NewNotification},
    spool::Spool,
    store::Store,
    wake::Wake,
};
use rig::redis::{Cluster, Options, Restart, Server};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{World, eventually, in_inbox, notification, reader};

/// What the database does not answer within this time is away.
const AWAY_AFTER: Duration = Duration::from_secs(1);

/// A server that has on disk what it answered.
pub(crate) fn durable() -> Server {
    let options = Options::default()
        .line("appendonly yes")
        .line("appendfsync always");
    Server::start(&options).unwrap()
}

/// One spool, as several nodes see it.
pub(crate) struct Shared {
    pub(crate) redis: RedisConfig,
    pub(crate) config: SpoolConfig,
    pub(crate) metrics: Metrics,
}

impl Shared {
    pub(crate) fn on(server: &Server) -> Self {
        Self::over(RedisKind::Servers, &[server.url()])
    }

    fn on_cluster(cluster: &Cluster) -> Self {
        Self::over(RedisKind::Cluster, &cluster.urls())
    }

    fn over(kind: RedisKind, urls: &[String]) -> Self {
        let prefix = format!("t{}", NodeId::generate());
        Self {
            redis: RedisConfig::for_test(kind, urls, &prefix),
            config: SpoolConfig::default(),
            metrics: Metrics::new(),
        }
    }

    fn key(&self, kind: &str) -> String {
        format!("{}:{{spool}}:{kind}", self.redis.prefix)
    }

    /// A node that is ready to spool.
    pub(crate) async fn node(&self, name: &str) -> Spool {
        let spool = self.node_as_it_is(name).await;
        eventually("the spool can be used", async || {
            spool.unusable().is_none().then_some(())
        })
        .await;
        spool
    }

    async fn node_as_it_is(&self, name: &str) -> Spool {
        Spool::start(&self.redis, &self.config, name, AWAY_AFTER, &self.metrics)
            .await
            .unwrap()
    }
}

/// Drains into a store until it is dropped.
fn drain(spool: &Spool, store: &Store) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(spool.clone().drain(store.clone(), Wake::default(), stop.clone()));
    stop.drop_guard()
}

fn row(user: &str) -> NewNotification {
    in_inbox(notification(user), user)
}

fn rows(user: &str, count: usize) -> Vec<NewNotification> {
    (0..count).map(|_| row(user)).collect()
}

fn keyed(mut new: NewNotification, credential: &str, key: &str, body: &str) -> NewNotification {
    new.idempotency.push(IdempotencyKey {
        credential: credential.to_owned(),
        route: "notifications".into(),
        key: key.to_owned(),
        request_hash: body.as_bytes().to_vec(),
        status: 202,
        response: format!("{{\"id\": \"{}\"}}", new.id),
    });
    new
}

/// Spools each as a request of its own, one after the other.
async fn take_each(spool: &Spool, all: &[NewNotification]) {
    for new in all {
        assert_eq!(spool.take(vec![new.clone()]).await.unwrap(), [Accepted::Spooled]);
    }
}

/// The ids in a user's inbox, oldest first.
async fn stored(store: &Store, user: &str) -> Vec<common::ids::NotificationId> {
    let filter = dispatcher::model::ListFilter {
        limit: 10_000,
        ..Default::default()
    };
    let mut items: Vec<_> = store
        .list(&reader(user), &filter)
        .await
        .unwrap()
        .into_iter()
        .map(|item| item.id)
        .collect();
    items.reverse();
    items
}

fn ids(all: &[NewNotification]) -> Vec<common::ids::NotificationId> {
    all.iter().map(|new| new.id).collect()
}

/// Waits until the user's inbox has as many rows as these, which have to be these in this order.
async fn stored_in_order(store: &Store, user: &str, all: &[NewNotification]) {
    let wanted = ids(all);
    eventually("all is stored", async || {
        (stored(store, user).await.len() >= wanted.len()).then_some(())
    })
    .await;
    assert_eq!(stored(store, user).await, wanted);
}

fn number(server: &Server, words: &[&str]) -> i64 {
    server.command(words).unwrap().as_integer().unwrap_or(-1)
}
