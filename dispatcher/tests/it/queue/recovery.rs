//! Crashes, lost leases, stops and a full store: nothing is forgotten, and only the unknown is repeated.

use std::{collections::HashMap, time::Duration};

use common::config::Span;
use dispatcher::{
    model::{Attempt, Channel, DeliveryState, Lane, Micros, Outcome, Settlement},
    store::{AttemptStart, ClaimRequest, ClaimRules, OnUnknown},
};

use super::in_lane;
use crate::support::{
    World, email, eventually, notification, quick,
    smtp::{Answer, Event, SmtpServer},
    soon,
};

#[tokio::test]
async fn a_crash_loses_nothing_and_repeats_only_the_unknown() {
    let mut server = SmtpServer::start(|event| match event {
        // In the first life these mails come whole and get no answer.
        Event::Body(to) if to.starts_with("hang") => Answer::Hang,
        _ => Answer::Usual,
    })
    .await;
    let world = World::new().await;
    let mut config = server.configure(quick());
    config.smtp.pool_size = 100;
    let first = world.start(config.clone()).await;
    let mut all: Vec<_> = (0..100).map(|n| email(&format!("hang{n}@example.com"))).collect();
    all.extend((0..400).map(|n| email(&format!("ok{n}@example.com"))));
    let mut ids = Vec::new();
    for chunk in all.chunks(50) {
        ids.extend(first.accept(chunk.to_vec()).await);
    }
    let mut times: HashMap<String, usize> = HashMap::new();
    for _ in 0..60 {
        *times.entry(server.mail().await.to).or_default() += 1;
    }
    drop(first);

    let mut second_server = SmtpServer::friendly().await;
    let second = world.start(second_server.configure(config)).await;
    let mut unknown = 0;
    for id in &ids {
        let delivery = world.delivered(*id, Channel::Email).await;
        let again = delivery.attempts.len() - 1;
        for attempt in &delivery.attempts[..again] {
            assert_eq!(attempt.outcome.as_deref(), Some("unknown"));
            unknown += 1;
        }
    }
    for mail in server
        .further_mails()
        .into_iter()
        .chain(second_server.further_mails())
    {
        *times.entry(mail.to).or_default() += 1;
    }
    assert_eq!(times.len(), 500, "every mail went out at least once");
    let repeats: usize = times.values().map(|times| times - 1).sum();
    assert!(unknown >= 60, "the crash came while {unknown} were on the way");
    assert!(repeats <= unknown, "{repeats} repeats, {unknown} unknown ends");
    assert_eq!(world.metrics.rescued_unknown.get(), unknown as u64);
    second.stop().await;
}

#[tokio::test]
async fn beside_another_process_a_crash_is_taken_up_when_the_lease_ran_out() {
    let world = World::new().await;
    let mut config = quick();
    config.queue.lease = Span(Duration::from_millis(600));
    config.queue.heartbeat = Span(Duration::from_millis(100));
    let (first, mut sent) = world.start_outbox_beside(config.clone(), 10).await;
    let id = first.accept_one(in_lane(Lane::High)).await;
    let held = sent.next("the first attempt").await;
    let (second, mut again) = world.start_outbox_beside(config, 10).await;
    // The first one's heartbeat keeps it.
    let kept = again.stays_empty(Duration::from_millis(1500)).await;
    assert!(kept, "a lease that is extended was taken over");
    drop(first);
    let crashed = std::time::Instant::now();
    let repeat = again.next("the second attempt").await;
    let after = crashed.elapsed();
    assert_eq!(repeat.delivery.id, held.delivery.id);
    assert!(repeat.delivery.token > held.delivery.token);
    repeat.end(Outcome::Delivered);
    let delivery = world.ended(id, Channel::Email).await;
    assert_eq!(delivery.attempts.len(), 2);
    assert_eq!(delivery.attempts[0].outcome.as_deref(), Some("unknown"));
    // 1.5 leases, and what a busy machine takes.
    assert!(after < Duration::from_millis(900 + 500), "{after:?}");
    second.stop().await;
}

#[tokio::test]
async fn who_lost_the_lease_finishes_nothing() {
    let world = World::new().await;
    let id = world.stored_one(in_lane(Lane::High)).await;
    let request = |now: Micros| ClaimRequest {
        worker: "w".to_owned(),
        lane: Lane::High,
        limit: 10,
        channels: vec![Channel::Email],
        now,
        lease_until: now.plus(Duration::from_millis(1)),
        rules: ClaimRules::default(),
        begin: false,
    };
    let start = Micros::now();
    let old = world.store.claim(request(start)).await.unwrap().remove(0);
    let later = start.plus(Duration::from_secs(1));
    world
        .store
        .rescue(later, 10, |_| OnUnknown::Resend)
        .await
        .unwrap();
    let new = world.store.claim(request(later)).await.unwrap().remove(0);
    assert!(new.token > old.token);

    let begin = |token| AttemptStart {
        delivery: new.id,
        token,
        number: 1,
        started_at: later,
        provider: None,
    };
    let settle = |token| Settlement {
        delivery: new.id,
        token,
        state: DeliveryState::Delivered,
        due_at: None,
        reason: None,
        outcome: Some("delivered"),
        response: None,
    };
    assert_eq!(
        world.store.begin_attempts(vec![begin(old.token)]).await.unwrap(),
        [false]
    );
    assert_eq!(
        world.store.settle(vec![settle(old.token)]).await.unwrap(),
        [false]
    );
    assert_eq!(
        world
            .store
            .extend(vec![(new.id, old.token)], later)
            .await
            .unwrap(),
        [false]
    );
    assert_eq!(world.deliveries(id).await[0].state, DeliveryState::Running);
    assert_eq!(
        world.store.begin_attempts(vec![begin(new.token)]).await.unwrap(),
        [true]
    );
    assert_eq!(world.store.settle(vec![settle(new.token)]).await.unwrap(), [true]);
    assert_eq!(
        world.store.settle(vec![settle(new.token)]).await.unwrap(),
        [false]
    );
    assert_eq!(world.deliveries(id).await[0].state, DeliveryState::Delivered);
}

#[tokio::test]
async fn a_process_takes_nothing_back_from_itself() {
    let world = World::new().await;
    let mut config = quick();
    // As if this process had stood still: no heartbeat came for several leases.
    config.queue.lease = Span(Duration::from_millis(200));
    config.queue.heartbeat = Span(Duration::from_secs(60));
    let (running, mut sent) = world.start_outbox_beside(config, 10).await;
    let id = running.accept_one(in_lane(Lane::High)).await;
    let held = sent.next("the attempt").await;
    let again = sent.stays_empty(Duration::from_millis(1000)).await;
    assert!(again, "it was taken back while it was being sent");
    held.end(Outcome::Delivered);
    let delivery = world.ended(id, Channel::Email).await;
    assert_eq!(delivery.attempts.len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn an_orderly_stop_waits_for_sends_and_counts_no_attempt_for_the_rest() {
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), 2).await;
    let all: Vec<_> = (0..6).map(|_| in_lane(Lane::Critical)).collect();
    let ids = running.accept(all).await;
    let held = sent.hold(2).await;
    let stopping = tokio::spawn(running.dispatcher.stop());
    tokio::task::yield_now().await;
    for one in held {
        one.end(Outcome::Delivered);
    }
    assert!(soon("the stop", stopping).await.unwrap());
    let (mut delivered, mut attempts) = (0, 0);
    for id in ids {
        let delivery = world.deliveries(id).await.remove(0);
        attempts += delivery.attempts.len();
        match delivery.state {
            DeliveryState::Delivered => delivered += 1,
            state => assert_eq!(state, DeliveryState::Pending),
        }
    }
    assert!(delivered >= 2);
    assert_eq!(attempts, delivered);
}

#[tokio::test]
async fn on_sqlite_a_store_without_room_sends_nothing_twice_and_forgets_nothing() {
    let world = World::new().await;
    let all: Vec<_> = (0..300).map(|_| in_lane(Lane::Medium)).collect();
    let ids = world.stored(all).await;
    world.store.limit_size(Some(4096)).await.unwrap();
    // What pages still have room for is filled up.
    while world.store.accept(vec![notification("u2")]).await.is_ok() {}
    let (running, sent) = world.start_outbox(quick(), 50).await;
    let counting = tokio::spawn(sent.deliver_all());
    eventually("the queue has met the full store", async || {
        (world.metrics.store_refusals.get() > 2).then_some(())
    })
    .await;
    world.store.limit_size(None).await.unwrap();
    for id in &ids {
        let delivery = world.delivered(*id, Channel::Email).await;
        let unknown = |one: &Attempt| one.outcome.as_deref() == Some("unknown");
        assert!(!delivery.attempts.iter().any(unknown), "{delivery:?}");
    }
    running.stop().await;
    let seen = soon("the count", counting).await.unwrap();
    assert_eq!(seen.len(), 300);
    assert!(seen.values().all(|times| *times == 1));
}
