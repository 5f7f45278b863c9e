//! What nodes say to each other: messages of the kind `order` on topics that no client can name, or on the topic whose
//! members' nodes are asked.
//!
//! The payload is one JSON object: version, sender, the order's name and its body. Nodes of different versions run side by
//! side while a cluster is updated: a body may get more fields, which older nodes do not look at; what they do not know, or
//! what has a newer version, they leave alone.

use bytes::Bytes;
use common::{
    bus::Publication,
    ids::{MessageId, NodeId, TenantId},
    message::{FrameKind, Header, Message},
    target::Audience,
    topic::TopicKey,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    announcement::Announcement,
    desk::{Deed, Found},
};

/// Grows when an older node must not act on an order because it would misunderstand it.
const VERSION: u32 = 1;

/// An order that was on its way for longer is not carried out any more: whoever gave it has been answered long ago. Clocks of
/// nodes may differ by as much.
const STALE_MS: i64 = 30_000;

/// One thing that a node says.
#[derive(Debug)]
pub(crate) enum Order {
    /// It is there, and how it is.
    Announce(Box<Announcement>),
    /// It ends.
    Leave,
    /// It asks, or has something done.
    Ask(Box<Question>),
    /// It answers.
    Reply(Box<Reply>),
    /// It traces something.
    Trace(Box<TraceOrder>),
    /// It traces it no more.
    TraceEnd(u64),
    /// It saw something that is traced.
    TraceLines(Box<TraceLines>),
}

/// A question or an order of an operator.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    /// By which the asking node knows its answers.
    pub(crate) id: u64,
    /// The answer is of no use after so many milliseconds.
    pub(crate) within_ms: u32,
    /// In whose name: the asked node looks at no other tenant's sessions.
    pub(crate) tenant: TenantId,
    /// The caller may mean sessions of all tenants.
    #[serde(default)]
    pub(crate) all_tenants: bool,
    /// Whom it concerns.
    pub(crate) to: Audience,
    /// Only this session of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    /// What is done with them.
    pub(crate) deed: Deed,
}

/// A node's part of an answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Of which question.
    pub(crate) id: u64,
    /// None where the node could not do it: it has too much under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) found: Option<Found>,
    /// All of the node's workers answered in time.
    pub(crate) complete: bool,
}

/// Why an order was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// Of a version that this node does not know.
    Version,
    /// No order that this version knows.
    Unknown,
    /// It cannot be read.
    Malformed,
    /// It comes too late.
    Late,
    /// There is no room for what it brings.
    Full,
}

impl Ignored {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Late => "late",
            Self::Full => "full",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Letter<'a> {
    v: u32,
    from: NodeId,
    order: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Debug, Deserialize)]
struct Version {
    v: u32,
}

impl Order {
    /// What is put on the bus. An order is at most once and takes no offset, so it is never read from history.
    pub(crate) fn publication(&self, from: &NodeId, key: TopicKey) -> Publication {
        Publication {
            key,
            header: Header::new(MessageId::generate(), FrameKind::Order),
            payload: self.payload(from),
            history: false,
            idempotency_key: None,
        }
    }

    fn payload(&self, from: &NodeId) -> Bytes {
        let (order, body) = match self {
            Self::Announce(body) => ("announce", to_raw_value(body)),
            Self::Leave => ("leave", to_raw_value(&())),
            Self::Ask(body) => ("ask", to_raw_value(body)),
            Self::Reply(body) => ("reply", to_raw_value(body)),
            Self::Trace(body) => ("trace", to_raw_value(body)),
            Self::TraceEnd(id) => ("trace_end", to_raw_value(id)),
            Self::TraceLines(body) => ("trace_lines", to_raw_value(body)),
        };
        // Texts, numbers and lists of them always serialise.
        let body = body.unwrap_or_default();
        let letter = Letter {
            v: VERSION,
            from: from.clone(),
            order: order.into(),
            body: &body,
        };
        serde_json::to_vec(&letter).unwrap_or_default().into()
    }

    /// Reads an order, and who gave it. `now` in Unix milliseconds.
    ///
    /// # Errors
    /// Why it is left alone.
    pub(crate) fn read(message: &Message, now: i64) -> Result<(NodeId, Self), Ignored> {
        if now - message.header.at > STALE_MS {
            return Err(Ignored::Late);
        }
        let payload = &message.payload[..];
        // First, as a newer version may have anything else.
        let Version { v } = serde_json::from_slice(payload).map_err(|_| Ignored::Malformed)?;
        if v > VERSION {
            return Err(Ignored::Version);
        }
        let letter: Letter<'_> = serde_json::from_slice(payload).map_err(|_| Ignored::Malformed)?;
        let order = match &*letter.order {
            "announce" => Self::Announce(body(letter.body)?),
            "leave" => Self::Leave,
            "ask" => Self::Ask(body(letter.body)?),
            "reply" => Self::Reply(body(letter.body)?),
            "trace" => Self::Trace(body(letter.body)?),
            "trace_end" => Self::TraceEnd(body(letter.body)?),
            "trace_lines" => Self::TraceLines(body(letter.body)?),
            _ => return Err(Ignored::Unknown),
        };
        Ok((letter.from, order))
    }
}

fn body<T: DeserializeOwned>(raw: &RawValue) -> Result<T, Ignored> {
    serde_json::from_str(raw.get()).map_err(|_| Ignored::Malformed)
}

/// What is traced.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TraceOrder {
    /// By which the asking node knows it.
    pub(super) id: u64,
    /// The user's own topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<TopicKey>,
    /// The topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<TopicKey>,
    /// With what was published.
    #[serde(default)]
    pub(super) payload: bool,
    /// It ends after so many milliseconds.
    pub(super) for_ms: u32,
}

/// What a node saw.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TraceLines {
    pub(super) id: u64,
    /// Lines of JSON, each with its end.
    pub(super) lines: String,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn message(payload: impl Into<Bytes>, at: i64) -> Message {
        let mut header = Header::new(MessageId::generate(), FrameKind::Order);
        header.at = at;
        Message {
            key: TopicKey::nodes(),
            position: None,
            header,
            payload: payload.into(),
        }
    }

    #[test]
    fn orders_round_trip() {
        let node = NodeId::generate();
        let question = Order::Ask(Box::new(Question {
            id: 7,
            within_ms: 300,
            tenant: TenantId::new("t").unwrap(),
            all_tenants: false,
            to: serde_json::from_str(r#"{"all_of":[{"role":"a:b"},{"store":"1"}],"except":{"user":"u"}}"#)
                .unwrap(),
            session: None,
            deed: Deed::Count,
        }));
        let published = question.publication(&node, TopicKey::nodes());
        assert!(!published.history);
        let (from, read) = Order::read(&message(published.payload, 0), 10).unwrap();
        assert_eq!(from, node);
        let Order::Ask(read) = read else {
            panic!("{read:?}")
        };
        let Order::Ask(asked) = question else {
            unreachable!()
        };
        assert_eq!(format!("{read:?}"), format!("{asked:?}"));

        let found = Some(Found::Sessions(3));
        let reply = Order::Reply(Box::new(Reply {
            id: 7,
            found,
            complete: true,
        }));
        let payload = reply.payload(&node);
        assert!(matches!(
            Order::read(&message(payload, 0), 0),
            Ok((_, Order::Reply(reply))) if reply.id == 7 && matches!(reply.found, Some(Found::Sessions(3)))
        ));
        let payload = Order::Leave.payload(&node);
        assert!(matches!(
            Order::read(&message(payload, 0), 0),
            Ok((_, Order::Leave))
        ));
    }

    #[test]
    fn what_is_newer_or_late_or_none_is_left_alone() {
        let read = |payload: &str, at, now| Order::read(&message(payload.to_owned(), at), now).unwrap_err();
        for (payload, why) in [
            (r#"{"v":2,"something":"else"}"#, Ignored::Version),
            (
                r#"{"v":1,"from":"a","order":"dance","body":{}}"#,
                Ignored::Unknown,
            ),
            (
                r#"{"v":1,"from":"a","order":"ask","body":{}}"#,
                Ignored::Malformed,
            ),
            (
                r#"{"v":1,"from":"a:b","order":"leave","body":null}"#,
                Ignored::Malformed,
            ),
            (r#"{"type":"x"}"#, Ignored::Malformed),
            ("", Ignored::Malformed),
        ] {
            assert_eq!(read(payload, 0, 0), why, "{payload}");
        }
        let leave = r#"{"v":1,"from":"a","order":"leave","body":null,"more":1}"#;
        assert!(Order::read(&message(leave, 0), STALE_MS).is_ok());
        assert_eq!(read(leave, 0, STALE_MS + 1), Ignored::Late);
        // A clock that is ahead is no reason.
        assert!(Order::read(&Arc::new(message(leave, 1_000_000)), 0).is_ok());
    }
}
