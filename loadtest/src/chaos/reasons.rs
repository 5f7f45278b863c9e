//! Why hubs told sessions to resync, by their own logs.

use std::collections::BTreeMap;

use serde_json::Value;

/// What the messages of the records that are looked for end with: `sessions are told to resync` of a topic's members, `a
/// session is told to resync` of one that resumes.
const MESSAGE: &str = "told to resync";

/// How often, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reasons {
    pub(crate) counts: BTreeMap<String, u64>,
    /// Topics with a reason, as their keys stand in the log.
    pub(crate) topics: std::collections::BTreeSet<String>,
}

impl Reasons {
    /// Reads a log in JSON, one record a line. A line that is none is something else's.
    pub(crate) fn read(&mut self, log: &str) {
        for line in log.lines().filter(|line| line.contains(MESSAGE)) {
            let Ok(record) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let field = |name: &str| {
                let fields = record.get("fields").unwrap_or(&record);
                fields.get(name).and_then(Value::as_str).map(str::to_owned)
            };
            let reason = field("reason").unwrap_or_else(|| "none given".to_owned());
            *self.counts.entry(reason).or_default() += 1;
            self.topics.extend(field("topic"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_other_records_left_alone() {
        let mut reasons = Reasons::default();
        reasons.read(
            r#"{"level":"INFO","fields":{"message":"sessions are told to resync","topic":"t:u:a","reason":"epoch_changed"}}
{"level":"DEBUG","message":"a session is told to resync","topic":"t:u:b"}
{"level":"INFO","fields":{"message":"this is a hub"}}
sessions are told to resync"#,
        );
        let counts: Vec<_> = reasons.counts.into_iter().collect();
        assert_eq!(
            counts,
            [("epoch_changed".to_owned(), 1), ("none given".to_owned(), 1)]
        );
        assert_eq!(reasons.topics.len(), 2);
    }
}
