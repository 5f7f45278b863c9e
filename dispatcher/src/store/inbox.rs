//! What a reader sees of notifications, and how many are unread: the union over the keys of the token at hand.

use std::collections::HashMap;

use common::ids::NotificationId;
use uuid::Uuid;

use super::{
    StoreError,
    access::Access,
    codec::{count, from_json, ids},
    keys::{Floor, Keys, floors},
    sql::inbox as sql,
};
use crate::model::{InboxItem, Micros, ReaderKeys};

/// A reader's state of one notification.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) is_read: bool,
    pub(super) read_at: Option<Micros>,
    pub(super) seen_at: Option<Micros>,
    pub(super) archived_at: Option<Micros>,
    pub(super) snoozed_until: Option<Micros>,
}

impl View {
    /// `times`: read, seen, put away, put off until.
    pub(super) fn new(ordinal: i64, floor: &Floor, times: [Option<i64>; 4], reopened: bool) -> Self {
        let [read_at, seen_at, archived_at, snoozed_until] = times.map(|time| time.map(Micros));
        let by_watermark = !reopened && ordinal <= floor.read_ordinal;
        Self {
            is_read: read_at.is_some() || by_watermark,
            read_at: read_at.or(if by_watermark { floor.read_at } else { None }),
            seen_at,
            archived_at,
            snoozed_until,
        }
    }
}

/// What a notification says, before the reader's state of it is added.
pub(super) struct Said(InboxItem);

impl Said {
    pub(super) fn seen(self, view: View) -> InboxItem {
        InboxItem {
            read_at: view.read_at,
            is_read: view.is_read,
            seen_at: view.seen_at,
            archived_at: view.archived_at,
            snoozed_until: view.snoozed_until,
            ..self.0
        }
    }
}

pub(super) async fn contents(
    conn: &mut Access<'_>,
    wanted: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Said>, StoreError> {
    let rows: Vec<(Uuid, Option<String>, String, i64)> =
        conn.query(sql::CONTENTS).list(&ids(wanted)).all().await?;
    rows.into_iter()
        .map(|(id, audience, content, created_at)| {
            let item = InboxItem {
                id: NotificationId(id),
                audience: audience.map(|text| from_json("audience", &text)).transpose()?,
                content: from_json("content", &content)?,
                created_at: Micros(created_at),
                read_at: None,
                is_read: false,
                seen_at: None,
                archived_at: None,
                snoozed_until: None,
            };
            Ok((id, Said(item)))
        })
        .collect()
}

/// A reader's receipt of one notification, and the row it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) key: String,
    pub(super) ordinal: i64,
    pub(super) delivered_at: Option<i64>,
    pub(super) seen_at: Option<i64>,
    pub(super) read_at: Option<i64>,
    pub(super) archived_at: Option<i64>,
    pub(super) deleted_at: Option<i64>,
    pub(super) snoozed_until: Option<i64>,
    pub(super) reopened: bool,
}

impl Receipt {
    /// Read, archived, deleted or put off by itself.
    pub(super) fn is_done(&self) -> bool {
        self.read_at.is_some()
            || self.archived_at.is_some()
            || self.deleted_at.is_some()
            || self.snoozed_until.is_some()
    }

    /// Whether it lies under the watermark.
    pub(super) fn is_below(&self, floor: &Floor) -> bool {
        self.ordinal <= floor.ordinal()
    }

    pub(super) fn is_unread(&self, floor: &Floor) -> bool {
        !self.is_done() && (self.reopened || !self.is_below(floor))
    }

    pub(super) fn view(&self, floor: &Floor) -> View {
        let times = [self.read_at, self.seen_at, self.archived_at, self.snoozed_until];
        View::new(self.ordinal, floor, times, self.reopened)
    }
}

type StateRow = (
    Uuid,
    String,
    i64,
    i64,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    i64,
);

/// The reader's receipts of those of these notifications that are visible to it; a deleted one is not.
pub(super) async fn states(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    keys: &Keys,
    floors: &HashMap<String, Floor>,
    wanted: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Receipt>, StoreError> {
    let rows: Vec<StateRow> = conn
        .query(sql::STATES)
        .list(&keys.plain)
        .bind(reader.user.as_str())
        .bind(reader.tenant.as_str())
        .list(&ids(wanted))
        .list(&keys.all)
        .all()
        .await?;
    let mut states: HashMap<Uuid, Receipt> = HashMap::with_capacity(rows.len());
    for row in rows {
        let (
            id,
            key,
            position,
            ordinal,
            known_key,
            known_ordinal,
            delivered,
            seen,
            read,
            archived,
            deleted,
            snoozed,
            reopened,
        ) = row;
        let floor = floors.get(&key).copied().unwrap_or_default();
        if position <= floor.since_position || deleted.is_some() {
            continue;
        }
        // A row that has a receipt keeps its place; it may be reached by several keys.
        let at_receipt = known_key.as_deref() == Some(key.as_str()) || known_key.is_none();
        let (key, ordinal) = match (known_key, known_ordinal) {
            (Some(known_key), Some(known_ordinal)) if at_receipt => (known_key, known_ordinal),
            _ => (key, ordinal),
        };
        let receipt = Receipt {
            key,
            ordinal,
            delivered_at: delivered,
            seen_at: seen,
            read_at: read,
            archived_at: archived,
            deleted_at: deleted,
            snoozed_until: snoozed,
            reopened: reopened != 0,
        };
        match states.entry(id) {
            std::collections::hash_map::Entry::Occupied(mut entry) if at_receipt => {
                drop(entry.insert(receipt))
            }
            std::collections::hash_map::Entry::Occupied(_) => {}
            std::collections::hash_map::Entry::Vacant(entry) => drop(entry.insert(receipt)),
        }
    }
    Ok(states)
}

/// The items of these ids that the reader can see.
pub(super) async fn items(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    keys: &Keys,
    floors: &HashMap<String, Floor>,
    wanted: &[Uuid],
) -> Result<HashMap<Uuid, InboxItem>, StoreError> {
    let states = states(conn, reader, keys, floors, wanted.iter().copied()).await?;
    let mut contents = contents(conn, states.keys().copied()).await?;
    Ok(states
        .into_iter()
        .filter_map(|(id, receipt)| {
            let floor = floors.get(&receipt.key).copied().unwrap_or_default();
            Some((id, contents.remove(&id)?.seen(receipt.view(&floor))))
        })
        .collect())
}

pub(super) async fn item(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    id: NotificationId,
) -> Result<Option<InboxItem>, StoreError> {
    let keys = Keys::of(reader)?;
    let floors = floors(conn, reader, &keys.all).await?;
    Ok(items(conn, reader, &keys, &floors, &[id.0]).await?.remove(&id.0))
}

/// Exact, in a time that grows with the reader's keys and with rows of expressions, not with the inbox.
pub(super) async fn unread(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    keys: &Keys,
) -> Result<u64, StoreError> {
    let plain: i64 = conn
        .query(sql::UNREAD_PLAIN)
        .bind(reader.tenant.as_str())
        .bind(reader.user.as_str())
        .list(&keys.plain)
        .scalar()
        .await?;
    let filtered: i64 = conn
        .query(sql::UNREAD_FILTERED)
        .list(&keys.plain)
        .bind(reader.user.as_str())
        .bind(reader.tenant.as_str())
        .list(&keys.filtered)
        .scalar()
        .await?;
    Ok(count(plain) + count(filtered))
}
