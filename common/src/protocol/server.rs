//! Frames from hub to client.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::message::{FrameKind, Message};

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Offered as sub-protocol: everything.
    CarillonV1,
    /// The seeds': no sub-protocol; notifications and messages only, other frames as answers to JSON commands.
    Seeds {
        /// The path `/ws` (S3), whose sessions get `unread` too.
        unread: bool,
    },
}

impl Dialect {
    /// Whether frames of a kind are sent to the session without being asked for.
    #[must_use]
    pub fn takes(self, kind: FrameKind) -> bool {
        match (self, kind) {
            (_, FrameKind::Order) => false,
            (Self::CarillonV1, _) | (_, FrameKind::Notification | FrameKind::Message) => true,
            (Self::Seeds { unread }, FrameKind::Unread) => unread,
            (Self::Seeds { .. }, FrameKind::Changed | FrameKind::Presence) => false,
        }
    }
}

/// A frame that is made for one session. Messages that fan out are made of [`frame_parts`].
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    /// The session is in place and its topics are confirmed.
    Welcome {
        /// The session's id.
        session: &'a str,
        /// The node.
        node: &'a str,
        /// How often the hub pings, in milliseconds.
        heartbeat_ms: u64,
        /// Where each implicit topic stands.
        positions: BTreeMap<String, String>,
    },
    /// A topic is confirmed.
    Subscribed {
        /// The public name.
        topic: &'a str,
        /// Where it stands.
        position: String,
    },
    /// A topic ended.
    Unsubscribed {
        /// The public name.
        topic: &'a str,
    },
    /// All that was missed of these topics has been sent.
    Recovered {
        /// Where each topic stands now.
        positions: BTreeMap<String, String>,
        /// Messages that were replayed.
        count: usize,
    },
    /// What was missed cannot be told: read the inbox.
    Resync {
        /// The public names.
        topics: Vec<String>,
    },
    /// Messages of a topic were dropped, because the client is too slow. It may resume from the position.
    Gap {
        /// The public name.
        topic: &'a str,
        /// All up to here was delivered.
        position: String,
    },
    /// The token ends soon.
    Expiring {
        /// When, Unix seconds.
        at: i64,
    },
    /// A command was not carried out.
    Error {
        /// Stable, for programs.
        code: &'a str,
        /// What is wrong and what to do.
        message: String,
        /// When to try again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// Answer to `{"type":"ping"}`.
    Pong {
        /// Topics whose position moved since the client was last told.
        positions: BTreeMap<String, String>,
    },
}

impl ServerFrame<'_> {
    /// The frame's JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Texts, numbers and maps of texts always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// An `error` frame.
    #[must_use]
    pub fn error(code: &str, message: impl Into<String>, retry_after: Option<Duration>) -> Vec<u8> {
        let retry_after_ms = retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        ServerFrame::Error {
            code,
            message: message.into(),
            retry_after_ms,
        }
        .to_json()
    }
}

/// The text of a message's frame, in two parts that follow each other: its payload as it came, then `topic` and, with
/// history, `position`. The payload is neither parsed nor copied here; whoever frames the parts copies it once a node.
#[must_use]
pub fn frame_parts(message: &Message) -> (&[u8], Vec<u8>) {
    use std::io::Write;
    let payload = message.payload.strip_suffix(b"}").unwrap_or(&message.payload);
    let mut tail = Vec::with_capacity(96);
    if payload.trim_ascii_end().last() != Some(&b'{') {
        tail.push(b',');
    }
    tail.extend_from_slice(b"\"topic\":");
    // Writing a text or a number into a Vec cannot fail.
    let written = serde_json::to_writer(&mut tail, &message.key.public_name()).is_ok();
    debug_assert!(written);
    if let Some(position) = message.position {
        let written = write!(tail, ",\"position\":\"{position}\"").is_ok();
        debug_assert!(written);
    }
    tail.push(b'}');
    (payload, tail)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        ids::{MessageId, Name, TenantId},
        message::{Header, Position},
        topic::TopicKey,
    };

    fn frame(payload: &'static str, position: Option<Position>) -> String {
        let tenant = TenantId::new("t").unwrap();
        let message = Message {
            key: TopicKey::topic(&tenant, &Name::new("a\"b").unwrap()),
            position,
            header: Header::new(MessageId::generate(), FrameKind::Message),
            payload: Bytes::from_static(payload.as_bytes()),
        };
        let (payload, tail) = frame_parts(&message);
        String::from_utf8([payload, &tail].concat()).unwrap()
    }

    #[test]
    fn frames_are_the_payload_and_where_it_stands() {
        let position = Position {
            epoch: 10,
            offset: 3,
            check: 255,
        };
        assert_eq!(
            frame(r#"{"type":"message","data":{"a":1}}"#, Some(position)),
            r#"{"type":"message","data":{"a":1},"topic":"topic:a\"b","position":"a:3:000000ff"}"#
        );
        assert_eq!(frame("{}", None), r#"{"topic":"topic:a\"b"}"#);
        assert_eq!(frame("{ }", None), r#"{ "topic":"topic:a\"b"}"#);
    }

    #[test]
    fn seeds_get_what_they_understand() {
        use FrameKind::{Changed, Message, Notification, Presence, Unread};
        let takes = |dialect: Dialect| {
            [Notification, Message, Unread, Changed, Presence].map(|kind| dialect.takes(kind))
        };
        assert_eq!(takes(Dialect::CarillonV1), [true; 5]);
        assert_eq!(
            takes(Dialect::Seeds { unread: true }),
            [true, true, true, false, false]
        );
        assert_eq!(
            takes(Dialect::Seeds { unread: false }),
            [true, true, false, false, false]
        );
    }
}
