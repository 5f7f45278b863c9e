//! Settings of the dispatcher, one struct a section.
//!
//! Durations are written as a number and a unit: `250ms`, `30s`, `5m`, `2h`, `30d`.

mod audit;
mod database;
mod kafka;
mod limits;
mod network;
mod outbox;
mod retention;
mod retry;
mod rules;
mod schedules;
mod smtp;
mod webhook;

pub(crate) use self::retry::LONGEST;
pub use self::{
    audit::AuditConfig,
    database::DatabaseConfig,
    kafka::{KafkaConfig, KafkaStart},
    limits::LimitsConfig,
    network::{HostOrNetwork, HostPattern, InvalidHost, Network},
    outbox::OutboxConfig,
    retention::RetentionConfig,
    retry::{ChannelConfig, ChannelsConfig, RetryConfig},
    rules::{ConfiguredRule, RulesConfig},
    schedules::SchedulesConfig,
    smtp::{SmtpConfig, SmtpTls, UnknownPolicy},
    webhook::{WebhookConfig, WebhookEndpoint, WebhookFormat, webhook_key},
};

use std::{collections::BTreeMap, time::Duration};

use common::{
    config::{Bytes, ConfigError, Span},
    ids::Name,
};
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::{
    database_url,
    model::{Channel, Reached},
};

/// Section `[queue]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Deliveries at work at once, for channels that bring no bound of their own. Default 64.
    pub concurrency: usize,
    /// Shares of the lanes critical, high, medium and low while all of them have work. Default `[8, 4, 2, 1]`.
    pub shares: [u32; 4],
    /// Part of every channel's room that only the critical lane may use, from 0 to 0.9. Default 0.2.
    pub critical_reserved: f64,
    /// Deliveries that one claim takes at the most. Default 256.
    pub claim_max: u32,
    /// Deliveries of one tenant that this process holds at once, over all channels; 0: as many as there is room. Default 0.
    pub tenant_max: usize,
    /// Deliveries that a channel sends in a minute, by the channel's name. Default: none, and no channel is held back.
    pub rates: BTreeMap<Channel, u32>,
    /// How long a claim holds without a heartbeat. Default `30s`.
    pub lease: Span,
    /// How often leases are extended. Default `10s`.
    pub heartbeat: Span,
    /// Pauses before the second, third … attempt, for channels without an entry in `[channels]`; the last one repeats.
    /// Default `["1m", "5m", "15m"]`.
    pub retry: Vec<Span>,
    /// Attempts before a delivery is dead, for requests that name no number. Default 4.
    pub max_attempts: u32,
    /// How often the store is asked what is due, beside being woken. Default `1s`.
    pub poll: Span,
    /// How long a stop waits for sends on the way. Default `10s`.
    pub stop_within: Span,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            concurrency: 64,
            shares: [8, 4, 2, 1],
            critical_reserved: 0.2,
            claim_max: 256,
            tenant_max: 0,
            rates: BTreeMap::new(),
            lease: seconds(30),
            heartbeat: seconds(10),
            retry: [60, 300, 900].map(seconds).to_vec(),
            max_attempts: 4,
            poll: seconds(1),
            stop_within: seconds(10),
        }
    }
}

/// Section `[inbox]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InboxConfig {
    /// How far back a user who was never seen before sees what its groups got. Default `30d`.
    pub backfill: Span,
}

impl Default for InboxConfig {
    fn default() -> Self {
        Self {
            backfill: seconds(30 * 24 * 3600),
        }
    }
}

/// Section `[realtime]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RealtimeConfig {
    /// How long the first receipt of a single user is waited for after the bus took the frame; without one the delivery is
    /// `skipped`. Default `5s`.
    pub receipt_wait: Span,
    /// Age at which a frame that the bus could not take is given up. Default `60s`.
    pub max_age: Span,
    /// Deliveries that wait for a receipt at once; beyond, one is `skipped` with reason `not_awaited`. Default 100000.
    pub waiting_max: usize,
}

impl Default for RealtimeConfig {
    fn default() -> Self {
        Self {
            receipt_wait: seconds(5),
            max_age: seconds(60),
            waiting_max: 100_000,
        }
    }
}

/// Section `[spool]`: what is accepted while the database is away, in Redis.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Notifications that may wait for the database; beyond, requests get 429. Default 200000.
    pub max_notifications: u32,
    /// Bytes that they may take. Default `256MiB`.
    pub max_bytes: Bytes,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            max_notifications: 200_000,
            max_bytes: Bytes(256 * 1024 * 1024),
        }
    }
}

/// Section `[strategy]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StrategyConfig {
    /// `escalate`: pause before a step that waits for `delivered`, where the request says none. Default `5s`.
    pub delivered_within: Span,
    /// `escalate`: pause before any other step, where the request says none. Default `5m`.
    pub escalate_after: Span,
    /// The role that is told when a channel failed and a `failover` goes on. Default `admin`; empty: nobody.
    pub alert_role: String,
    /// A tenant's administrators are told at most once in this time. Default `5m`.
    pub alert_every: Span,
}

impl Default for StrategyConfig {
    fn default() -> Self {
        Self {
            delivered_within: seconds(5),
            escalate_after: seconds(300),
            alert_role: "admin".to_owned(),
            alert_every: seconds(300),
        }
    }
}

impl StrategyConfig {
    /// The pause before a step of `escalate` that says none, in microseconds.
    #[must_use]
    pub fn pause(&self, waits_for: Reached) -> i64 {
        let pause = if waits_for == Reached::Delivered {
            self.delivered_within
        } else {
            self.escalate_after
        };
        i64::try_from(pause.0.as_micros()).unwrap_or(i64::MAX)
    }
}

/// Everything the dispatcher is set by.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DispatcherConfig {
    /// Where data lies.
    pub database: DatabaseConfig,
    /// How deliveries are worked off.
    pub queue: QueueConfig,
    /// Settings of single channels.
    pub channels: ChannelsConfig,
    /// The channel email.
    pub smtp: SmtpConfig,
    /// The channel webhook.
    pub webhook: WebhookConfig,
    /// The inbox.
    pub inbox: InboxConfig,
    /// How long history is kept.
    pub retention: RetentionConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// The channel realtime.
    pub realtime: RealtimeConfig,
    /// What is accepted while the database is away.
    pub spool: SpoolConfig,
    /// Chains of channels.
    pub strategy: StrategyConfig,
    /// What callers may ask for.
    pub limits: LimitsConfig,
    /// Recurring notifications.
    pub schedules: SchedulesConfig,
    /// From events to notifications.
    pub rules: RulesConfig,
    /// Events from topics.
    pub kafka: KafkaConfig,
    /// Notifications from a table of others.
    pub outbox: OutboxConfig,
}

impl DispatcherConfig {
    /// Refuses values that cannot be and pairs that do not fit.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: &str| Err(ConfigError::invalid(key, problem));
        let positive = [
            ("database.connections", u64::from(self.database.connections)),
            (
                "database.queue_connections",
                u64::from(self.database.queue_connections),
            ),
            ("database.lock_timeout", millis(self.database.lock_timeout)),
            ("database.connect_timeout", millis(self.database.connect_timeout)),
            (
                "database.read_connections",
                u64::from(self.database.read_connections),
            ),
            ("database.group_max", self.database.group_max as u64),
            ("queue.concurrency", self.queue.concurrency as u64),
            ("queue.claim_max", u64::from(self.queue.claim_max)),
            ("queue.heartbeat", millis(self.queue.heartbeat)),
            ("queue.poll", millis(self.queue.poll)),
            ("queue.max_attempts", u64::from(self.queue.max_attempts)),
            ("smtp.pool_size", self.smtp.pool_size as u64),
            ("smtp.timeout", millis(self.smtp.timeout)),
            ("realtime.receipt_wait", millis(self.realtime.receipt_wait)),
            ("realtime.max_age", millis(self.realtime.max_age)),
            ("realtime.waiting_max", self.realtime.waiting_max as u64),
            ("strategy.alert_every", millis(self.strategy.alert_every)),
            (
                "limits.user_requests_per_minute",
                u64::from(self.limits.user_requests_per_minute),
            ),
            (
                "limits.service_requests_per_second",
                u64::from(self.limits.service_requests_per_second),
            ),
            ("limits.body_bytes", self.limits.body_bytes.0 as u64),
            ("limits.bulk_body_bytes", self.limits.bulk_body_bytes.0 as u64),
            ("limits.bulk_items", self.limits.bulk_items as u64),
            ("spool.max_notifications", u64::from(self.spool.max_notifications)),
            ("spool.max_bytes", self.spool.max_bytes.0 as u64),
            ("database.away_after", millis(self.database.away_after)),
            ("schedules.missed_after", millis(self.schedules.missed_after)),
            ("schedules.catch_up", self.schedules.catch_up as u64),
            ("rules.per_tenant", self.rules.per_tenant as u64),
            ("retention.events", millis(self.retention.events)),
            ("schedules.per_tenant", u64::from(self.schedules.per_tenant)),
            ("limits.json_depth", self.limits.json_depth as u64),
            ("limits.keys_per_tenant", u64::from(self.limits.keys_per_tenant)),
            ("limits.queued_max", self.limits.queued_max),
            ("limits.queued_max_per_tenant", self.limits.queued_max_per_tenant),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return refuse(key, "must be more than 0");
        }
        if self.database.replica_url.is_some() && self.database.url.is_none() {
            return refuse(
                "database.replica_url",
                "is a replica of database.url, which is not set",
            );
        }
        if self.database.url.is_some() {
            self.validate_server()?;
        }
        if self.queue.shares.contains(&0) {
            return refuse("queue.shares", "a lane with share 0 would never be worked off");
        }
        if !(0.0..=0.9).contains(&self.queue.critical_reserved) {
            return refuse("queue.critical_reserved", "must be between 0 and 0.9");
        }
        for (channel, rate) in &self.queue.rates {
            let key = format!("queue.rates.{}", channel.as_str());
            if !channel.is_external() {
                return refuse(&key, "only what leaves this system has a rate");
            }
            if *rate == 0 {
                return refuse(&key, "must be more than 0; to send nothing, pause the channel");
            }
        }
        if self.queue.retry.is_empty() {
            return refuse("queue.retry", "needs at least one pause");
        }
        if self.queue.lease.0 <= self.queue.heartbeat.0 * 2 {
            return refuse(
                "queue.lease",
                "must be more than twice queue.heartbeat, else one late heartbeat loses it",
            );
        }
        if self.schedules.missed_after.0 < self.queue.lease.0 * 3 / 2 {
            return refuse(
                "schedules.missed_after",
                "must be one and a half queue.lease at least, else what a dispatcher that died held counts as missed",
            );
        }
        if self.realtime.receipt_wait >= self.realtime.max_age {
            return refuse("realtime.receipt_wait", "must be less than realtime.max_age");
        }
        let role = &self.strategy.alert_role;
        if !role.is_empty() && Name::new(role).is_err() {
            return refuse("strategy.alert_role", "is not the name of a role");
        }
        if self.smtp.host.is_some() {
            self.validate_smtp()?;
        }
        self.webhook.validate()?;
        self.channels.validate()?;
        self.retention.validate(&self.inbox)?;
        self.rules.validate()?;
        self.kafka.validate()?;
        self.outbox.validate(&self.database)?;
        Ok(())
    }

    fn validate_server(&self) -> Result<(), ConfigError> {
        let database = &self.database;
        let refuse = |key: &str, problem: &str| Err(ConfigError::invalid(format!("database.{key}"), problem));
        if let Some(url) = &database.url {
            database_url::check(url.expose_secret())
                .map_err(|problem| ConfigError::invalid("database.url", problem))?;
        }
        if let Some(url) = &database.replica_url {
            database_url::check(url.expose_secret())
                .map_err(|problem| ConfigError::invalid("database.replica_url", problem))?;
        }
        if database.path.is_some() {
            return refuse(
                "path",
                "is for SQLite, and database.url is set: leave one of them out",
            );
        }
        if database.statement_timeout.0 <= database.lock_timeout.0 {
            return refuse("statement_timeout", "must be more than database.lock_timeout");
        }
        if database.statement_timeout.0 >= self.queue.lease.0 {
            return refuse(
                "statement_timeout",
                "must be less than queue.lease, else a claim ends before it is answered",
            );
        }
        Ok(())
    }

    fn validate_smtp(&self) -> Result<(), ConfigError> {
        let Some(sender) = self.smtp.sender() else {
            let problem = "is needed with smtp.host, unless smtp.username is an address";
            return Err(ConfigError::invalid("smtp.from", problem));
        };
        if let Err(error) = sender.parse::<lettre::message::Mailbox>() {
            let key = if self.smtp.from.is_some() {
                "smtp.from"
            } else {
                "smtp.username"
            };
            return Err(ConfigError::invalid(
                key,
                format!("is not `Name <address>` or an address: {error}"),
            ));
        }
        if self.smtp.username.is_some() != self.smtp.password.is_some() {
            return Err(ConfigError::invalid(
                "smtp.password",
                "smtp.username and smtp.password come together",
            ));
        }
        Ok(())
    }
}

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        DispatcherConfig::default().validate().unwrap();
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<DispatcherConfig>(r#"{"queue":{"leese":"30s"}}"#).unwrap_err();
        assert!(error.to_string().contains("leese"), "{error}");
    }

    #[test]
    fn impossible_values_name_their_key() {
        let cases = [
            (r#"{"queue":{"lease":"20s","heartbeat":"10s"}}"#, "queue.lease"),
            (r#"{"database":{"url":"mysql://h/a"}}"#, "database.url"),
            (
                r#"{"database":{"replica_url":"postgres://h/a"}}"#,
                "database.replica_url",
            ),
            (
                r#"{"database":{"url":"postgres://h/a","replica_url":"h"}}"#,
                "database.replica_url",
            ),
            (r#"{"database":{"away_after":"0s"}}"#, "database.away_after"),
            (r#"{"spool":{"max_notifications":0}}"#, "spool.max_notifications"),
            (
                r#"{"database":{"url":"postgres://h/a","path":"b"}}"#,
                "database.path",
            ),
            (
                r#"{"database":{"url":"postgres://h/a","statement_timeout":"5s"}}"#,
                "database.statement_timeout",
            ),
            (
                r#"{"database":{"url":"postgres://h/a","statement_timeout":"30s"}}"#,
                "queue.lease",
            ),
            (r#"{"database":{"connections":0}}"#, "database.connections"),
            (r#"{"database":{"lock_timeout":"0s"}}"#, "database.lock_timeout"),
            (r#"{"queue":{"heartbeat":"0s"}}"#, "queue.heartbeat"),
            (r#"{"queue":{"shares":[1,1,1,0]}}"#, "queue.shares"),
            (r#"{"queue":{"retry":[]}}"#, "queue.retry"),
            (r#"{"queue":{"rates":{"email":0}}}"#, "queue.rates.email"),
            (r#"{"queue":{"rates":{"in_app":5}}}"#, "queue.rates.in_app"),
            (
                r#"{"queue":{"critical_reserved":1.0}}"#,
                "queue.critical_reserved",
            ),
            (r#"{"smtp":{"host":"mail"}}"#, "smtp.from"),
            (r#"{"smtp":{"host":"mail","from":"no address"}}"#, "smtp.from"),
            (
                r#"{"smtp":{"host":"mail","username":"a@b.example"}}"#,
                "smtp.password",
            ),
            (r#"{"smtp":{"pool_size":0}}"#, "smtp.pool_size"),
            (
                r#"{"schedules":{"missed_after":"40s"}}"#,
                "schedules.missed_after",
            ),
            (r#"{"schedules":{"catch_up":0}}"#, "schedules.catch_up"),
            (r#"{"rules":{"per_tenant":0}}"#, "rules.per_tenant"),
            (
                r#"{"rules":{"list":[{"name":"a","event":"x","notification":{"title":"{{ a b }}"}}]}}"#,
                "rules.list[0].notification.title",
            ),
            (
                r#"{"rules":{"list":[{"name":"","event":"x","notification":{"title":"a"}}]}}"#,
                "rules.list[0].name",
            ),
            (r#"{"realtime":{"receipt_wait":"60s"}}"#, "realtime.receipt_wait"),
            (r#"{"strategy":{"alert_every":"0s"}}"#, "strategy.alert_every"),
        ];
        for (json, key) in cases {
            let config: DispatcherConfig = serde_json::from_str(json).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{json}: {error}");
        }
    }
}
