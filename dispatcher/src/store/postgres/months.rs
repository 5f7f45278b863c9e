//! Tests of the months of notifications, deliveries and attempts.

use sqlx::{AssertSqlSafe, PgConnection};

use super::connect;
use crate::store::{Place, Server, migrate};

async fn run(conn: &mut PgConnection, text: &str) {
    sqlx::raw_sql(AssertSqlSafe(text.to_owned()))
        .execute(conn)
        .await
        .unwrap();
}

async fn number(conn: &mut PgConnection, text: &str) -> i64 {
    let (number,) = sqlx::query_as(AssertSqlSafe(text.to_owned()))
        .fetch_one(conn)
        .await
        .unwrap();
    number
}

/// Ten notifications of January 2024, each with a delivery that ended and an attempt; those numbered below `needed` have
/// another delivery on its way. They come before their partitions, as of a machine whose clock is far behind.
async fn january(conn: &mut PgConnection, needed: u32) {
    run(
        conn,
        &format!(
            "INSERT INTO notifications (id, tenant, sender, content, kind, lane, strategy, channels, created_at, visible_at)
             SELECT ('018cc251-f400-7000-8000-00000000000' || n)::uuid, 't', 's', '{{}}', 'info', 2, 'all', '[]', 1, 1
             FROM generate_series(0, 9) n;
             INSERT INTO delivery_history (id, notification_id, tenant, channel, lane, state, due_at, token, max_attempts, updated_at)
             SELECT ('018cc251-f401-7000-8000-00000000000' || n)::uuid, ('018cc251-f400-7000-8000-00000000000' || n)::uuid,
               't', 'email', 2, 'delivered', 1, 1, 3, 1 FROM generate_series(0, 9) n;
             INSERT INTO deliveries (id, notification_id, tenant, channel, lane, state, due_at, token, max_attempts, updated_at)
             SELECT ('018cc251-f402-7000-8000-00000000000' || n)::uuid, ('018cc251-f400-7000-8000-00000000000' || n)::uuid,
               't', 'email', 2, 'pending', 1, 1, 3, 1 FROM generate_series(0, {needed} - 1) n;
             INSERT INTO attempts (delivery_id, number, token, started_at)
             SELECT id, 1, 1, 1 FROM all_deliveries;
             SELECT ensure_partition('notifications', '2024-01-01 00:00:00+00'),
               ensure_partition('delivery_history', '2024-01-01 00:00:00+00'),
               ensure_partition('attempts', '2024-01-01 00:00:00+00')"
        ),
    )
    .await;
}

#[tokio::test]
async fn a_month_is_dropped_and_what_is_needed_of_it_stays() {
    let database = rig::postgres::shared().unwrap().database("months").unwrap();
    let server = Server::new(database.url());
    migrate::up(&Place::Server(server.clone())).await.unwrap();
    let mut conn = connect::writer(&server).await.unwrap();
    let partition = "SELECT count(*) FROM notifications_2024_01";
    january(&mut conn, 2).await;
    assert_eq!(number(&mut conn, partition).await, 10);
    // Before the month's end nothing goes.
    let in_january = "SELECT forget_month(1706000000000000)";
    assert_eq!(number(&mut conn, in_january).await, 0);
    let in_march = "SELECT forget_month(1710000000000000)";
    assert_eq!(number(&mut conn, in_march).await, 1);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM notifications").await, 2);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM all_deliveries").await, 4);
    assert_eq!(
        number(&mut conn, "SELECT count(*) FROM notifications_default").await,
        2
    );
    // Attempts follow the notifications.
    assert_eq!(number(&mut conn, "SELECT count(*) FROM attempts").await, 12);
    assert_eq!(number(&mut conn, in_march).await, 1);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM attempts").await, 4);
    assert_eq!(number(&mut conn, in_march).await, 0);
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE '%2024_01' AND relkind = 'r'";
    assert_eq!(number(&mut conn, left).await, 0);
}

#[tokio::test]
async fn a_month_that_somebody_reads_waits() {
    let database = rig::postgres::shared().unwrap().database("months").unwrap();
    let server = Server::new(database.url());
    migrate::up(&Place::Server(server.clone())).await.unwrap();
    let mut conn = connect::writer(&server).await.unwrap();
    january(&mut conn, 0).await;
    let mut other = connect::writer(&server).await.unwrap();
    run(&mut other, "BEGIN; SELECT 1 FROM notifications LIMIT 1").await;
    let forget = "SELECT forget_month(1710000000000000)";
    assert_eq!(number(&mut conn, forget).await, 0);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM notifications").await, 10);
    run(&mut other, "COMMIT").await;
    assert_eq!(number(&mut conn, forget).await, 1);
    assert_eq!(number(&mut conn, "SELECT count(*) FROM notifications").await, 0);
}
