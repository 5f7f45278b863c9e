//! What PostgreSQL makes of every statement: each can be prepared, and enters every table by an index, also where the plan
//! was made while the tables were empty, as those of a connection that is kept are.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::connect;
use crate::store::{Place, Server, migrate, sql};

/// Statements that walk a whole index on purpose: one that holds only what they ask for.
const WALKS: [(&str, &str); 12] = [
    ("EXPIRED_LEASES", "deliveries_running"),
    ("DEPTHS", "deliveries_due"),
    ("TENANT_DEPTHS", "deliveries_due"),
    ("NEXT_STEP", "chains_due"),
    ("UNTOLD_CHAINS", "chains_untold"),
    // As many rows as operators have paused.
    ("PAUSES", "pauses_pkey"),
    // As many rows as there are kinds of things that are remembered, and versions of settings.
    ("REVISIONS", "revisions_pkey"),
    ("SETTINGS", "settings_pkey"),
    ("FORGET_PAUSES", "->  Seq Scan on pauses"),
    ("NEXT_SCHEDULE", "schedules_due"),
    // What workers hold at this moment: less than a large notification has.
    ("STOP_PENDING", "deliveries_running"),
    ("OPEN_STOPS", "stops_pkey"),
];

async fn connection(database: &rig::postgres::Database) -> PgConnection {
    let server = Server::new(database.url());
    migrate::up(&Place::Server(server.clone())).await.unwrap();
    connect::writer(&server).await.unwrap()
}

/// The number of a statement's parameters.
fn parameters(statement: &str) -> usize {
    statement
        .split('$')
        .skip(1)
        .filter_map(|rest| {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            rest[..digits].parse().ok()
        })
        .collect::<BTreeSet<usize>>()
        .last()
        .copied()
        .unwrap_or_default()
}

async fn plan(conn: &mut PgConnection, name: &str, statement: &str) -> Vec<String> {
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE \"{name}\" AS {statement}")))
        .execute(&mut *conn)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let arguments = match parameters(statement) {
        0 => String::new(),
        number => format!("({})", vec!["NULL"; number].join(", ")),
    };
    sqlx::raw_sql(AssertSqlSafe(format!(
        "EXPLAIN (COSTS OFF) EXECUTE \"{name}\"{arguments}"
    )))
    .fetch_all(conn)
    .await
    .unwrap_or_else(|error| panic!("{name}: {error}"))
    .into_iter()
    .map(|row| row.get::<String, _>(0))
    .collect()
}

/// The table or the index that a step walks from end to end.
fn walked(step: &str, next: Option<&String>) -> Option<String> {
    if step.contains("Seq Scan") {
        return Some(step.trim().to_owned());
    }
    let (_, rest) = step.split_once("Index ")?;
    let index = rest.split_once(" using ")?.1;
    let enters = next.is_some_and(|next| next.contains("Index Cond:"));
    (!enters).then(|| index.to_owned())
}

/// What statements walk and should not, by plans that are made now.
async fn faults(conn: &mut PgConnection) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, statement) in sql::all() {
        let steps = plan(conn, name, statement.postgres).await;
        for (at, step) in steps.iter().enumerate() {
            let Some(walked) = walked(step, steps.get(at + 1)) else {
                continue;
            };
            if !WALKS
                .iter()
                .any(|(known, index)| *known == name && walked.starts_with(index))
            {
                faults.push(format!("{name}: {walked}"));
            }
        }
    }
    run(conn, "DEALLOCATE ALL").await;
    faults
}

async fn run(conn: &mut PgConnection, text: &'static str) {
    sqlx::raw_sql(text).execute(conn).await.unwrap();
}

#[tokio::test]
async fn every_statement_enters_by_an_index() {
    let database = rig::postgres::shared().unwrap().database("plans").unwrap();
    let mut conn = connection(&database).await;
    let faults = faults(&mut conn).await;
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A queue that was looked at while it was empty, as every night, and is full a moment later.
#[tokio::test]
async fn what_is_queued_is_entered_by_an_index_whatever_the_statistics_say() {
    let database = rig::postgres::shared().unwrap().database("plans").unwrap();
    let mut conn = connection(&database).await;
    run(
        &mut conn,
        "INSERT INTO notifications (id, tenant, sender, content, kind, lane, strategy, channels, created_at, visible_at)
         SELECT '018cc251-f400-7000-8000-000000000000', 't', 's', '{}', 'info', 2, 'all', '[]', 1, 1;
         CREATE FUNCTION queue(first bigint, last bigint) RETURNS void LANGUAGE sql AS $$
           INSERT INTO deliveries (id, notification_id, tenant, channel, lane, state, due_at, token, max_attempts, updated_at)
           SELECT ('018cc251-f402-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
             ('018cc251-f400-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
             't', 'email', 2, 'running', 1, 1, 3, 1 FROM generate_series(first, last) n $$;
         SELECT queue(1, 1)",
    )
    .await;
    for (when, before) in [
        ("with one row that is known", "ANALYZE deliveries"),
        ("with 50,000 more that are not", "SELECT queue(2, 50001)"),
        ("with all known", "ANALYZE deliveries"),
        ("with none", "DELETE FROM deliveries; ANALYZE deliveries"),
    ] {
        run(&mut conn, before).await;
        let mut faults = faults(&mut conn).await;
        // Sums are asked for by people, of a span of time.
        faults.retain(|fault| fault.contains("deliveries") && !fault.starts_with("SUMS: "));
        assert!(faults.is_empty(), "{when}: {faults:#?}");
    }
}

#[test]
fn a_walk_is_told_from_an_entry() {
    let cond = "      Index Cond: (id = $1)".to_owned();
    let filter = "      Filter: (state = 'x')".to_owned();
    let by_index = "  ->  Index Scan using deliveries_pkey on deliveries d";
    assert_eq!(walked(by_index, Some(&cond)), None);
    assert!(walked(by_index, Some(&filter)).is_some());
    assert!(walked(by_index, None).is_some());
    assert!(walked("  ->  Seq Scan on jobs", Some(&cond)).is_some());
    assert_eq!(walked("  ->  Nested Loop", None), None);
    assert_eq!(parameters("SELECT $2, $12, $2"), 12);
    assert_eq!(parameters("SELECT 1"), 0);
}
