//! Realtime: frames on the bus right after the commit, and what receipts make of them.

use std::{sync::Arc, time::Duration};

use common::{
    bus::{BusEvent, BusEvents},
    ids::MessageId,
    message::{FrameKind, Message, Priority},
    receipts::{Reader, Receipt},
    target::{Audience, Except, Target},
    topic::TopicKey,
};
use dispatcher::{
    channels::Channels,
    model::{Channel, DeliveryState, Lane, Micros},
    store::Mark,
};
use serde_json::{Value, json};

use crate::support::{
    Database, Running, World, by, by_realtime, in_inbox, later, name, notification, quick, reader, soon,
    tenant, user_key,
};

/// A hub's view of the bus.
struct Node {
    events: BusEvents,
    waiting: Vec<BusEvent>,
}

impl Node {
    async fn on(world: &World, keys: &[TopicKey]) -> Self {
        let (subscriptions, events) = world.bus.attach(1000);
        subscriptions.subscribe(keys).await.unwrap();
        Self {
            events,
            waiting: Vec::new(),
        }
    }

    async fn next(&mut self) -> Arc<Message> {
        if self.waiting.is_empty() {
            soon("a message", self.events.next_batch(&mut self.waiting, 100)).await;
        }
        match self.waiting.remove(0) {
            BusEvent::Message(message) => message,
            BusEvent::Dropped(count) => panic!("{count} messages were dropped"),
            BusEvent::Unsure => panic!("a bus in memory loses nothing on the way"),
        }
    }
}

async fn start(world: &World) -> Running {
    world.start_with(quick(), Channels::default(), true).await
}

/// The JSON of a frame.
fn frame(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

fn session(user: &str) -> Reader {
    Reader {
        tenant: tenant(),
        user: name(user),
        session: "s1".into(),
        keys: reader(user).keys.into(),
    }
}

#[tokio::test]
async fn a_frame_has_everything_and_is_delivered_at_the_first_receipt() {
    let world = World::new().await;
    let running = start(&world).await;
    let mut node = Node::on(&world, &[user_key("u1")]).await;
    let mut one = by_realtime(in_inbox(notification("u1"), "u1"), Some("u1"));
    one.lane = Lane::Critical;
    one.content.priority = "urgent".into();
    one.content.data = Some(json!({"order": 7}));
    one.content.collapse_key = Some("order-7".to_owned());
    let (id, created_at) = (one.id, one.created_at);
    running.accept_one(one).await;

    let message = node.next().await;
    assert_eq!(message.header.id, MessageId::from(id));
    assert_eq!(message.header.kind, FrameKind::Notification);
    assert_eq!(message.header.priority, Priority::Critical);
    assert_eq!(message.header.conflate.as_deref(), Some("order-7"));
    assert!(message.header.report && !message.header.receipt);
    assert!(message.position.is_some());
    assert_eq!(
        frame(&message),
        json!({
            "type": "notification",
            "id": id.to_string(),
            "title": "A title",
            "content": "A text",
            "message": "A text",
            "kind": "info",
            "priority": "urgent",
            "metadata": {"order": 7},
            "timestamp": created_at.seconds(),
            "created_at": created_at.rfc3339(),
        })
    );
    running.written("u1", id).await;
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}

#[tokio::test]
async fn a_client_is_asked_for_its_receipt_where_the_sender_wants_it() {
    let world = World::new().await;
    let running = start(&world).await;
    let mut node = Node::on(&world, &[user_key("u1")]).await;
    let mut one = by_realtime(in_inbox(notification("u1"), "u1"), Some("u1"));
    one.content.receipt = true;
    let id = running.accept_one(one).await;
    let message = node.next().await;
    assert!(message.header.receipt && !message.header.report);
    assert!(String::from_utf8_lossy(&message.payload).contains(r#""receipt":true"#));
    let receipt = Receipt::Delivered {
        reader: session("u1"),
        ids: vec![id.into()],
    };
    running.receive(receipt).await;
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}

#[tokio::test]
async fn without_a_receipt_it_is_skipped() {
    let world = World::new().await;
    let running = start(&world).await;
    let mut all = Vec::new();
    for _ in 0..50 {
        let one = by_realtime(notification("u1"), Some("u1"));
        all.push(one.id);
        running.accept_one(one).await;
    }
    // A receipt of somebody else's topic, or of another message, does not count.
    running.written("u2", all[0]).await;
    let other = MessageId::generate();
    running.written("u1", other).await;
    for id in all {
        let delivery = world.ended(id, Channel::Realtime).await;
        assert_eq!(delivery.state, DeliveryState::Skipped);
        assert_eq!(delivery.reason.as_deref(), Some("nobody_online"));
    }
    assert_eq!(world.metrics.skipped.get(), 50);
    running.stop().await;
}

#[tokio::test]
async fn to_a_group_it_is_delivered_when_the_bus_took_it() {
    let world = World::new().await;
    let running = start(&world).await;
    let role = TopicKey::role(&tenant(), &name("manager"));
    let store = TopicKey::store(&tenant(), &name("12"));
    let mut node = Node::on(&world, &[role.clone(), store.clone()]).await;

    let mut both = by_realtime(notification("x"), None);
    let members = || vec![Target::Role(name("manager")), Target::Store(name("12"))];
    both.audience = Some(Audience {
        target: Target::AllOf(members()),
        except: Except {
            user: Some(name("u9")),
            ..Except::default()
        },
    });
    let id = running.accept_one(both).await;
    let message = node.next().await;
    assert_eq!(
        (&message.key, &message.header.require),
        (&store, &vec![role.clone()])
    );
    assert_eq!(message.header.except.user, Some(name("u9")));
    assert!(!message.header.report);
    world.delivered(id, Channel::Realtime).await;

    let mut either = by_realtime(notification("x"), None);
    either.audience = Some(Audience::from(Target::AnyOf(members())));
    let id = running.accept_one(either).await;
    let (first, second) = (node.next().await, node.next().await);
    assert_eq!((&first.key, &second.key), (&role, &store));
    assert_eq!(first.header.id, second.header.id);
    assert_eq!(first.header.any, [vec![role], vec![store]]);
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}

#[tokio::test]
async fn a_scheduled_frame_goes_out_when_it_is_visible() {
    let world = World::new().await;
    let running = start(&world).await;
    let mut node = Node::on(&world, &[user_key("u1")]).await;
    let mine = reader("u1");
    world.store.touch_reader(&mine).await.unwrap();
    let one = later(notification("u1"), Duration::from_millis(400));
    let id = running
        .accept_one(by_realtime(in_inbox(one, "u1"), Some("u1")))
        .await;
    let message = node.next().await;
    assert_eq!(message.header.id, id.into());
    assert!(world.store.item(&mine, id).await.unwrap().is_some());
    running.written("u1", id).await;
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}

#[tokio::test]
async fn a_crash_between_commit_and_frame_is_made_good() {
    let world = World::new().await;
    let one = by_realtime(notification("u1"), Some("u1"));
    // Accepted by a life that ended before it could publish.
    let id = world.stored_one(one).await;
    let mut node = Node::on(&world, &[user_key("u1")]).await;
    let running = start(&world).await;
    assert_eq!(node.next().await.header.id, id.into());
    running.written("u1", id).await;
    world.delivered(id, Channel::Realtime).await;
    running.stop().await;
}

#[tokio::test]
async fn reading_is_told_to_the_readers_other_sessions() {
    let world = World::new().await;
    let running = start(&world).await;
    let mut node = Node::on(&world, &[user_key("u1")]).await;
    let seen = Receipt::Seen {
        reader: session("u1"),
    };
    running.receive(seen).await;
    let all: Vec<_> = (0..3).map(|_| in_inbox(notification("u1"), "u1")).collect();
    let ids = running.accept(all).await;

    let read = Receipt::Read {
        reader: session("u1"),
        ids: vec![ids[0].into(), MessageId::generate()],
    };
    running.receive(read).await;
    let (changed, unread) = (node.next().await, node.next().await);
    assert_eq!(changed.header.kind, FrameKind::Changed);
    assert_eq!(changed.header.except.session.as_deref(), Some("s1"));
    assert_eq!(changed.position, None);
    assert_eq!(
        frame(&changed),
        json!({"type": "changed", "ids": [ids[0].to_string()], "state": "read"})
    );
    assert_eq!(unread.header.kind, FrameKind::Unread);
    assert_eq!(&unread.payload[..], br#"{"type":"unread","count":2}"#);

    // By the API, so no session is left out.
    let marked = running
        .service
        .mark(&reader("u1"), vec![ids[1]], Mark::Deleted)
        .await
        .unwrap();
    assert_eq!((marked.changed, marked.unread), (vec![ids[1]], 1));
    let (changed, unread) = (node.next().await, node.next().await);
    assert!(changed.header.except.is_empty());
    assert!(String::from_utf8_lossy(&changed.payload).contains("deleted"));
    assert_eq!(&unread.payload[..], br#"{"type":"unread","count":1}"#);

    let read_all = Receipt::read_all(session("u1"));
    running.receive(read_all).await;
    let (changed, unread) = (node.next().await, node.next().await);
    assert_eq!(
        &changed.payload[..],
        br#"{"type":"changed","all":true,"state":"read"}"#
    );
    assert_eq!(&unread.payload[..], br#"{"type":"unread","count":0}"#);

    // What changes nothing is not told: the next frame is that of the withdrawal.
    running
        .service
        .mark(&reader("u1"), vec![ids[0]], Mark::Read)
        .await
        .unwrap();
    assert!(
        running
            .service
            .withdraw(&tenant(), ids[2], &by("op"))
            .await
            .unwrap()
    );
    assert!(String::from_utf8_lossy(&node.next().await.payload).contains("withdrawn"));
    running.stop().await;
}

#[tokio::test]
async fn a_stop_gives_back_what_has_no_receipt_yet() {
    let world = World::new().await;
    let mut config = quick();
    config.realtime.receipt_wait = common::config::Span(Duration::from_secs(50));
    let running = world.start_with(config, Channels::default(), true).await;
    let id = running
        .accept_one(by_realtime(notification("u1"), Some("u1")))
        .await;
    running.stop().await;
    let delivery = world.deliveries(id).await.remove(0);
    assert_eq!(delivery.state, DeliveryState::Pending);
}

/// On PostgreSQL, whichever database the others run on: two dispatchers, which come after it was put off.
#[tokio::test]
async fn what_was_put_off_comes_back_with_one_frame() {
    let world = World::on(Database::shared(), |_| {}).await;
    let mut other = world.beside().await;
    other.bus = world.bus.clone();
    let me = reader("u1");
    world.store.touch_reader(&me).await.unwrap();
    let [first, second] = [(), ()].map(|()| in_inbox(notification("u1"), "u1"));
    let ids = [first.id, second.id];
    world.store.accept(vec![first, second]).await.unwrap();
    // The second is due when both have looked after the first came back.
    for (id, wait) in ids.into_iter().zip([0, 3]) {
        let until = Micros::now().plus(Duration::from_secs(wait));
        let put_off = world.store.mark(&me, vec![id], Mark::Snoozed(until));
        put_off.await.unwrap();
    }
    let mut node = Node::on(&world, &[user_key("u1")]).await;
    let running = [
        world.start_with(quick(), Channels::default(), false).await,
        other.start_with(quick(), Channels::default(), false).await,
    ];
    for (id, unread) in ids.into_iter().zip([1, 2]) {
        assert_eq!(
            frame(&*node.next().await),
            json!({"type": "changed", "ids": [id.to_string()], "state": "unsnoozed"})
        );
        assert_eq!(
            frame(&*node.next().await),
            json!({"type": "unread", "count": unread})
        );
    }
    for running in running {
        running.stop().await;
    }
}
