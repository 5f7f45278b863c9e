//! The queue: nothing is forgotten, nothing is done twice that is known to be done, and lanes do not wait for each other.

use std::{collections::HashMap, time::Duration};

use common::target::{Audience, Target};
use dispatcher::{
    channels::{Channels, MemoryChannel},
    model::{
        Accepted, Channel, Contact, DeliveryState, GroupJob, Lane, Micros, NewDelivery, NewNotification,
        Outcome, Settlement,
    },
    store::{AttemptStart, ChangesResult, ClaimRequest, Mark},
};

use crate::support::{
    World, by_email, in_inbox, later, name, notification, quick, reader,
    smtp::{Answer, Event, SmtpServer},
    soon, tenant,
};

fn in_lane(lane: Lane) -> NewNotification {
    NewNotification {
        lane,
        ..by_email(notification("u1"), "user@example.com")
    }
}

#[tokio::test]
async fn a_flood_of_low_does_not_delay_critical() {
    let world = World::new().await;
    let (channel, mut sent) = MemoryChannel::new(10);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let flood = (0..500).map(|_| in_lane(Lane::Low)).collect();
    running.service.accept(flood).await.unwrap();
    // All the room that low may have is taken, and nothing ends.
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(soon("a low one", sent.recv()).await.unwrap());
    }
    let critical = in_lane(Lane::Critical);
    let id = critical.id;
    running.service.accept(vec![critical]).await.unwrap();
    let next = soon("the critical one", sent.recv()).await.unwrap();
    assert_eq!(next.delivery.notification, id);
    assert!(held.iter().all(|one| one.delivery.lane == Lane::Low));
    assert!(sent.try_recv().is_err(), "low took room that is reserved");
    next.end(Outcome::Delivered);
    world.ended(id, Channel::Email).await;
}

#[tokio::test]
async fn a_flood_of_critical_does_not_starve_low() {
    let world = World::new().await;
    let (channel, mut sent) = MemoryChannel::new(4);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let mut flood: Vec<_> = (0..200).map(|_| in_lane(Lane::Critical)).collect();
    flood.push(in_lane(Lane::Low));
    running.service.accept(flood).await.unwrap();
    let mut before = 0;
    loop {
        let one = soon("a delivery", sent.recv()).await.unwrap();
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
    let (channel, mut sent) = MemoryChannel::new(3);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let all: Vec<_> = (0..20).map(|_| in_lane(Lane::Critical)).collect();
    let ids: Vec<_> = all.iter().map(|one| one.id).collect();
    running.service.accept(all).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(soon("one", sent.recv()).await.unwrap());
    }
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
        soon("one", sent.recv()).await.unwrap().end(Outcome::Delivered);
    }
    for id in ids {
        assert_eq!(
            world.ended(id, Channel::Email).await.state,
            DeliveryState::Delivered
        );
    }
    assert!(running.dispatcher.stop().await);
}

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
    let mut all: Vec<_> = (0..100)
        .map(|n| by_email(notification("u1"), &format!("hang{n}@example.com")))
        .collect();
    all.extend((0..400).map(|n| by_email(notification("u1"), &format!("ok{n}@example.com"))));
    let ids: Vec<_> = all.iter().map(|one| one.id).collect();
    for chunk in all.chunks(50) {
        let answers = first.service.accept(chunk.to_vec()).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Accepted::New));
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
        let delivery = world.ended(*id, Channel::Email).await;
        assert_eq!(delivery.state, DeliveryState::Delivered);
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
    assert!(second.dispatcher.stop().await);
}

#[tokio::test]
async fn beside_another_process_a_crash_is_taken_up_when_the_lease_ran_out() {
    let world = World::new().await;
    let mut config = quick();
    config.queue.lease = common::config::Span(Duration::from_millis(600));
    config.queue.heartbeat = common::config::Span(Duration::from_millis(100));
    let (channel, mut sent) = MemoryChannel::new(10);
    let first = world
        .start_with(
            config.clone(),
            Channels::in_memory([(Channel::Email, channel)]),
            false,
        )
        .await;
    let one = in_lane(Lane::High);
    let id = one.id;
    first.service.accept(vec![one]).await.unwrap();
    let held = soon("the first attempt", sent.recv()).await.unwrap();
    let (channel, mut again) = MemoryChannel::new(10);
    let second = world
        .start_with(config, Channels::in_memory([(Channel::Email, channel)]), false)
        .await;
    // The first one's heartbeat keeps it.
    let kept = tokio::time::timeout(Duration::from_millis(1500), again.recv()).await;
    assert!(kept.is_err(), "a lease that is extended was taken over");
    drop(first);
    let crashed = std::time::Instant::now();
    let repeat = soon("the second attempt", again.recv()).await.unwrap();
    let after = crashed.elapsed();
    assert_eq!(repeat.delivery.id, held.delivery.id);
    assert!(repeat.delivery.token > held.delivery.token);
    repeat.end(Outcome::Delivered);
    let delivery = world.ended(id, Channel::Email).await;
    assert_eq!(delivery.attempts.len(), 2);
    assert_eq!(delivery.attempts[0].outcome.as_deref(), Some("unknown"));
    // 1.5 leases, and what a busy machine takes.
    assert!(after < Duration::from_millis(900 + 500), "{after:?}");
    assert!(second.dispatcher.stop().await);
}

#[tokio::test]
async fn who_lost_the_lease_finishes_nothing() {
    let world = World::new().await;
    let one = in_lane(Lane::High);
    let id = one.id;
    world.store.accept(vec![one]).await.unwrap();
    let request = |now: Micros| ClaimRequest {
        worker: "w".to_owned(),
        lane: Lane::High,
        limit: 10,
        channels: vec![Channel::Email],
        now,
        lease_until: now.plus(Duration::from_millis(1)),
    };
    let start = Micros::now();
    let old = world.store.claim(request(start)).await.unwrap().remove(0);
    let later = start.plus(Duration::from_secs(1));
    world
        .store
        .rescue(later, 10, |_| dispatcher::store::OnUnknown::Resend)
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
async fn an_orderly_stop_waits_for_sends_and_counts_no_attempt_for_the_rest() {
    let world = World::new().await;
    let (channel, mut sent) = MemoryChannel::new(2);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let all: Vec<_> = (0..6).map(|_| in_lane(Lane::Critical)).collect();
    let ids: Vec<_> = all.iter().map(|one| one.id).collect();
    running.service.accept(all).await.unwrap();
    let held = [
        soon("one", sent.recv()).await.unwrap(),
        soon("another", sent.recv()).await.unwrap(),
    ];
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
async fn what_is_late_expires() {
    let world = World::new().await;
    let channels = Channels::in_memory([(Channel::Email, MemoryChannel::accepting(10))]);
    let running = world.start_with(quick(), channels, true).await;
    let mut one = in_lane(Lane::Low);
    one.expires_at = Some(one.created_at);
    let id = one.id;
    running.service.accept(vec![one]).await.unwrap();
    let delivery = world.ended(id, Channel::Email).await;
    assert_eq!(delivery.state, DeliveryState::Expired);
    assert!(delivery.attempts.is_empty());
}

#[tokio::test]
async fn a_scheduled_one_is_neither_seen_nor_sent_before_its_time() {
    let world = World::new().await;
    let (channel, mut sent) = MemoryChannel::new(10);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let mine = reader("u1");
    world.store.touch_reader(&mine).await.unwrap();
    let one = in_inbox(later(notification("u1"), Duration::from_millis(700)), "u1");
    let one = by_email(one, "user@example.com");
    let (id, visible_at) = (one.id, one.visible_at);
    running.service.accept(vec![one]).await.unwrap();
    assert!(world.store.item(&mine, id).await.unwrap().is_none());
    assert_eq!(world.store.unread_count(&mine).await.unwrap(), 0);
    assert!(sent.try_recv().is_err());

    soon("the mail", sent.recv())
        .await
        .unwrap()
        .end(Outcome::Delivered);
    assert!(Micros::now() >= visible_at);
    // First the inbox, then the channels.
    assert!(world.store.item(&mine, id).await.unwrap().is_some());
    assert_eq!(world.store.unread_count(&mine).await.unwrap(), 1);
    world.ended(id, Channel::Email).await;
    assert_eq!(
        world.ended(id, Channel::InApp).await.state,
        DeliveryState::Delivered
    );
    assert!(running.dispatcher.stop().await);
}

#[tokio::test]
async fn a_group_is_fanned_out_over_the_contacts_roles() {
    let world = World::new().await;
    let (channel, mut sent) = MemoryChannel::new(50);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let contact = |role: &str, email: Option<&str>| Contact {
        email: email.map(str::to_owned),
        roles: Some(vec![name(role)]),
        ..Contact::default()
    };
    let contacts = vec![
        (name("anna"), contact("manager", Some("anna@example.com"))),
        (name("bert"), contact("clerk", Some("bert@example.com"))),
        (name("carl"), contact("manager", None)),
        (name("dora"), contact("manager", Some("no address"))),
        (name("emil"), contact("manager", Some("emil@example.com"))),
    ];
    world.store.put_contacts(&tenant(), contacts).await.unwrap();
    let audience = Audience::from(Target::Role(name("manager")));
    let mut one = notification("x");
    one.audience = Some(audience.clone());
    one.job = Some(GroupJob {
        audience,
        channels: vec![Channel::Email],
        max_attempts: 3,
    });
    let id = one.id;
    running.service.accept(vec![one]).await.unwrap();
    let mut reached = Vec::new();
    for _ in 0..2 {
        let delivery = soon("a mail", sent.recv()).await.unwrap().end(Outcome::Delivered);
        assert_eq!(delivery.notification, id);
        reached.push(delivery.address.unwrap());
    }
    reached.sort();
    assert_eq!(reached, ["anna@example.com", "emil@example.com"]);
    let all = crate::support::eventually("all have ended", async || {
        let all = world.deliveries(id).await;
        all.iter().all(|one| one.state.is_terminal()).then_some(all)
    })
    .await;
    let dead: Vec<_> = all
        .iter()
        .filter(|one| one.state == DeliveryState::Dead)
        .collect();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason.as_deref(), Some("recipient_invalid"));
    assert_eq!(all.len(), 3);
    assert!(running.dispatcher.stop().await);
}

#[tokio::test]
async fn thousands_go_through_and_none_twice() {
    let world = World::new().await;
    let (channel, mut sent) = MemoryChannel::new(500);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let total = 4000;
    let counting = tokio::spawn(async move {
        let mut seen = HashMap::new();
        while seen.len() < total {
            let delivery = soon("a delivery", sent.recv())
                .await
                .unwrap()
                .end(Outcome::Delivered);
            *seen.entry(delivery.id).or_insert(0) += 1;
        }
        seen
    });
    let lanes = Lane::ALL;
    for chunk in 0..40 {
        let batch = (0..100).map(|n| in_lane(lanes[(chunk + n) % 4])).collect();
        running.service.accept(batch).await.unwrap();
    }
    let seen = counting.await.unwrap();
    assert!(seen.values().all(|times| *times == 1));
    assert!(running.dispatcher.stop().await);
    assert_eq!(
        world.metrics.sent.get_or_create(&Channel::Email.into()).get(),
        total as u64
    );
    assert_eq!(world.metrics.leases_lost.get(), 0);
}

#[tokio::test]
async fn several_recipients_of_one_notification_do_not_wait_for_each_other() {
    let world = World::new().await;
    let (channel, mut sent) = MemoryChannel::new(10);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let one = in_lane(Lane::Medium);
    let first = one.deliveries[0].clone();
    let second = NewDelivery {
        id: common::ids::DeliveryId::generate(),
        address: Some("other@example.com".to_owned()),
        ..first.clone()
    };
    let (id, ids) = (one.id, [first.id, second.id]);
    let one = NewNotification {
        deliveries: vec![first, second],
        ..one
    };
    running.service.accept(vec![one]).await.unwrap();
    let (a, b) = (
        soon("one", sent.recv()).await.unwrap(),
        soon("the other", sent.recv()).await.unwrap(),
    );
    let refused = a.end(Outcome::RecipientInvalid).id;
    b.end(Outcome::Delivered);
    let all = crate::support::eventually("both have ended", async || {
        let all = world.deliveries(id).await;
        all.iter().all(|one| one.state.is_terminal()).then_some(all)
    })
    .await;
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
async fn a_process_takes_nothing_back_from_itself() {
    let world = World::new().await;
    let mut config = quick();
    // As if this process had stood still: no heartbeat came for several leases.
    config.queue.lease = common::config::Span(Duration::from_millis(200));
    config.queue.heartbeat = common::config::Span(Duration::from_secs(60));
    let (channel, mut sent) = MemoryChannel::new(10);
    let running = world
        .start_with(config, Channels::in_memory([(Channel::Email, channel)]), false)
        .await;
    let one = in_lane(Lane::High);
    let id = one.id;
    running.service.accept(vec![one]).await.unwrap();
    let held = soon("the attempt", sent.recv()).await.unwrap();
    let again = tokio::time::timeout(Duration::from_millis(1000), sent.recv()).await;
    assert!(again.is_err(), "it was taken back while it was being sent");
    held.end(Outcome::Delivered);
    let delivery = world.ended(id, Channel::Email).await;
    assert_eq!(delivery.attempts.len(), 1);
    assert!(running.dispatcher.stop().await);
}

#[tokio::test]
async fn a_store_without_room_sends_nothing_twice_and_forgets_nothing() {
    let world = World::new().await;
    let all: Vec<_> = (0..300).map(|_| in_lane(Lane::Medium)).collect();
    let ids: Vec<_> = all.iter().map(|one| one.id).collect();
    world.store.accept(all).await.unwrap();
    world.store.limit_size(Some(4096)).await.unwrap();
    // What pages still have room for is filled up.
    while world.store.accept(vec![notification("u2")]).await.is_ok() {}
    let (channel, mut sent) = MemoryChannel::new(50);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    let counting = tokio::spawn(async move {
        let mut seen: HashMap<_, usize> = HashMap::new();
        while let Some(one) = sent.recv().await {
            *seen.entry(one.end(Outcome::Delivered).id).or_default() += 1;
        }
        seen
    });
    crate::support::eventually("the queue has met the full store", async || {
        (world.metrics.store_refusals.get() > 2).then_some(())
    })
    .await;
    world.store.limit_size(None).await.unwrap();
    for id in &ids {
        let delivery = world.ended(*id, Channel::Email).await;
        assert_eq!(delivery.state, DeliveryState::Delivered);
        let unknown = |one: &dispatcher::model::Attempt| one.outcome.as_deref() == Some("unknown");
        assert!(!delivery.attempts.iter().any(unknown), "{delivery:?}");
    }
    assert!(running.dispatcher.stop().await);
    drop(running.service);
    let seen = soon("the count", counting).await.unwrap();
    assert_eq!(seen.len(), 300);
    assert!(seen.values().all(|times| *times == 1));
}

#[tokio::test]
async fn at_an_exclusive_start_a_fan_out_goes_on_at_once() {
    let world = World::new().await;
    let contact = Contact {
        email: Some("anna@example.com".to_owned()),
        ..Contact::default()
    };
    world
        .store
        .put_contacts(&tenant(), vec![(name("anna"), contact)])
        .await
        .unwrap();
    let audience = Audience::from(Target::Tenant);
    let mut one = notification("x");
    one.audience = Some(audience.clone());
    one.job = Some(GroupJob {
        audience,
        channels: vec![Channel::Email],
        max_attempts: 3,
    });
    let id = one.id;
    world.store.accept(vec![one]).await.unwrap();
    // A life before this one holds the fan-out for an hour more.
    let now = Micros::now();
    let until = now.plus(Duration::from_secs(3600));
    world.store.next_job("gone", now, until).await.unwrap().unwrap();
    let (channel, mut sent) = MemoryChannel::new(10);
    let running = world
        .start_with(quick(), Channels::in_memory([(Channel::Email, channel)]), true)
        .await;
    soon("the mail", sent.recv())
        .await
        .unwrap()
        .end(Outcome::Delivered);
    assert_eq!(
        world.ended(id, Channel::Email).await.state,
        DeliveryState::Delivered
    );
    assert!(running.dispatcher.stop().await);
}

#[tokio::test]
async fn what_is_too_old_is_forgotten_also_more_than_one_batch() {
    let world = World::with(|config| config.feed_retention = Duration::ZERO).await;
    let mine = reader("u1");
    world.store.touch_reader(&mine).await.unwrap();
    let all: Vec<_> = (0..2500).map(|_| in_inbox(notification("u1"), "u1")).collect();
    let ids: Vec<_> = all.iter().map(|one| one.id).collect();
    world.store.accept(all).await.unwrap();
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
    crate::support::eventually("the newest entry is forgotten", async || {
        let answer = world
            .store
            .changes(&mine, Some(&before.cursor), 10)
            .await
            .unwrap();
        (answer == ChangesResult::Resync).then_some(())
    })
    .await;
    assert!(running.dispatcher.stop().await);
}

#[tokio::test]
async fn a_notification_is_open_while_its_group_is_being_fanned_out() {
    let world = World::new().await;
    let audience = Audience::from(Target::Tenant);
    let mut one = in_inbox(notification("u1"), "u1");
    one.audience = Some(audience.clone());
    one.job = Some(GroupJob {
        audience,
        channels: vec![Channel::Email],
        max_attempts: 3,
    });
    let id = one.id;
    world.store.accept(vec![one]).await.unwrap();
    let is_open = async || {
        world
            .store
            .notification(&tenant(), id)
            .await
            .unwrap()
            .unwrap()
            .0
            .open
    };
    assert!(is_open().await);
    let now = Micros::now();
    let until = now.plus(Duration::from_secs(30));
    let job = world.store.next_job("w", now, until).await.unwrap().unwrap();
    assert!(is_open().await);
    world
        .store
        .advance_job(&job, Vec::new(), None, until)
        .await
        .unwrap();
    assert!(!is_open().await);
}
