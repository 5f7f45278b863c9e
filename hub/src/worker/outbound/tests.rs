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

#[derive(Debug, Clone)]
enum Step {
    Push {
        topic: u8,
        slow: SlowPolicy,
        critical: bool,
        history: bool,
        key: Option<u8>,
    },
    Own,
    Control,
    Bite(usize),
    Recovered,
    Resuming(Option<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slow = prop_oneof![
        1 => Just(SlowPolicy::Evict),
        5 => Just(SlowPolicy::DropOldest),
        4 => Just(SlowPolicy::Latest)
    ];
    let push = (
        0u8..3,
        slow,
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.8),
        prop::option::weighted(0.9, 0u8..3),
    )
        .prop_map(|(topic, slow, critical, history, key)| Step::Push {
            topic,
            slow,
            critical,
            history,
            key,
        });
    let step = prop_oneof![
        20 => push,
        1 => Just(Step::Own),
        1 => Just(Step::Control),
        4 => (1usize..120).prop_map(Step::Bite),
        1 => Just(Step::Recovered),
        1 => prop::option::weighted(0.3, 0u8..3).prop_map(Step::Resuming),
    ];
    prop::collection::vec(step, 1..400)
}

/// What was pushed, and what may have become of it.
#[derive(Debug)]
struct Pushed {
    topic: u8,
    offset: u64,
    slow: SlowPolicy,
    history: bool,
    key: Option<u8>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However it goes: order within a topic, nothing lost that may not be, the bounds hold, and a gap is told exactly
    /// where something of history was dropped, before anything behind it.
    #[test]
    fn policies_hold(steps in steps(), frames in 4usize..30, bytes in 300usize..2000) {
        let bounds = Bounds { bytes, frames, ..WIDE };
        let mut outbound = Outbound::new(0);
        let mut out = Vec::new();
        let mut offsets = [0u64; 3];
        let mut pushed = Vec::new();
        let mut own = 0;
        let (mut conflated, mut dropped, mut gaps) = (0, 0, 0);
        let mut resuming: Vec<TopicKey> = Vec::new();
        let mut lost_at = Vec::new();
        for step in steps {
            match step {
                Step::Push { topic, slow, critical, history, key } => {
                    offsets[usize::from(topic)] += 1;
                    let offset = offsets[usize::from(topic)];
                    let message = message(topic, offset, |message| {
                        if !history { message.position = None }
                        if critical { message.header.priority = Priority::Critical }
                        message.header.conflate = key.map(|key| key.to_string());
                    });
                    let slow_now = effective(&message, slow);
                    prop_assert!(!critical || slow_now == SlowPolicy::Evict);
                    conflated += usize::from(queue(&mut outbound, &message, slow, 0));
                    pushed.push(Pushed { topic, offset, slow: slow_now, history, key });
                }
                Step::Own => { outbound.push(ws::encode_ping(b"r1"), 0); own += 1; }
                Step::Control => { outbound.push_control(ws::encode_pong(b"")); own += 1; }
                Step::Bite(taken) => bite(&mut outbound, &mut std::iter::once(taken), &mut out),
                Step::Recovered => outbound.count_on(),
                Step::Resuming(of) => resuming = of.map(topic).into_iter().collect(),
            }
            let relief = outbound.relieve(&bounds, Terms { resuming: &resuming, ..V1 });
            dropped += relief.dropped as usize;
            gaps += relief.gaps as usize;
            prop_assert_eq!(outbound.frames, outbound.data.iter().filter(|queued| !queued.is_empty()).count());
            prop_assert!(outbound.data.len() <= 2 * outbound.frames.max(EMPTY_MIN));
            for (key, newest) in relief.lost {
                prop_assert!(!resuming.contains(&key));
                lost_at.push((key.public_name(), newest.offset, out.len()));
            }
            if relief.evict.is_some() {
                // Nothing that could be dropped is left. The session would go; instead the socket takes all.
                let left = outbound.data.iter().any(|queued| queued.slow == SlowPolicy::DropOldest
                    && queued.message.as_ref().is_some_and(|m| m.message.position.is_none()));
                prop_assert!(!left);
                drain(&mut outbound, &mut std::iter::repeat(50), &mut out);
            }
            prop_assert!(outbound.bytes <= bytes && outbound.frames <= frames);
        }
        drain(&mut outbound, &mut std::iter::repeat(50), &mut out);
        prop_assert_eq!((outbound.bytes, outbound.frames), (0, 0));

        let seen = seen_at(&out);
        // What was dropped is told by a gap that was not on its way then: who resumes from an earlier one may do so too soon.
        for (topic, newest, written) in &lost_at {
            let told = seen.iter().any(|(start, frame)| start >= written
                && matches!(frame, Seen::Gap(of, before) if of == topic && before < newest));
            prop_assert!(told, "{topic}:{newest} was not told");
        }
        let mut got: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let mut told: BTreeMap<String, u64> = BTreeMap::new();
        let missed = |topic: &str, up_to: u64, got: &BTreeMap<String, BTreeSet<u64>>| -> Vec<u64> {
            let got = got.get(topic);
            pushed.iter()
                .filter(|p| format!("topic:{}", p.topic) == topic && p.offset < up_to)
                .filter(|p| p.slow == SlowPolicy::DropOldest && p.history)
                .map(|p| p.offset)
                .filter(|offset| !got.is_some_and(|got| got.contains(offset)))
                .collect()
        };
        let mut gaps_seen = 0;
        for (_, frame) in &seen {
            match frame {
                Seen::Message(topic, offset) => {
                    let newest = got.get(topic).and_then(|got| got.last().copied());
                    prop_assert!(newest < Some(*offset), "{topic}: {offset} behind {newest:?}");
                    for lost in missed(topic, *offset, &got) {
                        prop_assert!(told.get(topic).is_some_and(|gap| *gap < lost), "{topic}:{lost} was not told");
                    }
                    got.entry(topic.clone()).or_default().insert(*offset);
                }
                Seen::Gap(topic, offset) => {
                    gaps_seen += 1;
                    // The message behind it was dropped, and was of history.
                    prop_assert!(missed(topic, offset + 2, &got).contains(&(offset + 1)));
                    prop_assert!(told.get(topic).is_none_or(|before| before < offset));
                    // The earliest stands until the client resumes.
                    told.entry(topic.clone()).or_insert(*offset);
                }
                Seen::Own => own -= 1,
            }
        }
        prop_assert_eq!((own, gaps_seen), (0, gaps));
        let mut lost = 0;
        for p in &pushed {
            let topic = format!("topic:{}", p.topic);
            if got.get(&topic).is_some_and(|got| got.contains(&p.offset)) {
                continue;
            }
            lost += 1;
            match p.slow {
                SlowPolicy::Evict => prop_assert!(false, "{p:?} was lost"),
                SlowPolicy::DropOldest => {
                    prop_assert!(!p.history || told.get(&topic).is_some_and(|gap| *gap < p.offset), "{p:?} was not told");
                }
                SlowPolicy::Latest => {
                    let newer = pushed.iter().any(|newer| newer.topic == p.topic && newer.key == p.key
                        && newer.offset > p.offset && got[&topic].contains(&newer.offset));
                    prop_assert!(newer, "{p:?} has no newer one");
                }
            }
        }
        prop_assert_eq!(lost, dropped + conflated);
    }

    /// However the kernel takes the bytes, whole frames come out, data frames in their order.
    #[test]
    fn no_frame_is_torn_or_lost(frames in prop::collection::vec((any::<bool>(), 1usize..20), 1..60), bites in prop::collection::vec(1usize..30, 1..400)) {
        let mut outbound = Outbound::new(0);
        let mut out: Vec<u8> = Vec::new();
        let mut bites = bites.into_iter().cycle();
        for (number, (control, len)) in frames.iter().enumerate() {
            // A frame is its length, then its number so many times.
            let mut frame = vec![*len as u8];
            frame.extend(std::iter::repeat_n(number as u8, *len));
            if *control { outbound.push_control(frame.into()) } else { outbound.push(frame.into(), 0) }
            bite(&mut outbound, &mut bites, &mut out);
        }
        drain(&mut outbound, &mut bites, &mut out);
        prop_assert_eq!(outbound.bytes, 0);
        let mut seen = Vec::new();
        let mut rest = &out[..];
        while let Some((len, body)) = rest.split_first() {
            let (body, after) = body.split_at(usize::from(*len));
            prop_assert!(body.iter().all(|byte| *byte == body[0]));
            seen.push(usize::from(body[0]));
            rest = after;
        }
        prop_assert_eq!(seen.len(), frames.len());
        let data: Vec<_> = seen.into_iter().filter(|number| !frames[*number].0).collect();
        prop_assert!(data.is_sorted());
    }
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
