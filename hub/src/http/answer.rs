//! What the publish API answers. The texts are written by hand: an answer is a tenth of what a publish costs, and is
//! the same few fields each time.

use axum::response::{IntoResponse, Response};
use common::{
    bus::Published,
    http::Problem,
    ids::MessageId,
    topic::{TopicKey, TopicKind},
};
use http::{HeaderValue, header};
use smallvec::SmallVec;

/// What became of a publish.
#[derive(Debug)]
pub struct Answer {
    id: MessageId,
    several: bool,
    topics: SmallVec<[(TopicKey, Published); 1]>,
}

impl Answer {
    /// `several`: the target is a list, and so is the answer, also with one member.
    pub(super) fn new(id: MessageId, several: bool) -> Self {
        Self {
            id,
            several,
            topics: SmallVec::new(),
        }
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// What became of it on each topic.
    pub fn topics(&self) -> impl Iterator<Item = TopicAnswer> {
        self.topics.iter().map(|(key, published)| {
            let mut epoch = Vec::new();
            TopicAnswer {
                topic: topic_name(key),
                position: published.position.map(|at| {
                    write_hex(&mut epoch, at.epoch);
                    (String::from_utf8_lossy(&epoch).into_owned(), at.offset)
                }),
                nodes: published.nodes as u64,
            }
        })
    }

    pub(super) fn add(&mut self, key: TopicKey, published: Published) {
        self.topics.push((key, published));
    }

    /// As [`AnswerBody`].
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"id":""#);
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        out.extend_from_slice(self.id.0.hyphenated().encode_lower(&mut text).as_bytes());
        match (self.several, self.topics.as_slice()) {
            (false, [(key, published)]) => {
                out.extend_from_slice(br#"","#);
                write_topic(out, key, published);
            }
            (_, topics) => {
                out.extend_from_slice(br#"","topics":["#);
                for (number, (key, published)) in topics.iter().enumerate() {
                    out.extend_from_slice(if number == 0 { b"{" } else { b",{" });
                    write_topic(out, key, published);
                    out.push(b'}');
                }
                out.push(b']');
            }
        }
        out.push(b'}');
    }
}

/// What became of a publish on one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAnswer {
    /// The tenant-free name.
    pub topic: String,
    /// Epoch and offset; none without history.
    pub position: Option<(String, u64)>,
    /// How many nodes took it; a hint.
    pub nodes: u64,
}

fn write_topic(out: &mut Vec<u8>, key: &TopicKey, published: &Published) {
    out.extend_from_slice(br#""topic":"#);
    write_name(out, key);
    if let Some(at) = published.position {
        out.extend_from_slice(br#","epoch":""#);
        write_hex(out, at.epoch);
        out.extend_from_slice(br#"","offset":"#);
        write_number(out, at.offset);
    }
    out.extend_from_slice(br#","nodes":"#);
    write_number(out, published.nodes as u64);
}

/// A user's topic is `user` for the user; for a publisher the name matters.
fn prefix(key: &TopicKey) -> &'static str {
    match key.kind() {
        TopicKind::User => "user:",
        TopicKind::Role => "role:",
        TopicKind::Store => "store:",
        TopicKind::Topic => "topic:",
        TopicKind::Tenant | TopicKind::Everyone | TopicKind::Nodes => "",
    }
}

/// The tenant-free name.
fn topic_name(key: &TopicKey) -> String {
    match key.name() {
        Some(name) => format!("{}{name}", prefix(key)),
        None => key.public_name(),
    }
}

/// The tenant-free name as a JSON text.
fn write_name(out: &mut Vec<u8>, key: &TopicKey) {
    let prefix = prefix(key);
    let escaped = key.as_str().splitn(3, ':').nth(2).unwrap_or_default();
    let plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\' | b'%');
    if !prefix.is_empty() && escaped.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(escaped.as_bytes());
        out.push(b'"');
        return;
    }
    write_json(out, &topic_name(key));
}

pub(super) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn write_hex(out: &mut Vec<u8>, number: u64) {
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let nibble = (number >> (digit * 4)) as usize & 15;
        out.push(b"0123456789abcdef"[nibble]);
    }
}

fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let before = out.len();
    // Texts, and problems made of texts and numbers, always serialise.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(before);
        out.extend_from_slice(b"null");
    }
}

/// Writes an answer or a problem.
pub(super) fn write_result(out: &mut Vec<u8>, result: &Result<Answer, Problem>) {
    match result {
        Ok(answer) => answer.write(out),
        Err(problem) => write_json(out, problem),
    }
}

/// The answers of a batch, in order.
#[derive(Debug)]
pub(super) struct Results {
    out: Vec<u8>,
    empty: bool,
}

impl Results {
    pub(super) fn new(expected: usize) -> Self {
        let mut out = Vec::with_capacity(expected * 128 + 16);
        out.extend_from_slice(br#"{"results":["#);
        Self { out, empty: true }
    }

    pub(super) fn add(&mut self, result: &Result<Answer, Problem>) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        write_result(&mut self.out, result);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"]}");
        self.out
    }
}

pub(super) fn json_response(body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body).into_response()
}

/// What became of a publish.
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = Answer)]
#[serde(untagged)]
#[expect(dead_code, reason = "the document's description of what is written by hand")]
pub(super) enum AnswerBody {
    /// One topic.
    One {
        /// The message's id.
        id: String,
        #[serde(flatten)]
        result: TopicResult,
    },
    /// Several topics.
    Several {
        /// The message's id, the same on every topic.
        id: String,
        /// One entry a topic.
        topics: Vec<TopicResult>,
    },
}

/// What became of a publish on one topic.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the document's description of what is written by hand")]
pub(super) struct TopicResult {
    /// The tenant-free name of the topic.
    topic: String,
    /// The topic's epoch; none without history.
    epoch: Option<String>,
    /// The message's offset; none without history.
    offset: Option<u64>,
    /// Nodes that were subscribed: a hint.
    nodes: usize,
}

/// What became of a batch: an answer or a problem for each, in order.
#[derive(Debug, utoipa::ToSchema)]
#[schema(as = PublishBatchAnswer)]
#[expect(dead_code, reason = "the document's description of what is written by hand")]
pub(super) struct BatchAnswerBody {
    results: Vec<BatchResult>,
}

#[derive(Debug, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the document's description of what is written by hand")]
enum BatchResult {
    Ok(AnswerBody),
    Err(Problem),
}

/// A line of a stream's answer.
#[derive(Debug, utoipa::ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the document's description of what is written by hand")]
pub(super) enum StreamLine {
    /// A publish.
    Published {
        /// The number of its line, from 1.
        line: u64,
        #[serde(flatten)]
        answer: AnswerBody,
    },
    /// A line that was not published.
    Failed {
        /// The number of the line, from 1.
        line: u64,
        #[serde(flatten)]
        problem: Problem,
    },
    /// The last line. Without it, the stream was cut.
    End {
        /// What became of the whole.
        summary: Summary,
    },
}

/// What became of a stream.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "the document's description of what is written by hand")]
pub(super) struct Summary {
    /// Lines that were published.
    published: u64,
    /// Lines that were not.
    failed: u64,
}

#[cfg(test)]
mod tests {
    use common::{
        ids::{Name, TenantId},
        message::Position,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn published(epoch: u64, offset: u64) -> Published {
        Published {
            position: Some(Position {
                epoch,
                offset,
                check: 0,
            }),
            nodes: 2,
            repeated: false,
        }
    }

    fn read(result: &Result<Answer, Problem>) -> Value {
        let mut out = Vec::new();
        write_result(&mut out, result);
        serde_json::from_slice(&out).unwrap()
    }

    fn tenant() -> TenantId {
        TenantId::new("t").unwrap()
    }

    #[test]
    fn one_topic_is_an_object_and_several_are_a_list() {
        let id = MessageId::generate();
        let mut one = Answer::new(id, false);
        one.add(TopicKey::tenant(&tenant()), published(0, 0));
        let expected = json!({"id":id.to_string(),"topic":"tenant","epoch":"0","offset":0,"nodes":2});
        assert_eq!(read(&Ok(one)), expected);

        let mut without = Answer::new(id, false);
        let none = Published {
            position: None,
            nodes: 0,
            repeated: false,
        };
        without.add(TopicKey::everyone(), none);
        assert_eq!(
            read(&Ok(without)),
            json!({"id":id.to_string(),"topic":"everyone","nodes":0})
        );

        let mut list = Answer::new(id, true);
        for user in ["a", "b"] {
            list.add(
                TopicKey::user(&tenant(), &Name::new(user).unwrap()),
                published(1, 2),
            );
        }
        let topic = |name| json!({"topic":name,"epoch":"1","offset":2,"nodes":2});
        assert_eq!(
            read(&Ok(list)),
            json!({"id":id.to_string(),"topics":[topic("user:a"),topic("user:b")]})
        );
        assert_eq!(
            read(&Ok(Answer::new(id, true))),
            json!({"id":id.to_string(),"topics":[]})
        );
    }

    #[test]
    fn batches_are_in_order() {
        let mut results = Results::new(2);
        results.add(&Err(Problem::invalid("invalid_value", "to", "a \"b\"")));
        results.add(&Ok(Answer::new(MessageId::generate(), true)));
        let value: Value = serde_json::from_slice(&results.finish()).unwrap();
        assert_eq!(value["results"][0]["detail"], "a \"b\"");
        assert_eq!(value["results"][1]["topics"], json!([]));
        assert_eq!(Results::new(0).finish(), br#"{"results":[]}"#);
    }

    proptest! {
        #[test]
        fn any_name_and_number_can_be_read(name in "[\\PC\\x00-\\x7f]{1,60}", epoch: u64, offset: u64) {
            let Ok(name) = Name::new(&name) else { return Ok(()) };
            let mut answer = Answer::new(MessageId::generate(), false);
            answer.add(TopicKey::topic(&tenant(), &name), published(epoch, offset));
            let value = read(&Ok(answer));
            prop_assert_eq!(&value["topic"], &json!(format!("topic:{name}")));
            prop_assert_eq!(&value["epoch"], &json!(format!("{epoch:x}")));
            prop_assert_eq!(&value["offset"], &json!(offset));
        }
    }
}
