//! What Redis answers, as it came: nothing in a stream that others wrote can make an answer unreadable.

use fred::types::Value;

use super::entry;
use crate::receipts::Receipt;

/// The id of an entry: `<milliseconds>-<number>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::receipts) struct EntryId(String);

impl EntryId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// When it was written by the server's clock, Unix milliseconds.
    pub(super) fn millis(&self) -> i64 {
        self.0
            .split_once('-')
            .and_then(|(millis, _)| millis.parse().ok())
            .unwrap_or_default()
    }
}

/// An entry that was handed to this dispatcher.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) receipts: Vec<Receipt>,
    pub(super) poisoned: usize,
}

/// What XAUTOCLAIM answers.
#[derive(Debug, Default)]
pub(super) struct Claimed {
    /// Where to go on; none at the end.
    pub(super) next: Option<String>,
    pub(super) entries: Vec<Entry>,
    /// Entries that were handed out and are not in the stream any more.
    pub(super) gone: usize,
}

/// The entries in an answer of XREADGROUP for one stream.
pub(super) fn read(answer: Value) -> Vec<Entry> {
    let stream = list(answer).into_iter().next().map(list).unwrap_or_default();
    stream.into_iter().nth(1).map(entries).unwrap_or_default()
}

/// The answer of XAUTOCLAIM.
pub(super) fn claimed(answer: Value) -> Claimed {
    let mut parts = list(answer).into_iter();
    let next = parts.next().as_ref().and_then(text);
    Claimed {
        next: next.filter(|id| id != "0-0"),
        entries: parts.next().map(entries).unwrap_or_default(),
        gone: parts.next().map(list).unwrap_or_default().len(),
    }
}

/// Entries as XRANGE answers them.
pub(super) fn entries(answer: Value) -> Vec<Entry> {
    list(answer).into_iter().filter_map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = list(value).into_iter();
    let id = EntryId(parts.next().as_ref().and_then(text)?);
    let fields = parts.next().map(list).unwrap_or_default();
    let field = |name: &str| {
        let named = |pair: &&[Value]| pair[0].as_bytes() == Some(name.as_bytes());
        let pair = fields.chunks_exact(2).find(named)?;
        pair[1].as_bytes()
    };
    let (version, lines) = entry::FIELDS;
    let read = entry::read(
        field(version).unwrap_or_default(),
        field(lines).unwrap_or_default(),
    );
    Some(Entry {
        id,
        receipts: read.receipts,
        poisoned: read.poisoned,
    })
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> Option<String> {
    value
        .as_bytes()
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Value {
        Value::Array(words.iter().map(|word| Value::from(*word)).collect())
    }

    fn stored(id: &str, fields: &[&str]) -> Value {
        Value::Array(vec![id.into(), words(fields)])
    }

    #[test]
    fn answers_are_read_whatever_entries_hold() {
        let line = serde_json::to_string(&entry::example("u1")).unwrap();
        let all = Value::Array(vec![
            stored("5-0", &["v", "1", "r", &line]),
            stored("6-0", &["v", "9", "r", &line]),
            stored("7-0", &["something", "else"]),
            stored("8-0", &["odd"]),
            stored("9-0", &["r", &line, "v", "1"]),
        ]);
        let read = read(Value::Array(vec![Value::Array(vec!["key".into(), all])]));
        let counts: Vec<_> = read
            .iter()
            .map(|entry| (entry.id.millis(), entry.receipts.len(), entry.poisoned))
            .collect();
        assert_eq!(counts, [(5, 1, 0), (6, 0, 1), (7, 0, 1), (8, 0, 1), (9, 1, 0)]);
    }

    #[test]
    fn an_answer_without_entries_is_empty() {
        for empty in [Value::Null, Value::Array(Vec::new()), "?".into(), 7.into()] {
            assert!(read(empty.clone()).is_empty());
            assert!(entries(empty).is_empty());
        }
    }

    #[test]
    fn a_claim_says_where_to_go_on() {
        let answer = |next: &str| {
            let entries = Value::Array(vec![stored("5-0", &["v", "1", "r", "{}"])]);
            claimed(Value::Array(vec![next.into(), entries, words(&["3-0", "4-0"])]))
        };
        let first = answer("6-0");
        assert_eq!(
            (first.next.as_deref(), first.entries.len(), first.gone),
            (Some("6-0"), 1, 2)
        );
        assert_eq!(answer("0-0").next, None);
    }
}
