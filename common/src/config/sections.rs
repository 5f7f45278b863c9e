//! The sections that both services have.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};

use super::{Bytes, ConfigError, Span};
use crate::ids::TenantId;

/// `[server]`: listeners, the data folder, the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The public listener: page, API, sockets.
    pub listen: SocketAddr,
    /// The internal listener: publish, metrics, health.
    pub internal_listen: SocketAddr,
    /// The gRPC listener of a process with a dispatcher; an empty text is none.
    #[serde(deserialize_with = "address_or_none")]
    pub grpc_listen: Option<SocketAddr>,
    /// Where the database and the made secret lie.
    pub data_dir: PathBuf,
    /// How long the process may take to end.
    pub shutdown_deadline: Span,
    /// Origins of browser pages that may open sockets and call the API from elsewhere; `*` is any. The page that this
    /// server hands out is always allowed.
    #[serde(default)]
    pub allowed_origins: Vec<String>,
    /// Open HTTP connections of one listener, sockets included.
    pub max_connections: usize,
    /// Time to receive a request's head.
    pub header_timeout: Span,
    /// Addresses (or `*`) of proxies whose `X-Forwarded-For` is believed.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
}

impl ServerConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.max_connections == 0 {
            return Err(ConfigError::invalid(
                "server.max_connections",
                "has to be at least 1",
            ));
        }
        if self.header_timeout.0.is_zero() {
            return Err(ConfigError::invalid(
                "server.header_timeout",
                "has to be longer than nothing",
            ));
        }
        if self.listen == self.internal_listen && self.listen.port() != 0 {
            return Err(ConfigError::invalid(
                "server.internal_listen",
                "is the public listener's address",
            ));
        }
        if let Some(grpc) = self.grpc_listen
            && grpc.port() != 0
            && [self.listen, self.internal_listen].contains(&grpc)
        {
            return Err(ConfigError::invalid(
                "server.grpc_listen",
                "is another listener's address",
            ));
        }
        Ok(())
    }
}

/// `[auth]`: whose tokens are believed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// The HS256 secret, at least 32 bytes.
    pub secret: Option<SecretString>,
    /// The secret before it, accepted until `previous_secret_until`.
    pub previous_secret: Option<SecretString>,
    /// RFC 3339.
    pub previous_secret_until: Option<jiff::Timestamp>,
    /// Public keys for RS256, ES256 and `EdDSA`.
    pub keys: Vec<AuthKey>,
    /// The tenant of tokens that name none. An empty text is none: such tokens are refused.
    #[serde(deserialize_with = "tenant_or_none")]
    pub default_tenant: Option<TenantId>,
    /// Where an issuer shows its public keys (RFC 7517): tokens of these keys are believed, too.
    pub jwks_url: Option<String>,
    /// The algorithms that keys there may have.
    pub jwks_algorithms: Vec<String>,
    /// A token of a key that is not known has the keys fetched again, at most so often.
    pub jwks_cool_down: Span,
    /// `aud` that tokens must carry.
    pub audience: Option<String>,
    /// `iss` that tokens must carry.
    pub issuer: Option<String>,
    /// Patterns of topics that every session may subscribe to.
    pub public_topics: Vec<String>,
    /// For how long an API key that was seen goes on while what keeps API keys is away.
    pub api_key_grace: Span,
    /// Wrong tokens and keys of one address within `failures_window`; beyond, what is not known already is refused unseen.
    /// 0: no bound.
    pub failures: u32,
    /// The time for `failures`.
    pub failures_window: Span,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            secret: None,
            previous_secret: None,
            previous_secret_until: None,
            keys: Vec::new(),
            default_tenant: None,
            jwks_url: None,
            jwks_algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).into(),
            jwks_cool_down: Span(Duration::from_secs(30)),
            audience: None,
            issuer: None,
            public_topics: Vec::new(),
            api_key_grace: Span(Duration::from_mins(5)),
            failures: 300,
            failures_window: Span(Duration::from_mins(1)),
        }
    }
}

/// A layer cannot take a key of the one below away, so the empty text says that there is none.
fn tenant_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TenantId>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let given = text.filter(|text| !text.is_empty());
    given
        .map(|text| TenantId::new(&text).map_err(de::Error::custom))
        .transpose()
}

/// Likewise for an address.
fn address_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let given = (!text.is_empty()).then(|| text.parse());
    given.transpose().map_err(de::Error::custom)
}

/// One public key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthKey {
    /// RS256, ES256 or `EdDSA`; the only algorithm that this key verifies.
    pub algorithm: String,
    /// The `kid` that tokens of this key carry.
    #[serde(default)]
    pub kid: Option<String>,
    /// SPKI PEM.
    pub pem: String,
}

impl AuthConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.previous_secret.is_some() != self.previous_secret_until.is_some() {
            return Err(ConfigError::invalid(
                "auth.previous_secret_until",
                "goes with auth.previous_secret: an old secret has to end",
            ));
        }
        if self.jwks_url.is_some() {
            // An issuer signs for many; only what it signed for this system may count.
            for (key, value) in [("auth.issuer", &self.issuer), ("auth.audience", &self.audience)] {
                if value.is_none() {
                    return Err(ConfigError::invalid(key, "has to be set with auth.jwks_url"));
                }
            }
            if self.jwks_algorithms.is_empty() {
                return Err(ConfigError::invalid("auth.jwks_algorithms", "names no algorithm"));
            }
        }
        if self.jwks_cool_down.0 < Duration::from_secs(1) {
            return Err(ConfigError::invalid(
                "auth.jwks_cool_down",
                "has to be at least 1s",
            ));
        }
        if self.api_key_grace.0 > Duration::from_hours(24) {
            return Err(ConfigError::invalid(
                "auth.api_key_grace",
                "can be no longer than 24h: a revoked key would go on for as long",
            ));
        }
        if !(Duration::from_secs(1)..=Duration::from_hours(24)).contains(&self.failures_window.0) {
            return Err(ConfigError::invalid(
                "auth.failures_window",
                "has to be from 1s to 24h",
            ));
        }
        Ok(())
    }
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// A filter such as `info` or `info,hub=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl LogConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        tracing_subscriber::EnvFilter::builder()
            .parse(&self.level)
            .map(drop)
            .map_err(|error| ConfigError::invalid("log.level", error.to_string()))
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `[bus]`: history of the in-process bus.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusConfig {
    /// Messages a topic.
    pub history_count: usize,
    /// Payload bytes a topic.
    pub history_bytes: Bytes,
    /// Age of a message.
    pub history_age: Span,
    /// How long offsets outlive history.
    pub meta_age: Span,
    /// Topics that nobody is subscribed to and whose offsets are remembered.
    pub meta_topics: usize,
    /// How long an idempotency key of a publish gives the first result.
    pub idempotency_age: Span,
    /// Idempotency keys that are remembered, over all topics; one topic has at most a tenth of them.
    pub idempotency_keys: usize,
    /// Messages that may wait for this node; beyond, they are dropped, counted and healed.
    pub node_queue: usize,
}

impl BusConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.node_queue == 0 {
            return Err(ConfigError::invalid("bus.node_queue", "has to be at least 1"));
        }
        if self.meta_age.0 < self.history_age.0.max(Duration::from_secs(60)) {
            return Err(ConfigError::invalid(
                "bus.meta_age",
                "has to be at least a minute and no less than bus.history_age",
            ));
        }
        if self.idempotency_age.0 > self.meta_age.0 {
            return Err(ConfigError::invalid(
                "bus.idempotency_age",
                "can be no longer than bus.meta_age: a topic that is forgotten forgets its keys",
            ));
        }
        if self.idempotency_keys < 1000 {
            return Err(ConfigError::invalid(
                "bus.idempotency_keys",
                "has to be at least 1000",
            ));
        }
        Ok(())
    }
}
