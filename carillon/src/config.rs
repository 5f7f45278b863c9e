//! The whole configuration: every section, and the names of other systems that set its keys.

use common::config::{
    Alias, AuthConfig, BusConfig, ConfigError, Loader, LogConfig, ServerConfig, TopicRule, topic_policies,
};
use common::{policy::Policies, redis::RedisConfig, token::Verifier};
use dispatcher::config::{
    DatabaseConfig, DispatcherConfig, InboxConfig, LimitsConfig, QueueConfig, RealtimeConfig, SmtpConfig,
};
use hub::HubConfig;
use serde::Deserialize;

use crate::cli::Options;

/// The commented defaults, which are loaded first.
const DEFAULTS: &str = include_str!("../../config/carillon.toml");

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: ServerConfig,
    pub(crate) auth: AuthConfig,
    pub(crate) log: LogConfig,
    pub(crate) bus: BusConfig,
    pub(crate) redis: RedisConfig,
    #[serde(default)]
    topics: Vec<TopicRule>,
    pub(crate) hub: HubConfig,
    database: DatabaseConfig,
    queue: QueueConfig,
    smtp: SmtpConfig,
    inbox: InboxConfig,
    realtime: RealtimeConfig,
    limits: LimitsConfig,
}

/// Variables of the seed systems (S0.11, S1.15, S3.15). The first of a key wins.
const ALIASES: &[Alias] = &[
    Alias {
        variable: "JWT_SECRET_KEY",
        key: "auth.secret",
        translate: Alias::text,
    },
    Alias {
        variable: "SECRET_KEY",
        key: "auth.secret",
        translate: Alias::text,
    },
    Alias {
        variable: "CORS_ORIGINS",
        key: "server.allowed_origins",
        translate: Alias::list,
    },
    Alias {
        variable: "LOG_LEVEL",
        key: "log.level",
        translate: log_level,
    },
    Alias {
        variable: "SMTP_HOST",
        key: "smtp.host",
        translate: Alias::text,
    },
    Alias {
        variable: "SMTP_PORT",
        key: "smtp.port",
        translate: Alias::number,
    },
    Alias {
        variable: "SMTP_USERNAME",
        key: "smtp.username",
        translate: Alias::text,
    },
    Alias {
        variable: "SMTP_USER",
        key: "smtp.username",
        translate: Alias::text,
    },
    Alias {
        variable: "SMTP_PASSWORD",
        key: "smtp.password",
        translate: Alias::text,
    },
    Alias {
        variable: "SMTP_USE_TLS",
        key: "smtp.tls",
        translate: smtp_tls,
    },
    Alias {
        variable: "SMTP_FROM",
        key: "smtp.from",
        translate: Alias::text,
    },
];

/// The seeds' switch says whether to protect the connection; how depends on the port, which [`Config::load`] looks at.
fn smtp_tls(text: &str) -> Result<toml::Value, String> {
    let name = if Alias::truth(text)? { "starttls" } else { "none" };
    Ok(toml::Value::String(name.to_owned()))
}

fn log_level(text: &str) -> Result<toml::Value, String> {
    Ok(toml::Value::String(format!(
        "{},access=warn",
        text.to_ascii_lowercase()
    )))
}

impl Config {
    /// Reads defaults, file, environment and flags, and refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub(crate) fn load(
        options: &Options,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut loader = Loader::with_defaults(DEFAULTS)?;
        if let Some(path) = &options.config {
            loader = loader.file(path)?;
        }
        loader = loader.environment(environment, ALIASES)?;
        if let Some(address) = options.listen {
            loader = loader.set("server.listen", address.to_string())?;
        }
        if let Some(address) = options.internal_listen {
            loader = loader.set("server.internal_listen", address.to_string())?;
        }
        if let Some(folder) = &options.data_dir {
            loader = loader.set("server.data_dir", folder.to_string_lossy().into_owned())?;
        }
        let mut config: Self = loader.build()?;
        // Port 465 speaks TLS from the first byte (RFC 8314 section 3.3), whatever a yes-or-no switch can say.
        if config.smtp.port == Some(465) && config.smtp.tls == dispatcher::config::SmtpTls::Starttls {
            config.smtp.tls = dispatcher::config::SmtpTls::Tls;
        }
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.log.validate()?;
        self.auth.validate()?;
        if self.auth.secret.is_some() || !self.auth.keys.is_empty() {
            Verifier::new(&self.auth, self.auth.secret.as_ref()).map_err(|error| {
                let text = error.to_string();
                let (key, reason) = text.split_once(": ").unwrap_or(("auth", &text));
                ConfigError::invalid(key, reason)
            })?;
        }
        self.bus.validate()?;
        self.redis.validate()?;
        self.policies()?;
        self.hub.validate()?;
        self.dispatcher().validate()?;
        let parts = self.hub.lame_duck.0 + self.hub.drain_window.0 + self.queue.stop_within.0;
        if parts >= self.server.shutdown_deadline.0 {
            return Err(ConfigError::invalid(
                "server.shutdown_deadline",
                "has to be more than hub.lame_duck, hub.drain_window and queue.stop_within together",
            ));
        }
        Ok(())
    }

    /// What holds for topics by their names.
    ///
    /// # Errors
    /// [`ConfigError`] names the entry and its key; never after [`Config::load`].
    pub(crate) fn policies(&self) -> Result<Policies, ConfigError> {
        topic_policies(&self.topics, self.bus.meta_age.0)
    }

    /// The dispatcher's sections.
    pub(crate) fn dispatcher(&self) -> DispatcherConfig {
        DispatcherConfig {
            database: self.database.clone(),
            queue: self.queue.clone(),
            smtp: self.smtp.clone(),
            inbox: self.inbox.clone(),
            realtime: self.realtime.clone(),
            limits: self.limits.clone(),
        }
    }

    /// Where the database lies.
    pub(crate) fn database_path(&self) -> std::path::PathBuf {
        self.database
            .path
            .clone()
            .unwrap_or_else(|| self.server.data_dir.join("carillon.db"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let options = Options {
            config: None,
            data_dir: None,
            listen: None,
            internal_listen: None,
        };
        Config::load(
            &options,
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn the_commented_defaults_are_those_of_the_code() {
        let config = load(&[]).unwrap();
        let code = DispatcherConfig::default();
        assert_eq!(config.database, code.database);
        assert_eq!(config.queue, code.queue);
        assert_eq!(config.inbox, code.inbox);
        assert_eq!(config.realtime, code.realtime);
        assert_eq!(config.limits, code.limits);
        assert_eq!(format!("{:?}", config.smtp), format!("{:?}", code.smtp));
    }

    #[test]
    fn the_seeds_variables_configure_carillon() {
        let config = load(&[
            ("SECRET_KEY", "second-second-second-second-second"),
            ("JWT_SECRET_KEY", "first-first-first-first-first-first"),
            ("SMTP_HOST", "smtp.example.com"),
            ("SMTP_PORT", "2525"),
            ("SMTP_USER", "noreply@example.com"),
            ("SMTP_PASSWORD", "p"),
            ("SMTP_USE_TLS", "false"),
            (
                "CORS_ORIGINS",
                r#"["http://localhost:3000", "http://localhost:8080"]"#,
            ),
        ])
        .unwrap();
        use secrecy::ExposeSecret;
        assert!(config.auth.secret.unwrap().expose_secret().starts_with("first"));
        assert_eq!(config.smtp.port(), 2525);
        assert_eq!(config.smtp.tls, dispatcher::config::SmtpTls::None);
        assert_eq!(config.smtp.sender(), Some("noreply@example.com"));
        assert_eq!(config.server.allowed_origins.len(), 2);
        let implicit = load(&[
            ("SMTP_HOST", "h"),
            ("SMTP_FROM", "a@b.example"),
            ("SMTP_PORT", "465"),
            ("SMTP_USE_TLS", "true"),
        ]);
        assert_eq!(implicit.unwrap().smtp.tls, dispatcher::config::SmtpTls::Tls);
    }

    #[test]
    fn topics_come_from_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        let write = |age: &str| {
            let text =
                format!("[[topics]]\npattern = \"topic:*\"\nslow = \"latest\"\nhistory_age = \"{age}\"\n");
            std::fs::write(&path, text).unwrap();
            let options = Options {
                config: Some(path.clone()),
                data_dir: None,
                listen: None,
                internal_listen: None,
            };
            Config::load(&options, [])
        };
        let policies = write("1h").unwrap().policies().unwrap();
        let key = common::topic::TopicKey::parse("t:t:a").unwrap();
        assert_eq!(policies.of(&key).slow, common::policy::SlowPolicy::Latest);
        let error = write("31d").unwrap_err().to_string();
        assert!(error.starts_with("topics[0].history_age:"), "{error}");
    }

    #[test]
    fn refusals_name_the_key() {
        for (name, value, key) in [
            ("CARILLON_HUB__MAX_CONECTIONS", "1", "hub.max_conections"),
            ("CARILLON_HUB__HEARTBEAT", "soon", "hub.heartbeat"),
            ("CARILLON_HUB__HEARTBEAT", "0s", "hub.heartbeat"),
            (
                "CARILLON_SERVER__SHUTDOWN_DEADLINE",
                "10s",
                "server.shutdown_deadline",
            ),
            ("CARILLON_SERVER__LISTEN", "nowhere", "server.listen"),
            ("SMTP_PORT", "x", "SMTP_PORT"),
            ("SECRET_KEY", "short", "auth.secret"),
            ("CARILLON_AUTH__SECRET", "", "auth.secret"),
            ("CARILLON_LOG__LEVEL", "zz=zz=zz", "log.level"),
            ("CARILLON_BUS__IDEMPOTENCY_AGE", "31d", "bus.idempotency_age"),
            ("CARILLON_BUS__IDEMPOTENCY_KEYS", "999", "bus.idempotency_keys"),
            ("CARILLON_NOPE", "1", "CARILLON_NOPE"),
            ("CARILLON_HUB", "5", "CARILLON_HUB"),
        ] {
            let error = load(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}:")), "{name}={value}: {error}");
        }
    }
}
