//! The inbox: what a reader sees, and the change feed.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{
    ids::{Name, NotificationId, TenantId},
    target::Audience,
    topic::TopicKey,
};
use serde::{Deserialize, Serialize};

use super::{Content, Micros};

/// A reader and the keys of the token at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderKeys {
    /// The tenant.
    pub tenant: TenantId,
    /// The user.
    pub user: Name,
    /// The user's own key first, then roles, stores, tenant, everyone.
    pub keys: Vec<TopicKey>,
}

/// Where a notification lies for its reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Place {
    /// In the inbox: neither put away nor put off.
    #[default]
    Inbox,
    /// Put away.
    Archived,
    /// Put off until a time.
    Snoozed,
    /// Anywhere.
    All,
}

impl Place {
    /// The name in statements and queries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Archived => "archived",
            Self::Snoozed => "snoozed",
            Self::All => "all",
        }
    }
}

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only read or only unread.
    pub is_read: Option<bool>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this category.
    pub category: Option<String>,
    /// Only this group.
    pub group_key: Option<String>,
    /// Where it lies for the reader.
    pub place: Place,
    /// At most so many.
    pub limit: u32,
    /// So many are passed over.
    pub offset: u32,
}

/// One notification as its reader sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxItem {
    /// The notification.
    pub id: NotificationId,
    /// To whom it was sent.
    pub audience: Option<Audience>,
    /// What is said.
    pub content: Content,
    /// When it was accepted.
    pub created_at: Micros,
    /// When the reader read it; the watermark's time where it was read with all others.
    pub read_at: Option<Micros>,
    /// Whether it counts as read.
    pub is_read: bool,
    /// When it was put away.
    pub archived_at: Option<Micros>,
    /// Until when it is put off.
    pub snoozed_until: Option<Micros>,
}

/// One entry of the change feed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A notification arrived, or became visible.
    Upsert(Box<InboxItem>),
    /// The reader's state of a notification changed; the state at hand, not that of the entry's time.
    State(Box<InboxItem>),
    /// It is gone for the reader.
    Delete(NotificationId),
    /// All up to here are read.
    ReadAll(Micros),
}

/// A part of the change feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// In an order that applies.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub cursor: Cursor,
    /// There is more right now.
    pub more: bool,
}

/// A vector of positions over the reader's keys. Opaque to callers; needs no row to exist. A key that is missing in it
/// is new to the caller and begins at the key's first sight.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor(pub BTreeMap<String, i64>);

/// A text that is no cursor of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this server")]
pub struct InvalidCursor;

impl Cursor {
    /// The text that callers keep.
    #[must_use]
    pub fn encode(&self) -> String {
        // A map of texts to numbers always serialises.
        let json = serde_json::to_vec(&(1, &self.0)).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    }

    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidCursor`] for anything else.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (version, keys): (u8, BTreeMap<String, i64>) =
            serde_json::from_slice(&json).map_err(|_| InvalidCursor)?;
        if version == 1 && keys.values().all(|position| *position >= 0) {
            Ok(Self(keys))
        } else {
            Err(InvalidCursor)
        }
    }
}
