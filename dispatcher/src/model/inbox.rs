//! The inbox: what a reader sees, and the change feed.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{
    ids::{Name, NotificationId, TenantId},
    target::Audience,
    topic::TopicKey,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

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
    /// Only what was on a screen, or read; or only what was not.
    pub is_seen: Option<bool>,
    /// Only this kind.
    pub kind: Option<String>,
    /// Only this category.
    pub category: Option<String>,
    /// Only this group.
    pub group_key: Option<String>,
    /// Where it lies for the reader.
    pub place: Place,
    /// In pages: of each group only the newest, with the group's sums.
    pub fold: bool,
    /// At most so many.
    pub limit: u32,
    /// So many are passed over.
    pub offset: u32,
}

impl ListFilter {
    /// Whether it asks for this one.
    #[must_use]
    pub fn fits(&self, item: &InboxItem) -> bool {
        let in_place = match self.place {
            Place::Inbox => item.archived_at.is_none() && item.snoozed_until.is_none(),
            Place::Archived => item.archived_at.is_some(),
            Place::Snoozed => item.snoozed_until.is_some(),
            Place::All => true,
        };
        let is_seen = item.is_read || item.seen_at.is_some();
        let content = &item.content;
        let same =
            |wanted: &Option<String>, given: Option<&str>| wanted.is_none() || wanted.as_deref() == given;
        in_place
            && self.is_read.is_none_or(|wanted| wanted == item.is_read)
            && self.is_seen.is_none_or(|wanted| wanted == is_seen)
            && same(&self.kind, Some(content.kind.as_str()))
            && same(&self.category, content.category.as_deref())
            && same(&self.group_key, content.group_key.as_deref())
    }
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
    /// When it was on a screen.
    pub seen_at: Option<Micros>,
    /// When it was put away.
    pub archived_at: Option<Micros>,
    /// Until when it is put off.
    pub snoozed_until: Option<Micros>,
}

/// How many notifications of a group fit what is asked for, among the newest thousand of each of the reader's keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupSums {
    /// All of them.
    pub count: u64,
    /// The unread ones among them.
    pub unread: u64,
}

/// One row of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxRow {
    /// The notification; where groups are folded, the newest of its group.
    pub item: InboxItem,
    /// Where groups are folded, those of its group; else of itself.
    pub group: GroupSums,
}

/// A part of the inbox, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct InboxPage {
    /// In order.
    pub rows: Vec<InboxRow>,
    /// Where the next one begins; none: this was the last.
    pub next: Option<WalkCursor>,
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

/// Where a page of the inbox ended: of each key, rows from the first position on have been passed, and rows from the second
/// on came after the first page. Opaque to callers; a key that is missing is not on the way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WalkCursor(pub BTreeMap<String, (i64, i64)>);

/// A text that is no cursor of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this server")]
pub struct InvalidCursor;

/// The kinds of cursors, so that none is taken for another.
const FEED: u8 = 1;
const WALK: u8 = 2;

fn encode<T: Serialize>(kind: u8, keys: &BTreeMap<String, T>) -> String {
    // A map of texts to numbers always serialises.
    let json = serde_json::to_vec(&(kind, keys)).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(json)
}

fn decode<T: DeserializeOwned>(kind: u8, text: &str) -> Result<BTreeMap<String, T>, InvalidCursor> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    let (found, keys): (u8, BTreeMap<String, T>) =
        serde_json::from_slice(&json).map_err(|_| InvalidCursor)?;
    if found == kind {
        Ok(keys)
    } else {
        Err(InvalidCursor)
    }
}

impl Cursor {
    /// The text that callers keep.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(FEED, &self.0)
    }

    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidCursor`] for anything else.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let keys: BTreeMap<String, i64> = decode(FEED, text)?;
        if keys.values().all(|position| *position >= 0) {
            Ok(Self(keys))
        } else {
            Err(InvalidCursor)
        }
    }
}

impl WalkCursor {
    /// The text that callers keep.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(WALK, &self.0)
    }

    /// Reads what [`WalkCursor::encode`] wrote.
    ///
    /// # Errors
    /// [`InvalidCursor`] for anything else.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let keys: BTreeMap<String, (i64, i64)> = decode(WALK, text)?;
        if keys.values().all(|(below, end)| 0 <= *below && below <= end) {
            Ok(Self(keys))
        } else {
            Err(InvalidCursor)
        }
    }
}
