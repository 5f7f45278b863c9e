//! The database of a test: SQLite, or with `CARILLON_TEST_DATABASE=postgres` a real PostgreSQL, which `pooler` puts behind a
//! PgBouncer.

use std::{env, sync::OnceLock, thread};

use dispatcher::store::{Place, Server, StoreConfig, migrate_up};
use rig::{pgbouncer, postgres};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The database of which each test gets a copy: all migrations take longer than that.
const MIGRATED: &str = "migrated";

/// A test's own database. Gone when it is dropped.
pub(crate) enum Database {
    File(TempDir),
    Server(postgres::Database),
    Pooled(postgres::Database),
}

impl Database {
    pub(crate) fn new() -> Self {
        match env::var("CARILLON_TEST_DATABASE").as_deref() {
            Err(_) | Ok("sqlite") => Self::File(tempfile::tempdir().unwrap()),
            Ok("postgres") => Self::Server(Self::on_server()),
            Ok("pooler") => Self::Pooled(Self::on_server()),
            Ok(other) => panic!("CARILLON_TEST_DATABASE is sqlite, postgres or pooler, not {other}"),
        }
    }

    /// Whether [`Self::new`] makes a file.
    pub(crate) fn is_file() -> bool {
        !matches!(
            env::var("CARILLON_TEST_DATABASE").as_deref(),
            Ok("postgres" | "pooler")
        )
    }

    /// One that processes can share, whatever the others have.
    pub(crate) fn shared() -> Self {
        Self::Server(Self::on_server())
    }

    /// One behind a pooler, whatever the others have.
    pub(crate) fn pooled() -> Self {
        Self::Pooled(Self::on_server())
    }

    fn on_server() -> postgres::Database {
        static MADE: OnceLock<()> = OnceLock::new();
        let server = postgres::shared().unwrap();
        MADE.get_or_init(|| migrate(&server.create_database(MIGRATED).unwrap()));
        server.copy(MIGRATED, "carillon").unwrap()
    }

    /// A superuser's connection to a shared one.
    pub(crate) fn administer(&self) -> postgres::Connection {
        match self {
            Self::File(_) => panic!("a file has no superuser"),
            Self::Server(database) | Self::Pooled(database) => database.connect().unwrap(),
        }
    }

    /// The settings of a store on it.
    pub(crate) fn config(&self) -> StoreConfig {
        match self {
            Self::File(folder) => StoreConfig::new(folder.path().join("carillon.db")),
            Self::Server(database) => StoreConfig::server(database.url()),
            Self::Pooled(database) => StoreConfig::at(Place::Server(Server {
                pooler: true,
                ..Server::new(database.url_through(pgbouncer::shared().unwrap().address()))
            })),
        }
    }
}

/// Brings a database up to date. On a thread of its own, as a test's runtime cannot wait here.
fn migrate(url: &str) {
    let place = Place::Server(Server::new(url));
    let migrating = thread::spawn(move || Runtime::new().unwrap().block_on(migrate_up(&place)).map(drop));
    migrating.join().unwrap().unwrap();
}
