//! A running hub, tokens for it, and clients.

mod client;
mod http;
mod stream;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use common::{
    bus::{Bus, BusLimits, MemoryBus, Publication},
    config::{AuthConfig, Bytes, Span},
    credential::{CredentialMetrics, Credentials, Guard, Keys, MemoryKeys},
    http::{Authenticator, Front, ServeOptions, serve},
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header, Position},
    patience,
    policy::Policies,
    receipts::{Receipt, ReceiptStream, in_memory},
    shutdown::Shutdown,
    telemetry::Metrics,
    token::{NewToken, Verifier, mint},
    topic::TopicKey,
};
use hub::{Hub, HubConfig, HubParts};
use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;

pub(crate) use self::{
    client::{Client, Frame, Handshake, deflated},
    http::{Answer, Kept, call},
    stream::{Block, Stream},
};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What a hub is started with.
pub(crate) struct Setup {
    pub(crate) config: HubConfig,
    pub(crate) history: BusLimits,
    /// Shared with another node, in the place of one of its own.
    pub(crate) bus: Option<Bus>,
    pub(crate) policies: Policies,
    pub(crate) node_queue: usize,
    pub(crate) public_topics: Vec<String>,
    pub(crate) allowed_origins: Vec<String>,
    pub(crate) trusted_proxies: Vec<String>,
    pub(crate) header_timeout: Duration,
}

/// A running hub with both listeners.
pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) public: SocketAddr,
    pub(crate) internal: SocketAddr,
    pub(crate) bus: Bus,
    /// API keys that the hub believes.
    pub(crate) keys: MemoryKeys,
    metrics: Metrics,
    receipts: tokio::sync::Mutex<ReceiptStream>,
    shutdown: Shutdown,
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// Limits that no test meets by chance, and no time that a test has to wait for.
fn config() -> HubConfig {
    let seconds = |seconds| Span(Duration::from_secs(seconds));
    HubConfig {
        workers: 3,
        max_connections: 10_000,
        max_connections_per_tenant: 10_000,
        max_connections_per_user: 10_000,
        max_connections_per_address: 10_000,
        handshakes_per_second: 10_000,
        max_topics: 8,
        inbound_per_second: 1000,
        max_message: Bytes(64 * 1024),
        heartbeat: seconds(25),
        outbound_bytes: Bytes(8 * 1024 * 1024),
        outbound_frames: 100_000,
        outbound_age: seconds(30),
        outbound_stall: seconds(300),
        send_buffer: Bytes(0),
        flush: hub::config::Flush::Write,
        compression: false,
        compression_min: Bytes(256),
        close_timeout: seconds(5),
        worker_queue: 8192,
        // Never, so that it repairs nothing that a test looks at.
        head_check: seconds(3600),
        topic_linger: seconds(1),
        lame_duck: seconds(0),
        drain_window: seconds(0),
        max_publish: Bytes(256 * 1024),
        presence_grace: seconds(1),
        region: String::new(),
        announce: seconds(3),
        traces: 4,
        trace_time: seconds(600),
    }
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup {
            config: config(),
            history: BusLimits {
                count: 10_000,
                bytes: 64 * 1024 * 1024,
                ..BusLimits::default()
            },
            bus: None,
            policies: Policies::default(),
            node_queue: 65_536,
            public_topics: vec!["public.*".to_owned()],
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            header_timeout: Duration::from_secs(10),
        };
        change(&mut setup);
        let auth = AuthConfig {
            default_tenant: Some(TenantId::new("t1").unwrap()),
            ..AuthConfig::default()
        };
        let verifier = Verifier::new(&auth, Some(&SecretString::from(SECRET))).unwrap();
        let keys = MemoryKeys::default();
        let grace = Duration::from_secs(60);
        let credentials = Credentials::tokens(verifier).with_keys(Keys::start(
            Arc::new(keys.clone()),
            grace,
            None,
            CredentialMetrics::default(),
        ));
        let credentials = Arc::new(credentials.guarded(Guard::new(auth.failures, auth.failures_window.0)));
        let policies = setup.policies.clone();
        let bus = setup
            .bus
            .unwrap_or_else(|| Bus::Memory(MemoryBus::with_policies(setup.history, policies)));
        let (sink, receipts) = in_memory(100_000);
        let metrics = Metrics::default();
        let hub = Hub::start(HubParts {
            node: common::ids::NodeId::generate(),
            config: setup.config,
            node_queue: setup.node_queue,
            bus: bus.clone(),
            policies: setup.policies,
            credentials: Arc::clone(&credentials),
            public_topics: setup.public_topics,
            allowed_origins: setup.allowed_origins,
            trusted_proxies: setup.trusted_proxies,
            receipts: sink,
            metrics: metrics.clone(),
        });
        let shutdown = Shutdown::new();
        let listen = async |router: axum::Router, front: Option<Front>| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let router = router.layer(axum::Extension(Authenticator(Arc::clone(&credentials))));
            let options = ServeOptions {
                max_connections: 10_000,
                header_timeout: setup.header_timeout,
                http2: None,
            };
            tokio::spawn(serve(
                listener,
                router,
                front,
                options,
                shutdown.token(),
                shutdown.clone(),
            ));
            address
        };
        let public = listen(
            hub::http::public(&hub).split_for_parts().0,
            Some(hub::http::front(&hub, setup.header_timeout)),
        )
        .await;
        let internal = listen(
            hub::http::internal(&hub).split_for_parts().0,
            Some(hub::http::express(&hub, setup.header_timeout)),
        )
        .await;
        Self {
            hub,
            public,
            internal,
            bus,
            metrics,
            receipts: receipts.into(),
            shutdown,
            keys,
        }
    }

    /// A carillon.v1 session, welcomed.
    pub(crate) async fn connect(&self, token: &str) -> Client {
        Client::open(self.public, &Handshake::v1(token))
            .await
            .welcomed()
            .await
    }

    /// A carillon.v1 session of a user of tenant t1 without roles.
    pub(crate) async fn user(&self, user: &str) -> Client {
        self.connect(&token(user, |_| ())).await
    }

    /// A session of the seeds' dialect on a path, in place.
    pub(crate) async fn seeds(&self, path: &str, token: &str) -> Client {
        let mut client = Client::open(self.public, &Handshake::seeds(path, token)).await;
        // The dialect has no welcome; a command is answered when the session is in place.
        client.send(&serde_json::json!({"type":"ping"})).await;
        assert_eq!(client.json().await["type"], "pong");
        client
    }

    /// Both listeners stop; requests that have begun come to their end.
    pub(crate) fn stop_listening(&self) {
        self.shutdown.begin();
    }

    /// Publishes as a service of tenant t1.
    pub(crate) async fn publish(&self, body: &Value) -> Value {
        let answer = self.post("/api/v1/publish", &publisher(), body).await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        answer.body
    }

    /// Calls the internal listener.
    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        call(self.internal, "POST", path, token, &body.to_string()).await
    }

    /// Puts a message on the bus as the dispatcher does.
    pub(crate) async fn put(
        &self,
        key: &TopicKey,
        kind: FrameKind,
        history: bool,
        change: impl FnOnce(&mut Header),
    ) -> (MessageId, Option<Position>) {
        let id = MessageId::generate();
        let mut header = Header::new(id, kind);
        change(&mut header);
        let name = serde_json::to_value(kind).unwrap();
        let payload = serde_json::json!({"type": name, "id": id.to_string()}).to_string();
        let publication = Publication {
            key: key.clone(),
            header,
            payload: payload.into(),
            history,
            idempotency_key: None,
        };
        (id, self.bus.publish(publication).await.unwrap().position)
    }

    /// The value of a metric as it stands in the text, such as `hub_gaps_healed_total`; 0 where it is not there.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.text();
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            // With its labels or without; another metric's name may go on.
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<f64>().unwrap())
        });
        values.sum()
    }

    /// Waits until a metric has at least this value.
    pub(crate) async fn metric_reaches(&self, name: &str, value: f64) {
        eventually(name, async || (self.metric(name) >= value).then_some(())).await;
    }

    /// No dispatcher takes receipts any more.
    pub(crate) async fn close_receipts(&self) {
        self.receipts.lock().await.close();
    }

    /// The next receipt other than that a session began.
    pub(crate) async fn receipt(&self) -> Receipt {
        let mut receipts = self.receipts.lock().await;
        loop {
            let batch = soon("a receipt", receipts.next_batch(1)).await;
            let receipt = batch.expect("the hub has gone").receipts.remove(0);
            if !matches!(receipt, Receipt::Seen { .. }) {
                return receipt;
            }
        }
    }
}

/// A user's token for tenant t1.
pub(crate) fn token(user: &str, change: impl FnOnce(&mut NewToken)) -> String {
    let mut new = NewToken {
        user: user.to_owned(),
        tenant: Some("t1".to_owned()),
        ..NewToken::default()
    };
    change(&mut new);
    mint(&new, &SecretString::from(SECRET)).unwrap()
}

/// A token that is signed with another secret.
pub(crate) fn foreign_token(user: &str) -> String {
    let new = NewToken {
        user: user.to_owned(),
        ..NewToken::default()
    };
    mint(&new, &SecretString::from(SECRET.replace('0', "x"))).unwrap()
}

/// A service of tenant t1 that may publish.
pub(crate) fn publisher() -> String {
    token("service", |new| new.scopes = vec!["publish".to_owned()])
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

pub(crate) fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

pub(crate) fn user_key(user: &str) -> TopicKey {
    TopicKey::user(&tenant("t1"), &name(user))
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    patience::eventually(what, PATIENCE, ask).await
}

/// Fails the test when `work` takes too long.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    patience::soon(what, PATIENCE, work).await
}
