//! Topics that keep the newest value of each key.

use super::*;

async fn set(bus: &Bus, key: &TopicKey, value: Option<&str>) -> crate::message::Position {
    let mut publication = publication(key, 0);
    publication.header.conflate = value.map(str::to_owned);
    let published = bus.publish(publication).await.expect("the bus is there");
    published.position.expect("history is on")
}

pub(super) async fn a_last_value_topic_keeps_the_newest_of_each_key(bus: &Bus) {
    let topic = key("last.a");
    let (subscriptions, mut events) = bus.attach(64);
    subscribe(&subscriptions, &topic).await;
    let mut positions = Vec::new();
    for value in [Some("x"), Some("y"), Some("x"), None, Some(""), Some("x")] {
        positions.push(set(bus, &topic, value).await);
    }
    // Live, every message comes, with dense offsets.
    let live: Vec<_> = receive(&mut events, 6).await.iter().map(|m| m.position).collect();
    assert_eq!(live, positions.iter().copied().map(Some).collect::<Vec<_>>());
    // A publish without a key has the key "".
    assert_eq!(offsets(&read(bus, &topic, 0).await), [2, 5, 6]);
    for (from, missed) in [(0, vec![2, 5, 6]), (2, vec![5, 6]), (4, vec![6]), (5, vec![])] {
        let from: crate::message::Position = positions[from];
        let history = read(bus, &topic, from.offset - 1).await;
        match resume(from, &history) {
            Replay::Missed(messages) => {
                let messages = messages.iter().filter_map(|m| m.position);
                assert_eq!(messages.map(|at| at.offset).collect::<Vec<_>>(), missed);
            }
            Replay::Resync => panic!("the newest of each key is there"),
        }
    }
}

pub(super) async fn a_last_value_topic_without_room_says_so(bus: &Bus) {
    let topic = key("last.a");
    let mut positions = Vec::new();
    for value in ["a", "b", "c", "d", "d"] {
        positions.push(set(bus, &topic, Some(value)).await);
    }
    let history = read(bus, &topic, 0).await;
    assert_eq!(
        (offsets(&history), history.superseded_after),
        (vec![2, 3, 5], Some(1))
    );
    assert!(matches!(resume(positions[0], &history), Replay::Missed(missed) if missed.len() == 3));
    let before = crate::message::Position {
        offset: 0,
        check: 0,
        ..positions[0]
    };
    assert!(
        matches!(resume(before, &history), Replay::Resync),
        "who has not seen the value that left cannot be told all"
    );
}
