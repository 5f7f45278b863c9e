//! Where the database is, and how it is spoken to.

use std::path::PathBuf;

use common::config::Span;
use secrecy::SecretString;
use serde::Deserialize;

use super::seconds;
use crate::store::{Place, Server};

/// Section `[database]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// A PostgreSQL database: `postgres://user:password@host:5432/name`. Default: none, which means SQLite.
    pub url: Option<SecretString>,
    /// PostgreSQL: a replica that answers readers while the database is away, as `url`. Default: none.
    pub replica_url: Option<SecretString>,
    /// The SQLite file. Default: none, which means `carillon.db` in the data folder.
    pub path: Option<PathBuf>,
    /// PostgreSQL: connections that accept and write what readers do. Default 3.
    pub connections: u32,
    /// PostgreSQL: connections of the queue. Default 2.
    pub queue_connections: u32,
    /// PostgreSQL: a statement that takes longer is ended. Default `10s`.
    pub statement_timeout: Span,
    /// PostgreSQL: a lock that is waited for longer is given up. Default `5s`.
    pub lock_timeout: Span,
    /// PostgreSQL: how long a connection may take to be made. Default `2s`.
    pub connect_timeout: Span,
    /// PostgreSQL: a pooler with transaction pooling (PgBouncer) stands in between. Default false.
    pub pooler: bool,
    /// Connections for reading. Default 4.
    pub read_connections: u32,
    /// Operations that share one transaction at the most. Default 512.
    pub group_max: usize,
    /// What the database does not answer within this time counts as away. Default `2s`.
    pub away_after: Span,
}

impl DatabaseConfig {
    /// Where the database is: the server, where one is named, else the file, else `default` in its place.
    #[must_use]
    pub fn place(&self, default: impl FnOnce() -> PathBuf) -> Place {
        match &self.url {
            Some(url) => Place::Server(Server {
                url: url.clone(),
                replica: self.replica_url.clone(),
                connections: self.connections,
                queue_connections: self.queue_connections,
                statement_timeout: self.statement_timeout.0,
                lock_timeout: self.lock_timeout.0,
                connect_timeout: self.connect_timeout.0,
                away_after: self.away_after.0,
                pooler: self.pooler,
            }),
            None => Place::File(self.path.clone().unwrap_or_else(default)),
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: None,
            replica_url: None,
            path: None,
            connections: 3,
            queue_connections: 2,
            statement_timeout: seconds(10),
            lock_timeout: seconds(5),
            connect_timeout: seconds(2),
            pooler: false,
            read_connections: 4,
            group_max: 512,
            away_after: seconds(2),
        }
    }
}
