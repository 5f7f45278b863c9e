//! The bus over Redis 7: stand-alone servers, Sentinel, Cluster.
//!
//! In the order of the data's way:
//! - `names`: topics in partitions, each in one slot; `scripts`: what is one step in Redis;
//! - `publish`, `read`: calls and their answers; `router`: brings them to the server that has the partition, by `topology`;
//! - `lane`: a connection that carries commands out in flushes, each with its `WAIT`; `link`: the connection itself;
//! - `attendance`: who is in topics with presence;
//! - `node`, `hearing`, `wanted`, `listener`: which topics a node hears, and where; `events`: what it heard.
//!
//! fred is not used here, for two reasons that were found in its source: the `WAIT` of a flush has to go over the connection
//! that carried the flush, and fred may have made it anew between them; and subscriptions have to see every confirmation and
//! every `sunsubscribe` of a slot that moved, which fred drops. Its parser is.

mod attendance;
mod events;
mod hearing;
mod lane;
mod link;
mod listener;
mod metrics;
mod names;
mod node;
mod publish;
mod read;
mod router;
mod scripts;
mod topology;
mod wanted;
mod wire;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Notify, watch};

pub use self::metrics::BusMetrics;
pub(super) use self::{events::RedisEvents, node::RedisNode};
use self::{
    hearing::{Hearing, HearingParts},
    lane::LaneOptions,
    link::{Credentials, Dialing},
    names::Names,
    publish::{Publisher, Sent},
    router::{Router, Way, odd, unavailable},
    topology::{Map, Scout},
};
use super::{BusError, BusLimits, Head, History, Publication, Published};
use crate::{
    ids::NodeId,
    policy::Policies,
    redis::{ClientError, RedisConfig, RedisKind, tls},
    topic::TopicKey,
};

/// The bus over Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RedisBus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    names: Arc<Names>,
    publisher: Publisher,
    router: Arc<Router>,
    dialing: Dialing,
    config: RedisConfig,
    trouble: Arc<Notify>,
    map: watch::Receiver<Arc<Map>>,
    metrics: BusMetrics,
    node: NodeId,
    nodes: Mutex<Vec<Weak<Hearing>>>,
}

impl RedisBus {
    /// Begins to connect. The bus is there at once and ready when Redis is; it comes back by itself whenever Redis does.
    ///
    /// # Errors
    /// [`ClientError`]: the configuration cannot be used.
    pub fn connect(
        config: &RedisConfig,
        limits: BusLimits,
        policies: Policies,
        node: NodeId,
        metrics: BusMetrics,
    ) -> Result<Self, ClientError> {
        let first = config.urls.first().ok_or(ClientError::NotConfigured)?;
        let names = Arc::new(Names::new(&config.prefix, config.partitions));
        let sentinel = config.kind == RedisKind::Sentinel;
        // A Sentinel's URL says how Sentinels are talked to; nodes of a cluster have one list of users.
        let common = (config.kind == RedisKind::Cluster)
            .then(|| Credentials::of(first))
            .flatten();
        let servers = config
            .urls
            .iter()
            .chain(&config.subscribe_url)
            .filter(|_| !sentinel);
        let dialing = Dialing {
            tls: first.tls.then(|| tls(config)).transpose()?,
            credentials: common.unwrap_or_else(|| Credentials {
                username: config.username.clone(),
                password: config.password.clone(),
            }),
            own: Arc::new(Credentials::by_place(servers)),
            name: format!("carillon-{}", node.as_str()),
            connect_timeout: config.connect_timeout.0,
            timeout: config.timeout.0,
        };
        let trouble = Arc::new(Notify::new());
        let (scout, map) = Scout::new(config, Arc::clone(&names), &dialing, Arc::clone(&trouble));
        tokio::spawn(scout.run());
        let router = Router::start(
            map.clone(),
            LaneOptions {
                dialing: dialing.clone(),
                replicas: config.replicas(),
                queue: config.publish_queue,
                idle: config.probe_after.0,
                trouble: Arc::clone(&trouble),
                metrics: metrics.clone(),
            },
        );
        let inner = Inner {
            names,
            publisher: Publisher { limits, policies },
            router,
            dialing,
            config: config.clone(),
            trouble,
            map,
            metrics,
            node,
            nodes: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Begins to connect with the defaults and an id of its own, as each process of a cluster does.
    ///
    /// # Panics
    /// When the configuration cannot be used.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn for_test(config: &RedisConfig) -> super::Bus {
        let (limits, policies) = (BusLimits::default(), Policies::default());
        let bus = Self::connect(
            config,
            limits,
            policies,
            NodeId::generate(),
            BusMetrics::default(),
        );
        super::Bus::Redis(bus.expect("a configuration that can be used"))
    }

    pub(super) async fn publish(&self, publication: &Publication) -> Result<Published, BusError> {
        let mut results = self.publish_many(std::slice::from_ref(publication)).await;
        results
            .pop()
            .unwrap_or_else(|| Err(unavailable("no answer".to_owned())))
    }

    pub(super) async fn publish_many(
        &self,
        publications: &[Publication],
    ) -> Vec<Result<Published, BusError>> {
        let inner = &self.inner;
        let mut items = Vec::with_capacity(publications.len());
        let mut expected = Vec::with_capacity(publications.len());
        for publication in publications {
            let Sent { item, expected: its } = inner.publisher.encode(&inner.names, publication);
            items.push(item);
            expected.push(its);
        }
        let replies = inner.router.run(Way::Publish, items).await;
        let results = replies.into_iter().zip(expected);
        results
            .map(|(reply, expected)| reply.and_then(|reply| expected.read(&reply)))
            .collect()
    }

    /// None for a topic whose server did not say.
    pub(super) async fn heads(&self, keys: &[TopicKey]) -> Vec<Option<Head>> {
        let inner = &self.inner;
        let (items, places): (Vec<_>, Vec<_>) = read::heads(&inner.names, keys, &inner.publisher.limits)
            .into_iter()
            .unzip();
        let mut heads: Vec<Option<Head>> = vec![None; keys.len()];
        for (reply, places) in inner.router.run(Way::Read, items).await.into_iter().zip(places) {
            let found = reply.ok().and_then(|reply| read::read_heads(&reply));
            for (place, head) in places.into_iter().zip(found.unwrap_or_default()) {
                heads[place] = Some(head);
            }
        }
        heads
    }

    pub(super) async fn history(
        &self,
        key: &TopicKey,
        after: u64,
        limit: usize,
    ) -> Result<History, BusError> {
        let Publisher { limits, policies } = &self.inner.publisher;
        let mut from = after;
        let mut all: Option<History> = None;
        loop {
            let item = read::history(&self.inner.names, key, from, limit);
            let reply = self.inner.router.run(Way::Read, vec![item]).await.pop();
            let read::Part { history, last } =
                read::read_history(&reply.ok_or_else(odd)??, key, policies, limits).ok_or_else(odd)?;
            let mut whole = match all.take() {
                Some(mut before) if before.head.epoch == history.head.epoch => {
                    before.messages.extend(history.messages);
                    History {
                        messages: before.messages,
                        superseded_after: before.superseded_after.max(history.superseded_after),
                        ..history
                    }
                }
                _ => history,
            };
            match last {
                // What was too old made room for more: who asks takes fewer than the limit for the end.
                Some(last) if whole.messages.len() < limit => {
                    from = last;
                    all = Some(whole);
                }
                _ => {
                    whole.messages.truncate(limit);
                    return Ok(whole);
                }
            }
        }
    }

    pub(super) async fn renew(&self, key: &TopicKey, old: Head) -> Result<Head, BusError> {
        let inner = &self.inner;
        let limits = &inner.publisher.limits;
        let item = read::renew(&inner.names, key, old, limits);
        let reply = inner
            .router
            .run(Way::Publish, vec![item])
            .await
            .pop()
            .ok_or_else(odd)??;
        let head = read::read_heads(&reply)
            .and_then(|heads| heads.first().copied())
            .ok_or_else(odd)?;
        if head.epoch != old.epoch {
            inner.metrics.renewed.inc();
        }
        Ok(head)
    }

    pub(super) fn attach(&self, capacity: usize) -> (RedisNode, RedisEvents) {
        let inner = &self.inner;
        let (sender, events) = events::events(capacity);
        let mut nodes = inner.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let node = RedisNode::start(Hearing::new(HearingParts {
            // Several nodes of a process, as in tests, each hear their own probes.
            node: format!("{}-{}", inner.node.as_str(), nodes.len()),
            names: Arc::clone(&inner.names),
            dialing: inner.dialing.clone(),
            probe_after: inner.config.probe_after.0,
            events: sender,
            metrics: inner.metrics.clone(),
            trouble: Arc::clone(&inner.trouble),
            router: Arc::clone(&inner.router),
            map: inner.map.clone(),
        }));
        nodes.push(node.weak());
        (node, events)
    }

    /// Subscribes, and answers the topics' ends as they are after that; none for a topic that is not subscribed.
    pub(super) async fn subscribe(&self, node: &RedisNode, keys: &[TopicKey]) -> Vec<Option<Head>> {
        let asked = node.subscribe(keys).await;
        let confirmed: Vec<TopicKey> = keys
            .iter()
            .zip(&asked)
            .filter(|(_, asked)| asked.confirmed)
            .map(|(key, _)| key.clone())
            .collect();
        let mut found = self.heads(&confirmed).await.into_iter();
        let heads: Vec<Option<Head>> = asked
            .iter()
            .map(|asked| asked.confirmed.then(|| found.next().flatten()).flatten())
            .collect();
        // Those that were there before have their members.
        let failed = keys.iter().zip(&asked).zip(&heads);
        let failed = failed.filter(|((_, asked), head)| asked.new && head.is_none());
        let failed: Vec<TopicKey> = failed.map(|((key, _), _)| key.clone()).collect();
        node.unsubscribe(&failed).await;
        heads
    }

    /// Whether a publish sees every node that is subscribed: not where nodes subscribe at a replica.
    pub(super) fn counts_receivers(&self) -> bool {
        self.inner.config.subscribe_url.is_none()
    }

    /// Whether everything can be published and everything wanted is heard.
    pub(super) fn ready(&self) -> bool {
        let nodes = self.inner.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.router.is_up()
            && nodes
                .iter()
                .filter_map(Weak::upgrade)
                .all(|node| node.is_receiving())
    }
}
