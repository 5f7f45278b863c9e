//! One line of a trace: a JSON object.

use bytes::Bytes;
use common::{
    message::{FrameKind, Message},
    receipts::Reader,
    topic::TopicKey,
};
use serde::Serialize;
use serde_json::value::RawValue;

/// Why a session did not get a message, or not at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// The user has no session on this node.
    NotConnected,
    /// No session, or not this one, has the topic on this node.
    NotSubscribed,
    /// Its time had passed.
    Expired,
    /// Frames of this kind are not for the session's dialect.
    Dialect,
    /// `except` names the session or its user.
    Except,
    /// The session lacks another part of `all_of`.
    Expression,
    /// It gets, or got, its copy by an earlier member of `any_of`.
    OtherMember,
    /// Its `resume` is being answered: it comes by the replay.
    Replay,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<FrameKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filtered: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
enum Reason {
    Why(Why),
    Label(&'static str),
}

impl<'a> Line<'a> {
    pub(crate) fn event(event: &'static str) -> Self {
        Self {
            event,
            at: None,
            id: None,
            topic: None,
            position: None,
            kind: None,
            bytes: None,
            session: None,
            user: None,
            reason: None,
            sent: None,
            filtered: None,
            count: None,
            node: None,
            data: None,
        }
    }

    /// The first line: from here on all is seen, until then.
    pub(crate) fn begin(node: &'a str, until: jiff::Timestamp) -> Self {
        Self {
            at: Some(until),
            node: Some(node),
            ..Self::event("begin")
        }
    }

    /// The last line.
    pub(crate) fn end(reason: &'static str) -> Self {
        Self::event("end").because(Some(reason))
    }

    pub(super) fn dropped(count: u64) -> Self {
        Self {
            count: Some(count),
            ..Self::event("dropped")
        }
    }

    /// A message as it came.
    pub(super) fn published(message: &'a Message, payload: bool) -> Self {
        let text = payload
            .then(|| std::str::from_utf8(&message.payload).ok())
            .flatten();
        Self {
            at: jiff::Timestamp::from_millisecond(message.header.at).ok(),
            position: message.position.map(|at| at.to_string()),
            kind: Some(message.header.kind),
            bytes: Some(message.payload.len()),
            data: text.and_then(|text| serde_json::from_str(text).ok()),
            ..Self::message("published", message)
        }
    }

    /// Something that concerns a message.
    pub(crate) fn message(event: &'static str, message: &Message) -> Self {
        Self {
            id: Some(message.header.id.to_string()),
            ..Self::topic(event, &message.key)
        }
    }

    /// Something that concerns a topic.
    pub(crate) fn topic(event: &'static str, key: &TopicKey) -> Self {
        // A user's topic is `user` for the user; for an operator the name matters.
        let topic = match (key.public_name(), key.name()) {
            (public, Some(name)) if public == "user" => format!("user:{name}"),
            (public, _) => public,
        };
        Self {
            topic: Some(topic),
            ..Self::event(event)
        }
    }

    /// Nobody on this node gets it.
    pub(crate) fn nobody(message: &Message, why: Why) -> Self {
        Self {
            reason: Some(Reason::Why(why)),
            ..Self::message("not_delivered", message)
        }
    }

    /// How many sessions of a worker it went to.
    pub(crate) fn fanout(message: &Message, sent: usize, filtered: usize) -> Self {
        Self {
            sent: Some(sent),
            filtered: Some(filtered),
            ..Self::message("fanout", message)
        }
    }

    /// A session gets it, or why not.
    pub(crate) fn outcome(message: &Message, why: Option<Why>) -> Self {
        match why {
            None => Self::message("sent", message),
            Some(why) => Self {
                reason: Some(Reason::Why(why)),
                ..Self::message("filtered", message)
            },
        }
    }

    pub(crate) fn of(mut self, reader: &'a Reader) -> Self {
        self.session = Some(&reader.session);
        self.user = Some(reader.user.as_str());
        self
    }

    pub(crate) fn because(mut self, reason: Option<&'static str>) -> Self {
        self.reason = reason.map(Reason::Label);
        self
    }

    /// Another node helps with as many traces as it may.
    pub(crate) fn refused(node: &'a str) -> Self {
        Self {
            node: Some(node),
            ..Self::event("refused")
        }
    }

    /// The same, as seen on a node.
    pub(super) fn at<'b>(self, node: &'b str) -> Line<'b>
    where
        'a: 'b,
    {
        Line {
            node: Some(node),
            ..self
        }
    }

    /// The line with its end.
    pub(crate) fn to_bytes(&self) -> Bytes {
        // Texts and numbers always serialise.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}
