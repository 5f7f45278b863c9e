//! Databases to measure on, as safe as in production: what is committed is on the disk.

use dispatcher::store::{Store, StoreConfig};
use rig::{folder::Folder, postgres};

use crate::Outcome;

/// An empty database of its own, gone with its value.
#[derive(Debug)]
pub(crate) enum Database {
    Sqlite(Folder),
    Postgres {
        server: Box<postgres::Server>,
        url: String,
    },
}

impl Database {
    pub(crate) fn new(store: &str) -> Outcome<Self> {
        match store {
            "sqlite" => Ok(Self::Sqlite(Folder::new("dispatch")?)),
            "postgres" => {
                let options = postgres::Options::default()
                    .setting("shared_buffers", "512MB")
                    .setting("max_wal_size", "4GB");
                let server = Box::new(postgres::Server::start(&options)?);
                let url = server.create_database("carillon")?;
                Ok(Self::Postgres { server, url })
            }
            _ => Err(format!("{store} is neither sqlite nor postgres").into()),
        }
    }

    pub(crate) async fn open(&self) -> Outcome<Store> {
        let config = match self {
            Self::Sqlite(folder) => StoreConfig::new(folder.path().join("carillon.db")),
            Self::Postgres { url, .. } => StoreConfig::server(url.clone()),
        };
        Ok(Store::open(&config).await?)
    }

    /// A transaction that sees the database as it is now, until it is dropped.
    pub(crate) fn pin(&self) -> Outcome<postgres::Connection> {
        let Self::Postgres { server, .. } = self else {
            return Err("SQLite is not asked for that".into());
        };
        let mut connection = server.connect("carillon")?;
        connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
        connection.query("SELECT count(*) FROM deliveries")?;
        Ok(connection)
    }
}
