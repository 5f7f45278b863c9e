//! The inbox in lists and pages.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    StoreError,
    access::{Access, Query, Statement},
    codec::count,
    inbox::contents,
    keys::{Keys, floors},
    sql::{inbox as inbox_sql, lists as sql},
    walk::{KeyPart, Listed, Walk},
};
use crate::model::{GroupSums, InboxItem, InboxPage, InboxRow, ListFilter, ReaderKeys, WalkCursor};

/// Positions that one page looks at, of all keys: beyond it a page may be short, or empty, and still have a next one.
const LOOK: i64 = 10_000;

/// Newest first.
pub(super) async fn list(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    filter: &ListFilter,
) -> Result<Vec<InboxItem>, StoreError> {
    let keys = Keys::of(reader)?;
    let floors = floors(conn, reader, &keys.all).await?;
    let counters: Vec<(String, i64, i64, i64)> =
        conn.query(inbox_sql::COUNTERS).list(&keys.all).all().await?;
    let mut walk = Walk::new(reader, &keys, &floors, &counters, filter, None, i64::MAX);
    let offset = filter.offset as usize;
    let mut rows = walk
        .take(conn, offset.saturating_add(filter.limit as usize))
        .await?;
    let page = rows.split_off(offset.min(rows.len()));
    let mut contents = contents(conn, page.iter().map(|row| row.id)).await?;
    Ok(page
        .into_iter()
        .filter_map(|row| contents.remove(&row.id).map(|content| content.seen(row.view)))
        .collect())
}

/// Newest first, from the top or from where a page ended. Pages neither repeat nor miss a row of the inbox as it was when
/// the first one was made; what arrived since is in the change feed.
pub(super) async fn page(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    filter: &ListFilter,
    from: Option<&WalkCursor>,
) -> Result<InboxPage, StoreError> {
    let keys = Keys::of(reader)?;
    let floors = floors(conn, reader, &keys.all).await?;
    let counters: Vec<(String, i64, i64, i64)> =
        conn.query(inbox_sql::COUNTERS).list(&keys.all).all().await?;
    let mut walk = Walk::new(reader, &keys, &floors, &counters, filter, from, LOOK);
    let limit = filter.limit as usize;
    let mut rows: Vec<(Listed, GroupSums)> = Vec::with_capacity(limit);
    while rows.len() < limit {
        let mut found = walk.take(conn, limit - rows.len()).await?;
        if found.is_empty() {
            break;
        }
        if from.is_some() {
            let passed = passed(conn, reader, &keys, &walk, &found).await?;
            found.retain(|row| !passed.contains(&row.id));
            if filter.fold {
                // An earlier page has their newest.
                let parts = walk.passed();
                let query = of_groups(conn, sql::GROUPS_THERE, reader, &keys, filter, &parts, &found);
                let passed: HashSet<String> = query.scalars::<String>().await?.into_iter().collect();
                found.retain(|row| row.group.as_ref().is_none_or(|group| !passed.contains(group)));
            }
        }
        let mut sums = HashMap::new();
        if filter.fold {
            let query = of_groups(conn, sql::GROUPS, reader, &keys, filter, &walk.whole(), &found);
            for (group, all, unread) in query.all::<(String, i64, i64)>().await? {
                let (count, unread) = (count(all), count(unread));
                sums.insert(group, GroupSums { count, unread });
            }
        }
        for row in found {
            // Without a group, or below those of its group that are counted.
            let alone = GroupSums {
                count: 1,
                unread: u64::from(!row.view.is_read),
            };
            let sums = row.group.as_ref().and_then(|group| sums.remove(group));
            rows.push((row, sums.unwrap_or(alone)));
        }
    }
    let next = walk.stands(conn).await?;
    let mut contents = contents(conn, rows.iter().map(|(row, _)| row.id)).await?;
    let rows = rows
        .into_iter()
        .filter_map(|(row, sums)| {
            Some(InboxRow {
                item: contents.remove(&row.id)?.seen(row.view),
                group: sums,
            })
        })
        .collect();
    Ok(InboxPage { rows, next })
}

/// Which of these an earlier page has shown by another key.
async fn passed(
    conn: &mut Access<'_>,
    reader: &ReaderKeys,
    keys: &Keys,
    walk: &Walk<'_>,
    found: &[Listed],
) -> Result<HashSet<Uuid>, StoreError> {
    let filtered: Vec<Uuid> = found
        .iter()
        .filter(|row| row.is_filtered)
        .map(|row| row.id)
        .collect();
    if filtered.is_empty() {
        return Ok(HashSet::new());
    }
    let parts: Vec<_> = walk
        .passed()
        .into_iter()
        .map(|(key, after, before, _)| (key, after, before))
        .collect();
    let passed: Vec<Uuid> = conn
        .query(sql::PASSED)
        .list(&keys.plain)
        .bind(reader.user.as_str())
        .list(&filtered)
        .rows(&parts)
        .scalars()
        .await?;
    Ok(passed.into_iter().collect())
}

/// A question about the groups of these.
fn of_groups<'c>(
    conn: &'c mut Access<'_>,
    statement: Statement,
    reader: &ReaderKeys,
    keys: &Keys,
    filter: &ListFilter,
    parts: &[KeyPart<'_>],
    found: &[Listed],
) -> Query<'c> {
    let names: Vec<&str> = found.iter().filter_map(|row| row.group.as_deref()).collect();
    conn.query(statement)
        .list(&keys.plain)
        .bind(reader.user.as_str().to_owned())
        .bind(reader.tenant.as_str().to_owned())
        .bind(filter.place.as_str())
        .bind(filter.is_read)
        .bind(filter.is_seen)
        .bind(filter.kind.clone())
        .bind(filter.category.clone())
        .list(&names)
        .rows(parts)
}
