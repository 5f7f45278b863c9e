use proptest::prelude::*;

use super::super::{accepts_deflate, encode_deflated, encode_text};
use super::malformed::masked;
use super::{Parser, Seen, Violation, feed};

const LIMIT: usize = 1000;

fn parser() -> Parser {
    Parser::new(LIMIT).with_deflate(true)
}

/// The payload as a client sends it: compressed, without the tail.
fn deflated(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 1000);
    flate2::Compress::new(flate2::Compression::best(), false)
        .compress_vec(text, &mut out, flate2::FlushCompress::Sync)
        .unwrap();
    out.strip_suffix(&[0, 0, 0xFF, 0xFF]).unwrap().to_vec()
}

#[test]
fn examples_of_the_rfc() {
    // RFC 7692 section 7.2.3: one block, two frames, no compression, a final block, two blocks.
    let hello = vec![Seen::Text("Hello".into())];
    let cases: [&[&[u8]]; 5] = [
        &[&masked(0xC1, &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00])],
        &[
            &masked(0x41, &[0xF2, 0x48, 0xCD]),
            &masked(0x80, &[0xC9, 0xC9, 0x07, 0x00]),
        ],
        &[&masked(
            0xC1,
            &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
        )],
        &[&masked(0xC1, &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00])],
        &[&masked(
            0xC1,
            &[
                0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
            ],
        )],
    ];
    for frames in cases {
        assert_eq!(
            feed(&mut parser(), frames.iter().copied()),
            (hello.clone(), Ok(()))
        );
        let bytes = frames.concat();
        assert_eq!(feed(&mut parser(), bytes.chunks(1)), (hello.clone(), Ok(())));
    }
}

#[test]
fn messages_stand_for_themselves_and_plain_ones_stay_allowed() {
    let input = [
        masked(0xC1, &deflated(b"first first first")),
        masked(0x81, b"plain"),
        masked(0xC1, &deflated(b"first first first")),
        masked(0xC2, &deflated(&[7; 500])),
        masked(0xC1, &deflated(b"")),
    ]
    .concat();
    let first = Seen::Text("first first first".into());
    let expected = vec![
        first.clone(),
        Seen::Text("plain".into()),
        first,
        Seen::Binary(vec![7; 500]),
        Seen::Text(String::new()),
    ];
    assert_eq!(feed(&mut parser(), [&input[..]]), (expected, Ok(())));
}

#[test]
fn bad_input_has_its_code() {
    let bomb = deflated(&vec![b'a'; 64 * 1024 * 1024]);
    assert!(bomb.len() > 60_000, "{}", bomb.len());
    let just_too_much = deflated(&[b'a'; LIMIT + 1]);
    let just_fits = deflated(&[b'a'; LIMIT]);
    let mut torn = deflated(b"some text that is compressed");
    torn.truncate(torn.len() / 2);
    let cases: [(&str, Vec<u8>, Result<(), Violation>); 11] = [
        ("as much as fits", masked(0xC1, &just_fits), Ok(())),
        (
            "a little bomb",
            masked(0xC1, &just_too_much),
            Err(Violation::MessageTooBig),
        ),
        (
            "a bomb in fragments",
            [
                masked(0x41, &just_too_much[..3]),
                masked(0x80, &just_too_much[3..]),
            ]
            .concat(),
            Err(Violation::MessageTooBig),
        ),
        (
            "a bomb that is too long itself",
            masked(0xC1, &bomb),
            Err(Violation::MessageTooBig),
        ),
        (
            "no deflate",
            masked(0xC1, &[0xFF; 20]),
            Err(Violation::NotDeflated),
        ),
        (
            "a window that reaches before the start",
            masked(0xC1, &[0x4B, 0x04, 0x42, 0x00]),
            Err(Violation::NotDeflated),
        ),
        ("a torn stream", masked(0xC1, &torn), Err(Violation::NotDeflated)),
        (
            "not UTF-8 inside",
            masked(0xC1, &deflated(b"\xFF\xFE")),
            Err(Violation::NotUtf8),
        ),
        (
            "a compressed control frame",
            masked(0xC9, b""),
            Err(Violation::ReservedBits),
        ),
        (
            "RSV1 on a continuation",
            [masked(0x01, b"a"), masked(0xC0, b"b")].concat(),
            Err(Violation::ReservedBits),
        ),
        ("RSV2", masked(0xA1, b""), Err(Violation::ReservedBits)),
    ];
    for (name, bytes, expected) in cases {
        let mut whole = parser();
        let (_, result) = feed(&mut whole, [&bytes[..]]);
        assert_eq!(result, expected, "{name}");
        assert_eq!(whole.held_bytes(), 0, "{name}");
        assert_eq!(
            feed(&mut parser(), bytes.chunks(1)).1,
            expected,
            "{name}, byte by byte"
        );
    }
    let compressed = masked(0xC1, &just_fits);
    let (_, result) = feed(&mut Parser::new(LIMIT), [&compressed[..]]);
    assert_eq!(result, Err(Violation::ReservedBits), "not agreed");
}

#[test]
fn many_bombs_in_final_blocks_stop_at_the_limit() {
    // Each a final block, so that the next begins anew.
    let mut block = Vec::with_capacity(1000);
    flate2::Compress::new(flate2::Compression::best(), false)
        .compress_vec(&[b'a'; 100], &mut block, flate2::FlushCompress::Finish)
        .unwrap();
    let ten = masked(0xC1, &block.repeat(10));
    assert_eq!(
        feed(&mut parser(), [&ten[..]]),
        (vec![Seen::Text("a".repeat(1000))], Ok(()))
    );
    let eleven = masked(0xC1, &block.repeat(11));
    assert_eq!(
        feed(&mut parser(), [&eleven[..]]).1,
        Err(Violation::MessageTooBig)
    );
}

#[test]
fn offers_are_taken_only_when_they_can_be_kept() {
    for (offer, taken) in [
        ("permessage-deflate", true),
        ("permessage-deflate; client_max_window_bits", true),
        (
            "Permessage-Deflate;client_max_window_bits=9 ; server_no_context_takeover",
            true,
        ),
        ("permessage-deflate; server_max_window_bits=15", true),
        ("permessage-deflate; server_max_window_bits=\"15\"", true),
        ("permessage-deflate; server_max_window_bits=10", false),
        (
            "permessage-deflate; server_max_window_bits=10, permessage-deflate; client_max_window_bits",
            true,
        ),
        ("x-webkit-deflate-frame, permessage-deflate", true),
        ("permessage-deflate; server_max_window_bits", false),
        ("permessage-deflate; server_max_window_bits=16", false),
        ("permessage-deflate; client_max_window_bits=7", false),
        ("permessage-deflate; client_max_window_bits=08", false),
        ("permessage-deflate; client_max_window_bits=", false),
        ("permessage-deflate; server_no_context_takeover=1", false),
        (
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            false,
        ),
        ("permessage-deflate; unknown", false),
        ("permessage-bzip2", false),
        ("", false),
    ] {
        assert_eq!(accepts_deflate(offer), taken, "{offer}");
    }
}

proptest! {
    /// What the hub compresses, any client inflates to the same; what would not be smaller is not compressed.
    #[test]
    fn frames_come_back(text in "[ab]{0,400}|.{0,60}") {
        let plain = encode_text(&[&text]);
        if let Some(frame) = encode_deflated(text.as_bytes(), &plain) {
            prop_assert!(frame.len() < plain.len());
            prop_assert_eq!(frame[0], 0xC1);
            let body = if frame[1] < 126 { &frame[2..] } else { &frame[4..] };
            let (seen, result) = feed(&mut parser(), [&masked(0xC1, body)[..]]);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(seen, [Seen::Text(text)]);
        }
    }

    /// Any bytes as a compressed message: an event or a violation, never more than the limit, in any portions the same.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        let frame = masked(0xC2, &bytes);
        let whole = feed(&mut parser(), [&frame[..]]);
        if let [Seen::Binary(message)] = &whole.0[..] {
            prop_assert!(message.len() <= LIMIT);
        }
        prop_assert_eq!(feed(&mut parser(), frame.chunks(size)), whole);
    }
}
