//! Both databases have the same tables, every statement can be prepared on its own, and every migration goes up and down
//! over data.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use super::{Place, Server, migrate_down, migrate_status, migrate_up, postgres, sql, sqlite};

/// Tables and columns that only PostgreSQL needs: it keeps what has ended apart, and sums in slots.
const POSTGRES_ONLY: [(&str, Option<&str>); 2] = [("delivery_history", None), ("totals", Some("slot"))];

/// What a column holds, by what the databases call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Bytes,
}

impl Kind {
    fn of(name: &str) -> Self {
        match name {
            "INTEGER" | "bigint" => Self::Number,
            "TEXT" | "text" => Self::Text,
            "BLOB" | "bytea" | "uuid" => Self::Bytes,
            other => panic!("{other} is no type that both databases have"),
        }
    }
}

/// Columns by name: what they hold, and whether that may be nothing.
type Columns = BTreeMap<String, (Kind, bool)>;

enum Conn {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Conn {
    async fn open(place: &Place) -> Self {
        match place {
            Place::File(path) => Self::Sqlite(sqlite::connect::writer(path).await.unwrap()),
            Place::Server(server) => Self::Postgres(postgres::connect::writer(server).await.unwrap()),
        }
    }

    async fn run(&mut self, text: String) -> Result<(), sqlx::Error> {
        let text = AssertSqlSafe(text);
        match self {
            Self::Sqlite(conn) => sqlx::raw_sql(text).execute(conn).await.map(drop),
            Self::Postgres(conn) => sqlx::raw_sql(text).execute(conn).await.map(drop),
        }
    }

    async fn rows(&mut self, table: &str) -> i64 {
        let text = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let (rows,) = match self {
            Self::Sqlite(conn) => sqlx::query_as(text).fetch_one(conn).await,
            Self::Postgres(conn) => sqlx::query_as(text).fetch_one(conn).await,
        }
        .unwrap();
        rows
    }

    async fn schema(&mut self) -> BTreeMap<String, Columns> {
        let rows: Vec<(String, String, String, bool)> = match self {
            Self::Sqlite(conn) => sqlx::query_as(
                "SELECT t.name, c.name, c.type, c.\"notnull\" = 0
                 FROM sqlite_schema t JOIN pragma_table_info(t.name) c
                 WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> 'schema_migrations'",
            )
            .fetch_all(conn)
            .await
            .unwrap(),
            Self::Postgres(conn) => sqlx::query_as(
                "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL), NOT a.attnotnull
                 FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
                   AND NOT c.relispartition AND c.relname <> 'schema_migrations'",
            )
            .fetch_all(conn)
            .await
            .unwrap(),
        };
        let mut schema = BTreeMap::<String, Columns>::new();
        for (table, column, kind, nullable) in rows {
            let columns = schema.entry(table).or_default();
            columns.insert(column, (Kind::of(&kind), nullable));
        }
        schema
    }

    /// A row for a table: numbers 1, text `x`, and one id, so that references are met.
    fn row(&self, table: &str, columns: &Columns) -> String {
        let id = match self {
            Self::Sqlite(_) => "x'00000000000070008000000000000001'",
            Self::Postgres(_) => "'00000000-0000-7000-8000-000000000001'",
        };
        let names: Vec<String> = columns.keys().map(|name| format!("\"{name}\"")).collect();
        let values: Vec<&str> = columns
            .values()
            .map(|(kind, _)| match kind {
                Kind::Number => "1",
                Kind::Text => "'x'",
                Kind::Bytes => id,
            })
            .collect();
        format!(
            "INSERT INTO {table} ({}) VALUES ({})",
            names.join(", "),
            values.join(", ")
        )
    }

    /// Puts a row into each table that has none. Those that refer to others are tried again after them.
    async fn fill(&mut self) {
        let schema = self.schema().await;
        let mut left: Vec<_> = schema.iter().collect();
        while !left.is_empty() {
            let before = left.len();
            let mut later = Vec::new();
            let mut errors = Vec::new();
            for (table, columns) in left {
                if self.rows(table).await == 0
                    && let Err(error) = self.run(self.row(table, columns)).await
                {
                    later.push((table, columns));
                    errors.push(format!("{table}: {error}"));
                }
            }
            assert!(
                later.len() < before,
                "no row can be put into a table: {errors:#?}"
            );
            left = later;
        }
    }

    async fn assert_filled(&mut self, tables: impl IntoIterator<Item = &String>, when: &str) {
        for table in tables {
            assert_eq!(self.rows(table).await, 1, "{table} {when}");
        }
    }
}

/// A database of each kind, with every migration.
struct Pair {
    places: [Place; 2],
    _kept: (tempfile::TempDir, rig::postgres::Database),
}

impl Pair {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = rig::postgres::shared().unwrap().database("schema").unwrap();
        let places = [
            Place::File(folder.path().join("store.db")),
            Place::Server(Server::new(database.url())),
        ];
        for place in &places {
            migrate_up(place).await.unwrap();
        }
        Self {
            places,
            _kept: (folder, database),
        }
    }
}

#[tokio::test]
async fn both_databases_have_the_same_tables() {
    let pair = Pair::new().await;
    let [file, server] = &pair.places;
    let expected = Conn::open(file).await.schema().await;
    let mut found = Conn::open(server).await.schema().await;
    assert_eq!(
        found.get("delivery_history"),
        found.get("deliveries"),
        "what has ended keeps its columns"
    );
    for (table, column) in POSTGRES_ONLY {
        let removed = match column {
            Some(column) => found.get_mut(table).unwrap().remove(column).is_some(),
            None => found.remove(table).is_some(),
        };
        assert!(removed, "{table}");
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let pair = Pair::new().await;
    let [file, server] = &pair.places;
    let mut sqlite = Conn::open(file).await;
    let mut postgres = Conn::open(server).await;
    let mut names = BTreeSet::new();
    for (name, statement) in sql::all() {
        assert!(names.insert(name), "{name} is there twice");
        for (database, result) in [
            (
                "SQLite",
                sqlite.run(format!("EXPLAIN {}", statement.sqlite)).await,
            ),
            (
                "PostgreSQL",
                postgres
                    .run(format!("PREPARE \"{name}\" AS {}", statement.postgres))
                    .await,
            ),
        ] {
            assert!(result.is_ok(), "{name} of {database}: {result:?}");
        }
    }
}

/// Takes every migration back over full tables, and brings it again over what is left.
#[tokio::test]
async fn migrations_go_down_and_up_over_data() {
    let pair = Pair::new().await;
    for place in &pair.places {
        let all = migrate_status(place).await.unwrap().len();
        for applied in (1..=all).rev() {
            Conn::open(place).await.fill().await;
            let status = migrate_down(place).await.unwrap();
            assert_eq!(status.iter().filter(|one| one.applied).count(), applied - 1);
            let mut conn = Conn::open(place).await;
            let left = conn.schema().await;
            conn.assert_filled(left.keys(), &format!("after {applied} was taken back"))
                .await;
            migrate_up(place).await.unwrap();
            let mut conn = Conn::open(place).await;
            conn.assert_filled(left.keys(), &format!("after {applied} came again"))
                .await;
            for _ in applied..=all {
                migrate_down(place).await.unwrap();
            }
        }
        assert!(Conn::open(place).await.schema().await.is_empty());
    }
}
