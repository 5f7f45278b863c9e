//! Migrations: numbered pairs, embedded, each applied in a transaction of its own.

use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use super::{StoreError, sqlite::connect};
use crate::model::Micros;

struct Migration {
    version: i64,
    name: &'static str,
    up: &'static str,
    down: &'static str,
}

macro_rules! migrations {
    ($($version:literal $file:literal),+ $(,)?) => {
        const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $file,
            up: include_str!(concat!("../../migrations/sqlite/", $file, ".up.sql")),
            down: include_str!(concat!("../../migrations/sqlite/", $file, ".down.sql")),
        }),+];
    };
}

// Released migrations are never edited; a change is a new pair.
migrations! {
    1 "0001_notifications",
    2 "0002_queue",
    3 "0003_inbox",
    4 "0004_records",
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)";

/// One migration that this version knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    /// Whether the database has it.
    pub applied: bool,
}

/// Applies every migration that is missing, and says where the database stands.
///
/// # Errors
/// [`StoreError::Corrupt`] for a database of a newer version; [`StoreError::Unavailable`] where it cannot be opened.
pub async fn migrate_up(path: &Path) -> Result<Vec<MigrationStatus>, StoreError> {
    let mut conn = connect::writer(path).await?;
    up(&mut conn).await?;
    finish(conn).await
}

/// Takes the newest applied migration back, with the data of its tables, and says where the database stands.
///
/// # Errors
/// As [`migrate_up`].
pub async fn migrate_down(path: &Path) -> Result<Vec<MigrationStatus>, StoreError> {
    let mut conn = connect::writer(path).await?;
    let applied = applied(&mut conn).await?;
    if let Some(migration) = MIGRATIONS
        .iter()
        .rev()
        .find(|migration| applied.contains(&migration.version))
    {
        let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::raw_sql(migration.down).execute(&mut *transaction).await?;
        sqlx::query("DELETE FROM schema_migrations WHERE version = ?1")
            .bind(migration.version)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
    }
    finish(conn).await
}

/// Says where the database stands. Makes an empty database where there is none.
///
/// # Errors
/// As [`migrate_up`].
pub async fn migrate_status(path: &Path) -> Result<Vec<MigrationStatus>, StoreError> {
    finish(connect::writer(path).await?).await
}

async fn finish(mut conn: SqliteConnection) -> Result<Vec<MigrationStatus>, StoreError> {
    let applied = applied(&mut conn).await?;
    conn.close().await?;
    let status = |migration: &Migration| MigrationStatus {
        version: migration.version,
        name: migration.name,
        applied: applied.contains(&migration.version),
    };
    Ok(MIGRATIONS.iter().map(status).collect())
}

pub(super) async fn up(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    let done = applied(conn).await?;
    for migration in MIGRATIONS
        .iter()
        .filter(|migration| !done.contains(&migration.version))
    {
        let mut transaction = conn.begin_with("BEGIN IMMEDIATE").await?;
        // Another process may have been faster.
        let inserted = sqlx::query(
            "INSERT INTO schema_migrations (version, name, applied_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )
        .bind(migration.version)
        .bind(migration.name)
        .bind(Micros::now().0)
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 1 {
            sqlx::raw_sql(migration.up).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

async fn applied(conn: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    let exists: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'",
    )
    .fetch_one(&mut *conn)
    .await?;
    if exists == 0 {
        sqlx::raw_sql(TABLE).execute(&mut *conn).await?;
    }
    let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM schema_migrations ORDER BY version")
        .fetch_all(&mut *conn)
        .await?;
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    match applied.last() {
        Some(&found) if found > newest => Err(StoreError::Corrupt {
            reason: format!(
                "the database is of a newer version (schema {found}, this program knows {newest}): \
                 use the program that wrote it, or one that is newer"
            ),
        }),
        _ => Ok(applied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tables(path: &Path) -> Vec<String> {
        let mut conn = connect::writer(path).await.unwrap();
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name")
            .fetch_all(&mut conn)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn every_migration_goes_up_and_down_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        assert!(
            migrate_status(&path)
                .await
                .unwrap()
                .iter()
                .all(|migration| !migration.applied)
        );
        let empty = tables(&path).await;
        assert!(
            migrate_up(&path)
                .await
                .unwrap()
                .iter()
                .all(|migration| migration.applied)
        );
        let full = tables(&path).await;
        for _ in MIGRATIONS {
            migrate_down(&path).await.unwrap();
        }
        assert_eq!(tables(&path).await, empty);
        migrate_up(&path).await.unwrap();
        migrate_up(&path).await.unwrap();
        assert_eq!(tables(&path).await, full);
    }

    #[tokio::test]
    async fn a_newer_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        migrate_up(&path).await.unwrap();
        let mut conn = connect::writer(&path).await.unwrap();
        sqlx::query("INSERT INTO schema_migrations VALUES (9999, 'later', 0)")
            .execute(&mut conn)
            .await
            .unwrap();
        let error = migrate_up(&path).await.unwrap_err();
        assert!(
            error.to_string().contains("newer version (schema 9999"),
            "{error}"
        );
    }
}
