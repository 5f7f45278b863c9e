//! A table that a business service writes.

use dispatcher::config::{DispatcherConfig, OutboxConfig};
use secrecy::SecretString;
use serde_json::json;

use crate::{
    api::{Api, Who},
    support::{Database, World, eventually, quick},
};

/// A dispatcher that reads the table of a shop's database, and a connection to that.
async fn reading(
    change: impl FnOnce(&mut OutboxConfig),
) -> (Api, rig::postgres::Connection, rig::postgres::Database) {
    let shop = rig::postgres::shared().unwrap().database("shop").unwrap();
    let config = config(&shop, change);
    let connection = shop.connect().unwrap();
    let api = Api::start(config).await;
    (api, connection, shop)
}

fn config(shop: &rig::postgres::Database, change: impl FnOnce(&mut OutboxConfig)) -> DispatcherConfig {
    let mut outbox = OutboxConfig {
        enabled: true,
        database_url: Some(SecretString::from(shop.url())),
        retry: [20, 40, 60]
            .map(|ms| common::config::Span(std::time::Duration::from_millis(ms)))
            .to_vec(),
        ..OutboxConfig::default()
    };
    change(&mut outbox);
    DispatcherConfig { outbox, ..quick() }
}

/// The statement of a row; the table is made by the dispatcher.
fn insert(body: &serde_json::Value, key: Option<&str>) -> String {
    let key = key.map_or_else(|| "NULL".to_owned(), |key| format!("'{key}'"));
    format!("INSERT INTO carillon_outbox (tenant, body, dedup_key) VALUES ('t1', '{body}', {key})")
}

async fn table_is_there(connection: &mut rig::postgres::Connection) {
    eventually("the table is made", async || {
        let there = connection
            .value("SELECT to_regclass('carillon_outbox') IS NOT NULL")
            .unwrap();
        (there.as_deref() == Some("t")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_a_row_is_a_notification_once_its_transaction_is_committed() {
    let (api, mut shop, _kept) = reading(|_| {}).await;
    table_is_there(&mut shop).await;
    let note = json!({"user_id": "u1", "title": "Order 7", "content": "It is there"});
    shop.query("BEGIN").unwrap();
    shop.query(&insert(&note, None)).unwrap();
    shop.query("ROLLBACK").unwrap();
    shop.query("BEGIN").unwrap();
    shop.query(&insert(
        &json!({"event_type": "task.completed", "user_id": "u1", "task_name": "export"}),
        None,
    ))
    .unwrap();
    shop.query(&insert(&note, Some("order-7"))).unwrap();
    shop.query("COMMIT").unwrap();
    // The same key again, as of a service that is not sure.
    shop.query(&insert(&note, Some("order-7"))).unwrap();
    eventually("the table is empty", async || {
        (shop
            .value("SELECT count(*) FROM carillon_outbox")
            .unwrap()
            .as_deref()
            == Some("0"))
        .then_some(())
    })
    .await;
    assert_eq!(api.stored().await, 2);
    assert_eq!(api.titles(&Who::user("u1")).await, ["Order 7", "任务完成"]);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_4_a_row_of_which_nothing_can_be_made_stays_with_its_error() {
    let (api, mut shop, _kept) = reading(|_| {}).await;
    table_is_there(&mut shop).await;
    shop.query(&insert(&json!({"user_id": "u1", "titel": "t"}), None))
        .unwrap();
    shop.query("INSERT INTO carillon_outbox (tenant, body) VALUES ('no tenant', '{}')")
        .unwrap();
    shop.query(&insert(
        &json!({"user_id": "u1", "title": "T", "content": "C"}),
        None,
    ))
    .unwrap();
    eventually("two are given up", async || {
        let failed = "SELECT count(*) FROM carillon_outbox WHERE failed_at IS NOT NULL";
        (shop.value(failed).unwrap().as_deref() == Some("2")).then_some(())
    })
    .await;
    assert_eq!(api.stored().await, 1, "the row behind them is not held up");
    let told = |shop: &mut rig::postgres::Connection, tenant: &str| {
        let text = format!("SELECT attempts || ' ' || error FROM carillon_outbox WHERE tenant = '{tenant}'");
        shop.value(&text).unwrap().unwrap()
    };
    let error = told(&mut shop, "t1");
    assert!(error.starts_with("4 unknown_field (titel)"), "{error}");
    let error = told(&mut shop, "no tenant");
    assert!(error.starts_with("1 invalid_tenant"), "{error}");
    // Mended by hand.
    shop.query(
        "UPDATE carillon_outbox SET body = '{\"user_id\":\"u1\",\"title\":\"T2\",\"content\":\"C\"}', failed_at = NULL, \
         next_at = now() WHERE tenant = 't1'",
    )
    .unwrap();
    eventually("it is taken", async || (api.stored().await == 2).then_some(())).await;
    api.stop().await;
}

/// Two dispatchers, and a look that dies after the notifications were stored and before the rows are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s3_4_each_row_is_one_notification_whoever_reads_it_and_however_often() {
    let shop = rig::postgres::shared().unwrap().database("shop").unwrap();
    let mut connection = shop.connect().unwrap();
    let world = World::on(Database::shared(), |_| {}).await;
    let other = world.beside().await;
    let config = config(&shop, |outbox| outbox.batch_max = 7);
    let first = Api::on(world, config.clone()).await;
    let second = Api::on(other, config).await;
    table_is_there(&mut connection).await;
    let note = json!({"user_id": "u1", "title": "T", "content": "C", "channels": ["in_app"]});
    connection.query("BEGIN").unwrap();
    connection
        .query(&format!(
            "INSERT INTO carillon_outbox (tenant, body) SELECT 't1', '{note}' FROM generate_series(1, 300)"
        ))
        .unwrap();
    connection
        .query("CREATE TABLE kept AS SELECT * FROM carillon_outbox")
        .unwrap();
    connection.query("COMMIT").unwrap();
    eventually("all are stored", async || {
        (first.stored().await >= 300).then_some(())
    })
    .await;
    eventually("the table is empty", async || {
        let left = connection.value("SELECT count(*) FROM carillon_outbox").unwrap();
        (left.as_deref() == Some("0")).then_some(())
    })
    .await;
    // As if the rows had not gone: they come once more.
    connection
        .query("INSERT INTO carillon_outbox OVERRIDING SYSTEM VALUE SELECT * FROM kept")
        .unwrap();
    eventually("the table is empty again", async || {
        let left = connection.value("SELECT count(*) FROM carillon_outbox").unwrap();
        (left.as_deref() == Some("0")).then_some(())
    })
    .await;
    assert_eq!(first.stored().await, 300);
    second.stop().await;
    first.stop().await;
}
