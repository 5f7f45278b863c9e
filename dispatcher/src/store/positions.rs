//! Positions: who becomes visible gets the next one of each of its keys, in the transaction that files its rows.

use std::collections::{BTreeMap, HashMap};

use common::{ids::NotificationId, topic::TopicKey};
use uuid::Uuid;

use super::{StoreError, sql::accept as sql, transaction::Tx};
use crate::model::Micros;

/// Positions are counted under this prefix for rows that readers filter.
pub(super) const FILTERED: &str = "x:";

/// A row of the inbox on its way: its key with prefix, and what is filtered.
pub(super) type StoredRoute = (String, Option<String>);

/// A notification that becomes visible now.
pub(super) struct Arrival {
    pub(super) id: NotificationId,
    pub(super) visible_at: Micros,
    pub(super) routes: Vec<StoredRoute>,
    /// As it is filed.
    pub(super) group: Option<String>,
}

/// The text by which rows of a group are found. PostgreSQL's text has no NUL.
pub(super) fn filed_group(group_key: &str) -> String {
    group_key.replace('\0', "\u{fffd}")
}

/// Gives positions, once a key, and files the rows.
pub(super) async fn appear(tx: &mut Tx<'_>, arrivals: &[Arrival]) -> Result<(), StoreError> {
    appear_among(tx, arrivals, &[]).await
}

/// The same, with other keys locked in the one order, of which positions are taken later in the transaction.
pub(super) async fn appear_among(
    tx: &mut Tx<'_>,
    arrivals: &[Arrival],
    others: &[String],
) -> Result<(), StoreError> {
    let mut wanted: BTreeMap<&str, i64> = others.iter().map(|key| (key.as_str(), 0)).collect();
    for (key, _) in arrivals.iter().flat_map(|arrival| &arrival.routes) {
        *wanted.entry(key.as_str()).or_default() += 1;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted = wanted
        .into_iter()
        .map(|(key, number)| (key.to_owned(), number, number))
        .collect();
    let mut next = take_positions(tx, wanted).await?;
    let rows = inbox_rows(arrivals, &mut next)?;
    if rows.is_empty() {
        return Ok(());
    }
    tx.conn.query(sql::INSERT_INBOX).rows(&rows).run().await?;
    Ok(())
}

/// Key, position, ordinal, notification, visible, filter, group.
type InboxRow<'a> = (
    &'a String,
    i64,
    i64,
    Uuid,
    Micros,
    &'a Option<String>,
    &'a Option<String>,
);

fn inbox_rows<'a>(
    arrivals: &'a [Arrival],
    next: &mut HashMap<String, (i64, i64)>,
) -> Result<Vec<InboxRow<'a>>, StoreError> {
    let mut rows = Vec::new();
    for arrival in arrivals {
        for (key, filter) in &arrival.routes {
            let Some((position, ordinal)) = next.get_mut(key.as_str()) else {
                return Err(StoreError::unreadable("counter", "missing"));
            };
            rows.push((
                key,
                *position,
                *ordinal,
                arrival.id.0,
                arrival.visible_at,
                filter,
                &arrival.group,
            ));
            *position += 1;
            *ordinal += 1;
        }
    }
    Ok(rows)
}

/// Takes positions of the feeds of keys that are sorted, of which some are for rows of the inbox; answers the first of
/// each. The keys' readers will be woken.
pub(super) async fn take_positions(
    tx: &mut Tx<'_>,
    wanted: Vec<(String, i64, i64)>,
) -> Result<HashMap<String, (i64, i64)>, StoreError> {
    let rows: Vec<(String, i64, i64)> = tx.conn.query(sql::TAKE_POSITIONS).rows(&wanted).all().await?;
    let mut last: HashMap<String, (i64, i64)> = rows
        .into_iter()
        .map(|(key, position, items)| (key, (position, items)))
        .collect();
    let mut first = HashMap::with_capacity(last.len());
    for (key, positions, items) in wanted {
        let plain = key.strip_prefix(FILTERED).unwrap_or(&key);
        tx.touched
            .push(TopicKey::parse(plain).map_err(|error| StoreError::unreadable("key", error))?);
        let (position, ordinal) = last
            .remove(&key)
            .ok_or_else(|| StoreError::unreadable("counter", "missing"))?;
        first.insert(key, (position - positions + 1, ordinal - items + 1));
    }
    Ok(first)
}
