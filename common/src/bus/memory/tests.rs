use std::time::Duration;

use super::*;
use crate::{
    bus::{Bus, conformance},
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header},
};

fn bus(limits: BusLimits, policies: Policies) -> Bus {
    Bus::Memory(MemoryBus::with_policies(limits, policies))
}

#[tokio::test]
async fn keeps_the_promises_of_a_bus() {
    conformance::run(async |limits, policies| bus(limits, policies)).await;
}

#[test]
fn what_outlives_history_is_small() {
    assert!(
        size_of::<(TopicKey, Topic)>() <= 32,
        "{}",
        size_of::<(TopicKey, Topic)>()
    );
}

fn publish_to(memory: &MemoryBus, user: &str, history: bool) -> Published {
    memory.publish(Publication {
        key: user_key(user),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: bytes::Bytes::from_static(b"{}"),
        history,
        idempotency_key: None,
    })
}

fn user_key(user: &str) -> TopicKey {
    TopicKey::user(&TenantId::new("t").unwrap(), &Name::new(user).unwrap())
}

#[tokio::test]
async fn who_comes_and_goes_leaves_nothing() {
    let memory = MemoryBus::new(BusLimits::default());
    let (node, _events) = memory.attach(8);
    let (other, _events) = memory.attach(8);
    let key = user_key("a");
    let began = memory.subscribe(node, &key);
    memory.subscribe(other, &key);
    memory.unsubscribe(node, &key);
    assert_eq!(memory.inner.topics.len(), 1);
    memory.unsubscribe(other, &key);
    assert_eq!(memory.inner.topics.len(), 0);
    assert_eq!(memory.head(&key), began, "a client's position still stands");

    publish_to(&memory, "a", false);
    memory.history(&key, 0, 8);
    assert_eq!(
        memory.inner.topics.len(),
        0,
        "neither looking nor publishing without history leaves a trace"
    );

    let at = publish_to(&memory, "a", true).position;
    memory.subscribe(node, &key);
    memory.unsubscribe(node, &key);
    assert_eq!(Some(memory.head(&key).position()), at);
}

#[tokio::test(start_paused = true)]
async fn unused_topics_are_bounded() {
    let memory = MemoryBus::new(BusLimits {
        meta_topics: 2,
        ..BusLimits::default()
    });
    let (node, _events) = memory.attach(8);
    let first = publish_to(&memory, "subscribed", true).position.unwrap();
    memory.subscribe(node, &user_key("subscribed"));
    for user in ["oldest", "older", "newer", "newest"] {
        publish_to(&memory, user, true);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    memory.sweep();
    let there = |user: &str| memory.inner.topics.contains_key(&user_key(user));
    assert!(!there("oldest") && !there("older"));
    assert!(there("newer") && there("newest") && there("subscribed"));
    let again = publish_to(&memory, "oldest", true).position.unwrap();
    assert_eq!((again.offset, again.epoch > first.epoch), (1, true));
}

#[tokio::test(start_paused = true)]
async fn history_ends_with_its_age_and_topics_with_theirs() {
    let limits = BusLimits {
        age: Duration::from_secs(60),
        meta_age: Duration::from_secs(600),
        ..BusLimits::default()
    };
    let memory = MemoryBus::new(limits);
    let key = TopicKey::everyone();
    let publish = || {
        memory.publish(Publication {
            key: key.clone(),
            header: Header::new(MessageId::generate(), FrameKind::Message),
            payload: bytes::Bytes::from_static(b"{}"),
            history: true,
            idempotency_key: None,
        })
    };
    let first = publish().position.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    memory.sweep();
    assert!(memory.history(&key, 0, 10).messages.is_empty());
    assert_eq!(memory.head(&key).offset, 1);
    tokio::time::advance(Duration::from_secs(601)).await;
    memory.sweep();
    let again = publish().position.unwrap();
    assert_eq!(again.offset, 1);
    assert_ne!(
        again.epoch, first.epoch,
        "offsets that were forgotten must not be given again in their epoch"
    );
}

fn publish_keyed(memory: &MemoryBus, user: &str, number: usize) -> Published {
    memory.publish(Publication {
        key: user_key(user),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: bytes::Bytes::from_static(b"{}"),
        history: false,
        idempotency_key: Some(format!("key {number}")),
    })
}

fn held(memory: &MemoryBus) -> usize {
    memory.inner.keys.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn keys_end_with_their_age() {
    let memory = MemoryBus::new(BusLimits {
        key_age: Duration::from_secs(60),
        ..BusLimits::default()
    });
    assert!(!publish_keyed(&memory, "a", 1).repeated);
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(publish_keyed(&memory, "a", 1).repeated);
    assert!(!publish_keyed(&memory, "a", 2).repeated);
    // A repeat makes no key younger.
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(publish_keyed(&memory, "a", 2).repeated);
    assert!(!publish_keyed(&memory, "a", 1).repeated);
    tokio::time::advance(Duration::from_secs(62)).await;
    memory.sweep();
    assert_eq!((held(&memory), memory.inner.topics.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn keys_are_bounded_over_all_topics_and_for_each() {
    let memory = MemoryBus::new(BusLimits {
        keys: 1000,
        ..BusLimits::default()
    });
    for number in 0..150 {
        publish_keyed(&memory, "many", number);
    }
    assert_eq!(held(&memory), 100, "a tenth for one topic");
    assert!(publish_keyed(&memory, "many", 50).repeated);
    assert!(!publish_keyed(&memory, "many", 49).repeated);
    for user in 0..40 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for number in 0..50 {
            publish_keyed(&memory, &format!("u{user}"), number);
        }
    }
    // Twice as many between two sweeps, and a few of the last two topics.
    assert_eq!(held(&memory), 2032);
    memory.sweep();
    assert_eq!(held(&memory), 982, "whole seconds are forgotten");
    assert!(
        !publish_keyed(&memory, "u0", 49).repeated,
        "the oldest are forgotten"
    );
    assert!(publish_keyed(&memory, "u39", 49).repeated);

    // A topic has a few whatever others do, and what is forgotten is no more counted.
    let full = MemoryBus::new(BusLimits {
        keys: 10,
        meta_age: Duration::from_secs(60),
        ..BusLimits::default()
    });
    for user in ["a", "b", "c"] {
        for number in 0..30 {
            publish_keyed(&full, user, number);
        }
        assert!(publish_keyed(&full, user, 14).repeated);
        assert!(!publish_keyed(&full, user, 13).repeated);
    }
    assert_eq!(held(&full), 48);
    tokio::time::advance(Duration::from_secs(62)).await;
    full.sweep();
    assert_eq!((held(&full), full.inner.topics.len()), (0, 0));
}
