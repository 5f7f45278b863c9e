//! The names of other systems that set our keys.

use common::config::Alias;

use super::database_parts::DATABASE_URL;

/// Variables of the seed systems (S0.11, S1.15, S3.15). The first of a key wins.
pub(super) const ALIASES: &[Alias] = &[
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
        variable: "REDIS_URL",
        key: "redis.urls",
        translate: redis_url,
    },
    Alias {
        variable: "REDIS_URL",
        key: "redis.kind",
        translate: redis_servers,
    },
    Alias {
        variable: "REDIS_ADDR",
        key: "redis.urls",
        translate: redis_address,
    },
    Alias {
        variable: "REDIS_ADDR",
        key: "redis.kind",
        translate: redis_servers,
    },
    Alias {
        variable: DATABASE_URL,
        key: "database.url",
        translate: Alias::text,
    },
    Alias {
        variable: "KAFKA_BROKERS",
        key: "kafka.brokers",
        translate: Alias::list,
    },
    Alias {
        variable: "KAFKA_GROUP_ID",
        key: "kafka.group_id",
        translate: Alias::text,
    },
    Alias {
        variable: "KAFKA_TOPICS",
        key: "kafka.topics",
        translate: Alias::list,
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

/// The seeds' switch says whether to protect the connection; how depends on the port, which
/// [`super::Runtime::load`] looks at.
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

/// The seeds know one server.
fn redis_url(text: &str) -> Result<toml::Value, String> {
    Ok(toml::Value::Array(vec![toml::Value::String(text.to_owned())]))
}

fn redis_address(text: &str) -> Result<toml::Value, String> {
    redis_url(&format!("redis://{text}"))
}

#[expect(clippy::unnecessary_wraps, reason = "an alias' signature")]
fn redis_servers(_: &str) -> Result<toml::Value, String> {
    Ok(toml::Value::String("servers".to_owned()))
}
