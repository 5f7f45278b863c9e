mod properties;

use std::collections::{BTreeMap, BTreeSet};

use common::{
    ids::{MessageId, Name, TenantId},
    message::{FrameKind, Header, Message, Position},
};
use proptest::prelude::*;

use super::{relief::Excess, *};
use crate::ws;

const WIDE: Bounds = Bounds {
    bytes: usize::MAX,
    frames: usize::MAX,
    age: 30,
    stall: 300,
};

const V1: Terms<'_> = Terms {
    takes_gaps: true,
    resuming: &[],
};

fn written(outbound: &Outbound) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); MAX_SLICES];
    let count = outbound.slices(&mut slices);
    slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
}

/// Takes everything, in bites of these sizes.
fn drain(outbound: &mut Outbound, bites: &mut impl Iterator<Item = usize>, out: &mut Vec<u8>) {
    while !outbound.is_empty() {
        bite(outbound, bites, out);
    }
}

fn bite(outbound: &mut Outbound, bites: &mut impl Iterator<Item = usize>, out: &mut Vec<u8>) {
    let bytes = written(outbound);
    let taken = bites.next().unwrap().min(bytes.len());
    out.extend_from_slice(&bytes[..taken]);
    outbound.advance(taken, 0);
}

fn topic(number: u8) -> TopicKey {
    TopicKey::topic(
        &TenantId::new("t").unwrap(),
        &Name::new(&number.to_string()).unwrap(),
    )
}

/// A message whose frame says which it is.
fn message(number: u8, offset: u64, change: impl FnOnce(&mut Message)) -> Arc<Outgoing> {
    let mut message = Message {
        key: topic(number),
        position: Some(Position {
            epoch: 1,
            offset,
            check: 7,
        }),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: Bytes::new(),
    };
    change(&mut message);
    let frame = ws::encode_text(&[format!(
        r#"{{"type":"m","topic":"topic:{number}","at":{offset}}}"#
    )]);
    Arc::new(Outgoing::framed(Arc::new(message), frame))
}

fn queue(outbound: &mut Outbound, message: &Arc<Outgoing>, slow: SlowPolicy, now: u32) -> bool {
    outbound.push_message(message, &message.frame, slow, now)
}

/// A text frame as a client sees it: topic, and a message's offset or a gap's.
#[derive(Debug, PartialEq, Eq, Clone)]
enum Seen {
    Message(String, u64),
    Gap(String, u64),
    Own,
}

fn seen(bytes: &[u8]) -> Vec<Seen> {
    seen_at(bytes).into_iter().map(|(_, frame)| frame).collect()
}

/// Frames, and where they begin.
fn seen_at(mut bytes: &[u8]) -> Vec<(usize, Seen)> {
    let (whole, mut frames) = (bytes.len(), Vec::new());
    while let [first, len, rest @ ..] = bytes {
        let start = whole - bytes.len();
        let (payload, after) = rest.split_at(usize::from(*len));
        bytes = after;
        if *first != 0x81 {
            frames.push((start, Seen::Own));
            continue;
        }
        let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
        let topic = json["topic"].as_str().unwrap_or_default().to_owned();
        let frame = match json["type"].as_str().unwrap() {
            "m" => Seen::Message(topic, json["at"].as_u64().unwrap()),
            "gap" => {
                let position: Position = json["position"].as_str().unwrap().parse().unwrap();
                assert_eq!((position.epoch, position.check), (1, !7));
                Seen::Gap(topic, position.offset)
            }
            other => panic!("{other}"),
        };
        frames.push((start, frame));
    }
    frames
}

fn all(mut outbound: Outbound) -> Vec<Seen> {
    let mut out = Vec::new();
    drain(&mut outbound, &mut std::iter::repeat(usize::MAX), &mut out);
    seen(&out)
}

fn at(number: u8, offset: u64) -> Seen {
    Seen::Message(format!("topic:{number}"), offset)
}

fn gap(number: u8, offset: u64) -> Seen {
    Seen::Gap(format!("topic:{number}"), offset)
}

#[test]
fn over_each_bound_what_may_not_be_dropped_evicts() {
    let bounds = Bounds {
        bytes: 10,
        frames: 3,
        age: 5,
        stall: 20,
    };
    let mut outbound = Outbound::new(100);
    outbound.push(Bytes::from_static(b"12345"), 100);
    assert_eq!(outbound.relieve_aged(&bounds, V1, 105).evict, None);
    assert_eq!(outbound.relieve_aged(&bounds, V1, 106).evict, Some(Excess::Age));
    outbound.push(Bytes::from_static(b"123456"), 100);
    assert_eq!(outbound.relieve(&bounds, V1).evict, Some(Excess::Bytes));
    outbound.advance(3, 100);
    outbound.end_with(Bytes::from_static(b"close"));
    assert_eq!(written(&outbound), b"45close");

    let mut outbound = Outbound::new(100);
    for _ in 0..4 {
        outbound.push(Bytes::from_static(b"1"), 100);
    }
    assert_eq!(outbound.relieve(&bounds, V1).evict, Some(Excess::Frames));
    assert_eq!(
        outbound.relieve_aged(&bounds, V1, 121).evict,
        Some(Excess::Stalled)
    );
}

#[test]
fn the_oldest_go_and_the_gap_stands_where_they_stood() {
    let mut outbound = Outbound::new(0);
    let drop = SlowPolicy::DropOldest;
    queue(
        &mut outbound,
        &message(1, 1, |m| m.header.priority = Priority::Critical),
        drop,
        0,
    );
    queue(&mut outbound, &message(1, 2, |_| ()), drop, 0);
    queue(&mut outbound, &message(2, 8, |m| m.position = None), drop, 0);
    queue(&mut outbound, &message(1, 3, |_| ()), drop, 0);
    queue(
        &mut outbound,
        &message(1, 4, |m| m.header.slow = Some(SlowPolicy::Evict)),
        drop,
        0,
    );
    queue(&mut outbound, &message(2, 9, |_| ()), drop, 0);
    queue(&mut outbound, &message(1, 5, |_| ()), drop, 0);
    let bounds = Bounds { frames: 5, ..WIDE };
    let relief = outbound.relieve(&bounds, V1);
    // The gap takes the place of the first, so that two more have to go.
    assert_eq!((relief.dropped, relief.gaps, relief.evict), (3, 1, None));
    assert_eq!(relief.lost.len(), 1);
    assert_eq!((&relief.lost[0].0, relief.lost[0].1.offset), (&topic(1), 3));
    assert_eq!(all(outbound), [at(1, 1), gap(1, 1), at(1, 4), at(2, 9), at(1, 5)]);
}

#[test]
fn a_gap_stands_for_later_ones_until_it_is_written() {
    let bounds = Bounds { frames: 2, ..WIDE };
    let mut outbound = Outbound::new(0);
    let mut out = Vec::new();
    let mut told = 0;
    let mut push = |outbound: &mut Outbound, offset| {
        queue(outbound, &message(1, offset, |_| ()), SlowPolicy::DropOldest, 0);
        told += outbound.relieve(&bounds, V1).gaps;
    };
    (1..=6).for_each(|offset| push(&mut outbound, offset));
    bite(&mut outbound, &mut std::iter::once(1), &mut out);
    // The first gap is on its way: what is dropped now is told anew.
    (7..=9).for_each(|offset| push(&mut outbound, offset));
    drain(&mut outbound, &mut std::iter::repeat(10), &mut out);
    assert_eq!(seen(&out), [gap(1, 0), gap(1, 5), at(1, 9)]);
    assert_eq!(told, 2);
}

#[test]
fn clients_that_know_no_gap_are_told_none() {
    let terms = Terms {
        takes_gaps: false,
        ..V1
    };
    let mut outbound = Outbound::new(0);
    for offset in 1..=3 {
        queue(
            &mut outbound,
            &message(1, offset, |_| ()),
            SlowPolicy::DropOldest,
            0,
        );
    }
    let relief = outbound.relieve(&Bounds { frames: 1, ..WIDE }, terms);
    assert_eq!((relief.dropped, relief.gaps, relief.lost.len()), (2, 0, 1));
    assert_eq!(all(outbound), [at(1, 3)]);
}

#[test]
fn what_a_recovered_counts_on_stays() {
    let bounds = Bounds { frames: 3, ..WIDE };
    let drop = SlowPolicy::DropOldest;
    let mut outbound = Outbound::new(0);
    queue(&mut outbound, &message(1, 1, |_| ()), drop, 0);
    queue(&mut outbound, &message(2, 1, |m| m.position = None), drop, 0);
    outbound.push(ws::encode_ping(b"recovered"), 0);
    outbound.count_on();
    queue(&mut outbound, &message(1, 2, |_| ()), drop, 0);
    let relief = outbound.relieve(&bounds, V1);
    assert_eq!(
        (relief.dropped, relief.evict),
        (1, None),
        "without history there is no promise"
    );
    queue(&mut outbound, &message(1, 3, |_| ()), drop, 0);
    queue(&mut outbound, &message(1, 4, |_| ()), drop, 0);
    let topics = [topic(1)];
    let resuming = Terms {
        resuming: &topics,
        ..V1
    };
    let roomy = Bounds { frames: 4, ..WIDE };
    assert_eq!(outbound.relieve(&roomy, resuming).evict, Some(Excess::Frames));
    let relief = outbound.relieve(&roomy, V1);
    assert_eq!((relief.dropped, relief.evict), (2, None));
    assert_eq!(all(outbound), [at(1, 1), Seen::Own, gap(1, 1), at(1, 4)]);
}

#[test]
fn what_is_old_goes_instead_of_the_session() {
    let mut outbound = Outbound::new(0);
    queue(&mut outbound, &message(1, 1, |_| ()), SlowPolicy::DropOldest, 0);
    queue(&mut outbound, &message(1, 2, |_| ()), SlowPolicy::DropOldest, 10);
    let relief = outbound.relieve_aged(&WIDE, V1, 31);
    assert_eq!((relief.dropped, relief.evict), (1, None));
    // Neither the gap nor the rest is a reason to evict, ever.
    let relief = outbound.relieve_aged(&WIDE, V1, 200);
    assert_eq!((relief.dropped, relief.evict), (1, None));
    assert_eq!(all(outbound), [gap(1, 0)]);
}

#[test]
fn the_newest_value_of_a_key_may_not_grow_old() {
    let value = |offset, key: &str| {
        let key = key.to_owned();
        message(1, offset, |m| m.header.conflate = Some(key))
    };
    let mut outbound = Outbound::new(0);
    let latest = SlowPolicy::Latest;
    assert!(!queue(&mut outbound, &value(1, "a"), latest, 0));
    assert!(!queue(&mut outbound, &value(2, "b"), latest, 20));
    assert!(queue(&mut outbound, &value(3, "a"), latest, 25));
    // The first value is too old, but it gave way.
    assert_eq!(outbound.relieve_aged(&WIDE, V1, 45).evict, None);
    assert_eq!(outbound.relieve_aged(&WIDE, V1, 51).evict, Some(Excess::Age));
    assert!(queue(&mut outbound, &value(4, "b"), latest, 51));
    assert_eq!(outbound.relieve_aged(&WIDE, V1, 52).evict, None);
    // Without a key nothing gives way; a critical one takes no part.
    let plain = message(1, 5, |_| ());
    assert!(!queue(&mut outbound, &plain, latest, 52));
    let critical = message(1, 6, |m| {
        m.header.conflate = Some("a".to_owned());
        m.header.priority = Priority::Critical;
    });
    assert!(!queue(&mut outbound, &critical, latest, 52));
    assert!(
        queue(&mut outbound, &value(7, "a"), latest, 52),
        "the one before the critical"
    );
    assert!(!queue(
        &mut outbound,
        &message(2, 1, |m| m.header.conflate = Some("a".to_owned())),
        latest,
        52
    ));
    assert_eq!(all(outbound), [at(1, 4), at(1, 5), at(1, 6), at(1, 7), at(2, 1)]);
}

#[test]
fn a_hot_key_costs_no_room() {
    let mut outbound = Outbound::new(0);
    outbound.push(ws::encode_ping(b"first"), 0);
    for offset in 1..=10_000 {
        let value = message(1, offset, |m| m.header.conflate = Some((offset % 3).to_string()));
        queue(&mut outbound, &value, SlowPolicy::Latest, 0);
        assert!(outbound.data.len() <= 2 * EMPTY_MIN && outbound.latest.len() <= EMPTY_MIN);
    }
    assert_eq!(
        all(outbound),
        [Seen::Own, at(1, 9998), at(1, 9999), at(1, 10_000)]
    );
}

#[test]
fn what_expired_is_not_written() {
    let until = |at| move |m: &mut Message| m.header.expires_at = Some(at);
    let mut outbound = Outbound::new(0);
    queue(&mut outbound, &message(1, 1, until(1000)), SlowPolicy::Evict, 0);
    queue(
        &mut outbound,
        &message(1, 2, until(3000)),
        SlowPolicy::DropOldest,
        0,
    );
    let asks = message(1, 3, |m| {
        m.header.expires_at = Some(2000);
        m.header.receipt = true;
    });
    queue(&mut outbound, &asks, SlowPolicy::Evict, 0);
    outbound.push(ws::encode_ping(b"r1"), 0);
    outbound.push(ws::encode_ping(b"r2"), 0);
    assert_eq!(outbound.expire(|| 999), 0);
    assert_eq!(outbound.expire(|| 1000), 1);
    assert_eq!(outbound.expire(|| 2500), 1);
    assert_eq!(all(outbound), [at(1, 2), Seen::Own]);
    assert_eq!(Outbound::new(0).expire(|| panic!("nothing expires here")), 0);
}
