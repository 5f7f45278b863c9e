use proptest::prelude::*;
use proptest::sample::Index;

use super::malformed::masked;
use super::{Parser, Seen, Violation, feed};

const LIMIT: usize = 4096;

/// A message with the places where it is cut into fragments and the control frames that go between them.
#[derive(Debug, Clone)]
struct Message {
    content: Seen,
    cuts: Vec<Index>,
    between: Vec<Seen>,
}

fn control() -> impl Strategy<Value = Seen> {
    let payload = || prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![payload().prop_map(Seen::Ping), payload().prop_map(Seen::Pong)]
}

fn message() -> impl Strategy<Value = Message> {
    let content = prop_oneof![
        "\\PC{0,200}".prop_map(Seen::Text),
        "[aé€😀]{0,300}".prop_map(Seen::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Seen::Binary),
        prop::collection::vec(any::<u8>(), 3900..=LIMIT).prop_map(Seen::Binary),
    ];
    (
        content,
        prop::collection::vec(any::<Index>(), 0..5),
        prop::collection::vec(control(), 0..4),
    )
        .prop_map(|(content, cuts, between)| Message {
            content,
            cuts,
            between,
        })
}

/// The frames of a message and, in order, what a parser must make of them.
fn encode(message: &Message, bytes: &mut Vec<u8>, expected: &mut Vec<Seen>) {
    let (opcode, payload) = match &message.content {
        Seen::Text(text) => (0x1, text.as_bytes()),
        Seen::Binary(bytes) => (0x2, bytes.as_slice()),
        other => panic!("{other:?} is not a message"),
    };
    let fragments = cut(payload, &message.cuts);
    let mut controls = message.between.iter();
    for (i, fragment) in fragments.iter().enumerate() {
        let fin = if i + 1 == fragments.len() { 0x80 } else { 0 };
        bytes.extend(masked(fin | if i == 0 { opcode } else { 0 }, fragment));
        if fin == 0
            && let Some(control) = controls.next()
        {
            bytes.extend(control_frame(control));
            expected.push(control.clone());
        }
    }
    expected.push(message.content.clone());
    for control in controls {
        bytes.extend(control_frame(control));
        expected.push(control.clone());
    }
}

fn control_frame(control: &Seen) -> Vec<u8> {
    match control {
        Seen::Ping(payload) => masked(0x89, payload),
        Seen::Pong(payload) => masked(0x8A, payload),
        other => panic!("{other:?} is not a control frame"),
    }
}

/// Cuts at the given places; equal places give empty portions.
fn cut<'a>(bytes: &'a [u8], places: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut portions = Vec::new();
    let mut start = 0;
    for place in places {
        portions.push(&bytes[start..place]);
        start = place;
    }
    portions.push(&bytes[start..]);
    portions
}

/// Bytes that look like frames often enough to get deep into the parser.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let frame = prop_oneof![
        4 => (any::<bool>(), 0_u8..3, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(fin, opcode, payload)| masked(u8::from(fin) << 7 | opcode, &payload)),
        3 => (8_u8..11, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(opcode, payload)| masked(0x80 | opcode, &payload)),
        2 => (any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(first, payload)| masked(first, &payload)),
        1 => prop::collection::vec(any::<u8>(), 0..30),
    ];
    prop::collection::vec(frame, 0..8).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn valid_streams_give_their_messages_however_they_are_read(
        messages in prop::collection::vec(message(), 1..6),
        reads in prop::collection::vec(any::<Index>(), 0..40),
        closes in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for message in &messages {
            encode(message, &mut bytes, &mut expected);
        }
        if closes {
            bytes.extend(masked(0x88, b"\x0F\xA8slow consumer"));
            expected.push(Seen::Close(Some(4008), "slow consumer".into()));
        }
        let mut parser = Parser::new(LIMIT);
        let (events, result) = feed(&mut parser, cut(&bytes, &reads));
        prop_assert_eq!(result, Ok(()));
        prop_assert_eq!(events, expected);
        prop_assert_eq!(parser.held_bytes(), 0);
    }

    #[test]
    fn reads_do_not_change_the_result(
        bytes in prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..300)],
        reads in prop::collection::vec(any::<Index>(), 0..20),
        limit in prop_oneof![Just(0), 0_usize..200, Just(LIMIT)],
    ) {
        let whole = feed(&mut Parser::new(limit), [bytes.as_slice()]);
        prop_assert_eq!(&feed(&mut Parser::new(limit), cut(&bytes, &reads)), &whole);
        prop_assert_eq!(&feed(&mut Parser::new(limit), bytes.chunks(1)), &whole);
    }

    #[test]
    fn memory_is_bounded_by_the_limit_and_one_control_frame(
        bytes in hostile(),
        size in 1_usize..20,
        limit in 0_usize..200,
    ) {
        let mut parser = Parser::new(limit);
        for portion in bytes.chunks(size) {
            let result = feed(&mut parser, [portion]).1;
            prop_assert!(parser.held_bytes() <= limit + 125);
            if result.is_err() {
                prop_assert_eq!(parser.held_bytes(), 0);
            }
        }
    }

    #[test]
    fn text_is_accepted_exactly_if_it_is_utf8(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..8),
            // Valid text with its end cut off, mostly inside a character.
            ("[é€😀]{1,3}", any::<Index>()).prop_map(|(text, end)| text.as_bytes()[..end.index(text.len())].to_vec()),
        ],
        cuts in prop::collection::vec(any::<Index>(), 0..4),
    ) {
        let fragments = cut(&payload, &cuts);
        let last = fragments.len() - 1;
        let bytes: Vec<u8> = fragments
            .iter()
            .enumerate()
            .flat_map(|(i, fragment)| masked(u8::from(i == last) << 7 | u8::from(i == 0), fragment))
            .collect();
        let expected = match String::from_utf8(payload) {
            Ok(text) => (vec![Seen::Text(text)], Ok(())),
            Err(_) => (vec![], Err(Violation::NotUtf8)),
        };
        prop_assert_eq!(feed(&mut Parser::new(LIMIT), [bytes.as_slice()]), expected);
    }
}
