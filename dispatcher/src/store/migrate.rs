//! Migrations: numbered pairs, embedded, each applied in a transaction of its own.

use super::{Place, StoreError, access::Statement, connect, link::Link};
use crate::model::Micros;

struct Migration {
    version: i64,
    name: &'static str,
    up: Script,
    down: Script,
}

/// A step, as each database takes it.
struct Script {
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! script {
    ($file:literal, $way:literal) => {
        Script {
            sqlite: include_str!(concat!("../../migrations/sqlite/", $file, $way)),
            postgres: include_str!(concat!("../../migrations/postgres/", $file, $way)),
        }
    };
}

macro_rules! migrations {
    ($($version:literal $file:literal),+ $(,)?) => {
        const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $file,
            up: script!($file, ".up.sql"),
            down: script!($file, ".down.sql"),
        }),+];
    };
}

// Released migrations are never edited; a change is a new pair.
migrations! {
    1 "0001_notifications",
    2 "0002_queue",
    3 "0003_inbox",
    4 "0004_records",
    5 "0005_history",
    6 "0006_chains",
    7 "0007_operations",
    8 "0008_schedules",
    9 "0009_collapse",
    10 "0010_places",
    11 "0011_retention",
    12 "0012_stops",
    13 "0013_audit",
    14 "0014_api_keys",
    15 "0015_events",
}

const TABLE: Statement = Statement {
    sqlite: "CREATE TABLE IF NOT EXISTS schema_migrations (
        version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)",
    postgres: "CREATE TABLE IF NOT EXISTS schema_migrations (
        version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)",
};

/// One migrates at a time. SQLite's transaction that writes is such a lock itself.
const LOCK: Statement = Statement {
    sqlite: "SELECT 1",
    postgres: "SELECT 1 FROM pg_advisory_xact_lock(4994418267301)",
};

const NOTE: Statement = both(
    "INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
);

const FORGET: Statement = both("DELETE FROM schema_migrations WHERE version = $1");

const APPLIED: Statement = both("SELECT version FROM schema_migrations ORDER BY version");

const fn both(statement: &'static str) -> Statement {
    Statement {
        sqlite: statement,
        postgres: statement,
    }
}

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
pub async fn migrate_up(place: &Place) -> Result<Vec<MigrationStatus>, StoreError> {
    let mut link = connect::migrator(place).await?;
    up_on(&mut link).await?;
    finish(link).await
}

/// Takes the newest applied migration back, with the data of its tables, and says where the database stands.
///
/// # Errors
/// As [`migrate_up`].
pub async fn migrate_down(place: &Place) -> Result<Vec<MigrationStatus>, StoreError> {
    let mut link = connect::migrator(place).await?;
    let newest = applied(&mut link).await?.last().copied();
    if let Some(migration) = MIGRATIONS
        .iter()
        .find(|migration| Some(migration.version) == newest)
    {
        let mut transaction = link.begin().await?;
        let mut conn = transaction.access();
        conn.query(LOCK).run().await?;
        // Another process may have been faster.
        if conn.query(FORGET).bind(migration.version).run().await? == 1 {
            conn.script(migration.down.sqlite, migration.down.postgres)
                .await?;
        }
        transaction.commit().await?;
    }
    finish(link).await
}

/// Says where the database stands. Makes an empty database where there is none.
///
/// # Errors
/// As [`migrate_up`].
pub async fn migrate_status(place: &Place) -> Result<Vec<MigrationStatus>, StoreError> {
    finish(connect::migrator(place).await?).await
}

async fn finish(mut link: Link) -> Result<Vec<MigrationStatus>, StoreError> {
    let applied = applied(&mut link).await?;
    link.close().await?;
    let status = |migration: &Migration| MigrationStatus {
        version: migration.version,
        name: migration.name,
        applied: applied.contains(&migration.version),
    };
    Ok(MIGRATIONS.iter().map(status).collect())
}

pub(super) async fn up(place: &Place) -> Result<(), StoreError> {
    let mut link = connect::migrator(place).await?;
    up_on(&mut link).await?;
    link.close().await
}

async fn up_on(link: &mut Link) -> Result<(), StoreError> {
    let done = applied(link).await?;
    for migration in MIGRATIONS
        .iter()
        .filter(|migration| !done.contains(&migration.version))
    {
        let mut transaction = link.begin().await?;
        let mut conn = transaction.access();
        conn.query(LOCK).run().await?;
        // Another process may have been faster.
        let noted = conn
            .query(NOTE)
            .bind(migration.version)
            .bind(migration.name)
            .bind(Micros::now().0)
            .run()
            .await?;
        if noted == 1 {
            conn.script(migration.up.sqlite, migration.up.postgres).await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

async fn applied(link: &mut Link) -> Result<Vec<i64>, StoreError> {
    let mut transaction = link.begin().await?;
    let mut conn = transaction.access();
    conn.query(LOCK).run().await?;
    conn.query(TABLE).run().await?;
    let applied: Vec<i64> = conn.query(APPLIED).scalars().await?;
    transaction.commit().await?;
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

    const TABLES: Statement = Statement {
        sqlite: "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY name",
        postgres: "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
    };

    async fn tables(place: &Place) -> Vec<String> {
        let mut link = connect::writer(place).await.unwrap();
        link.access().query(TABLES).scalars().await.unwrap()
    }

    #[tokio::test]
    async fn every_migration_goes_up_and_down_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = Place::File(folder.path().join("store.db"));
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
        let path = Place::File(folder.path().join("store.db"));
        migrate_up(&path).await.unwrap();
        let mut link = connect::writer(&path).await.unwrap();
        link.access()
            .query(NOTE)
            .bind(9999_i64)
            .bind("later")
            .bind(0_i64)
            .run()
            .await
            .unwrap();
        let error = migrate_up(&path).await.unwrap_err();
        assert!(
            error.to_string().contains("newer version (schema 9999"),
            "{error}"
        );
    }
}
