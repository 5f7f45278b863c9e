//! Messages on the bus: a small JSON header line, then the client's payload as it will be sent.
//!
//! The envelope can be read in the bus's own tools and is never parsed beyond its header by a hub.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    ids::MessageId,
    policy::SlowPolicy,
    target::{Except, Member},
    topic::TopicKey,
};

/// Where a message stands in its topic. `epoch:offset:check` on the wire, opaque to clients.
///
/// Offsets are dense within an epoch; an epoch ends when the bus may have given an offset twice. `check` are 32 bits of
/// the message's id, so that a position of a message that was lost can be told from the one that took its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The epoch of the topic's offsets.
    pub epoch: u64,
    /// The message's number in its topic, from 1; 0 is before the first.
    pub offset: u64,
    /// [`MessageId::check`] of the message; 0 at offset 0. See [`Position::before`] for the other kind.
    pub check: u32,
}

impl Position {
    /// The place right before the message that stands here, for a client that may not have got what stood there: it is
    /// told by this message, whose check it carries inverted.
    #[must_use]
    pub fn before(self) -> Self {
        Self {
            offset: self.offset.saturating_sub(1),
            check: !self.check,
            ..self
        }
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position of this server")]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}:{:08x}", self.epoch, self.offset, self.check)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let mut parts = text.split(':');
        let mut part = || {
            parts
                .next()
                .filter(|part| part.len() <= 20)
                .ok_or(InvalidPosition)
        };
        let epoch = u64::from_str_radix(part()?, 16).map_err(|_| InvalidPosition)?;
        let offset = part()?.parse().map_err(|_| InvalidPosition)?;
        let check = u32::from_str_radix(part()?, 16).map_err(|_| InvalidPosition)?;
        if parts.next().is_some() {
            Err(InvalidPosition)
        } else {
            Ok(Self { epoch, offset, check })
        }
    }
}

/// What kind of frame the payload is; decides which sessions may have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// A stored notification.
    Notification,
    /// An ephemeral publish.
    Message,
    /// The reader's unread count: carillon.v1 sessions and those of `/ws`.
    Unread,
    /// A change the reader made elsewhere: carillon.v1 sessions only.
    Changed,
    /// Who joined or left a topic: carillon.v1 sessions only.
    Presence,
    /// From node to node (design section 6): no session gets it, and only hubs publish it.
    Order,
}

/// How important a message is for the outbound queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// May wait longest.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Before medium.
    High,
    /// Never dropped or conflated.
    Critical,
}

/// What a hub knows of a message without parsing its payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The message's id: a notification's id, or the publish's.
    pub id: MessageId,
    /// What the payload is.
    pub kind: FrameKind,
    /// When it was published, Unix milliseconds.
    pub at: i64,
    /// How important it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// Not delivered after this time, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// In topics and queues with last-value rules, it replaces what has the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflate: Option<String>,
    /// What happens where it waits for a slow reader, instead of what its topic says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<SlowPolicy>,
    /// Who is left out.
    #[serde(default, skip_serializing_if = "Except::is_empty")]
    pub except: Except,
    /// The other keys of an `all_of`: a session needs them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<TopicKey>,
    /// The members of an `any_of`, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<Member>,
    /// Clients are asked to acknowledge.
    #[serde(default, skip_serializing_if = "is_default")]
    pub receipt: bool,
    /// A hub reports when it handed the message to a socket of the user (a single user's realtime delivery).
    #[serde(default, skip_serializing_if = "is_default")]
    pub report: bool,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Header {
    /// A header with the defaults: published now, medium, for everyone on the topic.
    #[must_use]
    pub fn new(id: MessageId, kind: FrameKind) -> Self {
        Self {
            id,
            kind,
            at: jiff::Timestamp::now().as_millisecond(),
            priority: Priority::default(),
            expires_at: None,
            conflate: None,
            slow: None,
            except: Except::default(),
            require: Vec::new(),
            any: Vec::new(),
            receipt: false,
            report: false,
            trace: None,
        }
    }
}

/// A message as a node receives it.
#[derive(Debug, Clone)]
pub struct Message {
    /// The topic by which it came.
    pub key: TopicKey,
    /// Its place in the topic's history; none for a publish without history.
    pub position: Option<Position>,
    /// What the hub reads.
    pub header: Header,
    /// A JSON object, forwarded byte for byte.
    pub payload: Bytes,
}

/// An envelope that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEnvelope {
    /// There is no header line.
    #[error("the envelope has no header line")]
    NoHeader,
    /// The header is not what this version writes.
    #[error("the envelope's header: {0}")]
    Header(#[from] serde_json::Error),
    /// The payload is not an object's text.
    #[error("the envelope's payload is not a JSON object")]
    Payload,
}

/// Writes header line and payload as they travel between nodes.
#[must_use]
pub fn encode_envelope(header: &Header, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 160);
    // A header holds only texts, numbers and lists of them; such values always serialise.
    if serde_json::to_writer(&mut out, header).is_err() {
        out.clear();
    }
    out.push(b'\n');
    out.extend_from_slice(payload);
    out.into()
}

/// Reads what [`encode_envelope`] wrote; the payload shares the input's memory.
///
/// # Errors
/// [`InvalidEnvelope`] when another version or another program wrote it.
pub fn decode_envelope(envelope: &Bytes) -> Result<(Header, Bytes), InvalidEnvelope> {
    let end = envelope
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(InvalidEnvelope::NoHeader)?;
    let header = serde_json::from_slice(&envelope[..end])?;
    let payload = envelope.slice(end + 1..);
    if payload.first() == Some(&b'{') && payload.last() == Some(&b'}') {
        Ok((header, payload))
    } else {
        Err(InvalidEnvelope::Payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn envelopes_round_trip_and_stay_small() {
        let id = MessageId::generate();
        let mut header = Header::new(id, FrameKind::Notification);
        let envelope = encode_envelope(&header, br#"{"a":1}"#);
        assert!(envelope.len() < 120, "{}", envelope.len());
        assert_eq!(
            decode_envelope(&envelope).unwrap(),
            (header.clone(), Bytes::from_static(br#"{"a":1}"#))
        );

        header.receipt = true;
        header.require = vec![TopicKey::everyone()];
        let envelope = encode_envelope(&header, b"{}");
        assert_eq!(decode_envelope(&envelope).unwrap().0, header);
    }

    #[test]
    fn foreign_envelopes_are_refused() {
        for bad in ["", "{}", "{}\n{}", "x\n{}", "{\"id\":1}\n{}"] {
            assert!(
                decode_envelope(&Bytes::copy_from_slice(bad.as_bytes())).is_err(),
                "{bad}"
            );
        }
        let header = Header::new(MessageId::generate(), FrameKind::Message);
        assert!(decode_envelope(&encode_envelope(&header, b"[1]")).is_err());
    }

    proptest! {
        #[test]
        fn positions_round_trip(epoch: u64, offset: u64, check: u32) {
            let position = Position { epoch, offset, check };
            prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let parsed = text.parse::<Position>();
            if let Ok(position) = parsed {
                prop_assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
            }
        }
    }
}
