//! What a client's text frame can make the hub do: one object is one command, within the limits, or an error with a
//! code and a short text.
#![no_main]

use common::protocol::{Command, CommandError, MAX_ITEMS, ReadWhat};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let command = match Command::parse(text) {
        Ok(command) => command,
        Err(error) => {
            assert!(matches!(
                error.code(),
                "malformed" | "unknown_command" | "invalid_field"
            ));
            // It is sent back: what the client sent must not come back at length.
            assert!(error.to_string().len() <= 250);
            if matches!(error, CommandError::Malformed) {
                assert!(text != "ping");
            }
            return;
        }
    };
    if command == Command::TextPing {
        assert_eq!(text, "ping");
        return;
    }

    let fields = match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("{command:?} came from what is no object: {other:?}"),
    };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    let (expected, items) = match &command {
        Command::TextPing => unreachable!(),
        Command::Ping => ("ping", 0),
        Command::Subscribe(_) => ("subscribe", 0),
        Command::Unsubscribe(_) => ("unsubscribe", 0),
        Command::Resume(positions) => ("resume", positions.len()),
        Command::Ack(ids) => ("ack", ids.len()),
        Command::Read(ReadWhat::Ids(ids)) => ("read", ids.len()),
        Command::Read(ReadWhat::All) => ("read", 0),
        Command::Refresh(_) => ("refresh", 0),
    };
    assert_eq!(kind, expected);
    assert!(items <= MAX_ITEMS);
    if let Command::Subscribe(name) | Command::Unsubscribe(name) = &command {
        assert!((1..=256).contains(&name.as_str().len()));
    }
});
