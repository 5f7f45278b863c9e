//! The table's statements.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::config::OutboxConfig;

/// What makes the table, for who reads the documents and for the first start.
const TABLE: &str = include_str!("table.sql");

/// Characters of an error that a row keeps.
const MAX_ERROR: usize = 1000;

/// A row.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) tenant: String,
    pub(super) body: String,
    pub(super) dedup_key: Option<String>,
    /// Microseconds since 1970.
    pub(super) created_at: i64,
    pub(super) attempts: i32,
}

/// What becomes of a row.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It goes.
    Done,
    /// It is tried again after a pause.
    Again(String, Duration),
    /// It stays, with its error.
    Failed(String),
}

/// Makes the table where it is missing. Where the role may not, it has to be there.
pub(super) async fn make_table(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (there,): (bool,) = sqlx::query_as("SELECT to_regclass('carillon_outbox') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await?;
    if there {
        return Ok(());
    }
    // One dispatcher makes it, the others wait.
    let script = format!("BEGIN; SELECT pg_advisory_xact_lock(4994418267302); {TABLE}; COMMIT");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(conn).await.map(drop)
}

/// Takes rows that are due and that nobody else looks at.
pub(super) async fn due(conn: &mut PgConnection, config: &OutboxConfig) -> Result<Vec<Row>, sqlx::Error> {
    let text = format!(
        "SELECT id, tenant, body::text AS body, dedup_key, (extract(epoch FROM created_at) * 1000000)::bigint AS created_at, \
         attempts FROM {} WHERE failed_at IS NULL AND next_at <= clock_timestamp() ORDER BY id LIMIT $1 \
         FOR UPDATE SKIP LOCKED",
        config.table
    );
    sqlx::query_as(AssertSqlSafe(text))
        .bind(i64::from(config.batch_max))
        .fetch_all(conn)
        .await
}

/// Writes down what became of rows.
pub(super) async fn settle(
    conn: &mut PgConnection,
    config: &OutboxConfig,
    outcomes: &[(i64, Outcome)],
) -> Result<(), sqlx::Error> {
    let done: Vec<i64> = outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Done))
        .map(|(id, _)| *id)
        .collect();
    if !done.is_empty() {
        let text = format!("DELETE FROM {} WHERE id = ANY ($1)", config.table);
        sqlx::query(AssertSqlSafe(text))
            .bind(done)
            .execute(&mut *conn)
            .await?;
    }
    let text = format!(
        "UPDATE {} SET attempts = attempts + 1, error = $2, \
         failed_at = CASE WHEN $3::float8 IS NULL THEN clock_timestamp() END, \
         next_at = clock_timestamp() + make_interval(secs => coalesce($3::float8, 0)) WHERE id = $1",
        config.table
    );
    for (id, outcome) in outcomes {
        let (error, pause) = match outcome {
            Outcome::Done => continue,
            Outcome::Again(error, pause) => (error, Some(pause.as_secs_f64())),
            Outcome::Failed(error) => (error, None),
        };
        let error: String = error.chars().take(MAX_ERROR).collect();
        sqlx::query(AssertSqlSafe(text.clone()))
            .bind(id)
            .bind(error)
            .bind(pause)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
