//! The whole configuration: every section, and what each process needs of it.

mod aliases;
mod database_parts;
mod layers;
mod runtime;
#[cfg(test)]
mod tests;

use common::config::{
    AuthConfig, BusConfig, ConfigError, GrpcConfig, Loader, LogConfig, ServerConfig, TopicRule,
    topic_policies,
};
use common::{
    policy::Policies,
    redis::{ClientError, RedisConfig, RedisKind},
    token::Verifier,
};
use dispatcher::{
    config::{
        AuditConfig, ChannelsConfig, DatabaseConfig, DispatcherConfig, InboxConfig, KafkaConfig,
        LimitsConfig, OutboxConfig, QueueConfig, RealtimeConfig, RetentionConfig, RulesConfig,
        SchedulesConfig, SmtpConfig, SpoolConfig, StrategyConfig, WebhookConfig,
    },
    store::Place,
};
use hub::HubConfig;
use serde::Deserialize;

use self::layers::Layers;
pub(crate) use self::runtime::{Runtime, set_level};
#[cfg(test)]
use crate::cli::Options;
use crate::cli::Service;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) auth: AuthConfig,
    pub(crate) log: LogConfig,
    pub(crate) grpc: GrpcConfig,
    pub(crate) bus: BusConfig,
    pub(crate) redis: RedisConfig,
    #[serde(default)]
    topics: Vec<TopicRule>,
    pub(crate) hub: HubConfig,
    database: DatabaseConfig,
    queue: QueueConfig,
    channels: ChannelsConfig,
    smtp: SmtpConfig,
    webhook: WebhookConfig,
    inbox: InboxConfig,
    retention: RetentionConfig,
    audit: AuditConfig,
    realtime: RealtimeConfig,
    spool: SpoolConfig,
    strategy: StrategyConfig,
    limits: LimitsConfig,
    schedules: SchedulesConfig,
    rules: RulesConfig,
    kafka: KafkaConfig,
    outbox: OutboxConfig,
}

impl Config {
    /// Reads defaults, file, environment and flags, and refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    #[cfg(test)]
    pub(crate) fn load(
        service: Service,
        options: &Options,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::of(service, Layers::read(service, options, environment)?.all)
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    fn of(service: Service, loader: Loader) -> Result<Self, ConfigError> {
        let mut config: Self = loader.build()?;
        // Port 465 speaks TLS from the first byte (RFC 8314 section 3.3), whatever a yes-or-no switch can say.
        if config.smtp.port == Some(465) && config.smtp.tls == dispatcher::config::SmtpTls::Starttls {
            config.smtp.tls = dispatcher::config::SmtpTls::Tls;
        }
        config.complete(service)?;
        config.validate(service)?;
        Ok(config)
    }

    /// What only who puts up a cluster can know. Nothing of it is made up, as every process of the cluster has to have the same.
    fn complete(&self, service: Service) -> Result<(), ConfigError> {
        let process = match service {
            Service::Standalone => return Ok(()),
            Service::Hub => "`carillon hub`",
            Service::Dispatcher => "`carillon dispatcher`",
        };
        let mut missing = Vec::new();
        let mut needs = |holds: bool, what: &str| {
            if !holds {
                missing.push(what.to_owned());
            }
        };
        needs(
            self.redis.kind != RedisKind::None,
            "redis.kind (CARILLON_REDIS__KIND): servers, sentinel or cluster; the Redis that hubs and dispatcher share",
        );
        needs(
            !self.redis.urls.is_empty(),
            "redis.urls (CARILLON_REDIS__URLS, or REDIS_URL for one server): where it is, for example redis://redis:6379",
        );
        needs(
            self.auth.secret.is_some() || !self.auth.keys.is_empty() || self.auth.jwks_url.is_some(),
            "auth.secret (CARILLON_AUTH__SECRET): at least 32 bytes, the same for hubs and dispatcher; or public keys as \
             [[auth.keys]] or by auth.jwks_url",
        );
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ConfigError::Incomplete { process, missing })
        }
    }

    /// Reads the certificates that connections to Redis are to believe.
    fn authorities(&self) -> Result<(), ConfigError> {
        if self.redis.ca_file.is_none() && !self.redis.urls.iter().any(|url| url.tls) {
            return Ok(());
        }
        match common::redis::tls(&self.redis) {
            Ok(_) => Ok(()),
            Err(ClientError::Authorities(reason)) => Err(ConfigError::invalid("redis.ca_file", reason)),
            Err(other) => Err(ConfigError::invalid("redis", other.to_string())),
        }
    }

    fn validate(&self, service: Service) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.log.validate()?;
        self.auth.validate()?;
        self.grpc.validate()?;
        if self.auth.secret.is_some() || !self.auth.keys.is_empty() || self.auth.jwks_url.is_some() {
            Verifier::new(&self.auth, self.auth.secret.as_ref()).map_err(|error| {
                let text = error.to_string();
                let (key, reason) = text.split_once(": ").unwrap_or(("auth", &text));
                ConfigError::invalid(key, reason)
            })?;
        }
        self.bus.validate()?;
        if service != Service::Standalone {
            self.redis.validate()?;
            self.authorities()?;
        }
        self.policies()?;
        self.hub.validate()?;
        self.dispatcher().validate()?;
        let drain = self.hub.lame_duck.0 + self.hub.drain_window.0;
        let (parts, named) = match service {
            Service::Standalone => (
                drain + self.queue.stop_within.0,
                "hub.lame_duck, hub.drain_window and queue.stop_within together",
            ),
            Service::Hub => (drain, "hub.lame_duck and hub.drain_window together"),
            Service::Dispatcher => (self.queue.stop_within.0, "queue.stop_within"),
        };
        if parts >= self.server.shutdown_deadline.0 {
            return Err(ConfigError::invalid(
                "server.shutdown_deadline",
                format!("has to be more than {named}"),
            ));
        }
        Ok(())
    }

    /// What holds for topics by their names.
    ///
    /// # Errors
    /// [`ConfigError`] names the entry and its key; never after [`Runtime::load`].
    pub(crate) fn policies(&self) -> Result<Policies, ConfigError> {
        topic_policies(&self.topics, self.bus.meta_age.0)
    }

    /// The dispatcher's sections.
    pub(crate) fn dispatcher(&self) -> DispatcherConfig {
        DispatcherConfig {
            database: self.database.clone(),
            queue: self.queue.clone(),
            channels: self.channels.clone(),
            smtp: self.smtp.clone(),
            webhook: self.webhook.clone(),
            inbox: self.inbox.clone(),
            retention: self.retention.clone(),
            audit: self.audit.clone(),
            realtime: self.realtime.clone(),
            spool: self.spool.clone(),
            strategy: self.strategy.clone(),
            limits: self.limits.clone(),
            schedules: self.schedules.clone(),
            rules: self.rules.clone(),
            kafka: KafkaConfig {
                default_tenant: self
                    .kafka
                    .default_tenant
                    .clone()
                    .or_else(|| self.auth.default_tenant.clone()),
                ..self.kafka.clone()
            },
            outbox: self.outbox.clone(),
        }
    }

    /// Where the database lies.
    pub(crate) fn database_place(&self) -> Place {
        self.database.place(|| self.server.data_dir.join("carillon.db"))
    }
}
