//! Events from topics of Kafka.

use std::collections::BTreeMap;

use common::{
    config::{Bytes, ConfigError, Span},
    ids::TenantId,
};
use secrecy::SecretString;
use serde::Deserialize;

use super::seconds;

/// Section `[kafka]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// `host:port` of some brokers. Default: none, and nothing is read.
    pub brokers: Vec<String>,
    /// The consumer group, the same for all dispatchers. Default `notification-consumer`.
    pub group_id: String,
    /// What is read. Default: the five topics of the reference document.
    pub topics: Vec<String>,
    /// Where a group begins that has read nothing of a partition: `earliest` (default) or `latest`.
    pub start: KafkaStart,
    /// For SASL PLAIN, with `password`. Default: none, and the brokers are spoken to without.
    pub username: Option<String>,
    /// For SASL PLAIN.
    pub password: Option<SecretString>,
    /// By topic the tenants that its events may name; `*` as the topic: all that are not listed; `*` as the tenant: any.
    /// Default: any tenant in every topic.
    pub tenants: BTreeMap<String, Vec<String>>,
    /// Whose events are that name no tenant. Default: that of tokens without one (`auth.default_tenant`).
    pub default_tenant: Option<TenantId>,
    /// Behind a topic's name: where its events go of which nothing can be made. Default `.dlq`.
    pub dead_letter_suffix: String,
    /// Instead: one topic for all. Default: none.
    pub dead_letter_topic: Option<String>,
    /// Pauses before an event is tried again of which nothing can be made; after the last it is a dead letter. Default
    /// `["1s", "5s", "15s"]`.
    pub retry: Vec<Span>,
    /// Events of one transaction at the most. Default 500.
    pub batch_max: usize,
    /// Events of one partition that may wait in this process; beyond, no more of it is read. Default 2000.
    pub buffer: usize,
    /// Bytes of one event. Larger ones are dead letters. Default `1MiB`.
    pub event_max: Bytes,
    /// How long a group waits for a dispatcher that is silent. Default `10s`.
    pub session_timeout: Span,
}

/// Where a group begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaStart {
    /// With the oldest event.
    #[default]
    Earliest,
    /// With the next one.
    Latest,
}

impl KafkaStart {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }
}

/// The topics of the reference document (S3.4).
const TOPICS: [&str; 5] = [
    "document.indexed",
    "task.completed",
    "user.registered",
    "payment.success",
    "conversation.message.sent",
];

/// Any topic, or any tenant.
const ANY: &str = "*";

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            group_id: "notification-consumer".to_owned(),
            topics: TOPICS.map(str::to_owned).to_vec(),
            start: KafkaStart::Earliest,
            username: None,
            password: None,
            tenants: BTreeMap::new(),
            default_tenant: None,
            dead_letter_suffix: ".dlq".to_owned(),
            dead_letter_topic: None,
            retry: [1, 5, 15].map(seconds).to_vec(),
            batch_max: 500,
            buffer: 2000,
            event_max: Bytes(1024 * 1024),
            session_timeout: seconds(10),
        }
    }
}

impl KafkaConfig {
    /// Where a topic's dead letters go.
    #[must_use]
    pub fn dead_letters_of(&self, topic: &str) -> String {
        self.dead_letter_topic
            .clone()
            .unwrap_or_else(|| format!("{topic}{}", self.dead_letter_suffix))
    }

    /// Whether events of a topic may be of a tenant.
    #[must_use]
    pub fn may_name(&self, topic: &str, tenant: &TenantId) -> bool {
        match self.tenants.get(topic).or_else(|| self.tenants.get(ANY)) {
            None => true,
            Some(allowed) => allowed.iter().any(|name| name == ANY || name == tenant.as_str()),
        }
    }

    /// Refuses what could not be used.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: &str| Err(ConfigError::invalid(format!("kafka.{key}"), problem));
        if self.brokers.is_empty() {
            return Ok(());
        }
        if !cfg!(feature = "kafka") {
            return refuse(
                "brokers",
                "this executable was built without Kafka (feature `kafka`)",
            );
        }
        if self.brokers.iter().any(|broker| {
            !broker
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        }) {
            return refuse("brokers", "each is `host:port`");
        }
        if self.group_id.is_empty() {
            return refuse("group_id", "cannot be empty");
        }
        if self.topics.is_empty() {
            return refuse("topics", "names no topic");
        }
        for topic in self.topics.iter().chain(&self.dead_letter_topic) {
            if !is_topic(topic) {
                return refuse("topics", "a topic has 1 to 249 characters of A-Z a-z 0-9 . _ -");
            }
        }
        for topic in &self.topics {
            let dead = self.dead_letters_of(topic);
            if self.topics.contains(&dead) || !is_topic(&dead) {
                return refuse(
                    "dead_letter_suffix",
                    "dead letters would go to a topic that is read, or that cannot be",
                );
            }
        }
        if self.username.is_some() != self.password.is_some() {
            return refuse("password", "kafka.username and kafka.password come together");
        }
        for tenant in self.tenants.values().flatten() {
            if tenant != ANY && TenantId::new(tenant).is_err() {
                return refuse(
                    "tenants",
                    "a tenant has 1 to 64 characters of A-Z a-z 0-9 . _ -, or is `*`",
                );
            }
        }
        if self.batch_max == 0 || self.batch_max > 10_000 {
            return refuse("batch_max", "is 1 to 10000");
        }
        if self.buffer < self.batch_max {
            return refuse("buffer", "must be at least kafka.batch_max");
        }
        if self.event_max.0 == 0 || self.retry.len() > 20 {
            return refuse(
                "retry",
                "has at most 20 pauses, and kafka.event_max is more than 0",
            );
        }
        if self.session_timeout < seconds(1) {
            return refuse("session_timeout", "is at least 1s");
        }
        Ok(())
    }
}

/// By Kafka's own rule.
fn is_topic(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_4_the_defaults_are_the_documents() {
        let config = KafkaConfig::default();
        assert_eq!(config.group_id, "notification-consumer");
        assert_eq!(config.topics.len(), 5);
        assert_eq!(config.retry, [1, 5, 15].map(seconds));
        assert_eq!(config.dead_letters_of("task.completed"), "task.completed.dlq");
    }

    #[test]
    fn a_topic_says_whose_events_it_has() {
        let tenant = |name: &str| TenantId::new(name).unwrap();
        let mut config = KafkaConfig::default();
        assert!(config.may_name("a", &tenant("acme")));
        config.tenants = BTreeMap::from([
            ("a".to_owned(), vec!["acme".to_owned()]),
            ("*".to_owned(), vec!["globex".to_owned()]),
            ("b".to_owned(), vec!["*".to_owned()]),
        ]);
        assert!(config.may_name("a", &tenant("acme")) && !config.may_name("a", &tenant("globex")));
        assert!(config.may_name("c", &tenant("globex")) && !config.may_name("c", &tenant("acme")));
        assert!(config.may_name("b", &tenant("acme")));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        for (json, key) in [
            (r#"{"brokers":["host"]}"#, "kafka.brokers"),
            (r#"{"brokers":["h:1"],"topics":[]}"#, "kafka.topics"),
            (r#"{"brokers":["h:1"],"topics":["a b"]}"#, "kafka.topics"),
            (
                r#"{"brokers":["h:1"],"topics":["a","a.dlq"]}"#,
                "kafka.dead_letter_suffix",
            ),
            (
                r#"{"brokers":["h:1"],"dead_letter_suffix":""}"#,
                "kafka.dead_letter_suffix",
            ),
            (r#"{"brokers":["h:1"],"username":"u"}"#, "kafka.password"),
            (r#"{"brokers":["h:1"],"tenants":{"a":["b c"]}}"#, "kafka.tenants"),
            (r#"{"brokers":["h:1"],"batch_max":0}"#, "kafka.batch_max"),
            (r#"{"brokers":["h:1"],"buffer":1}"#, "kafka.buffer"),
            (
                r#"{"brokers":["h:1"],"session_timeout":"1ms"}"#,
                "kafka.session_timeout",
            ),
        ] {
            let config: KafkaConfig = serde_json::from_str(json).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{json}: {error}");
        }
        KafkaConfig::default().validate().unwrap();
    }
}
