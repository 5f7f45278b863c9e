//! What happens to the bus when something happens to Redis. Each of fred's traps that the bus was built around has its case.

mod failover;
mod review;
mod servers;
mod subscriptions;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use common::{
    bus::{Bus, BusError, BusEvent, BusEvents, BusLimits, Publication, Published, Subscriptions},
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header, Message},
    patience::eventually,
    policy::Policies,
    redis::{RedisConfig, RedisKind},
    topic::TopicKey,
};
use rig::redis::{Options, Server};
use tokio::time::timeout;

use crate::support::{config, connect};

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
    eventually("the bus comes back", LONG, async || {
        bus.publish(publication.clone()).await.ok()
    })
    .await
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

/// Work with servers that blocks, beside what goes on meanwhile.
async fn blocking<S: Send + Sync + 'static, T: Send + 'static>(
    servers: &Arc<S>,
    work: impl FnOnce(&S) -> T + Send + 'static,
) -> T {
    let servers = Arc::clone(servers);
    let worked = tokio::task::spawn_blocking(move || work(&servers)).await;
    worked.expect("the servers do as they are told")
}
