//! The hub: keeps a WebSocket open to every browser and phone, knows which topics each stands for, and hands every
//! message of the bus to the sockets it concerns.
//!
//! In the order of the data's way:
//! - [`http`]: handshake, fallback transports, publish API, statistics; `limits`: who is let in; `comeback`: when who is not
//!   comes back;
//! - [`ws`]: framing; [`worker`]: sessions, what they send, their topics, fan-out, outbound queues, heartbeats, recovery;
//! - `registry` and `interest`: which worker, and which node, wants a topic;
//! - `nodes`: the other hubs, and what all are asked;
//! - `receive`: from the bus to the workers; `pressure`: publishers of many messages wait for them; `receipts`: what is
//!   reported to the dispatcher.

mod ceilings;
mod comeback;
pub mod config;
pub mod http;
mod interest;
mod limits;
mod metrics;
mod nodes;
mod pipe;
mod pressure;
mod receipts;
mod receive;
mod registry;
mod trace;
pub mod worker;
pub mod ws;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use common::{
    bus::Bus,
    credential::Credentials,
    ids::{NodeId, TenantId},
    policy::Policies,
    receipts::ReceiptSink,
    telemetry::Metrics,
    token::Identity,
    topic::{TopicKey, TopicKind},
};
use tokio::{sync::mpsc, task::JoinHandle};

use self::{
    ceilings::Ceilings,
    http::{Publisher, fallback::say::Allowances},
    limits::Connections,
    metrics::HubMetrics,
    nodes::{Nodes, announcement::Own},
    pressure::Pressure,
    receipts::Receipts,
    receive::{Lane, Missed},
    registry::Registry,
    trace::Traces,
    worker::{Control, Inputs, NewSession, Shared, Worker, presence},
};
pub use self::{config::HubConfig, limits::TenantCount, nodes::census::Census, receive::Outgoing};

/// Inputs, other than messages, that may wait for a worker; who has more waits.
const CONTROLS: usize = 4096;

/// What a hub is started with.
#[derive(Debug)]
pub struct HubParts {
    /// Who this node is, on the bus as well.
    pub node: NodeId,
    /// `[hub]`.
    pub config: HubConfig,
    /// Messages that may wait for this node.
    pub node_queue: usize,
    /// The bus.
    pub bus: Bus,
    /// What holds for topics by their names; those of the bus.
    pub policies: Policies,
    /// Whose tokens and keys are believed.
    pub credentials: Arc<Credentials>,
    /// Patterns of topics that every session may subscribe to.
    pub public_topics: Vec<String>,
    /// Origins of browser pages that may connect from elsewhere.
    pub allowed_origins: Vec<String>,
    /// Addresses of proxies whose `X-Forwarded-For` is believed; `*` is any.
    pub trusted_proxies: Vec<String>,
    /// To the dispatcher.
    pub receipts: ReceiptSink,
    /// The process's metrics.
    pub metrics: Metrics,
}

/// A running hub. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    workers: Vec<mpsc::Sender<Control>>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
    connections: Arc<Connections>,
    registry: Arc<Registry>,
    said: Allowances,
    pressure: Pressure,
    publisher: Publisher,
    allowed_origins: Vec<String>,
    trusted_proxies: Vec<String>,
    refusing: AtomicBool,
    leaving: Arc<AtomicBool>,
    nodes: Arc<Nodes>,
}

impl Hub {
    /// Starts the workers and what feeds them, on the runtime at hand.
    #[must_use]
    pub fn start(parts: HubParts) -> Self {
        let metrics = HubMetrics::register(&parts.metrics);
        let ceilings = Arc::new(Ceilings::new(&parts.config));
        let connections = Arc::new(Connections::new(Arc::clone(&ceilings), &parts.config));
        let said = Allowances::new(&parts.config);
        let (subscriptions, events) = parts.bus.attach(parts.node_queue);
        let (wishes, wishes_in) = mpsc::channel(CONTROLS);
        let count = parts.config.worker_count();
        let registry = Arc::new(Registry::new(count));
        let (attended, attended_in) = mpsc::channel(presence::ATTENDED);
        let traces = Arc::new(Traces::new(
            parts.node.clone(),
            parts.config.traces,
            wishes.clone(),
            metrics.traces.clone(),
        ));
        let publisher = Publisher::new(
            parts.bus.clone(),
            parts.config.max_publish.0,
            metrics.published.clone(),
        );
        let shared = Arc::new(Shared {
            node: parts.node,
            bus: parts.bus,
            policies: parts.policies,
            credentials: parts.credentials,
            public_topics: parts.public_topics,
            receipts: Receipts::new(parts.receipts, metrics.receipts_dropped.clone()),
            wishes,
            attended,
            traces: Arc::clone(&traces),
            metrics: metrics.clone(),
            ceilings,
            config: parts.config,
        });
        let mut workers = Vec::with_capacity(count);
        let mut lanes = Vec::with_capacity(count);
        let mut tasks = Vec::with_capacity(count);
        for number in 0..count {
            let (sender, messages) = mpsc::channel(shared.config.worker_queue);
            let (controls, controls_in) = mpsc::channel(CONTROLS);
            let missed = Arc::new(Missed::default());
            lanes.push(Lane {
                sender,
                missed: Arc::clone(&missed),
            });
            let worker = Worker::new(number, Arc::clone(&shared), controls.clone());
            tasks.push(tokio::spawn(worker.run(Inputs {
                messages,
                missed,
                controls: controls_in,
            })));
            workers.push(controls);
        }
        let pressure = Pressure::new(subscriptions.clone(), &lanes, metrics.clone());
        let weak = workers.iter().map(mpsc::Sender::downgrade).collect();
        tokio::spawn(interest::run(
            wishes_in,
            weak,
            Arc::clone(&registry),
            subscriptions.clone(),
        ));
        let (orders, orders_in) = mpsc::channel(nodes::ORDERS);
        tokio::spawn(receive::run(
            events,
            lanes,
            Arc::clone(&registry),
            metrics,
            traces,
            orders,
        ));
        let leaving = Arc::new(AtomicBool::new(false));
        let nodes = Nodes::start(nodes::Parts {
            own: Own::new(
                Arc::clone(&shared),
                Arc::clone(&connections),
                Arc::clone(&registry),
                Arc::clone(&leaving),
            ),
            shared: Arc::clone(&shared),
            workers: workers.clone(),
            orders: orders_in,
            attended: attended_in,
            subscriptions,
        });
        Self {
            inner: Arc::new(Inner {
                shared,
                workers,
                tasks: std::sync::Mutex::new(tasks),
                connections,
                registry,
                said,
                pressure,
                publisher,
                allowed_origins: parts.allowed_origins,
                trusted_proxies: parts.trusted_proxies,
                refusing: AtomicBool::new(false),
                leaving,
                nodes,
            }),
        }
    }

    /// This node's id.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.inner.shared.node
    }

    /// Takes on the bounds of a configuration that was read again: sessions of this node, of a tenant, of a user and from an
    /// address, handshakes, topics of a session, and what it may send. Sessions that are open stay so.
    pub fn take_on(&self, config: &HubConfig) {
        let inner = &self.inner;
        inner.shared.ceilings.set(config);
        inner.connections.take_on(config);
        inner.said.take_on(config);
    }

    /// What takes publishes here.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.inner.publisher
    }

    /// A tenant's sessions on this node.
    #[must_use]
    pub fn tenant_count(&self, tenant: &TenantId) -> TenantCount {
        self.inner.connections.tenant(tenant)
    }

    /// Whether this node should get new connections.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.unready().is_empty()
    }

    /// Why this node should get no new connections; empty where it should. `stopping`: the end has begun; `worker`: a worker
    /// has ended; `bus`: the bus cannot do its work.
    #[must_use]
    pub fn unready(&self) -> Vec<&'static str> {
        if self.inner.leaving.load(Ordering::Acquire) {
            // What else is missing then is missing because of it.
            return vec!["stopping"];
        }
        // A worker ends by itself only in a panic; its users would find nobody here.
        let ended = self.inner.workers.iter().any(mpsc::Sender::is_closed);
        [("worker", ended), ("bus", !self.inner.shared.bus.ready())]
            .into_iter()
            .filter_map(|(reason, holds)| holds.then_some(reason))
            .collect()
    }

    /// The end begins: `/ready` is red, all else goes on.
    pub fn begin_leaving(&self) {
        self.inner.leaving.store(true, Ordering::Release);
    }

    /// New handshakes are refused, and sessions are told to reconnect: spread over the drain window, or all at once. Returns when the
    /// last session has gone and what it said is handed on, or at the deadline; whether all sessions went.
    pub async fn drain(&self, deadline: Duration, spread: bool) -> bool {
        self.begin_leaving();
        self.inner.refusing.store(true, Ordering::Release);
        // A trace would keep the internal listener's connection, and with it the process.
        self.inner.shared.traces.end();
        let window = if spread {
            self.inner.shared.config.drain_window.0
        } else {
            Duration::ZERO
        };
        for worker in &self.inner.workers {
            // A worker that has ended has no sessions.
            drop(worker.send(Control::Drain(window)).await);
        }
        let tasks = std::mem::take(
            &mut *self
                .inner
                .tasks
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        let ended = async {
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "a worker panicked");
                }
            }
        };
        let deadline = tokio::time::Instant::now() + deadline;
        let all_went = tokio::time::timeout_at(deadline, ended).await.is_ok();
        // What the last sessions said still counts.
        tokio::join!(
            self.inner.shared.receipts.flush(deadline),
            self.inner.nodes.leave()
        );
        all_went
    }

    fn refusing(&self) -> bool {
        self.inner.refusing.load(Ordering::Acquire)
    }

    /// The keys that a session is a member of by its token. They share their text with who has them already.
    fn keys(&self, identity: &Identity) -> Arc<[TopicKey]> {
        let shared = |key: &TopicKey| match key.kind() {
            TopicKind::User => self.inner.connections.shared(key),
            _ => self.inner.registry.shared(key),
        };
        identity.keys().iter().map(shared).collect()
    }

    /// Gives a connection to the worker of its user, so that a user's devices share one.
    async fn hand_over(&self, new: NewSession) {
        let Some(user) = new.who.reader.keys.first() else {
            return;
        };
        let number = self.inner.registry.home(user);
        // A worker that has ended drops the connection, which tells the client to come back.
        drop(
            self.inner.workers[number]
                .send(Control::Connect(Box::new(new)))
                .await,
        );
    }
}
