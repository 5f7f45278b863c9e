//! A worker with many sessions and no sockets.

use std::{collections::BTreeSet, sync::Arc};

use common::{
    bus::{Bus, BusLimits, MemoryBus},
    config::AuthConfig,
    credential::Credentials,
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header, Message},
    policy::Policies,
    receipts::in_memory,
    telemetry::Metrics,
    token::{Identity, Verifier},
    topic::TopicKey,
};
use hub::{Hub, HubConfig, HubParts, Outgoing, worker::bench::Node};
use secrecy::SecretString;

use crate::{SECRET, payload};

/// Roles that there are.
const ROLES: u32 = 20;

/// Stores that there are.
pub const STORES: u32 = 500;

/// Who the session of this number is: a user of its own, two roles, a store. With the tenant and everyone, six topics.
///
/// # Panics
/// Never: numbers are names.
#[must_use]
pub fn identity(number: u32) -> Identity {
    let name = |prefix: &str, number: u32| Name::new(&format!("{prefix}{number}")).expect("a name");
    Identity {
        tenant: TenantId::new("acme").expect("a tenant's id"),
        user: name("user-", number),
        roles: vec![name("role-", number % ROLES), name("role-", (number + 7) % ROLES)],
        stores: vec![name("store-", number % STORES)],
        topics: Vec::new(),
        scopes: BTreeSet::new(),
        expires_at: i64::MAX,
    }
}

/// The defaults of `[hub]`, for one worker without limits.
///
/// # Panics
/// Never: the defaults are valid.
#[must_use]
pub fn config() -> HubConfig {
    let all: toml::Table = include_str!("../../config/carillon.toml")
        .parse()
        .expect("the defaults are TOML");
    let mut config: HubConfig = all["hub"].clone().try_into().expect("the defaults fit");
    config.workers = 1;
    config.max_connections = usize::MAX;
    config.max_connections_per_tenant = usize::MAX;
    config.max_connections_per_address = usize::MAX;
    config
}

/// A hub on a bus in memory. Needs a runtime.
///
/// # Panics
/// Never: the secret has the right length.
#[must_use]
pub fn hub() -> Hub {
    let verifier = Verifier::new(
        &AuthConfig::default(),
        Some(&SecretString::from(SECRET.to_owned())),
    );
    let (receipts, _) = in_memory(1);
    Hub::start(HubParts {
        node: common::ids::NodeId::generate(),
        config: config(),
        node_queue: 1024,
        bus: Bus::Memory(MemoryBus::new(BusLimits::default())),
        credentials: Arc::new(Credentials::tokens(verifier.expect("a secret of 32 bytes"))),
        policies: Policies::default(),
        public_topics: Vec::new(),
        allowed_origins: Vec::new(),
        trusted_proxies: Vec::new(),
        receipts,
        metrics: Metrics::default(),
    })
}

/// A worker with sessions numbered from zero, and the topics that they share.
#[derive(Debug)]
pub struct Crowd {
    /// The worker.
    pub node: Node,
    /// Each session's user.
    pub users: Vec<TopicKey>,
}

impl Crowd {
    /// A worker with so many sessions.
    ///
    /// # Panics
    /// Where loopback has no port.
    pub async fn new(sessions: u32) -> Self {
        let node = Node::new(&hub(), identity(0)).await.expect("a port of loopback");
        let users = Vec::with_capacity(sessions as usize);
        let mut crowd = Self { node, users };
        for number in 0..sessions {
            let (_, user) = enter(&mut crowd.node, number).await;
            crowd.users.push(user);
        }
        crowd
    }

    /// Messages for users chosen by chance, and their sessions. As the bus gives them, their keys share the text that
    /// the index has.
    pub fn unicasts(&self, rng: &mut fastrand::Rng, count: usize) -> Vec<(u32, Arc<Outgoing>)> {
        let number = |_| rng.usize(..self.users.len());
        let unicast = |number: usize| (number as u32, outgoing(self.users[number].clone()));
        (0..count).map(number).map(unicast).collect()
    }
}

/// One session comes: its number, and the key of its user.
///
/// # Panics
/// Never: there are no limits.
pub async fn enter(node: &mut Node, number: u32) -> (u32, TopicKey) {
    let seated = node.admit(&identity(number)).expect("no limits");
    let user = seated.keys()[0].clone();
    node.subscribe(&seated).await;
    let joined = node.join(&seated, node.next()).await;
    (node.enter(seated, joined), user)
}

/// Topics that sessions share: everyone, a role's (a tenth of the sessions), a store's (one of 500).
#[must_use]
pub fn groups() -> [(&'static str, TopicKey); 3] {
    let identity = identity(0);
    let of = &identity.tenant;
    [
        ("everyone", TopicKey::everyone()),
        ("a role", TopicKey::role(of, &identity.roles[0])),
        ("a store", TopicKey::store(of, &identity.stores[0])),
    ]
}

/// The sessions of a group of [`groups`].
#[must_use]
pub fn members(group: &TopicKey, sessions: u32) -> Vec<u32> {
    let is_member = |number: &u32| identity(*number).keys().contains(group);
    (0..sessions).filter(is_member).collect()
}

/// A message without history for a topic, as a worker gets it.
#[must_use]
pub fn outgoing(key: TopicKey) -> Arc<Outgoing> {
    Arc::new(Outgoing::new(Arc::new(Message {
        key,
        position: None,
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: payload(128),
    })))
}
