//! Connections to whichever database it is.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool, Postgres, Sqlite, SqlitePool, Transaction as SqlxTransaction};

use super::{
    Place, Server, StoreConfig, StoreError,
    access::Prepared,
    link::{Link, Transaction},
    postgres, sqlite,
    stale::{self, Primary},
};

/// Opens a connection that writes.
pub(super) async fn writer(place: &Place) -> Result<Link, StoreError> {
    match place {
        Place::File(path) => Ok(Link::Sqlite(sqlite::connect::writer(path).await?)),
        Place::Server(server) => {
            let connected = postgres::connect::writer(server);
            let conn = tokio::time::timeout(server.connect_timeout, connected)
                .await
                .map_err(|_| too_slow())??;
            Ok(Link::Postgres {
                conn,
                prepared: prepared(server),
                begin: format!("BEGIN{}", postgres::connect::settings(server)),
            })
        }
    }
}

/// Opens a connection that changes the schema: what it does may take long.
pub(super) async fn migrator(place: &Place) -> Result<Link, StoreError> {
    match place {
        Place::File(_) => writer(place).await,
        Place::Server(server) => {
            let patient = Server {
                statement_timeout: MIGRATION,
                lock_timeout: MIGRATION,
                ..server.clone()
            };
            writer(&Place::Server(patient)).await
        }
    }
}

/// How long a statement of a migration may take.
const MIGRATION: Duration = Duration::from_mins(30);

/// How long a transaction may take in all before its connection is given up; none: as long as it takes.
pub(super) fn patience(place: &Place) -> Option<Duration> {
    match place {
        Place::File(_) => None,
        Place::Server(server) => Some(server.statement_timeout + server.connect_timeout),
    }
}

fn prepared(server: &Server) -> Prepared {
    if server.pooler {
        Prepared::EachTime
    } else {
        Prepared::Kept
    }
}

pub(super) fn too_slow() -> StoreError {
    StoreError::Unavailable {
        reason: "the database did not answer in time".to_owned(),
    }
}

/// Whether a connection had ended before it was asked.
fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // The server said that it ends it (57P01 to 57P05).
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// The connections that read.
pub(super) enum Readers {
    Sqlite(SqlitePool),
    Postgres {
        pool: PgPool,
        prepared: Prepared,
        begin: String,
        replica: Option<Replica>,
    },
}

/// Who answers readers while the primary is away.
pub(super) struct Replica {
    pool: PgPool,
    primary: Primary,
    /// How long the primary has time.
    patience: Duration,
}

impl Readers {
    pub(super) async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        match &config.place {
            Place::File(path) => Ok(Self::Sqlite(
                sqlite::connect::readers(path, config.read_connections).await?,
            )),
            Place::Server(server) => Ok(Self::Postgres {
                pool: postgres::connect::readers(server, &server.url, config.read_connections)?,
                replica: match &server.replica {
                    Some(url) => Some(Replica {
                        pool: postgres::connect::readers(server, url, config.read_connections)?,
                        primary: Primary::default(),
                        patience: server.connect_timeout,
                    }),
                    None => None,
                },
                prepared: prepared(server),
                begin: format!(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY{}",
                    postgres::connect::settings(server)
                ),
            }),
        }
    }

    /// All reads of it see one commit.
    pub(super) async fn snapshot(&self) -> Result<Transaction<'static>, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => {
                let transaction: SqlxTransaction<'static, Sqlite> = pool.begin().await?;
                Transaction::Sqlite(transaction)
            }
            Self::Postgres {
                pool,
                prepared,
                begin,
                ..
            } => Transaction::Postgres(read(pool, begin).await?, *prepared),
        })
    }

    /// The same by a replica, where there is one, the primary is away, and the caller may be told what is stale.
    pub(super) async fn snapshot_or_stale(&self) -> Result<Transaction<'static>, StoreError> {
        let Self::Postgres {
            pool,
            prepared,
            begin,
            replica: Some(replica),
        } = self
        else {
            return self.snapshot().await;
        };
        if !stale::is_allowed() {
            return self.snapshot().await;
        }
        if replica.primary.is_tried(replica.patience) {
            if let Ok(Ok(transaction)) = tokio::time::timeout(replica.patience, read(pool, begin)).await {
                replica.primary.is_there();
                return Ok(Transaction::Postgres(transaction, *prepared));
            }
            replica.primary.is_away();
        }
        stale::note();
        Ok(Transaction::Postgres(
            read(&replica.pool, begin).await?,
            *prepared,
        ))
    }

    /// Whether the work at hand could do without the primary.
    pub(super) fn may_be_stale(&self) -> bool {
        matches!(self, Self::Postgres { replica: Some(_), .. }) && stale::is_allowed()
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres { pool, replica, .. } => {
                pool.close().await;
                if let Some(replica) = replica {
                    replica.pool.close().await;
                }
            }
        }
    }
}

/// Begins to read.
async fn read(pool: &PgPool, begin: &str) -> Result<SqlxTransaction<'static, Postgres>, StoreError> {
    // After a restart or a fail-over every kept connection is dead, and shows it at its first use.
    let mut kept = pool.size();
    loop {
        // Made of numbers of the configuration.
        match pool.begin_with(AssertSqlSafe(begin.to_owned())).await {
            Err(error) if kept > 0 && is_dead(&error) => kept -= 1,
            begun => return Ok(begun?),
        }
    }
}
