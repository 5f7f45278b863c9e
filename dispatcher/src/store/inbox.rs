//! What a reader sees: the union over the keys of the token at hand.

use std::collections::{HashMap, HashSet, VecDeque};

use common::ids::NotificationId;
use uuid::Uuid;

use super::{
    StoreError,
    access::Access,
    codec::{count, from_json, ids},
    keys::{Floor, Keys, floors},
    sql::inbox as sql,
};
use crate::model::{InboxItem, ListFilter, Micros, Place, ReaderKeys};

/// A row on its way into the list.
struct Listed {
    id: Uuid,
    visible_at: i64,
    view: View,
}

/// A reader's state of one notification.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) is_read: bool,
    pub(super) read_at: Option<Micros>,
    pub(super) archived_at: Option<Micros>,
    pub(super) snoozed_until: Option<Micros>,
}

impl View {
    fn new(
        ordinal: i64,
        floor: &Floor,
        read_at: Option<i64>,
        archived_at: Option<i64>,
        snoozed_until: Option<i64>,
        reopened: bool,
    ) -> Self {
        let by_watermark = !reopened && ordinal <= floor.read_ordinal;
        Self {
            is_read: read_at.is_some() || by_watermark,
            read_at: read_at
                .map(Micros)
                .or(if by_watermark { floor.read_at } else { None }),
            archived_at: archived_at.map(Micros),
            snoozed_until: snoozed_until.map(Micros),
        }
    }
}

type ListRow = (Uuid, i64, i64, Option<i64>, Option<i64>, Option<i64>, i64);

/// Newest first. Each key's rows come in the order of their positions, and the heads are merged by time and id, so that
/// pages neither repeat nor miss a row while nothing arrives.
pub(super) async fn list(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    filter: &ListFilter,
) -> Result<Vec<InboxItem>, StoreError> {
    let keys = Keys::of(reader)?;
    let floors = floors(conn, reader, &keys.all).await?;
    let wanted = i64::from(filter.offset) + i64::from(filter.limit);
    if filter.limit == 0 {
        return Ok(Vec::new());
    }
    let mut sources: Vec<VecDeque<Listed>> = Vec::new();
    // Most keys of most readers never had a row.
    let counters: Vec<(String, i64, i64, i64)> = conn.query(sql::COUNTERS).list(&keys.all).all().await?;
    for (key, ..) in counters.iter().filter(|(_, _, items, _)| *items > 0) {
        let key = key.as_str();
        let floor = floors.get(key).copied().unwrap_or_default();
        // Below the watermark only what was reopened is unread.
        let unread_only = filter.is_read == Some(false)
            && filter.place == Place::Inbox
            && floor.read_position > floor.since_position;
        let after = if unread_only {
            floor.read_position
        } else {
            floor.since_position
        };
        let queries = [
            (sql::LIST, after, true),
            (sql::LIST_REOPENED, floor.since_position, unread_only),
        ];
        for (statement, after, _) in queries.into_iter().filter(|(.., asked)| *asked) {
            let rows: Vec<ListRow> = conn
                .query(statement)
                .list(&keys.plain)
                .bind(reader.user.as_str())
                .bind(reader.tenant.as_str())
                .bind(key)
                .bind(after)
                .bind(floor.read_ordinal)
                .bind(filter.is_read)
                .bind(&filter.kind)
                .bind(&filter.category)
                .bind(wanted)
                .bind(filter.place.as_str())
                .bind(&filter.group_key)
                .all()
                .await?;
            let listed = rows.into_iter().map(
                |(id, visible_at, ordinal, read_at, archived_at, snoozed, reopened)| Listed {
                    id,
                    visible_at,
                    view: View::new(ordinal, &floor, read_at, archived_at, snoozed, reopened != 0),
                },
            );
            sources.push(listed.collect());
        }
    }
    let page = merge(sources, wanted).split_off_at(filter.offset as usize);
    let mut contents = contents(conn, page.iter().map(|row| row.id)).await?;
    Ok(page
        .into_iter()
        .filter_map(|row| contents.remove(&row.id).map(|content| content.seen(row.view)))
        .collect())
}

trait SplitOffAt {
    fn split_off_at(self, at: usize) -> Self;
}

impl<T> SplitOffAt for Vec<T> {
    /// What is left after so many, also where there are fewer.
    fn split_off_at(mut self, at: usize) -> Self {
        self.split_off(at.min(self.len()))
    }
}

/// The newest of several ordered sources, each id once.
fn merge(mut sources: Vec<VecDeque<Listed>>, wanted: i64) -> Vec<Listed> {
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let mut merged = Vec::new();
    let mut seen = HashSet::new();
    while merged.len() < wanted {
        let newest = sources
            .iter_mut()
            .filter(|source| !source.is_empty())
            .max_by_key(|source| source.front().map(|row| (row.visible_at, row.id)));
        let Some(row) = newest.and_then(VecDeque::pop_front) else {
            break;
        };
        if seen.insert(row.id) {
            merged.push(row);
        }
    }
    merged
}

/// What a notification says, before the reader's state of it is added.
pub(super) struct Said(InboxItem);

impl Said {
    pub(super) fn seen(self, view: View) -> InboxItem {
        InboxItem {
            read_at: view.read_at,
            is_read: view.is_read,
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
        View::new(
            self.ordinal,
            floor,
            self.read_at,
            self.archived_at,
            self.snoozed_until,
            self.reopened,
        )
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
