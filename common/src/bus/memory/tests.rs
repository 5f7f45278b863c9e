use super::*;
use crate::{
    bus::{Bus, conformance},
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header},
};

fn bus(limits: MemoryLimits, policies: Policies) -> Bus {
    Bus::Memory(MemoryBus::with_policies(limits, policies))
}

#[tokio::test]
async fn keeps_the_promises_of_a_bus() {
    conformance::run(bus).await;
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
    let memory = MemoryBus::new(MemoryLimits::default());
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
    let memory = MemoryBus::new(MemoryLimits {
        meta_topics: 2,
        ..MemoryLimits::default()
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
    let limits = MemoryLimits {
        age: Duration::from_secs(60),
        meta_age: Duration::from_secs(600),
        ..MemoryLimits::default()
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
