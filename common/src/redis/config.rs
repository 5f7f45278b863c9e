//! `[redis]`

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use super::Endpoint;
use crate::config::{ConfigError, Span, number_or_text};

/// How Redis is put up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisKind {
    /// There is none: standalone, with a bus in memory.
    #[default]
    None,
    /// One server, or several independent ones among which topics are divided.
    Servers,
    /// One primary that Sentinels watch over.
    Sentinel,
    /// Redis Cluster.
    Cluster,
}

/// `[redis]`: the engine of a cluster of hubs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// How Redis is put up.
    pub kind: RedisKind,
    /// The servers; the Sentinels; some nodes of the cluster, from which the others are learnt.
    #[serde(default)]
    pub urls: Vec<Endpoint>,
    /// The ACL user of every server, where its URL names none.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// The name by which Sentinels know the primary.
    pub sentinel_service: String,
    /// The ACL user of the Sentinels themselves.
    #[serde(default)]
    pub sentinel_username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub sentinel_password: Option<SecretString>,
    /// Certificates (PEM) of authorities that are believed instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A nearby replica of the server, to subscribe at: one copy of each message goes over the WAN.
    #[serde(default)]
    pub subscribe_url: Option<Endpoint>,
    /// What the names of all keys and sharded channels begin with.
    pub prefix: String,
    /// Parts among which topics are divided; each lies in one slot. Every node of a cluster has to have the same.
    pub partitions: u16,
    /// Replicas that have to have a publish before it is answered with success. Default: 1 with Sentinel and Cluster,
    /// else 0.
    #[serde(default, deserialize_with = "number_or_text")]
    pub wait_replicas: Option<u8>,
    /// A command that is not answered for so long has failed, and its connection with it.
    pub timeout: Span,
    /// Time for a connection to be made.
    pub connect_timeout: Span,
    /// A subscribing connection on which nothing came for so long is probed through the bus itself.
    pub probe_after: Span,
    /// Publishes that may wait for a server; beyond, they are refused.
    pub publish_queue: usize,
    /// Receipts that may wait in a hub while Redis is away; beyond, the sockets that send them wait.
    pub receipts_queue: usize,
    /// Entries that the stream of receipts holds while no dispatcher reads it; beyond, the oldest are dropped.
    pub receipts_max: u32,
    /// Receipts that a dispatcher took and did not finish for so long are taken over by another.
    pub receipts_claim_after: Span,
}

impl RedisConfig {
    /// The defaults with these servers, under a prefix that a test has for itself.
    ///
    /// # Panics
    /// When a URL is none.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn for_test(kind: RedisKind, urls: &[String], prefix: &str) -> Self {
        use std::time::Duration;
        Self {
            kind,
            urls: urls.iter().map(|url| url.parse().expect("a Redis URL")).collect(),
            username: None,
            password: None,
            sentinel_service: "carillon".to_owned(),
            sentinel_username: None,
            sentinel_password: None,
            ca_file: None,
            subscribe_url: None,
            prefix: prefix.to_owned(),
            partitions: 256,
            wait_replicas: None,
            timeout: Span(Duration::from_secs(2)),
            connect_timeout: Span(Duration::from_secs(2)),
            probe_after: Span(Duration::from_secs(5)),
            publish_queue: 16_384,
            receipts_queue: 16_384,
            receipts_max: 16_384,
            receipts_claim_after: Span(Duration::from_secs(15)),
        }
    }

    /// Replicas that have to have a publish.
    #[must_use]
    pub fn replicas(&self) -> u8 {
        let default = match self.kind {
            RedisKind::None | RedisKind::Servers => 0,
            RedisKind::Sentinel | RedisKind::Cluster => 1,
        };
        self.wait_replicas.unwrap_or(default)
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, reason: &str| Err(ConfigError::invalid(format!("redis.{key}"), reason));
        if self.kind == RedisKind::None {
            if !self.urls.is_empty() {
                return refuse(
                    "kind",
                    "says none, and redis.urls names servers: set it to servers, sentinel or cluster",
                );
            }
            return Ok(());
        }
        if self.urls.is_empty() {
            return refuse("urls", "names no server");
        }
        let Some(first) = self.urls.first() else {
            return refuse("urls", "names no server");
        };
        if self.urls.iter().any(|url| url.tls != first.tls) {
            return refuse("urls", "has servers with TLS and without; all have to be alike");
        }
        let mut places: Vec<String> = self.urls.iter().map(ToString::to_string).collect();
        places.sort_unstable();
        places.dedup();
        if places.len() < self.urls.len() {
            return refuse("urls", "names a server twice");
        }
        if self.kind == RedisKind::Sentinel && self.sentinel_service.is_empty() {
            return refuse("sentinel_service", "has to name the primary");
        }
        if self.username.is_some() && self.password.is_none() {
            return refuse("password", "goes with redis.username");
        }
        if self.sentinel_username.is_some() && self.sentinel_password.is_none() {
            return refuse("sentinel_password", "goes with redis.sentinel_username");
        }
        if self
            .subscribe_url
            .as_ref()
            .is_some_and(|url| url.tls != first.tls)
        {
            return refuse("subscribe_url", "has to use TLS as redis.urls do");
        }
        if self.subscribe_url.is_some() && (self.kind != RedisKind::Servers || self.urls.len() != 1) {
            return refuse(
                "subscribe_url",
                "goes with one server (redis.kind = \"servers\", one URL)",
            );
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':');
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.bytes().all(fits) {
            return refuse("prefix", "has to be 1 to 64 of A-Z a-z 0-9 . _ - :");
        }
        if !(1..=4096).contains(&self.partitions) || !self.partitions.is_power_of_two() {
            return refuse("partitions", "has to be a power of two of at most 4096");
        }
        for (key, span) in [
            ("timeout", self.timeout),
            ("connect_timeout", self.connect_timeout),
            ("probe_after", self.probe_after),
        ] {
            if span.0.as_millis() < 10 {
                return refuse(key, "has to be at least 10ms");
            }
        }
        for (key, number) in [
            ("publish_queue", self.publish_queue),
            ("receipts_queue", self.receipts_queue),
            ("receipts_max", self.receipts_max as usize),
        ] {
            if number == 0 {
                return refuse(key, "has to be at least 1");
            }
        }
        if self.receipts_claim_after.0.as_millis() < 100 {
            return refuse("receipts_claim_after", "has to be at least 100ms");
        }
        Ok(())
    }
}
