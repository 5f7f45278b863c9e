//! The cases that every form of the bus has to pass. `run` takes a maker of fresh, empty buses.

mod epochs;
mod values;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Bus, BusEvent, BusEvents, BusLimits, History, Publication, Published, Replay, Subscriptions, attendance,
    resume,
};
use crate::{
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header, Message},
    policy::{HistoryBounds, HistoryPolicy, Policies, Rule, SlowPolicy},
    topic::TopicKey,
};

/// Runs every case, each on a bus of its own.
///
/// # Panics
/// When the bus breaks a promise; the message names it.
pub async fn run(make: impl AsyncFn(BusLimits, Policies) -> Bus) {
    let policies = policies();
    let make = async |limits| make(limits, policies.clone()).await;
    let limits = BusLimits {
        count: 8,
        ..BusLimits::default()
    };
    only_subscribed_topics_arrive(&make(limits).await).await;
    offsets_are_dense_and_in_order(&make(limits).await).await;
    concurrent_publishers_are_ordered_for_every_node(&make(limits).await).await;
    a_publish_without_history_takes_no_offset(&make(limits).await).await;
    idempotency_keys_give_the_first_result(&make(limits).await).await;
    an_overflow_is_told_and_heals_from_history(&make(limits).await).await;
    history_is_bounded_and_says_so(&make(limits).await).await;
    subscribe_answers_the_head(&make(limits).await).await;
    unsubscribed_means_silent(&make(limits).await).await;
    history_survives_without_subscribers(&make(limits).await).await;
    a_topic_without_history_keeps_nothing(&make(limits).await).await;
    a_topic_s_own_bounds_count(&make(limits).await).await;
    values::a_last_value_topic_keeps_the_newest_of_each_key(&make(limits).await).await;
    values::a_last_value_topic_without_room_says_so(&make(limits).await).await;
    attendance::conformance::suite(&make(limits).await.attendance()).await;
    many_are_published_in_order(&make(limits).await).await;
    let aging = BusLimits {
        count: 100,
        age: Duration::from_secs(1),
        ..limits
    };
    what_is_too_old_is_not_read(&make(aging).await).await;
    epochs::what_was_not_lost_keeps_its_epoch(&make(limits).await).await;
    epochs::a_lost_end_begins_a_new_epoch_once(&make(limits).await).await;
}

/// What holds in the cases below; topics with other names have the defaults.
fn policies() -> Policies {
    let rule = |pattern: &str, history, count| Rule {
        pattern: pattern.to_owned(),
        tenant: None,
        history,
        bounds: HistoryBounds {
            count,
            ..HistoryBounds::default()
        },
        slow: SlowPolicy::default(),
        presence: false,
    };
    Policies::new(vec![
        rule("topic:none.*", HistoryPolicy::None, None),
        rule("topic:small.*", HistoryPolicy::Window, Some(2)),
        rule("topic:last.*", HistoryPolicy::LastValue, Some(3)),
    ])
}

fn key(name: &str) -> TopicKey {
    let tenant = TenantId::new("t").expect("a valid tenant");
    TopicKey::topic(&tenant, &Name::new(name).expect("a valid name"))
}

fn publication(key: &TopicKey, number: usize) -> Publication {
    Publication {
        key: key.clone(),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: Bytes::from(format!("{{\"n\":{number}}}")),
        history: true,
        idempotency_key: None,
    }
}

async fn publish(bus: &Bus, key: &TopicKey, number: usize) -> Published {
    bus.publish(publication(key, number))
        .await
        .expect("the bus is there")
}

async fn receive(events: &mut BusEvents, count: usize) -> Vec<Arc<Message>> {
    let mut messages = Vec::new();
    let mut batch = Vec::new();
    while messages.len() < count {
        assert!(events.next_batch(&mut batch, count).await > 0, "the bus ended");
        for event in batch.drain(..) {
            match event {
                BusEvent::Message(message) => messages.push(message),
                BusEvent::Dropped(number) => panic!("{number} messages were dropped"),
                BusEvent::Unsure => {}
            }
        }
    }
    messages
}

async fn subscribe(subscriptions: &Subscriptions, key: &TopicKey) -> super::Head {
    subscriptions
        .subscribe(std::slice::from_ref(key))
        .await
        .expect("the bus is there")[0]
}

async fn only_subscribed_topics_arrive(bus: &Bus) {
    let (subscriptions, mut events) = bus.attach(64);
    subscribe(&subscriptions, &key("wanted")).await;
    assert_eq!(publish(bus, &key("other"), 1).await.nodes, 0);
    assert_eq!(publish(bus, &key("wanted"), 2).await.nodes, 1);
    let messages = receive(&mut events, 1).await;
    assert_eq!(messages[0].key, key("wanted"));
    assert_eq!(&messages[0].payload[..], b"{\"n\":2}");
}

async fn offsets_are_dense_and_in_order(bus: &Bus) {
    let (subscriptions, mut events) = bus.attach(64);
    subscribe(&subscriptions, &key("a")).await;
    let mut published = Vec::new();
    for number in 0..20 {
        published.push(
            publish(bus, &key("a"), number)
                .await
                .position
                .expect("history is on"),
        );
    }
    let received: Vec<_> = receive(&mut events, 20)
        .await
        .iter()
        .map(|message| message.position)
        .collect();
    for (index, position) in published.iter().enumerate() {
        assert_eq!(position.offset, index as u64 + 1);
        assert_eq!(position.epoch, published[0].epoch);
        assert_eq!(received[index], Some(*position));
    }
}

async fn concurrent_publishers_are_ordered_for_every_node(bus: &Bus) {
    let (first, mut first_events) = bus.attach(4096);
    let (second, mut second_events) = bus.attach(4096);
    subscribe(&first, &key("a")).await;
    subscribe(&second, &key("a")).await;
    let publishers: Vec<_> = (0..8)
        .map(|_| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    publish(&bus, &key("a"), number).await;
                }
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("publishers do not panic");
    }
    for events in [&mut first_events, &mut second_events] {
        let offsets: Vec<_> = receive(events, 800)
            .await
            .iter()
            .filter_map(|message| message.position.map(|at| at.offset))
            .collect();
        assert_eq!(offsets, (1..=800).collect::<Vec<_>>());
    }
}

async fn a_publish_without_history_takes_no_offset(bus: &Bus) {
    let (subscriptions, mut events) = bus.attach(64);
    subscribe(&subscriptions, &key("a")).await;
    let without = Publication {
        history: false,
        ..publication(&key("a"), 1)
    };
    assert_eq!(
        bus.publish(without).await.expect("the bus is there").position,
        None
    );
    assert_eq!(
        publish(bus, &key("a"), 2).await.position.map(|at| at.offset),
        Some(1)
    );
    let messages = receive(&mut events, 2).await;
    assert_eq!(messages[0].position, None);
    assert_eq!(
        bus.history(&key("a"), 0, 10)
            .await
            .expect("the bus is there")
            .messages
            .len(),
        1
    );
}

async fn idempotency_keys_give_the_first_result(bus: &Bus) {
    let (subscriptions, mut events) = bus.attach(64);
    subscribe(&subscriptions, &key("a")).await;
    let keyed = Publication {
        idempotency_key: Some("k".to_owned()),
        ..publication(&key("a"), 1)
    };
    let first = bus.publish(keyed.clone()).await.expect("the bus is there");
    let again = bus.publish(keyed.clone()).await.expect("the bus is there");
    assert_eq!(
        again,
        Published {
            repeated: true,
            ..first
        }
    );
    // Another topic is another publish.
    let elsewhere = bus
        .publish(Publication {
            key: key("b"),
            ..keyed
        })
        .await
        .expect("the bus is there");
    assert!(!elsewhere.repeated);
    publish(bus, &key("a"), 2).await;
    assert_eq!(
        receive(&mut events, 2).await[1].position.map(|at| at.offset),
        Some(2)
    );
    // However many there are, also beyond what history keeps: an upload is sent again whole.
    for repeated in [false, true] {
        for number in 0..3000 {
            let keyed = Publication {
                idempotency_key: Some(number.to_string()),
                ..publication(&key("many"), number)
            };
            let published = bus.publish(keyed).await.expect("the bus is there");
            let offset = published.position.map(|at| at.offset);
            assert_eq!((published.repeated, offset), (repeated, Some(number as u64 + 1)));
        }
    }
}

async fn an_overflow_is_told_and_heals_from_history(bus: &Bus) {
    const SENT: u64 = 100;
    let (subscriptions, mut events) = bus.attach(2);
    subscribe(&subscriptions, &key("a")).await;
    for number in 0..SENT {
        publish(bus, &key("a"), number as usize).await;
    }
    let mut batch = Vec::new();
    let (mut received, mut dropped, mut last) = (0, 0, 0);
    while received + dropped < SENT {
        events.next_batch(&mut batch, 16).await;
        for event in batch.drain(..) {
            match event {
                BusEvent::Message(message) => {
                    received += 1;
                    last = message.position.map_or(0, |at| at.offset);
                }
                BusEvent::Dropped(number) => dropped += number,
                BusEvent::Unsure => {}
            }
        }
    }
    assert_eq!(received + dropped, SENT, "what is not delivered is counted");
    assert!(dropped > 0 && last >= received);
    let history = bus
        .history(&key("a"), SENT - 4, 100)
        .await
        .expect("the bus is there");
    assert_eq!(offsets(&history), (SENT - 3..=SENT).collect::<Vec<_>>());
}

async fn history_is_bounded_and_says_so(bus: &Bus) {
    let first = publish(bus, &key("a"), 0).await.position.expect("history is on");
    for number in 1..20 {
        publish(bus, &key("a"), number).await;
    }
    let history = bus.history(&key("a"), 0, 100).await.expect("the bus is there");
    assert_eq!(history.messages.len(), 8);
    assert_eq!(history.head.offset, 20);
    assert!(
        matches!(resume(first, &history), Replay::Resync),
        "a trimmed gap is refused"
    );
    let kept = history.messages[3].position.expect("history is on");
    let history = bus
        .history(&key("a"), kept.offset - 1, 100)
        .await
        .expect("the bus is there");
    match resume(kept, &history) {
        Replay::Missed(missed) => assert_eq!(missed.len(), 4),
        Replay::Resync => panic!("what history still has must be replayed"),
    }
}

async fn subscribe_answers_the_head(bus: &Bus) {
    let published = publish(bus, &key("a"), 0).await.position.expect("history is on");
    let (subscriptions, mut events) = bus.attach(64);
    let head = subscribe(&subscriptions, &key("a")).await;
    assert_eq!(head.position(), published);
    assert_eq!(
        bus.heads(&[key("b"), key("a")]).await[1].expect("the bus is there"),
        head
    );
    publish(bus, &key("a"), 1).await;
    assert_eq!(
        receive(&mut events, 1).await[0].position.map(|at| at.offset),
        Some(2)
    );
}

async fn unsubscribed_means_silent(bus: &Bus) {
    let (subscriptions, mut events) = bus.attach(64);
    subscribe(&subscriptions, &key("a")).await;
    subscribe(&subscriptions, &key("b")).await;
    subscriptions.unsubscribe(&[key("a")]).await;
    publish(bus, &key("a"), 1).await;
    publish(bus, &key("b"), 2).await;
    assert_eq!(receive(&mut events, 1).await[0].key, key("b"));
}

async fn history_survives_without_subscribers(bus: &Bus) {
    let (subscriptions, _events) = bus.attach(64);
    subscribe(&subscriptions, &key("a")).await;
    let position = publish(bus, &key("a"), 1).await.position.expect("history is on");
    subscriptions.unsubscribe(&[key("a")]).await;
    publish(bus, &key("a"), 2).await;
    let history = bus
        .history(&key("a"), position.offset - 1, 100)
        .await
        .expect("the bus is there");
    assert!(matches!(resume(position, &history), Replay::Missed(missed) if missed.len() == 1));
}

async fn read(bus: &Bus, key: &TopicKey, after: u64) -> History {
    bus.history(key, after, 100).await.expect("the bus is there")
}

fn offsets(history: &History) -> Vec<u64> {
    let messages = history.messages.iter();
    messages
        .filter_map(|message| message.position.map(|at| at.offset))
        .collect()
}

async fn a_topic_without_history_keeps_nothing(bus: &Bus) {
    let (subscriptions, mut events) = bus.attach(64);
    subscribe(&subscriptions, &key("none.a")).await;
    assert_eq!(publish(bus, &key("none.a"), 1).await.position, None);
    assert_eq!(receive(&mut events, 1).await[0].position, None);
    let history = read(bus, &key("none.a"), 0).await;
    assert_eq!((history.head.offset, history.messages.len()), (0, 0));
}

async fn a_topic_s_own_bounds_count(bus: &Bus) {
    for number in 0..5 {
        publish(bus, &key("small.a"), number).await;
    }
    assert_eq!(offsets(&read(bus, &key("small.a"), 0).await), [4, 5]);
}

async fn many_are_published_in_order(bus: &Bus) {
    let (subscriptions, mut events) = bus.attach(1024);
    let topics: Vec<TopicKey> = (0..5).map(|number| key(&format!("many-{number}"))).collect();
    subscriptions.subscribe(&topics).await.expect("the bus is there");
    let publications = (0..500).map(|number| publication(&topics[number % 5], number));
    let published = bus.publish_many(publications.collect()).await;
    for (number, published) in published.into_iter().enumerate() {
        let position = published.expect("the bus is there").position;
        assert_eq!(position.map(|at| at.offset), Some(number as u64 / 5 + 1));
    }
    for message in receive(&mut events, 500).await {
        let at = message.position.expect("history is on").offset;
        let topic = topics.iter().position(|topic| *topic == message.key);
        let number = (at - 1) * 5 + topic.expect("a subscribed topic") as u64;
        assert_eq!(message.payload, format!("{{\"n\":{number}}}"));
    }
}

/// Also where it is still there because newer messages keep the topic's history.
async fn what_is_too_old_is_not_read(bus: &Bus) {
    let topic = key("a");
    for number in 0..10 {
        publish(bus, &topic, number).await;
    }
    let began = tokio::time::Instant::now();
    // Published on and on, so that the topic is always in use.
    while began.elapsed() < Duration::from_millis(1200) {
        publish(bus, &topic, 0).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let newest = (0..10).map(|number| publication(&topic, number));
    bus.publish_many(newest.collect()).await;
    let history = bus.history(&topic, 0, 5).await.expect("the bus is there");
    assert_eq!(history.messages.len(), 5, "as many as were asked for");
    assert!(offsets(&history)[0] > 10, "{:?}", offsets(&history));
    assert!(offsets(&history).windows(2).all(|two| two[1] == two[0] + 1));
}
