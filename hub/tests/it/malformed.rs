//! What a WebSocket server must refuse: raw client bytes and the close code that has to answer them.
//!
//! Also the source for the parser's own unit tests, which include this file by path.

/// A masked client frame with the shortest length encoding. `first` is the first byte: FIN (0x80), RSV and opcode.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if payload.len() <= 125 {
        frame.push(0x80 | payload.len() as u8);
    } else if let Ok(short) = u16::try_from(payload.len()) {
        frame.push(0x80 | 126);
        frame.extend(short.to_be_bytes());
    } else {
        frame.push(0x80 | 127);
        frame.extend((payload.len() as u64).to_be_bytes());
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

/// Name, bytes to send, expected close code, for a server that takes messages of up to `max_message` bytes (which must
/// be at least 200).
pub(crate) fn malformed(max_message: usize) -> Vec<(&'static str, Vec<u8>, u16)> {
    let mut table = vec![
        ("unmasked text", vec![0x81, 0x02, b'h', b'i'], 1002),
        ("unmasked empty ping", vec![0x89, 0x00], 1002),
        ("unmasked close", vec![0x88, 0x02, 0x03, 0xE8], 1002),
        (
            "unmasked frame behind a good one",
            [masked(0x89, b"ok"), vec![0x81, 0x00]].concat(),
            1002,
        ),
        ("RSV1 without extension", masked(0xC1, b"x"), 1002),
        ("RSV2", masked(0xA1, b"x"), 1002),
        ("RSV3", masked(0x91, b"x"), 1002),
        ("all reserved bits on a ping", masked(0xF9, b""), 1002),
        (
            "RSV1 on a continuation",
            [masked(0x01, b"a"), masked(0xC0, b"b")].concat(),
            1002,
        ),
        ("ping of 126 bytes", masked(0x89, &[0; 126]), 1002),
        ("pong of 200 bytes", masked(0x8A, &[0; 200]), 1002),
        (
            "close of 126 bytes",
            masked(0x88, &[&[0x03, 0xE8], [b'x'; 124].as_slice()].concat()),
            1002,
        ),
        (
            "ping with a short length in 16 bits",
            with_length(0x89, 126, &5_u16.to_be_bytes(), b"hello"),
            1002,
        ),
        (
            "ping claiming a 64-bit length",
            with_length(0x89, 127, &5_u64.to_be_bytes(), b"hello"),
            1002,
        ),
        ("fragmented ping", masked(0x09, b"x"), 1002),
        ("fragmented pong", masked(0x0A, b"x"), 1002),
        ("fragmented close", masked(0x08, &1000_u16.to_be_bytes()), 1002),
        ("continuation without start", masked(0x80, b"x"), 1002),
        ("open continuation without start", masked(0x00, b"x"), 1002),
        (
            "continuation after the message's end",
            [masked(0x01, b"a"), masked(0x80, b"b"), masked(0x80, b"c")].concat(),
            1002,
        ),
        (
            "text while a text is open",
            [masked(0x01, b"a"), masked(0x81, b"b")].concat(),
            1002,
        ),
        (
            "binary while an empty text is open",
            [masked(0x01, b""), masked(0x82, b"b")].concat(),
            1002,
        ),
        (
            "new start while a binary is open",
            [masked(0x02, b"a"), masked(0x02, b"b")].concat(),
            1002,
        ),
        (
            "64-bit length with its top bit set",
            with_length(0x82, 127, &(1_u64 << 63 | 5).to_be_bytes(), b"hello"),
            1002,
        ),
        (
            "64-bit length of all ones",
            with_length(0x82, 127, &u64::MAX.to_be_bytes(), b""),
            1002,
        ),
        (
            "length 125 in 16 bits",
            with_length(0x82, 126, &125_u16.to_be_bytes(), &[0; 125]),
            1002,
        ),
        (
            "length 0 in 16 bits",
            with_length(0x82, 126, &0_u16.to_be_bytes(), b""),
            1002,
        ),
        (
            "length 200 in 64 bits",
            with_length(0x82, 127, &200_u64.to_be_bytes(), &[0; 200]),
            1002,
        ),
        (
            "length 65535 in 64 bits",
            with_length(0x82, 127, &65535_u64.to_be_bytes(), b""),
            1002,
        ),
        ("text with a lone continuation byte", masked(0x81, b"a\x80"), 1007),
        ("text with an overlong slash", masked(0x81, b"\xC0\xAF"), 1007),
        ("text with a surrogate", masked(0x81, b"\xED\xA0\x80"), 1007),
        ("text above U+10FFFF", masked(0x81, b"\xF4\x90\x80\x80"), 1007),
        (
            "text ending inside a character",
            masked(0x81, b"price \xE2\x82"),
            1007,
        ),
        (
            "last fragment ending inside a character",
            [masked(0x01, b"price \xE2"), masked(0x80, b"\x82")].concat(),
            1007,
        ),
        (
            "empty last fragment after half a character",
            [masked(0x01, b"\xF0\x9F"), masked(0x89, b""), masked(0x80, b"")].concat(),
            1007,
        ),
        (
            "character broken across fragments",
            [
                masked(0x01, b"\xE2\x82"),
                masked(0x00, b"\x41"),
                masked(0x80, b"z"),
            ]
            .concat(),
            1007,
        ),
        ("close with one byte", masked(0x88, &[0x03]), 1002),
        (
            "close with a reason that is not UTF-8",
            masked(0x88, b"\x03\xE8\xFF"),
            1007,
        ),
        (
            "close with a reason cut inside a character",
            masked(0x88, b"\x03\xE8caf\xC3"),
            1007,
        ),
        (
            "message over the limit",
            masked(0x82, &vec![0; max_message + 1]),
            1009,
        ),
        (
            "length over the limit, no payload sent",
            with_length(0x81, 127, &(1_u64 << 40).to_be_bytes(), b""),
            1009,
        ),
        (
            "largest length, no payload sent",
            with_length(0x82, 127, &(u64::MAX >> 1).to_be_bytes(), b""),
            1009,
        ),
        (
            "fragments over the limit together",
            [
                masked(0x02, &vec![0; max_message]),
                masked(0x00, b""),
                masked(0x80, b"x"),
            ]
            .concat(),
            1009,
        ),
        (
            "control frames do not reset the message's size",
            [
                masked(0x02, &vec![0; max_message - 1]),
                masked(0x8A, b"pong"),
                masked(0x00, b"xy"),
            ]
            .concat(),
            1009,
        ),
    ];
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        table.push(("reserved opcode", masked(0x80 | opcode, b"x"), 1002));
        table.push(("reserved opcode without FIN", masked(opcode, b""), 1002));
    }
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16,
    ] {
        table.push((
            "close code that must not be sent",
            masked(0x88, &code.to_be_bytes()),
            1002,
        ));
    }
    table
}

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A masked frame whose length is written as told, whether that is right or not.
fn with_length(first: u8, short: u8, long: &[u8], payload: &[u8]) -> Vec<u8> {
    let body = payload
        .iter()
        .zip(MASK.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    [first, 0x80 | short]
        .into_iter()
        .chain(long.iter().copied())
        .chain(MASK)
        .chain(body)
        .collect()
}
