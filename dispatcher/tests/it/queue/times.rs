//! What has a time: to be seen, to expire, to be forgotten.

use std::time::Duration;

use dispatcher::{
    channels::{Channels, MemoryChannel},
    model::{Channel, DeliveryState, Lane, Micros},
    store::{ChangesResult, Mark},
};

use super::in_lane;
use crate::support::{World, by_email, eventually, in_inbox, later, notification, quick, reader};

#[tokio::test]
async fn a_scheduled_one_is_neither_seen_nor_sent_before_its_time() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 10).await;
    let mine = reader("u1");
    world.store.touch_reader(&mine).await.unwrap();
    let one = in_inbox(later(notification("u1"), Duration::from_millis(700)), "u1");
    let one = by_email(one, "user@example.com");
    let visible_at = one.visible_at;
    let id = running.accept_one(one).await;
    assert!(world.store.item(&mine, id).await.unwrap().is_none());
    assert_eq!(world.store.unread_count(&mine).await.unwrap(), 0);
    assert!(sent.is_empty());

    sent.deliver().await;
    assert!(Micros::now() >= visible_at);
    // First the inbox, then the channels.
    assert!(world.store.item(&mine, id).await.unwrap().is_some());
    assert_eq!(world.store.unread_count(&mine).await.unwrap(), 1);
    world.ended(id, Channel::Email).await;
    world.delivered(id, Channel::InApp).await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_late_expires() {
    let world = World::new().await;
    let channels = Channels::in_memory([(Channel::Email, MemoryChannel::accepting(10))]);
    let running = world.start_with(quick(), channels, true).await;
    let mut one = in_lane(Lane::Low);
    one.expires_at = Some(one.created_at);
    let id = running.accept_one(one).await;
    let delivery = world.ended(id, Channel::Email).await;
    assert_eq!(delivery.state, DeliveryState::Expired);
    assert!(delivery.attempts.is_empty());
}

#[tokio::test]
async fn what_is_too_old_is_forgotten_also_more_than_one_batch() {
    let world = World::with(|config| config.feed_retention = Duration::ZERO).await;
    let mine = reader("u1");
    world.store.touch_reader(&mine).await.unwrap();
    let all: Vec<_> = (0..2500).map(|_| in_inbox(notification("u1"), "u1")).collect();
    let ids = world.stored(all).await;
    let (last, others) = ids.split_last().unwrap();
    world
        .store
        .mark(&mine, others.to_vec(), Mark::Seen)
        .await
        .unwrap();
    world
        .store
        .mark(&mine, others.to_vec(), Mark::Read)
        .await
        .unwrap();
    let ChangesResult::Changes(before) = world.store.changes(&mine, None, 1).await.unwrap() else {
        panic!("the present is always known");
    };
    world.store.mark(&mine, vec![*last], Mark::Read).await.unwrap();
    let running = world.start_with(quick(), Channels::default(), true).await;
    // The cursor lies after all entries but the newest.
    eventually("the newest entry is forgotten", async || {
        let answer = world
            .store
            .changes(&mine, Some(&before.cursor), 10)
            .await
            .unwrap();
        (answer == ChangesResult::Resync).then_some(())
    })
    .await;
    running.stop().await;
}
