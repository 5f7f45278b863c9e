//! What goes over the bus: the frames as clients get them, less what the hub adds, and the headers that hubs read.

use bytes::Bytes;
use common::{
    bus::Publication,
    ids::{MessageId, NotificationId, TenantId},
    message::{FrameKind, Header},
    target::Audience,
};
use serde::Serialize;

use crate::model::{Content, Kind, Lane, Micros};

/// The same message by each of its topics.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: MessageId,
    pub(super) publications: Vec<Publication>,
    pub(super) visible_at: Micros,
    pub(super) expires_at: Option<Micros>,
}

/// What a notification's frame is made of.
pub(super) struct Source<'a> {
    pub(super) id: NotificationId,
    pub(super) tenant: &'a TenantId,
    pub(super) audience: &'a Audience,
    pub(super) content: &'a Content,
    pub(super) lane: Lane,
    pub(super) created_at: Micros,
    pub(super) visible_at: Micros,
    pub(super) expires_at: Option<Micros>,
    /// To single users, whose receipts decide.
    pub(super) single: bool,
}

pub(super) fn outgoing(source: &Source<'_>) -> Outgoing {
    let id = MessageId::from(source.id);
    let mut header = Header::new(id, FrameKind::Notification);
    header.priority = source.lane.into();
    header.conflate.clone_from(&source.content.collapse_key);
    header.expires_at = source.expires_at.map(|at| at.0.div_euclid(1000));
    header.except = source.audience.except.clone();
    header.any = source.audience.target.any_members(source.tenant);
    header.receipt = source.content.receipt;
    header.report = source.single && !source.content.receipt;
    let payload = frame(source.id, source.content, source.created_at);
    let publications = source
        .audience
        .target
        .routes(source.tenant)
        .into_iter()
        .enumerate()
        .map(|(index, route)| Publication {
            key: route.key,
            header: Header {
                require: route.require,
                ..header.clone()
            },
            payload: payload.clone(),
            history: true,
            // Two members of `any_of` may go by one topic and differ in the rest: each is published once.
            idempotency_key: Some(if index == 0 {
                id.to_string()
            } else {
                format!("{id}:{index}")
            }),
        })
        .collect();
    Outgoing {
        id,
        publications,
        visible_at: source.visible_at,
        expires_at: source.expires_at,
    }
}

/// The flat frame of `docs/protocol.md`; the hub adds `topic` and `position`.
fn frame(id: NotificationId, content: &Content, created_at: Micros) -> Bytes {
    let empty = serde_json::Value::Object(serde_json::Map::new());
    payload(&NotificationFrame {
        frame: "notification",
        id,
        title: &content.title,
        content: &content.content,
        message: &content.content,
        kind: content.kind,
        priority: &content.priority,
        metadata: content.data.as_ref().unwrap_or(&empty),
        timestamp: created_at.seconds(),
        created_at: created_at.rfc3339(),
        receipt: content.receipt,
    })
}

#[derive(Serialize)]
struct NotificationFrame<'a> {
    #[serde(rename = "type")]
    frame: &'static str,
    id: NotificationId,
    title: &'a str,
    content: &'a str,
    message: &'a str,
    kind: Kind,
    priority: &'a serde_json::Value,
    metadata: &'a serde_json::Value,
    timestamp: i64,
    created_at: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    receipt: bool,
}

#[derive(Serialize)]
struct UnreadFrame {
    #[serde(rename = "type")]
    kind: &'static str,
    count: u64,
}

#[derive(Serialize)]
struct ChangedFrame<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<&'a [NotificationId]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    state: &'static str,
}

/// Tells the unread count.
pub(super) fn unread(count: u64) -> Bytes {
    payload(&UnreadFrame {
        kind: "unread",
        count,
    })
}

/// Tells that these, or all, changed to a state.
pub(super) fn changed(ids: Option<&[NotificationId]>, state: &'static str) -> Bytes {
    payload(&ChangedFrame {
        kind: "changed",
        ids,
        all: ids.is_none().then_some(true),
        state,
    })
}

fn payload(frame: &impl Serialize) -> Bytes {
    // Texts, numbers and JSON values with text keys always serialise.
    serde_json::to_vec(frame)
        .unwrap_or_else(|_| b"{}".to_vec())
        .into()
}
