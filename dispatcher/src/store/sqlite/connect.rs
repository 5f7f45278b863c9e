//! Connections.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::store::StoreError;

/// How long a connection waits for another process that holds the file.
const BUSY: Duration = Duration::from_secs(5);

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .row_buffer_size(1024)
        .pragma("cache_size", "-16384")
        .pragma("temp_store", "MEMORY")
}

/// The connection that writes. Makes the file where it does not exist.
///
/// # Errors
/// [`StoreError::Corrupt`] when the database does not keep what it is told to: every commit flushed.
pub(in crate::store) async fn writer(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // A checkpoint copies what a page was written for many times only once.
        .pragma("wal_autocheckpoint", "4000")
        .pragma("journal_size_limit", "67108864");
    let mut conn = options.connect().await?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut conn)
        .await?;
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut conn)
        .await?;
    // 2 is FULL, 3 EXTRA.
    if synchronous < 2 || journal != "wal" {
        return Err(StoreError::Corrupt {
            reason: format!("the database runs with synchronous={synchronous} and journal_mode={journal}"),
        });
    }
    Ok(conn)
}

/// The connections that read.
pub(in crate::store) async fn readers(path: &Path, connections: u32) -> Result<SqlitePool, StoreError> {
    let pool = SqlitePoolOptions::new()
        .min_connections(1)
        .max_connections(connections.max(1))
        .acquire_timeout(BUSY)
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options(path).read_only(true))
        .await?;
    Ok(pool)
}

/// Bounds the file to so many bytes more or less; none lifts the bound.
pub(in crate::store) async fn limit_size(
    conn: &mut SqliteConnection,
    bytes: Option<u64>,
) -> Result<(), StoreError> {
    let page: i64 = sqlx::query_scalar("PRAGMA page_size")
        .fetch_one(&mut *conn)
        .await?;
    let pages = bytes.map_or(4_294_967_294, |bytes| {
        // To SQLite 0 is a question.
        (i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1)).max(1)
    });
    // A pragma takes no parameters; `pages` is a number.
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))
        .execute(conn)
        .await?;
    Ok(())
}
