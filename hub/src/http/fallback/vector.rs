//! Where a session stands in all of its topics, kept by who hands its frames on: what a client comes back with.

use std::collections::{BTreeMap, BTreeSet};

use common::message::Position;
use serde::Deserialize;

/// What a frame was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// The session is in place.
    Welcome,
    /// An explicit topic, by its public name, is confirmed.
    Subscribed(String),
    /// The positions of the request are answered.
    Recovered,
    /// The heartbeat.
    Pong,
    /// The token ends soon.
    Expiring,
    /// A command was not carried out, by its code.
    Error(String),
    /// What the client wants to know: messages, and what became of topics.
    News,
}

/// The newest position of each topic up to which all has been handed on.
#[derive(Debug, Default)]
pub(super) struct Vector {
    at: BTreeMap<String, String>,
    /// Topics whose resume is not answered: their positions move with their replay only.
    resuming: BTreeSet<String>,
    /// Where those stood when the session joined: from there they go on if they cannot be replayed.
    joined: BTreeMap<String, String>,
    /// Topics of which something was dropped, as `gap` said: they stay where that says until the client comes back.
    gaps: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    topic: Option<String>,
    #[serde(default)]
    position: Option<String>,
    #[serde(default)]
    positions: BTreeMap<String, String>,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    code: Option<String>,
}

impl Vector {
    /// Of a session that resumes these.
    pub(super) fn resuming(positions: BTreeMap<String, String>) -> Self {
        Self {
            resuming: positions.keys().cloned().collect(),
            at: positions,
            joined: BTreeMap::new(),
            gaps: BTreeSet::new(),
        }
    }

    /// Takes a frame of the session into account; what it was, and whether it moved a position.
    pub(super) fn take(&mut self, frame: &[u8]) -> (Seen, bool) {
        let kind = kind(frame);
        if !matches!(
            kind,
            b"welcome"
                | b"subscribed"
                | b"unsubscribed"
                | b"recovered"
                | b"resync"
                | b"gap"
                | b"pong"
                | b"error"
        ) {
            let seen = if kind == b"expiring" {
                Seen::Expiring
            } else {
                Seen::News
            };
            return (seen, self.handed_on(frame));
        }
        let Ok(told) = serde_json::from_slice::<Told>(frame) else {
            return (Seen::News, false);
        };
        let topic = told.topic.unwrap_or_default();
        match kind {
            b"welcome" => {
                let moved = told.positions.into_iter();
                (
                    Seen::Welcome,
                    moved.fold(false, |moved, (topic, at)| self.joined(topic, at) || moved),
                )
            }
            b"subscribed" => {
                let moved = self.joined(topic.clone(), told.position.unwrap_or_default());
                (Seen::Subscribed(topic), moved)
            }
            b"gap" => {
                // The first one counts: a later one lies behind it.
                let moved = self.put(topic.clone(), told.position.unwrap_or_default());
                self.gaps.insert(topic);
                (Seen::News, moved)
            }
            b"unsubscribed" => {
                self.resuming.remove(&topic);
                self.gaps.remove(&topic);
                (Seen::News, self.at.remove(&topic).is_some())
            }
            b"recovered" => {
                let mut moved = false;
                for (topic, at) in told.positions {
                    self.resuming.remove(&topic);
                    moved |= self.advance(topic, at);
                }
                // Nothing stays open behind the answer.
                for topic in std::mem::take(&mut self.resuming) {
                    moved |= self.give_up(&topic);
                }
                self.joined.clear();
                (Seen::Recovered, moved)
            }
            b"resync" => {
                let mut moved = false;
                for topic in told.topics {
                    moved |= self.resuming.remove(&topic) && self.give_up(&topic);
                }
                (Seen::News, moved)
            }
            b"pong" => {
                let mut moved = false;
                for (topic, at) in told.positions {
                    moved |= !self.resuming.contains(&topic) && self.put(topic, at);
                }
                (Seen::Pong, moved)
            }
            _ => (Seen::Error(told.code.unwrap_or_default()), false),
        }
    }

    /// The session is a member of a topic that stands there.
    fn joined(&mut self, topic: String, at: String) -> bool {
        if self.resuming.contains(&topic) {
            self.joined.insert(topic, at);
            return false;
        }
        self.put(topic, at)
    }

    /// A resumed topic cannot be replayed: it goes on where it stood, or is none of the session's.
    fn give_up(&mut self, topic: &str) -> bool {
        match self.joined.remove(topic) {
            Some(at) => self.put(topic.to_owned(), at),
            None => self.at.remove(topic).is_some(),
        }
    }

    /// A resumed topic has come to there, and perhaps already further.
    fn advance(&mut self, topic: String, to: String) -> bool {
        let parsed = |text: &str| text.parse::<Position>().ok();
        let is_further = match (self.at.get(&topic).and_then(|at| parsed(at)), parsed(&to)) {
            (Some(at), Some(to)) => at.epoch == to.epoch && at.offset < to.offset,
            _ => true,
        };
        is_further && self.put(topic, to)
    }

    fn put(&mut self, topic: String, at: String) -> bool {
        if self.gaps.contains(&topic) || self.at.get(&topic) == Some(&at) {
            return false;
        }
        self.at.insert(topic, at);
        true
    }

    /// A message with history stands where its last two fields say.
    fn handed_on(&mut self, frame: &[u8]) -> bool {
        stands(frame).is_some_and(|(topic, at)| self.put(topic, at))
    }

    /// The positions as one line of JSON in ASCII, which may stand in a header.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        line.push(b'{');
        for (number, (topic, at)) in self.at.iter().enumerate() {
            if number > 0 {
                line.push(b',');
            }
            write_ascii(topic, line);
            line.push(b':');
            write_ascii(at, line);
        }
        line.push(b'}');
    }
}

/// The frame's type, which every frame begins with.
fn kind(frame: &[u8]) -> &[u8] {
    let rest = frame.strip_prefix(b"{\"type\":\"").unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == b'"').unwrap_or_default();
    &rest[..end]
}

/// Topic and position of a message: the last fields of its frame, which are written by the hub, so that the data before
/// them need not be parsed.
fn stands(frame: &[u8]) -> Option<(String, String)> {
    const POSITION: &[u8] = b",\"position\":\"";
    const TOPIC: &[u8] = b"\"topic\":";
    let find_last = |text: &[u8], part: &[u8]| text.windows(part.len()).rposition(|window| window == part);
    let text = frame.strip_suffix(b"\"}")?;
    let at = find_last(text, POSITION)?;
    // What is no position stands in the data of a message that has none.
    let position = std::str::from_utf8(&text[at + POSITION.len()..]).ok()?;
    position.parse::<Position>().ok()?;
    let topic = find_last(&text[..at], TOPIC)? + TOPIC.len();
    Some((
        serde_json::from_slice(&text[topic..at]).ok()?,
        position.to_owned(),
    ))
}

/// A JSON text in ASCII.
fn write_ascii(text: &str, line: &mut Vec<u8>) {
    // A text always serialises.
    let json = serde_json::to_string(text).unwrap_or_default();
    for c in json.chars() {
        if c.is_ascii() {
            line.push(c as u8);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                line.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(vector: &Vector) -> String {
        let mut line = Vec::new();
        vector.write(&mut line);
        String::from_utf8(line).unwrap()
    }

    fn vector(positions: &[(&str, &str)]) -> Vector {
        let owned = |(topic, at): &(&str, &str)| ((*topic).to_owned(), (*at).to_owned());
        Vector::resuming(positions.iter().map(owned).collect())
    }

    /// Takes frames one after the other and compares the vector after each.
    fn check(mut vector: Vector, steps: &[(&str, &str)]) {
        for (frame, after) in steps {
            let before = text(&vector);
            let (_, moved) = vector.take(frame.as_bytes());
            assert_eq!(text(&vector), *after, "{frame}");
            assert_eq!(moved, before != *after, "{frame}");
        }
    }

    #[test]
    fn a_topic_with_a_gap_stays_there() {
        let two = r#"{"topic:a":"a:2:00000002"}"#;
        check(
            Vector::default(),
            &[
                (
                    r#"{"type":"subscribed","topic":"topic:a","position":"a:1:00000001"}"#,
                    r#"{"topic:a":"a:1:00000001"}"#,
                ),
                (
                    r#"{"type":"gap","topic":"topic:a","position":"a:2:00000002"}"#,
                    two,
                ),
                (
                    r#"{"type":"message","data":9,"topic":"topic:a","position":"a:9:00000009"}"#,
                    two,
                ),
                (r#"{"type":"pong","positions":{"topic:a":"a:9:00000009"}}"#, two),
                // What was dropped first is still to be had, whatever is dropped behind it.
                (
                    r#"{"type":"gap","topic":"topic:a","position":"a:7:00000007"}"#,
                    two,
                ),
                (
                    r#"{"type":"message","data":1,"topic":"user","position":"a:1:00000001"}"#,
                    r#"{"topic:a":"a:2:00000002","user":"a:1:00000001"}"#,
                ),
            ],
        );
    }

    #[test]
    fn a_new_session_begins_where_it_is_welcomed() {
        let welcome =
            r#"{"type":"welcome","session":"s","positions":{"tenant":"a:7:00000007","user":"a:0:00000000"}}"#;
        check(
            Vector::default(),
            &[
                (welcome, r#"{"tenant":"a:7:00000007","user":"a:0:00000000"}"#),
                (
                    r#"{"type":"subscribed","topic":"topic:ä😀","position":"a:2:00000002"}"#,
                    r#"{"tenant":"a:7:00000007","topic:\u00e4\ud83d\ude00":"a:2:00000002","user":"a:0:00000000"}"#,
                ),
                (
                    r#"{"type":"message","data":1,"topic":"user","position":"a:1:00000001"}"#,
                    r#"{"tenant":"a:7:00000007","topic:\u00e4\ud83d\ude00":"a:2:00000002","user":"a:1:00000001"}"#,
                ),
                (
                    r#"{"type":"pong","positions":{"tenant":"a:9:00000009"}}"#,
                    r#"{"tenant":"a:9:00000009","topic:\u00e4\ud83d\ude00":"a:2:00000002","user":"a:1:00000001"}"#,
                ),
                (
                    r#"{"type":"unsubscribed","topic":"topic:ä😀"}"#,
                    r#"{"tenant":"a:9:00000009","user":"a:1:00000001"}"#,
                ),
            ],
        );
    }

    #[test]
    fn a_resumed_topic_moves_with_its_replay_only() {
        let welcome = r#"{"type":"welcome","positions":{"user":"a:7:00000007"}}"#;
        let message =
            |offset: u32| format!(r#"{{"type":"m","topic":"user","position":"a:{offset}:0000000{offset}"}}"#);
        check(
            vector(&[("user", "a:5:00000005")]),
            &[
                (welcome, r#"{"user":"a:5:00000005"}"#),
                (&message(6), r#"{"user":"a:6:00000006"}"#),
                (&message(8), r#"{"user":"a:8:00000008"}"#),
                // Told by the end of the replay, behind which a live message came first.
                (
                    r#"{"type":"recovered","positions":{"user":"a:7:00000007"},"count":1}"#,
                    r#"{"user":"a:8:00000008"}"#,
                ),
            ],
        );
        // The rest of the replay was filtered out.
        check(
            vector(&[("user", "a:5:00000005")]),
            &[
                (welcome, r#"{"user":"a:5:00000005"}"#),
                (
                    r#"{"type":"recovered","positions":{"user":"a:7:00000007"},"count":0}"#,
                    r#"{"user":"a:7:00000007"}"#,
                ),
            ],
        );
    }

    #[test]
    fn a_lost_topic_goes_on_where_it_was_joined_or_goes() {
        check(
            vector(&[("user", "b:5:00000005"), ("role:x", "a:1:00000001")]),
            &[
                (
                    r#"{"type":"welcome","positions":{"user":"a:7:00000007"}}"#,
                    r#"{"role:x":"a:1:00000001","user":"b:5:00000005"}"#,
                ),
                (
                    r#"{"type":"resync","topics":["user"]}"#,
                    r#"{"role:x":"a:1:00000001","user":"a:7:00000007"}"#,
                ),
                (
                    r#"{"type":"m","topic":"user","position":"a:8:00000008"}"#,
                    r#"{"role:x":"a:1:00000001","user":"a:8:00000008"}"#,
                ),
                // Later, unasked: it is told, and moves nothing.
                (
                    r#"{"type":"resync","topics":["user"]}"#,
                    r#"{"role:x":"a:1:00000001","user":"a:8:00000008"}"#,
                ),
                (
                    r#"{"type":"recovered","positions":{},"count":0}"#,
                    r#"{"user":"a:8:00000008"}"#,
                ),
            ],
        );
    }

    #[test]
    fn only_the_hubs_own_fields_say_where_a_message_stands() {
        let stand = |frame: &str| stands(frame.as_bytes());
        let at = |topic: &str| Some((topic.to_owned(), "a:1:00000001".to_owned()));
        assert_eq!(
            stand(
                r#"{"data":{"topic":"user","position":"b:2:00000002"},"topic":"tenant","position":"a:1:00000001"}"#
            ),
            at("tenant")
        );
        assert_eq!(
            stand(r#"{"topic":"topic:a\"topic\":\"b","position":"a:1:00000001"}"#),
            at("topic:a\"topic\":\"b")
        );
        for none in [
            r#"{"data":{"topic":"user","position":"b:2:00000002"},"topic":"tenant"}"#,
            r#"{"data":"x"}"#,
            "{}",
            "",
        ] {
            assert_eq!(stand(none), None, "{none}");
        }
        let mut vector = vector(&[]);
        let gap = br#"{"type":"gap","topic":"user","position":"a:1:00000001"}"#;
        assert_eq!(vector.take(gap), (Seen::News, true));
        assert_eq!(vector.take(gap), (Seen::News, false));
        assert_eq!(
            vector.take(br#"{"type":"error","code":"unavailable","message":"m"}"#),
            (Seen::Error("unavailable".to_owned()), false)
        );
    }
}
