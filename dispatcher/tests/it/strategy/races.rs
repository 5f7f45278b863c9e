//! What holds when a receipt and a step come at once, and when a process dies between an outcome and the next step.

use std::{collections::HashSet, time::Duration};

use common::ids::{DeliveryId, NotificationId};
use dispatcher::{
    channels::{Channels, MemoryChannel},
    model::{Chain, ChainState, Channel, DeliveryState, NewNotification, Outcome, StepState},
    store::Mark,
};
use tokio::time::timeout;

use crate::support::{
    Database, World, by_realtime, escalating, eventually, failing_over, in_inbox, notification, quick,
    reader, session, soon, tenant,
};

async fn chain(world: &World, id: NotificationId) -> Chain {
    let found = world.store.notification(&tenant(), id).await.unwrap();
    found.expect("it is stored").0.chains.remove(0)
}

async fn ended(world: &World, id: NotificationId) -> Chain {
    eventually("the chain has ended", async || {
        let chain = chain(world, id).await;
        (!chain.is_open()).then_some(chain)
    })
    .await
}

fn for_inbox(after: Duration) -> NewNotification {
    escalating(in_inbox(notification("u1"), "u1"), "u1", after)
}

#[tokio::test]
async fn a_step_that_is_cancelled_is_never_sent() {
    let world = World::new().await;
    let (running, outbox) = world.start_outbox(quick(), 64).await;
    let sent = tokio::spawn(outbox.deliver_all());
    let me = reader("u1");
    world.store.touch_reader(&me).await.unwrap();
    let mut all = Vec::new();
    for round in 0..150_u64 {
        // Some are read before the step begins, some while it does, some after.
        let id = running
            .accept_one(for_inbox(Duration::from_millis(5 + round % 7)))
            .await;
        let (service, me) = (running.service.clone(), me.clone());
        let reading = tokio::spawn(async move {
            let wait = Duration::from_millis(3 + round % 11);
            // The moment is what this test is about: nothing else says when the other one acts.
            assert!(timeout(wait, std::future::pending::<()>()).await.is_err());
            service.mark(&me, vec![id], Mark::Read).await.unwrap();
        });
        all.push((id, reading));
    }
    let mut cancelled = HashSet::new();
    let mut delivered = HashSet::new();
    for (id, reading) in all {
        reading.await.unwrap();
        let chain = ended(&world, id).await;
        let step = &chain.steps[0];
        match (step.state, chain.state) {
            (StepState::Cancelled, ChainState::Done) => cancelled.insert(step.deliveries[0].id),
            // Read while it was on the way, or after that.
            (StepState::Delivered, ChainState::Done | ChainState::Exhausted) => {
                delivered.insert(step.deliveries[0].id)
            }
            states => panic!("{states:?} of {chain:?}"),
        };
    }
    running.stop().await;
    let sent: HashSet<DeliveryId> = sent.await.unwrap().into_keys().collect();
    assert!(cancelled.is_disjoint(&sent), "cancelled, and sent");
    assert_eq!(sent, delivered);
    assert!(
        !cancelled.is_empty() && !delivered.is_empty(),
        "{} {}",
        cancelled.len(),
        delivered.len()
    );
}

#[tokio::test]
async fn a_process_that_dies_after_an_outcome_loses_no_step() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for round in 0..12 {
        let (email, mut emails) = MemoryChannel::new(8);
        // The webhooks of this life are never ended.
        let (webhook, _webhooks) = MemoryChannel::new(8);
        let channels = Channels::in_memory([(Channel::Email, email), (Channel::Webhook, webhook)]);
        let running = world.start_with(quick(), channels, true).await;
        ids.push(running.accept_one(failing_over(notification("u1"), "u1")).await);
        let sent = soon("the email", emails.recv()).await.unwrap();
        sent.end(Outcome::Rejected);
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        // It stops where it stands: the outcome and the next step are both stored, or neither is.
        drop(running);
    }
    let (email, mut emails) = MemoryChannel::new(64);
    let channels = Channels::in_memory([
        (Channel::Email, email),
        (Channel::Webhook, MemoryChannel::accepting(64)),
    ]);
    let running = world.start_with(quick(), channels, true).await;
    let refusing = tokio::spawn(async move {
        while let Some(sent) = emails.recv().await {
            sent.end(Outcome::Rejected);
        }
    });
    for id in ids {
        let chain = ended(&world, id).await;
        assert_eq!(
            (chain.state, chain.steps[0].state),
            (ChainState::Done, StepState::Failed)
        );
        let deliveries = world.all_ended(id).await;
        let webhooks: Vec<_> = deliveries
            .iter()
            .filter(|one| one.channel == Channel::Webhook)
            .collect();
        assert_eq!(webhooks.len(), 1);
        assert_eq!(webhooks[0].state, DeliveryState::Delivered);
    }
    running.stop().await;
    refusing.await.unwrap();
}

#[tokio::test]
async fn a_read_on_another_node_cancels_and_a_receipt_there_settles() {
    let world = World::on(Database::shared(), |_| {}).await;
    let other = world.beside().await;
    let mut config = quick();
    config.realtime.receipt_wait.0 = Duration::from_secs(30);
    let (first, outbox) = world.start_outbox_beside(config.clone(), 8).await;
    let (second, _outbox) = other.start_outbox_beside(config, 8).await;
    // The first publishes the frame; its receipt comes to the second.
    let frame = first
        .accept_one(by_realtime(notification("u1"), Some("u1")))
        .await;
    second.written("u1", frame).await;
    let delivery = world.ended(frame, Channel::Realtime).await;
    assert_eq!(delivery.state, DeliveryState::Delivered, "{delivery:?}");
    // What is read there never begins here.
    let id = first.accept_one(for_inbox(Duration::from_secs(3600))).await;
    let receipt = common::receipts::Receipt::Read {
        reader: session("u1"),
        ids: vec![id.into()],
    };
    second.receive(receipt).await;
    let chain = ended(&other, id).await;
    assert_eq!(chain.steps[0].state, StepState::Cancelled);
    assert!(outbox.is_empty());
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn several_dispatchers_begin_a_step_once() {
    let world = World::on(Database::shared(), |_| {}).await;
    let other = world.beside().await;
    let (first, from_first) = world.start_outbox_beside(quick(), 64).await;
    let (second, from_second) = other.start_outbox_beside(quick(), 64).await;
    let sent = [from_first, from_second].map(|outbox| tokio::spawn(outbox.deliver_all()));
    let all: Vec<_> = (0..60).map(|_| for_inbox(Duration::from_millis(50))).collect();
    let ids = first.accept(all).await;
    for id in &ids {
        let chain = ended(&world, *id).await;
        assert_eq!(chain.state, ChainState::Exhausted);
        assert_eq!(chain.steps[0].state, StepState::Delivered);
    }
    first.stop().await;
    second.stop().await;
    let mut number = 0;
    for sent in sent {
        for (_, times) in sent.await.unwrap() {
            assert_eq!(times, 1);
            number += 1;
        }
    }
    assert_eq!(number, ids.len());
}
