//! The protocol's document says what the code does.

use common::protocol::{Close, MAX_ITEMS, SUBPROTOCOL};

const DOCUMENT: &str = include_str!("../../../docs/protocol.md");

#[test]
fn every_close_code_stands_in_the_document() {
    for close in Close::ALL {
        let row = DOCUMENT
            .lines()
            .find(|line| line.starts_with(&format!("| {} |", close.code())));
        let row = row.unwrap_or_else(|| panic!("{} is missing", close.code()));
        assert!(row.contains(close.text()), "{row}");
        let again = if close.reconnect() { "yes" } else { "no" };
        assert!(row.split('|').any(|cell| cell.trim().starts_with(again)), "{row}");
    }
    // And no other does.
    let codes = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.get(..4)?.parse::<u16>().ok());
    for code in codes {
        assert!(Close::ALL.iter().any(|close| close.code() == code), "{code}");
    }
}

#[test]
fn names_and_bounds_are_the_code_s() {
    assert!(DOCUMENT.contains(SUBPROTOCOL));
    assert!(DOCUMENT.contains(&format!("at most {MAX_ITEMS}")));
}

#[test]
fn every_example_is_json() {
    let mut examples = 0;
    for block in DOCUMENT.split("```json\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines() {
            let value = serde_json::from_str::<serde_json::Value>(line);
            assert!(value.is_ok_and(|value| value.is_object()), "{line}");
            examples += 1;
        }
    }
    assert!(examples > 20);
}
