use super::malformed::{malformed, masked};
use super::{Parser, Seen, Violation, feed, parse};

const LIMIT: usize = 1000;

#[test]
fn every_malformed_input_has_its_code_whole_and_byte_by_byte() {
    for (name, bytes, code) in malformed(LIMIT) {
        let (_, whole) = feed(&mut Parser::new(LIMIT), [bytes.as_slice()]);
        assert_eq!(whole.map_err(Violation::code), Err(code), "{name}");
        let (_, split) = feed(&mut Parser::new(LIMIT), bytes.chunks(1));
        assert_eq!(split, whole, "{name}, byte by byte");
    }
}

#[test]
fn each_rule_is_named_by_its_violation() {
    let cases: [(&[&[u8]], Violation); 13] = [
        (&[&[0x81, 0x00]], Violation::Unmasked),
        (&[&[0xC1]], Violation::ReservedBits),
        (&[&[0x83]], Violation::ReservedOpcode),
        (&[&[0x09]], Violation::ControlFragmented),
        (&[&[0x89, 0xFE]], Violation::ControlTooLong),
        (&[&[0x80]], Violation::UnexpectedContinuation),
        (&[&masked(0x01, b"a"), &[0x81]], Violation::MessageInterrupted),
        (
            &[&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]],
            Violation::LengthTopBit,
        ),
        (&[&[0x82, 0xFE, 0, 125]], Violation::LengthNotMinimal),
        (&[&[0x88, 0x81]], Violation::CloseTruncated),
        (&[&masked(0x88, &1005_u16.to_be_bytes())], Violation::CloseCode),
        (&[&masked(0x81, b"\xFF")], Violation::NotUtf8),
        (&[&[0x82, 0xFE, 0x03, 0xE9]], Violation::MessageTooBig),
    ];
    for (portions, violation) in cases {
        let (events, result) = feed(&mut Parser::new(LIMIT), portions.iter().copied());
        assert_eq!((events, result), (vec![], Err(violation)));
        assert!(violation.reason().len() <= 123);
        assert_eq!(violation.to_string(), violation.reason());
    }
}

#[test]
fn whole_frames_of_every_kind() {
    let input = [
        masked(0x81, "price 5 €".as_bytes()),
        masked(0x82, &[0, 255]),
        masked(0x89, b"are you there"),
        masked(0x8A, b""),
        masked(0x81, b""),
        masked(0x88, b"\x03\xE8bye"),
    ]
    .concat();
    let expected = vec![
        Seen::Text("price 5 €".into()),
        Seen::Binary(vec![0, 255]),
        Seen::Ping(b"are you there".into()),
        Seen::Pong(vec![]),
        Seen::Text(String::new()),
        Seen::Close(Some(1000), "bye".into()),
    ];
    assert_eq!(parse(&input), (expected, Ok(())));
}

#[test]
fn a_whole_frame_is_handed_out_in_place() {
    let mut input = masked(0x81, b"in place");
    let range = input.as_ptr_range();
    let mut inside = false;
    Parser::new(LIMIT)
        .feed(&mut input, |event| {
            let super::Event::Text(text) = event else {
                panic!("not a text")
            };
            inside = range.contains(&text.as_ptr());
        })
        .unwrap();
    assert!(inside);
}

#[test]
fn lengths_at_the_borders_of_their_encodings() {
    for len in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let frame = masked(0x82, &payload);
        let expected = (vec![Seen::Binary(payload)], Ok(()));
        assert_eq!(
            feed(&mut Parser::new(70000), [frame.as_slice()]),
            expected,
            "{len}"
        );
        assert_eq!(
            feed(&mut Parser::new(70000), frame.chunks(7)),
            expected,
            "{len} in pieces"
        );
    }
}

#[test]
fn control_frames_between_and_inside_fragments() {
    let input = [
        masked(0x01, b"\xE2\x82"),
        masked(0x89, b"one"),
        masked(0x00, b""),
        masked(0x00, b"\xAC"),
        masked(0x8A, b"two"),
        masked(0x80, b"!"),
        masked(0x02, b""),
        masked(0x80, b""),
    ]
    .concat();
    let expected = vec![
        Seen::Ping(b"one".into()),
        Seen::Pong(b"two".into()),
        Seen::Text("€!".into()),
        Seen::Binary(vec![]),
    ];
    for size in 1..input.len() {
        assert_eq!(
            feed(&mut Parser::new(LIMIT), input.chunks(size)),
            (expected.clone(), Ok(())),
            "{size}"
        );
    }
}

#[test]
fn the_limit_itself_is_allowed_and_the_next_message_starts_from_nothing() {
    let message = [masked(0x02, &[1; 600]), masked(0x80, &[1; 400])].concat();
    let (events, result) = parse(&message.repeat(3));
    assert_eq!((events.len(), result), (3, Ok(())));
}

#[test]
fn a_claimed_length_is_refused_before_its_payload_and_mask() {
    let header = [&[0x82, 0xFE][..], &1001_u16.to_be_bytes()].concat();
    assert_eq!(parse(&header).1, Err(Violation::MessageTooBig));
    assert_eq!(
        parse(&[&masked(0x02, &[0; 900])[..], &[0x00, 0x80 | 101]].concat()).1,
        Err(Violation::MessageTooBig)
    );
    assert_eq!(
        feed(&mut Parser::new(0), [&[0x81, 0x81][..]]).1,
        Err(Violation::MessageTooBig)
    );
}

#[test]
fn close_codes_that_may_be_sent() {
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999_u16,
    ] {
        let (events, result) = parse(&masked(0x88, &code.to_be_bytes()));
        assert_eq!(
            (events, result),
            (vec![Seen::Close(Some(code), String::new())], Ok(()))
        );
    }
    let longest = "é".repeat(61) + "!";
    let frame = masked(0x88, &[&[0x0F, 0xA0], longest.as_bytes()].concat());
    assert_eq!(parse(&frame).0, [Seen::Close(Some(4000), longest)]);
    assert_eq!(parse(&masked(0x88, b"")).0, [Seen::Close(None, String::new())]);
}

#[test]
fn nothing_is_parsed_after_a_close() {
    let mut parser = Parser::new(LIMIT);
    let input = [masked(0x88, b""), masked(0x81, b"late"), vec![0xFF]].concat();
    assert_eq!(
        feed(&mut parser, [input.as_slice(), &[0xFF]]),
        (vec![Seen::Close(None, String::new())], Ok(()))
    );
}

#[test]
fn nothing_is_parsed_after_a_violation() {
    let mut parser = Parser::new(LIMIT);
    let good = masked(0x81, b"good");
    let (events, result) = feed(
        &mut parser,
        [[good.as_slice(), &[0xFF], &good].concat().as_slice()],
    );
    assert_eq!(
        (events, result),
        (vec![Seen::Text("good".into())], Err(Violation::ReservedBits))
    );
    assert_eq!(
        feed(&mut parser, [good.as_slice()]),
        (vec![], Err(Violation::ReservedBits))
    );
}
