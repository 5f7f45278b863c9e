//! What holds for every sequence of messages and writes.

use super::*;

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
