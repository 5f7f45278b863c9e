//! Receipts that come late, twice, or while the store is away; through memory and through Redis.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{
    config::Span,
    ids::{NodeId, NotificationId},
    receipts::{Reader, Receipt, redis_sink, redis_stream},
    redis::{RedisConfig, RedisKind},
    telemetry::Metrics,
};
use dispatcher::{
    channels::Channels,
    model::{ListFilter, NewNotification},
    store::ChangesResult,
};
use rig::redis::{Options, Server};

use crate::support::{World, eventually, in_inbox, notification, quick, reader, soon, user_key};

fn session() -> Reader {
    let reader = reader("u1");
    Reader {
        tenant: reader.tenant,
        user: reader.user,
        session: "s1".into(),
        keys: reader.keys.into(),
    }
}

fn read(ids: &[NotificationId]) -> Receipt {
    Receipt::Read {
        reader: session(),
        ids: ids.iter().map(|id| (*id).into()).collect(),
    }
}

/// That everything was read that was there so many seconds ago.
fn read_all_before(seconds: i64) -> Receipt {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Receipt::ReadAll {
        reader: session(),
        at_ms: i64::try_from(now.as_millis()).unwrap() - seconds * 1000,
    }
}

fn for_inbox() -> NewNotification {
    in_inbox(notification("u1"), "u1")
}

async fn unread_becomes(world: &World, number: u64) {
    eventually(&format!("{number} unread"), async || {
        let unread = world.store.unread_count(&reader("u1")).await.unwrap();
        (unread == number).then_some(())
    })
    .await;
}

/// What the reader sees in the end, and how many changes its feed has had.
async fn outcome(world: &World) -> (Vec<(NotificationId, bool)>, i64) {
    let me = reader("u1");
    let all = ListFilter {
        limit: 100,
        ..ListFilter::default()
    };
    let items = world.store.list(&me, &all).await.unwrap();
    let ChangesResult::Changes(changes) = world.store.changes(&me, None, 1).await.unwrap() else {
        panic!("the present has a cursor")
    };
    let states = items.iter().map(|item| (item.id, item.is_read)).collect();
    (states, changes.cursor.0[user_key("u1").as_str()])
}

#[tokio::test]
async fn a_receipt_that_comes_twice_changes_nothing_the_second_time() {
    let notifications: Vec<_> = (0..4).map(|_| for_inbox()).collect();
    let ids: Vec<_> = notifications.iter().map(|one| one.id).collect();
    let delivered = Receipt::Delivered {
        reader: session(),
        ids: vec![ids[3].into()],
    };
    let written = Receipt::Written {
        key: user_key("u1"),
        id: ids[0].into(),
    };
    let seen = Receipt::Seen { reader: session() };
    let few = [seen, written, delivered, read(&ids[..2])];
    let all = [few.as_slice(), &[read_all_before(0)]].concat();
    for (receipts, unread) in [(few.as_slice(), 2), (&all, 0)] {
        let mut outcomes = Vec::new();
        for times in [1, 2] {
            let world = World::new().await;
            let running = world.start_with(quick(), Channels::default(), true).await;
            running.accept(notifications.clone()).await;
            for receipt in receipts {
                for _ in 0..times {
                    running.receive(receipt.clone()).await;
                }
            }
            // The stop works off what was sent.
            running.stop().await;
            unread_becomes(&world, unread).await;
            outcomes.push(outcome(&world).await);
        }
        assert_eq!(outcomes[0], outcomes[1]);
    }
}

#[tokio::test]
async fn a_late_read_all_leaves_unread_what_came_since() {
    let world = World::new().await;
    let running = world.start_with(quick(), Channels::default(), true).await;
    let early = running.accept_one(for_inbox()).await;
    // Said before that, and handed out only now.
    running.receive(read_all_before(60)).await;
    running.receive(read(&[NotificationId::generate()])).await;
    let late = running.accept_one(for_inbox()).await;
    running.receive(read(&[early])).await;
    unread_becomes(&world, 1).await;
    assert_eq!(outcome(&world).await.0, [(late, false), (early, true)]);
    // Within what clocks may differ it counts for all that is there.
    running.receive(read_all_before(0)).await;
    unread_becomes(&world, 0).await;
    running.stop().await;
}

/// A stream in Redis that this test has for itself.
fn on(server: &Server) -> RedisConfig {
    let prefix = format!("t{}", NodeId::generate());
    let mut config = RedisConfig::for_test(RedisKind::Servers, &[server.url()], &prefix);
    config.receipts_claim_after = Span(Duration::from_millis(300));
    config
}

fn entries(server: &Server, config: &RedisConfig) -> i64 {
    let key = format!("{}:receipts", config.prefix);
    server.command(&["XLEN", &key]).unwrap().as_integer().unwrap()
}

#[tokio::test]
async fn what_is_stored_leaves_the_stream() {
    let server = Server::start(&Options::default()).unwrap();
    let config = on(&server);
    let world = World::new().await;
    let sink = redis_sink(&config, &Metrics::default()).unwrap();
    let stream = redis_stream(&config, "d1", &Metrics::default()).unwrap();
    let dispatcher = world.start_on(quick(), Channels::default(), true, stream).await;
    let notifications = vec![for_inbox(), for_inbox()];
    let id = notifications[0].id;
    dispatcher.service().accept(notifications).await.unwrap();
    assert!(sink.send(read(&[id])).await);
    unread_becomes(&world, 1).await;
    eventually("the stream is empty", async || {
        (entries(&server, &config) == 0).then_some(())
    })
    .await;
    assert!(soon("the stop", dispatcher.stop()).await);
}

#[tokio::test]
async fn what_is_not_stored_stays_in_the_stream_for_the_next_dispatcher() {
    let server = Server::start(&Options::default()).unwrap();
    let config = on(&server);
    let sink = redis_sink(&config, &Metrics::default()).unwrap();
    let one = for_inbox();
    let id = one.id;

    // A store that takes nothing any more, and then the end of its process.
    let broken = World::new().await;
    let stream = redis_stream(&config, "d1", &Metrics::default()).unwrap();
    let dispatcher = broken.start_on(quick(), Channels::default(), true, stream).await;
    broken.store.close().await;
    assert!(sink.send(read(&[id])).await);
    eventually("it was read", async || {
        (broken.metrics.receipts.get() > 0).then_some(())
    })
    .await;
    assert_eq!(entries(&server, &config), 1);
    drop(dispatcher);

    let world = World::new().await;
    let stream = redis_stream(&config, "d2", &Metrics::default()).unwrap();
    world.stored(vec![one, for_inbox()]).await;
    let dispatcher = world.start_on(quick(), Channels::default(), true, stream).await;
    unread_becomes(&world, 1).await;
    eventually("the stream is empty", async || {
        (entries(&server, &config) == 0).then_some(())
    })
    .await;
    assert!(soon("the stop", dispatcher.stop()).await);
}

#[tokio::test]
async fn on_sqlite_a_store_that_comes_back_gets_what_it_refused() {
    let world = World::new().await;
    let running = world.start_with(quick(), Channels::default(), true).await;
    let ids = running.accept((0..300).map(|_| for_inbox()).collect()).await;
    // The disk is full.
    world.store.limit_size(Some(64 * 1024)).await.unwrap();
    running.receive(read(&ids)).await;
    eventually("it was taken, given back and taken again", async || {
        (world.metrics.receipts.get() >= 2).then_some(())
    })
    .await;
    unread_becomes(&world, 300).await;
    world.store.limit_size(None).await.unwrap();
    unread_becomes(&world, 0).await;
    running.stop().await;
}
