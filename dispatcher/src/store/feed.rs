//! The change feed: what happened under a reader's keys after a cursor.

use std::collections::{BTreeMap, HashMap, HashSet};

use common::ids::NotificationId;
use uuid::Uuid;

use super::{
    ChangesResult, StoreError,
    access::Access,
    inbox::items,
    keys::{Keys, floors},
    sql::inbox as sql,
};
use crate::model::{Change, Changes, Cursor, Micros, ReaderKeys};

/// An entry before the reader's state is looked up.
enum Entry {
    Arrived(Uuid),
    State(Uuid),
    Gone(Uuid),
    ReadAll(i64),
}

/// Entries of the user's own key come first, and read-alls before everything: items carry the state at hand, so that
/// applying in this order ends with it.
pub(super) async fn changes(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<ChangesResult, StoreError> {
    let keys = Keys::of(reader)?;
    let counters: Vec<(String, i64, i64, i64)> = conn.query(sql::COUNTERS).list(&keys.all).all().await?;
    let counters: BTreeMap<String, (i64, i64)> = counters
        .into_iter()
        .map(|(key, position, _, floor)| (key, (position, floor)))
        .collect();
    let Some(after) = after else {
        let cursor = Cursor(
            counters
                .into_iter()
                .map(|(key, (position, _))| (key, position))
                .collect(),
        );
        return Ok(ChangesResult::Changes(Changes {
            changes: Vec::new(),
            cursor,
            more: false,
        }));
    };
    let floors = floors(conn, reader, &keys.all).await?;
    let mut cursor = BTreeMap::new();
    let mut entries = Vec::new();
    let mut left = limit.max(1) as usize;
    let mut more = false;
    for key in keys.all() {
        let begin = floors.get(key).map_or(0, |floor| floor.since_position);
        let Some(&(position, floor)) = counters.get(key) else {
            match after.0.get(key) {
                // Of another database: here the key never got anything.
                Some(named) if *named > 0 => return Ok(ChangesResult::Resync),
                _ => continue,
            }
        };
        let start = match after.0.get(key).copied() {
            Some(named) if named > position => return Ok(ChangesResult::Resync),
            Some(named) if named < floor && named >= begin => return Ok(ChangesResult::Resync),
            // What lies before the key's first sight is not for this reader.
            Some(named) => named.max(begin),
            None => begin,
        };
        if start >= position {
            cursor.insert(key.to_owned(), position);
            continue;
        }
        if left == 0 {
            cursor.insert(key.to_owned(), start);
            more = true;
            continue;
        }
        let mut of_key = key_entries(conn, reader, &keys, key, start, left).await?;
        if of_key.len() > left {
            of_key.truncate(left);
            more = true;
            cursor.insert(
                key.to_owned(),
                of_key.last().map_or(start, |(position, _)| *position),
            );
        } else {
            cursor.insert(key.to_owned(), position);
        }
        left -= of_key.len();
        entries.extend(of_key.into_iter().map(|(_, entry)| entry));
    }
    let changes = resolve(conn, reader, &keys, entries).await?;
    Ok(ChangesResult::Changes(Changes {
        changes,
        cursor: Cursor(cursor),
        more,
    }))
}

/// Up to `left` entries and one more, in the order of their positions.
async fn key_entries(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    keys: &Keys,
    key: &str,
    start: i64,
    left: usize,
) -> Result<Vec<(i64, Entry)>, StoreError> {
    let limit = i64::try_from(left).unwrap_or(i64::MAX).saturating_add(1);
    let arrivals: Vec<(i64, Uuid)> = conn
        .query(sql::FEED_ARRIVALS)
        .list(&keys.plain)
        .bind(reader.user.as_str())
        .bind(key)
        .bind(start)
        .bind(limit)
        .all()
        .await?;
    let changes: Vec<(i64, String, Option<Uuid>, i64)> = conn
        .query(sql::FEED_CHANGES)
        .list(&keys.plain)
        .bind(reader.user.as_str())
        .bind(key)
        .bind(start)
        .bind(limit)
        .all()
        .await?;
    let mut entries: Vec<(i64, Entry)> = arrivals
        .into_iter()
        .map(|(position, id)| (position, Entry::Arrived(id)))
        .collect();
    for (position, op, id, at) in changes {
        let entry = match (op.as_str(), id) {
            ("state", Some(id)) => Entry::State(id),
            ("delete" | "withdraw", Some(id)) => Entry::Gone(id),
            ("read_all", _) => Entry::ReadAll(at),
            _ => return Err(StoreError::unreadable("change", op)),
        };
        entries.push((position, entry));
    }
    entries.sort_unstable_by_key(|(position, _)| *position);
    Ok(entries)
}

/// Adds the state at hand; of several entries for one notification the last is kept.
async fn resolve(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    keys: &Keys,
    entries: Vec<Entry>,
) -> Result<Vec<Change>, StoreError> {
    let floors = floors(conn, reader, &keys.all).await?;
    let mut last: HashMap<Uuid, usize> = HashMap::with_capacity(entries.len());
    let mut gone = HashSet::new();
    let mut read_all = None;
    let mut arrived = HashSet::new();
    for (at, entry) in entries.iter().enumerate() {
        match entry {
            Entry::Arrived(id) => {
                arrived.insert(*id);
                last.insert(*id, at);
            }
            Entry::State(id) => {
                last.insert(*id, at);
            }
            Entry::Gone(id) => {
                gone.insert(*id);
                last.insert(*id, at);
            }
            Entry::ReadAll(time) => read_all = read_all.max(Some(*time)),
        }
    }
    let wanted: Vec<Uuid> = last.keys().copied().collect();
    let mut items = if wanted.is_empty() {
        HashMap::new()
    } else {
        items(conn, reader, keys, &floors, &wanted).await?
    };
    let mut changes: Vec<Change> = read_all
        .map(|time| Change::ReadAll(Micros(time)))
        .into_iter()
        .collect();
    for (at, entry) in entries.into_iter().enumerate() {
        let (Entry::Arrived(id) | Entry::State(id) | Entry::Gone(id)) = entry else {
            continue;
        };
        if last.get(&id) != Some(&at) {
            continue;
        }
        match items.remove(&id) {
            Some(item) if arrived.contains(&id) => changes.push(Change::Upsert(Box::new(item))),
            Some(item) => changes.push(Change::State(Box::new(item))),
            None if gone.contains(&id) => changes.push(Change::Delete(NotificationId(id))),
            // Deleted later: its own entry follows, or came before.
            None => {}
        }
    }
    Ok(changes)
}
