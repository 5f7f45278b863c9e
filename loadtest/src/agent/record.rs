//! What one socket has received, and where it stands.

use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    check::Sequence,
    stamp::{Stamp, Topic},
};

/// Sequences and positions of one socket.
#[derive(Debug, Default)]
pub(super) struct Record {
    sequences: Vec<(Topic, Sequence)>,
    positions: Vec<(Topic, String)>,
    resuming: Option<Box<Resuming>>,
}

/// Between `resume` and its answer. Live messages that came before the server read it are kept back: the missed ones
/// belong before them (docs/protocol.md, resuming).
#[derive(Debug, Default)]
struct Resuming {
    topics: Vec<Topic>,
    /// Where `welcome` or `subscribed` said that the topic stands: what is behind it is live.
    heads: Vec<(Topic, String)>,
    held: Vec<(Stamp, String)>,
}

/// What a frame that is no message tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) recovered: bool,
    pub(super) subscribed: bool,
    /// Topics that were told `resync`.
    pub(super) resyncs: Vec<Topic>,
    pub(super) gaps: u64,
    pub(super) error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    position: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    positions: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, default)]
    topics: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
}

impl Record {
    /// What was received of a topic.
    pub(super) fn sequence(&self, topic: Topic) -> Option<&Sequence> {
        self.sequences
            .iter()
            .find(|(of, _)| *of == topic)
            .map(|(_, sequence)| sequence)
    }

    fn sequence_mut(&mut self, topic: Topic) -> &mut Sequence {
        let at = match self.sequences.iter().position(|(of, _)| *of == topic) {
            Some(at) => at,
            None => {
                self.sequences.push((topic, Sequence::default()));
                self.sequences.len() - 1
            }
        };
        &mut self.sequences[at].1
    }

    /// The topics of which something came.
    pub(super) fn topics(&self) -> impl Iterator<Item = Topic> {
        self.sequences.iter().map(|(topic, _)| *topic)
    }

    /// Takes a message where nothing is resumed.
    pub(super) fn take(&mut self, stamp: Stamp) {
        self.sequence_mut(stamp.topic).take(stamp.number, None);
    }

    /// Takes a message with its position. False: it is kept back until its topic is recovered.
    pub(super) fn take_at(&mut self, stamp: Stamp, position: &str) -> bool {
        if let Some(resuming) = &mut self.resuming
            && resuming.topics.contains(&stamp.topic)
            && let Some((_, head)) = resuming.heads.iter().find(|(topic, _)| *topic == stamp.topic)
            && later(position, head)
        {
            resuming.held.push((stamp, position.to_owned()));
            return false;
        }
        self.sequence_mut(stamp.topic)
            .take(stamp.number, offset(position));
        self.stand(stamp.topic, position);
        true
    }

    fn stand(&mut self, topic: Topic, position: &str) {
        if let Some((_, at)) = self.positions.iter_mut().find(|(of, _)| *of == topic) {
            at.clear();
            at.push_str(position);
        } else {
            self.positions.push((topic, position.to_owned()));
        }
    }

    /// The `resume` to send with the next handshake, if there is anything to resume.
    pub(super) fn resume(&mut self) -> Option<String> {
        self.resuming = None;
        if self.positions.is_empty() {
            return None;
        }
        let positions: BTreeMap<String, &str> = self
            .positions
            .iter()
            .map(|(topic, position)| (topic.label(), position.as_str()))
            .collect();
        let text = serde_json::json!({"type": "resume", "positions": positions}).to_string();
        self.resuming = Some(Box::new(Resuming {
            topics: self.positions.iter().map(|(topic, _)| *topic).collect(),
            ..Resuming::default()
        }));
        Some(text)
    }

    /// The socket comes back without resuming: nobody can say what it missed.
    pub(super) fn forget(&mut self) {
        for (_, sequence) in &mut self.sequences {
            sequence.excuse();
        }
    }

    /// Whether it stands somewhere in the topic.
    pub(super) fn stands_in(&self, topic: Topic) -> bool {
        self.positions.iter().any(|(of, _)| *of == topic)
    }

    /// Whether an answer to `resume` is awaited.
    pub(super) fn resuming(&self) -> bool {
        self.resuming.is_some()
    }

    /// Takes a frame of the protocol.
    pub(super) fn control(&mut self, text: &[u8], user: u32) -> Told {
        let mut told = Told::default();
        let Ok(frame) = serde_json::from_slice::<Frame<'_>>(text) else {
            told.error = Some("a frame that cannot be read".to_owned());
            return told;
        };
        let topic_of = |label: &str| Topic::from_label(label, user);
        match &*frame.kind {
            "welcome" => {
                for (label, position) in &frame.positions {
                    if let Some(topic) = topic_of(label) {
                        self.head(topic, position);
                    }
                }
            }
            "subscribed" => {
                told.subscribed = true;
                if let (Some(label), Some(position)) = (&frame.topic, &frame.position)
                    && let Some(topic) = topic_of(label)
                {
                    self.head(topic, position);
                }
            }
            "pong" => {
                for (label, position) in &frame.positions {
                    if let Some(topic) = topic_of(label) {
                        self.stand(topic, position);
                    }
                }
            }
            "resync" => {
                for topic in frame.topics.iter().filter_map(|label| topic_of(label)) {
                    told.resyncs.push(topic);
                    self.resync(topic);
                }
            }
            "gap" => {
                told.gaps += 1;
                if let Some(topic) = frame.topic.as_deref().and_then(topic_of) {
                    self.sequence_mut(topic).excuse();
                }
            }
            "recovered" => {
                told.recovered = true;
                if let Some(resuming) = self.resuming.take() {
                    for (label, position) in &frame.positions {
                        if let Some(topic) = topic_of(label) {
                            self.stand(topic, position);
                        }
                    }
                    for (stamp, position) in resuming.held {
                        self.take_at(stamp, &position);
                    }
                }
            }
            "error" => told.error = Some(format!("error frame: {}", frame.code.unwrap_or_default())),
            _ => {}
        }
        told
    }

    /// Where a topic stands on the server as the session joins it.
    fn head(&mut self, topic: Topic, position: &str) {
        match &mut self.resuming {
            Some(resuming) if resuming.topics.contains(&topic) => {
                resuming.heads.retain(|(of, _)| *of != topic);
                resuming.heads.push((topic, position.to_owned()));
            }
            _ => {
                if !self.stands_in(topic) {
                    self.stand(topic, position);
                }
            }
        }
    }

    fn resync(&mut self, topic: Topic) {
        let mut held = Vec::new();
        let mut head = None;
        if let Some(resuming) = &mut self.resuming {
            resuming.topics.retain(|of| *of != topic);
            head = resuming
                .heads
                .iter()
                .find(|(of, _)| *of == topic)
                .map(|(_, head)| head.clone());
            let (its, others) = std::mem::take(&mut resuming.held)
                .into_iter()
                .partition(|(stamp, _)| stamp.topic == topic);
            (held, resuming.held) = (its, others);
        }
        self.sequence_mut(topic).excuse();
        if let Some(head) = head {
            self.stand(topic, &head);
        }
        for (stamp, position) in held {
            self.take_at(stamp, &position);
        }
    }
}

/// The offset in a position of Carillon. Clients have no business there; a checker has.
fn offset(position: &str) -> Option<u64> {
    position.split(':').nth(1)?.parse().ok()
}

fn later(position: &str, head: &str) -> bool {
    let epoch = |text: &str| text.split(':').next().map(str::to_owned);
    epoch(position) == epoch(head) && offset(position) > offset(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u32) -> Stamp {
        Stamp {
            topic: Topic::ALL,
            number,
            at_us: 1,
        }
    }

    fn faults(record: &Record, sent: u32) -> [u64; 4] {
        let faults = record.sequence(Topic::ALL).unwrap().faults(sent, &[]);
        [faults.lost, faults.doubled, faults.reordered, faults.told]
    }

    fn cut_at_two() -> Record {
        let mut record = Record::default();
        record.control(
            br#"{"type":"welcome","positions":{"tenant":"a:0:0","everyone":"b:0:0"}}"#,
            7,
        );
        assert!(record.take_at(stamp(1), "a:1:0") && record.take_at(stamp(2), "a:2:0"));
        let resume = record.resume().unwrap();
        assert_eq!(resume, r#"{"positions":{"tenant":"a:2:0"},"type":"resume"}"#);
        record
    }

    #[test]
    fn live_messages_wait_for_the_missed_ones() {
        let mut record = cut_at_two();
        record.control(br#"{"type":"welcome","positions":{"tenant":"a:4:0"}}"#, 7);
        assert!(!record.take_at(stamp(5), "a:5:0"), "live");
        assert!(record.take_at(stamp(3), "a:3:0") && record.take_at(stamp(4), "a:4:0"));
        let told = record.control(
            br#"{"type":"recovered","positions":{"tenant":"a:4:0"},"count":2}"#,
            7,
        );
        assert!(told.recovered && !record.resuming());
        assert_eq!(faults(&record, 5), [0; 4]);
        assert!(record.resume().unwrap().contains("a:5:0"));
    }

    #[test]
    fn a_resync_excuses_what_came_before_it() {
        let mut record = cut_at_two();
        record.control(br#"{"type":"welcome","positions":{"tenant":"a:6:0"}}"#, 7);
        let told = record.control(br#"{"type":"resync","topics":["tenant"]}"#, 7);
        assert_eq!(told.resyncs, [Topic::ALL]);
        record.control(br#"{"type":"recovered","positions":{},"count":0}"#, 7);
        record.take_at(stamp(7), "a:7:0");
        record.take_at(stamp(9), "a:9:0");
        assert_eq!(
            faults(&record, 9),
            [1, 0, 0, 4],
            "8 was live, and nobody said that it is gone"
        );
    }

    #[test]
    fn missed_messages_that_nobody_replays_are_lost() {
        let mut record = cut_at_two();
        record.control(br#"{"type":"welcome","positions":{"tenant":"a:4:0"}}"#, 7);
        record.control(
            br#"{"type":"recovered","positions":{"tenant":"a:4:0"},"count":0}"#,
            7,
        );
        record.take_at(stamp(5), "a:5:0");
        assert_eq!(faults(&record, 5), [2, 0, 0, 0]);
    }

    #[test]
    fn what_cannot_be_read_and_errors_are_told() {
        let mut record = Record::default();
        assert!(record.control(b"nonsense", 1).error.is_some());
        let told = record.control(br#"{"type":"error","code":"forbidden_topic","message":"x"}"#, 1);
        assert_eq!(told.error.as_deref(), Some("error frame: forbidden_topic"));
    }
}
