//! A table into which others write notifications in their own transactions.

use common::config::{ConfigError, Span};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{DatabaseConfig, seconds};
use crate::database_url;

/// Section `[outbox]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    /// Whether the table is read. Default false.
    pub enabled: bool,
    /// The PostgreSQL database that has it. Default: `database.url`.
    pub database_url: Option<SecretString>,
    /// The table, in a schema or in the one that the role finds first. Default `carillon_outbox`.
    pub table: String,
    /// Whether the table is made where it is missing, under its default name. Default true.
    pub create_table: bool,
    /// Rows of one transaction at the most. Default 500.
    pub batch_max: u32,
    /// How often rows are looked for, beside being told of them. Default `1s`.
    pub poll: Span,
    /// Pauses before a row is tried again of which nothing can be made; after the last it stays with its error. Default
    /// `["1s", "5s", "15s"]`.
    pub retry: Vec<Span>,
}

/// The table's name where the configuration has no other.
const TABLE: &str = "carillon_outbox";

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            database_url: None,
            table: TABLE.to_owned(),
            create_table: true,
            batch_max: 500,
            poll: seconds(1),
            retry: [1, 5, 15].map(seconds).to_vec(),
        }
    }
}

impl OutboxConfig {
    /// The database that has the table, where it is read.
    #[must_use]
    pub fn place<'a>(&'a self, database: &'a DatabaseConfig) -> Option<&'a SecretString> {
        let url = self.database_url.as_ref().or(database.url.as_ref());
        url.filter(|_| self.enabled)
    }

    /// Whether the table has the name that its SQL makes.
    #[must_use]
    pub fn has_default_name(&self) -> bool {
        self.table == TABLE
    }

    /// Refuses what could not be used.
    pub(super) fn validate(&self, database: &DatabaseConfig) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: &str| Err(ConfigError::invalid(format!("outbox.{key}"), problem));
        if !self.enabled {
            return Ok(());
        }
        let Some(url) = self.place(database) else {
            return refuse(
                "database_url",
                "is needed with outbox.enabled where database.url is not set: the table is one of PostgreSQL",
            );
        };
        database_url::check(url.expose_secret())
            .map_err(|problem| ConfigError::invalid("outbox.database_url", problem))?;
        let is_name = |part: &str| {
            (1..=63).contains(&part.len())
                && !part.starts_with(|c: char| c.is_ascii_digit())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        let parts: Vec<&str> = self.table.split('.').collect();
        if parts.len() > 2 || !parts.into_iter().all(is_name) {
            return refuse(
                "table",
                "is a name of a to z, 0 to 9 and `_`, with a schema's before it or not",
            );
        }
        if self.batch_max == 0 || self.batch_max > 10_000 {
            return refuse("batch_max", "is 1 to 10000");
        }
        if self.poll.0.is_zero() || self.retry.len() > 20 {
            return refuse(
                "poll",
                "must be more than 0, and outbox.retry has at most 20 pauses",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_by_its_key() {
        let database = DatabaseConfig::default();
        for (json, key) in [
            (r#"{"enabled":true}"#, "outbox.database_url"),
            (
                r#"{"enabled":true,"database_url":"mysql://h/a"}"#,
                "outbox.database_url",
            ),
            (
                r#"{"enabled":true,"database_url":"postgres://h/a","table":"a b"}"#,
                "outbox.table",
            ),
            (
                r#"{"enabled":true,"database_url":"postgres://h/a","table":"a.b.c"}"#,
                "outbox.table",
            ),
            (
                r#"{"enabled":true,"database_url":"postgres://h/a","batch_max":0}"#,
                "outbox.batch_max",
            ),
            (
                r#"{"enabled":true,"database_url":"postgres://h/a","poll":"0s"}"#,
                "outbox.poll",
            ),
        ] {
            let config: OutboxConfig = serde_json::from_str(json).unwrap();
            let error = config.validate(&database).unwrap_err().to_string();
            assert!(error.contains(key), "{json}: {error}");
        }
        let fine = r#"{"enabled":true,"database_url":"postgres://h/a","table":"shop.outbox"}"#;
        let config: OutboxConfig = serde_json::from_str(fine).unwrap();
        config.validate(&database).unwrap();
        OutboxConfig::default().validate(&database).unwrap();
    }
}
