//! What is taken when: lanes, room, and recipients beside each other.

use std::collections::HashMap;

use common::ids::DeliveryId;
use dispatcher::model::{Channel, DeliveryState, Lane, NewDelivery, NewNotification, Outcome};

use super::in_lane;
use crate::support::{World, quick};

#[tokio::test]
async fn a_flood_of_low_does_not_delay_critical() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 10).await;
    let flood = (0..500).map(|_| in_lane(Lane::Low)).collect();
    running.accept(flood).await;
    // All the room that low may have is taken, and nothing ends.
    let held = sent.hold(8).await;
    let id = running.accept_one(in_lane(Lane::Critical)).await;
    let next = sent.next("the critical one").await;
    assert_eq!(next.delivery.notification, id);
    assert!(held.iter().all(|one| one.delivery.lane == Lane::Low));
    assert!(sent.is_empty(), "low took room that is reserved");
    next.end(Outcome::Delivered);
    world.ended(id, Channel::Email).await;
}

#[tokio::test]
async fn a_flood_of_critical_does_not_starve_low() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 4).await;
    let mut flood: Vec<_> = (0..200).map(|_| in_lane(Lane::Critical)).collect();
    flood.push(in_lane(Lane::Low));
    running.accept(flood).await;
    let mut before = 0;
    loop {
        let one = sent.next("a delivery").await;
        if one.end(Outcome::Delivered).lane == Lane::Low {
            break;
        }
        before += 1;
    }
    assert!(before < 60, "{before} critical ones went before the low one");
}

#[tokio::test]
async fn room_is_looked_at_before_claiming() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 3).await;
    let all: Vec<_> = (0..20).map(|_| in_lane(Lane::Critical)).collect();
    let ids = running.accept(all).await;
    let held = sent.hold(3).await;
    let mut states: HashMap<DeliveryState, usize> = HashMap::new();
    for id in &ids {
        *states.entry(world.deliveries(*id).await[0].state).or_default() += 1;
    }
    assert_eq!(
        states,
        HashMap::from([(DeliveryState::Running, 3), (DeliveryState::Pending, 17)])
    );
    // The rest follows as room becomes free.
    held.into_iter().for_each(|one| {
        one.end(Outcome::Delivered);
    });
    for _ in 3..20 {
        sent.deliver().await;
    }
    for id in ids {
        world.delivered(id, Channel::Email).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn several_recipients_of_one_notification_do_not_wait_for_each_other() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 10).await;
    let one = in_lane(Lane::Medium);
    let first = one.deliveries[0].clone();
    let second = NewDelivery {
        id: DeliveryId::generate(),
        address: Some("other@example.com".to_owned()),
        ..first.clone()
    };
    let ids = [first.id, second.id];
    let one = NewNotification {
        deliveries: vec![first, second],
        ..one
    };
    let id = running.accept_one(one).await;
    let (a, b) = (sent.next("one").await, sent.next("the other").await);
    let refused = a.end(Outcome::RecipientInvalid).id;
    b.end(Outcome::Delivered);
    let all = world.all_ended(id).await;
    for delivery in all {
        assert!(ids.contains(&delivery.id));
        let expected = if delivery.id == refused {
            DeliveryState::Dead
        } else {
            DeliveryState::Delivered
        };
        assert_eq!(delivery.state, expected);
    }
}

#[tokio::test]
async fn thousands_go_through_and_none_twice() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 500).await;
    let total = 4000;
    let counting = tokio::spawn(async move {
        let mut seen = HashMap::new();
        while seen.len() < total {
            let delivery = sent.deliver().await;
            *seen.entry(delivery.id).or_insert(0) += 1;
        }
        seen
    });
    let lanes = Lane::ALL;
    for chunk in 0..40 {
        let batch = (0..100).map(|n| in_lane(lanes[(chunk + n) % 4])).collect();
        running.accept(batch).await;
    }
    let seen = counting.await.unwrap();
    assert!(seen.values().all(|times| *times == 1));
    running.stop().await;
    assert_eq!(
        world.metrics.sent.get_or_create(&Channel::Email.into()).get(),
        total as u64
    );
    assert_eq!(world.metrics.leases_lost.get(), 0);
}
