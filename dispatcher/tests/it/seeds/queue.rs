//! What the documents say of queues: S0's retry, cancel, update and delete, S4's flow control and dead letters. S3's lanes
//! are in `queue::fairness`.

use std::time::Duration;

use axum::body::Body;
use dispatcher::model::{Channel, Outcome};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api::{Api, Who, request},
    support::{eventually, quick},
};

fn service() -> Who {
    Who::service()
}

/// `POST /api/v1/notifications/{id}/retry` - 重试发送, `POST /api/v1/notifications/{id}/cancel` - 取消发送.
#[tokio::test]
async fn s0_2_retry_and_cancel() {
    let (mut sent, api) = Api::with_outbox(quick(), 4).await;
    let body = r#"{
    "title": "交易提醒",
    "content": "您的订单已成功执行",
    "channel_type": "email",
    "recipients": ["user@example.com"],
    "priority": "normal"
}"#;
    let made = api
        .json("POST", &service(), "/api/v1/notifications", body)
        .await
        .expect(201);
    let path = format!("/api/v1/notifications/{}", made["id"].as_str().unwrap());
    let first = sent.next("the mail").await.end(Outcome::Rejected);
    eventually("it has failed", async || {
        let found = api.get(&service(), &path).await.expect(200);
        (found["status"] == "failed").then_some(())
    })
    .await;
    let retried = api
        .send(
            request("POST", &format!("{path}/retry"), &service())
                .body(Body::empty())
                .unwrap(),
        )
        .await
        .expect(200);
    assert_eq!(retried["retried"], json!([first.id]));
    let again = sent.next("the mail again").await;
    assert_eq!(again.delivery.id, first.id);
    let late = api
        .send(
            request("POST", &format!("{path}/cancel"), &service())
                .body(Body::empty())
                .unwrap(),
        )
        .await
        .expect(200);
    assert_eq!((&late["on_the_way"], &late["stopped"]), (&json!(1), &json!(0)));
    again.end(Outcome::Retry);
    eventually("it is cancelled instead of tried again", async || {
        let found = api.get(&service(), &path).await.expect(200);
        (found["status"] == "cancelled").then_some(())
    })
    .await;
}

/// `PUT /api/v1/notifications/{id}` - 更新通知, `DELETE /api/v1/notifications/{id}` - 删除通知, of a scheduled one.
#[tokio::test]
async fn s0_2_update_and_delete() {
    let (sent, api) = Api::with_outbox(quick(), 4).await;
    let made = api
        .created(&json!({ "title": "交易提醒", "content": "您的订单已成功执行", "channel_type": "email", "recipients": ["user@example.com"], "delay": 3600 }))
        .await;
    let path = format!("/api/v1/notifications/{}", made["id"].as_str().unwrap());
    let updated = api
        .json("PUT", &service(), &path, r#"{ "content": "您的订单已取消" }"#)
        .await
        .expect(200);
    assert_eq!(
        (&updated["title"], &updated["content"]),
        (&json!("交易提醒"), &json!("您的订单已取消"))
    );
    let found = api.get(&service(), &path).await.expect(200);
    assert_eq!(
        (&found["content"], &found["status"]),
        (&json!("您的订单已取消"), &json!("scheduled"))
    );
    api.delete(&service(), &path).await.expect(200);
    let found = api.get(&service(), &path).await.expect(200);
    assert_eq!(found["status"], "cancelled");
    assert!(sent.is_empty());
}

/// Flow control of the queue (流量控制): the document's `rate_limit` of a channel, deliveries a minute.
#[tokio::test]
async fn s4_3_a_persisted_queue_with_flow_control() {
    let mut config = quick();
    config.queue.rates.insert(Channel::Email, 60);
    let (mut sent, api) = Api::with_outbox(config, 10).await;
    let body = json!({ "title": "T", "content": "C", "channel": "email", "target": "user@example.com", "priority": 1 });
    // Before the first of them can have gone: what keeps this machine busy only makes the time longer.
    let started = Instant::now();
    for _ in 0..3 {
        api.created(&body).await;
    }
    sent.deliver().await;
    // The others are in the store, not in memory.
    let depths = api.world.store.queue_depths().await.unwrap();
    assert_eq!(depths.iter().map(|lane| lane.depth).sum::<u64>(), 2);
    sent.deliver().await;
    assert!(started.elapsed() >= Duration::from_millis(900), "one a second");
}

/// Dead letters (死信队列处理) that can be read and replayed, with the reason of the failure.
#[tokio::test]
async fn s4_5_dead_letters_are_read_and_replayed() {
    let mut config = quick();
    config.queue.max_attempts = 3;
    let (mut sent, api) = Api::with_outbox(config, 10).await;
    let body = json!({ "title": "T", "content": "C", "channel": "email", "target": "user@example.com", "priority": 1 });
    api.created(&body).await;
    for attempt in 0..3 {
        let one = sent.next("an attempt").await;
        assert_eq!(one.delivery.attempts, attempt);
        one.end(Outcome::Retry);
    }
    let operator = Who::user("op").scope("notifications:admin");
    let letter = eventually("it is a dead letter", async || {
        let page = api.get(&operator, "/api/v1/dead-letters").await.expect(200);
        page["dead_letters"].get(0).cloned()
    })
    .await;
    assert_eq!(
        (&letter["reason"], &letter["attempts"]),
        (&json!("attempts_exhausted"), &json!(3))
    );
    let path = format!("/api/v1/dead-letters/{}/replay", letter["id"].as_str().unwrap());
    api.post(&operator, &path, &json!({})).await.expect(200);
    let again = sent.deliver().await;
    assert_eq!(letter["id"], again.id.to_string());
}
