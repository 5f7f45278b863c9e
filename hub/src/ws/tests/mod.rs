//! `rules` goes through the RFC's rules one by one, `memory` through what a session may cost, `properties` through
//! random streams, `encode` through what the hub sends.

mod deflate;
mod encode;
mod memory;
mod properties;
mod rules;

#[path = "../../../tests/it/malformed.rs"]
mod malformed;

use super::{Event, Parser, Violation};

/// An [`Event`] that can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_owned()),
            Event::Ping(bytes) => Self::Ping(bytes.to_owned()),
            Event::Pong(bytes) => Self::Pong(bytes.to_owned()),
            Event::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// Feeds the portions in order until one fails; every event, and the last result.
fn feed<'a>(
    parser: &mut Parser,
    portions: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Result<(), Violation>) {
    let mut events = Vec::new();
    for portion in portions {
        let result = parser.feed(&mut portion.to_vec(), |event| events.push(event.into()));
        if result.is_err() {
            return (events, result);
        }
    }
    (events, Ok(()))
}

/// Feeds everything at once to a new parser with a limit of 1000 bytes.
fn parse(input: &[u8]) -> (Vec<Seen>, Result<(), Violation>) {
    feed(&mut Parser::new(1000), [input])
}
