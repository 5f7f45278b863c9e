//! The database of a test: SQLite, or with `CARILLON_TEST_DATABASE=postgres` a real PostgreSQL.

use std::env;

use dispatcher::store::StoreConfig;
use rig::postgres;
use tempfile::TempDir;

/// A test's own database. Gone when it is dropped.
pub(crate) enum Database {
    File(TempDir),
    Server(postgres::Database),
}

impl Database {
    pub(crate) fn new() -> Self {
        match env::var("CARILLON_TEST_DATABASE").as_deref() {
            Err(_) | Ok("sqlite") => Self::File(tempfile::tempdir().unwrap()),
            Ok("postgres") => Self::Server(postgres::shared().unwrap().database("carillon").unwrap()),
            Ok(other) => panic!("CARILLON_TEST_DATABASE is sqlite or postgres, not {other}"),
        }
    }

    /// The settings of a store on it.
    pub(crate) fn config(&self) -> StoreConfig {
        match self {
            Self::File(folder) => StoreConfig::new(folder.path().join("carillon.db")),
            Self::Server(database) => StoreConfig::server(database.url()),
        }
    }
}
