//! A connection of the store's own, and a transaction on it.

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Postgres, Sqlite, SqliteConnection,
    Transaction as SqlxTransaction,
};

use super::{
    StoreError,
    access::{Access, Prepared},
};

/// A connection that is kept.
pub(super) enum Link {
    Sqlite(SqliteConnection),
    Postgres {
        conn: PgConnection,
        prepared: Prepared,
        /// What begins a transaction that writes.
        begin: String,
    },
}

/// A transaction that is rolled back when it is dropped.
pub(super) enum Transaction<'c> {
    Sqlite(SqlxTransaction<'c, Sqlite>),
    Postgres(SqlxTransaction<'c, Postgres>, Prepared),
}

/// Why a transaction was not committed, as far as is known.
pub(super) enum Uncommitted {
    /// It was rolled back.
    Refused(StoreError),
    /// The answer was lost.
    Unclear(StoreError),
}

impl From<Uncommitted> for StoreError {
    fn from(uncommitted: Uncommitted) -> Self {
        match uncommitted {
            Uncommitted::Refused(error) | Uncommitted::Unclear(error) => error,
        }
    }
}

/// Codes of PostgreSQL that come with the end of a connection: the server stops (57P..), a connection's fault (08...),
/// completion unknown (40003).
fn ends_unclear(code: Option<&str>) -> bool {
    code.is_none_or(|code| code.starts_with("57P") || code.starts_with("08") || code == "40003")
}

impl Link {
    /// Begins a transaction that writes.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        Ok(match self {
            Self::Sqlite(conn) => Transaction::Sqlite(conn.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres {
                conn,
                prepared,
                begin,
            } => {
                // Made of numbers of the configuration.
                let begin = AssertSqlSafe(begin.clone());
                Transaction::Postgres(conn.begin_with(begin).await?, *prepared)
            }
        })
    }

    /// For statements outside a transaction.
    pub(super) fn access(&mut self) -> Access<'_> {
        match self {
            Self::Sqlite(conn) => Access::Sqlite(conn),
            Self::Postgres { conn, prepared, .. } => Access::Postgres(conn, *prepared),
        }
    }

    pub(super) async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(conn) => conn.close().await?,
            Self::Postgres { conn, .. } => conn.close().await?,
        }
        Ok(())
    }
}

impl Transaction<'_> {
    pub(super) fn access(&mut self) -> Access<'_> {
        match self {
            Self::Sqlite(transaction) => Access::Sqlite(transaction),
            Self::Postgres(transaction, prepared) => Access::Postgres(transaction, *prepared),
        }
    }

    /// A commit that SQLite refuses is rolled back.
    pub(super) async fn commit(self) -> Result<(), Uncommitted> {
        match self {
            Self::Sqlite(transaction) => transaction
                .commit()
                .await
                .map_err(|error| Uncommitted::Refused(error.into())),
            Self::Postgres(transaction, _) => transaction.commit().await.map_err(|error| {
                let refused = error
                    .as_database_error()
                    .is_some_and(|error| !ends_unclear(error.code().as_deref()));
                if refused {
                    Uncommitted::Refused(error.into())
                } else {
                    Uncommitted::Unclear(error.into())
                }
            }),
        }
    }

    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.rollback().await?,
            Self::Postgres(transaction, _) => transaction.rollback().await?,
        }
        Ok(())
    }
}
