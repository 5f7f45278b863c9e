//! What callers see while the database takes nothing: here its disk is full, so that it can still be read.

use common::bus::BusEvent;
use dispatcher::model::{Channel, DeliveryState};
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{Api, Who},
    support::{by_realtime, quick, soon, user_key},
};

/// A world with a spool whose database has no room.
async fn full(shared: &Shared) -> World {
    let mut world = World::new().await;
    world.spool = Some(shared.node("a").await);
    world.store.limit_size(Some(256 * 1024)).await.unwrap();
    let mut large = row("filler");
    large.content.content = "x".repeat(8 * 1024);
    loop {
        large.id = common::ids::NotificationId::generate();
        large.deliveries[0].id = common::ids::DeliveryId::generate();
        if world.store.accept(vec![large.clone()]).await.is_err() {
            return world;
        }
    }
}

fn body(user: &str, title: &str) -> Value {
    json!({"to": {"user": user}, "title": title, "content": "x".repeat(10_000)})
}

#[tokio::test]
async fn s1_9_what_the_database_does_not_take_is_spooled_and_stored_when_it_does() {
    let server = durable();
    let shared = Shared::on(&server);
    let api = Api::on(full(&shared).await, quick()).await;
    let before = api.stored().await;
    let (subscriptions, mut events) = api.world.bus.attach(1000);
    subscriptions.subscribe(&[user_key("u1")]).await.unwrap();

    let mut ids = Vec::new();
    for number in 0..5 {
        let answer = api
            .post(
                &Who::service(),
                "/api/v1/notifications",
                &body("u1", &number.to_string()),
            )
            .await
            .expect(202);
        assert_eq!(answer["status"], "spooled");
        assert_eq!(answer["title"], number.to_string());
        ids.push(answer["id"].as_str().unwrap().to_owned());
    }
    // The sockets have them already.
    let mut frames = Vec::new();
    while frames.len() < 5 {
        soon("frames", events.next_batch(&mut frames, 100)).await;
    }
    for (frame, id) in frames.iter().zip(&ids) {
        let BusEvent::Message(message) = frame else {
            panic!("{frame:?}");
        };
        let frame: Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(frame["id"], **id);
    }
    assert_eq!(api.stored().await, before);
    assert!(shared.metrics.spooled.get() >= 5);

    api.world.store.limit_size(None).await.unwrap();
    let who = Who::user("u1");
    eventually("all is stored", async || {
        (api.titles(&who).await.len() == 5).then_some(())
    })
    .await;
    assert_eq!(api.titles(&who).await, ["4", "3", "2", "1", "0"]);
    eventually("the next one is stored directly", async || {
        let answer = api
            .post(&Who::service(), "/api/v1/notifications", &body("u2", "n"))
            .await;
        (answer.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_is_answered_alike_before_and_after_draining() {
    let server = durable();
    let shared = Shared::on(&server);
    let api = Api::on(full(&shared).await, quick()).await;
    let send = async |key: &str, title: &str| {
        let request = crate::api::request("POST", "/api/v1/notifications", &Who::service())
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        api.send(request.body(body("u1", title).to_string().into()).unwrap())
            .await
    };
    let first = send("k", "a").await;
    let spooled = first.expect(202);
    let again = send("k", "a").await;
    assert_eq!(again.expect(202), spooled);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(send("k", "b").await.problem().1, "idempotency_mismatch");
    api.world.store.limit_size(None).await.unwrap();
    eventually("it is stored", async || {
        (stored(&api.world.store, "u1").await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(send("k", "a").await.expect(202), spooled);
    assert_eq!(send("k", "b").await.problem().1, "idempotency_mismatch");
    assert_eq!(stored(&api.world.store, "u1").await.len(), 1);
}

#[tokio::test]
async fn a_frames_end_is_stored_as_it_was_though_nobody_could_write_it_down() {
    let server = durable();
    let shared = Shared::on(&server);
    let world = full(&shared).await;
    let running = world.start(quick()).await;
    let long = |mut new: NewNotification| {
        new.content.content = "x".repeat(10_000);
        new
    };
    let read = long(by_realtime(notification("u1"), Some("u1")));
    let missed = long(by_realtime(notification("u2"), Some("u2")));
    for new in [&read, &missed] {
        let answers = running
            .service
            .accept_or_spool(vec![new.clone()], |_| {})
            .await
            .unwrap();
        assert_eq!(answers, [Accepted::Spooled]);
    }
    running.written("u1", read.id).await;
    let outcomes = shared.key("outcomes");
    eventually("both ends are known", async || {
        (number(&server, &["HLEN", &outcomes]) == 2).then_some(())
    })
    .await;
    world.store.limit_size(None).await.unwrap();
    eventually("they are stored", async || {
        world
            .store
            .notification(&crate::support::tenant(), missed.id)
            .await
            .unwrap()
    })
    .await;
    assert_eq!(
        world.ended(read.id, Channel::Realtime).await.state,
        DeliveryState::Delivered
    );
    let missed = world.ended(missed.id, Channel::Realtime).await;
    assert_eq!(missed.state, DeliveryState::Skipped);
    assert_eq!(missed.reason.as_deref(), Some("nobody_online"));
    running.stop().await;
}

#[tokio::test]
async fn s1_9_when_redis_is_away_too_the_answer_is_503() {
    let server = durable();
    let mut shared = Shared::on(&server);
    shared.redis.timeout = Span(Duration::from_millis(500));
    let api = Api::on(full(&shared).await, quick()).await;
    server.kill().unwrap();
    eventually("redis is away", async || {
        api.world.spool.as_ref().unwrap().unusable()
    })
    .await;
    let answer = api
        .post(&Who::service(), "/api/v1/notifications", &body("u1", "n"))
        .await;
    assert_eq!(answer.problem(), (503, "unavailable".to_owned(), None));
    assert!(answer.header("retry-after").is_some());
    api.world.store.limit_size(None).await.unwrap();
    // With its database it needs no Redis.
    eventually("it is stored directly", async || {
        let answer = api
            .post(&Who::service(), "/api/v1/notifications", &body("u1", "n"))
            .await;
        (answer.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_full_spool_is_429() {
    let server = durable();
    let mut shared = Shared::on(&server);
    shared.config.max_notifications = 2;
    let api = Api::on(full(&shared).await, quick()).await;
    for status in [202, 202, 429] {
        let answer = api
            .post(&Who::service(), "/api/v1/notifications", &body("u1", "n"))
            .await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if status == 429 {
            assert_eq!(answer.problem().1, "spool_full");
            assert!(answer.header("retry-after").is_some());
        }
    }
}
