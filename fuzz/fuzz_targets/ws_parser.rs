//! Any bytes, in any reads: no panic, the same events, bounded memory, and a code for every violation.
#![no_main]

use hub::ws::{Event, MAX_CONTROL_PAYLOAD, Parser, Violation};
use libfuzzer_sys::fuzz_target;

/// Reaches the 16-bit lengths; small enough that the fuzzer also finds the limit.
const LIMIT: usize = 300;

/// The events in a form that can be compared: kind, code, payload.
type Events = Vec<(u8, Option<u16>, Vec<u8>)>;

fn feed<'a>(portions: impl Iterator<Item = &'a [u8]>, deflate: bool) -> (Events, Result<(), Violation>) {
    let mut parser = Parser::new(LIMIT).with_deflate(deflate);
    let mut events = Events::new();
    for portion in portions {
        let result = parser.feed(&mut portion.to_vec(), |event| {
            events.push(match event {
                Event::Text(text) => (0, None, text.as_bytes().to_vec()),
                Event::Binary(bytes) => (1, None, bytes.to_vec()),
                Event::Ping(bytes) => (2, None, bytes.to_vec()),
                Event::Pong(bytes) => (3, None, bytes.to_vec()),
                Event::Close { code, reason } => (4, code, reason.as_bytes().to_vec()),
            });
        });
        assert!(parser.held_bytes() <= LIMIT + MAX_CONTROL_PAYLOAD);
        if result.is_err() {
            assert_eq!(parser.held_bytes(), 0);
            return (events, result);
        }
    }
    (events, Ok(()))
}

fuzz_target!(|data: &[u8]| {
    // The first byte chooses how the rest is read, and whether permessage-deflate was agreed.
    let Some((&size, bytes)) = data.split_first() else {
        return;
    };
    let deflate = size & 1 == 1;
    let whole = feed(std::iter::once(bytes), deflate);
    assert_eq!(feed(bytes.chunks(usize::from(size / 2).max(1)), deflate), whole);
    assert_eq!(feed(bytes.chunks(1), deflate), whole);

    let (events, result) = whole;
    if let Err(violation) = result {
        assert!(matches!(violation.code(), 1002 | 1007 | 1009));
    }
    for (kind, _, payload) in &events {
        assert!(payload.len() <= if *kind < 2 { LIMIT } else { MAX_CONTROL_PAYLOAD });
    }
    let closes = events.iter().filter(|(kind, ..)| *kind == 4).count();
    assert!(closes <= 1 && (closes == 0 || result.is_ok()));
});
