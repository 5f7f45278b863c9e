//! What readers do: marks, read-all; and taking a notification back for everyone.

use std::collections::BTreeMap;

use common::{
    audit::Origin,
    ids::{NotificationId, TenantId},
    topic::TopicKey,
};
use uuid::Uuid;

use super::{
    Mark, Marked, Reach, ReadAll, StoreError, audit, chains,
    inbox::{Receipt, states, unread},
    keys::{Floor, Keys, floors},
    positions::{FILTERED, take_positions},
    retention,
    sql::{inbox as sql, queue as queue_sql},
    stops,
    transaction::Tx,
};
use crate::model::{Micros, ReaderKeys};

/// The position of the newest row that became visible before a time, 0 for none.
pub(super) async fn newest_before(tx: &mut Tx<'_>, key: &str, time: Micros) -> Result<i64, StoreError> {
    let position: Option<i64> = tx
        .conn
        .query(sql::NEWEST_BEFORE)
        .bind(key)
        .bind(time.0)
        .scalar_optional()
        .await?;
    Ok(position.unwrap_or_default())
}

pub(super) async fn ordinal_at(tx: &mut Tx<'_>, key: &str, position: i64) -> Result<i64, StoreError> {
    let ordinal: Option<i64> = tx
        .conn
        .query(sql::ORDINAL_AT)
        .bind(key)
        .bind(position)
        .scalar_optional()
        .await?;
    Ok(ordinal.unwrap_or_default())
}

/// The receipt after a mark.
fn marked(before: &Receipt, mark: Mark, floor: &Floor, now: i64) -> Receipt {
    let mut after = before.clone();
    match mark {
        Mark::Delivered => after.delivered_at = after.delivered_at.or(Some(now)),
        Mark::Seen => {
            after.delivered_at = after.delivered_at.or(Some(now));
            after.seen_at = after.seen_at.or(Some(now));
        }
        // What the watermark covers is read already.
        Mark::Read | Mark::Acknowledged
            if after.read_at.is_none() && (after.reopened || !after.is_below(floor)) =>
        {
            after.read_at = Some(now);
            after.seen_at = after.seen_at.or(Some(now));
            after.reopened = false;
        }
        Mark::Read | Mark::Acknowledged => {}
        Mark::Unread => {
            after.read_at = None;
            after.reopened = after.is_below(floor) || after.snoozed_until.is_some();
        }
        // It lies in one place: the inbox, the archive, or among what is put off. What is unread there stays so whatever
        // the watermark passes over meanwhile.
        Mark::Snoozed(until) => {
            after.reopened = after.read_at.is_none() && (after.reopened || !after.is_below(floor));
            after.snoozed_until = Some(until.0);
            after.archived_at = None;
        }
        Mark::Woken(by) if after.snoozed_until.is_some_and(|until| until <= by.0) => {
            take_back_in(&mut after, floor);
        }
        Mark::Woken(_) => {}
        Mark::Archived => {
            take_back_in(&mut after, floor);
            after.archived_at = after.archived_at.or(Some(now));
        }
        Mark::Unarchived => after.archived_at = None,
        Mark::Deleted => {
            take_back_in(&mut after, floor);
            after.deleted_at = after.deleted_at.or(Some(now));
        }
    }
    after
}

/// No longer put off. Above the watermark a row is unread by itself.
fn take_back_in(receipt: &mut Receipt, floor: &Floor) {
    receipt.snoozed_until = None;
    receipt.reopened &= receipt.is_below(floor);
}

/// One transaction at a time works on a reader's counts and watermarks.
async fn lock(tx: &mut Tx<'_>, reader: &ReaderKeys) -> Result<(), StoreError> {
    tx.conn
        .query(sql::LOCK_READER)
        .bind(reader.tenant.as_str())
        .bind(reader.user.as_str())
        .run()
        .await?;
    Ok(())
}

pub(super) async fn mark(
    tx: &mut Tx<'_>,
    reader: &ReaderKeys,
    wanted: &[NotificationId],
    mark: Mark,
) -> Result<Marked, StoreError> {
    let keys = Keys::of(reader)?;
    if matches!(mark, Mark::Unread | Mark::Unarchived | Mark::Woken(_)) {
        // What is unread below a watermark is counted singly, which a withdrawal undoes: not at the same time.
        let ids: Vec<Uuid> = wanted.iter().map(|id| id.0).collect();
        tx.conn.query(sql::LOCK_NOTIFICATIONS).list(&ids).run().await?;
    }
    retention::hold(tx, wanted, &keys).await?;
    lock(tx, reader).await?;
    let floors = floors(&mut tx.conn, reader, &keys.all).await?;
    let mut states = states(&mut tx.conn, reader, &keys, &floors, wanted.iter().map(|id| id.0)).await?;
    let mut changed = Vec::new();
    let mut rows = Vec::new();
    let mut counts: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for id in wanted {
        // Removing makes an id that is named twice count once.
        let Some(before) = states.remove(&id.0) else {
            continue;
        };
        let floor = floors.get(&before.key).copied().unwrap_or_default();
        let after = marked(&before, mark, &floor, tx.now.0);
        if after == before {
            continue;
        }
        let delta = i64::from(after.is_unread(&floor)) - i64::from(before.is_unread(&floor));
        if delta != 0 && !after.key.starts_with(FILTERED) {
            let count = counts.entry(after.key.clone()).or_default();
            if after.is_below(&floor) {
                count.1 += delta;
            } else {
                count.0 -= delta;
            }
        }
        changed.push(*id);
        rows.push((
            id.0,
            after.key.clone(),
            after.ordinal,
            after.delivered_at,
            after.seen_at,
            after.read_at,
            after.archived_at,
            after.deleted_at,
            after.snoozed_until,
            i64::from(after.reopened),
            i64::from(after.is_done()),
        ));
    }
    if !rows.is_empty() {
        tx.conn
            .query(sql::PUT_RECEIPTS)
            .bind(reader.tenant.as_str())
            .bind(reader.user.as_str())
            .rows(&rows)
            .run()
            .await?;
    }
    if !counts.is_empty() {
        let counts: Vec<_> = counts
            .into_iter()
            .map(|(key, (done, reopened))| (key, done, reopened))
            .collect();
        tx.conn
            .query(sql::ADD_COUNTS)
            .bind(reader.tenant.as_str())
            .bind(reader.user.as_str())
            .rows(&counts)
            .bind(tx.now.0)
            .run()
            .await?;
    }
    // That a device has it or showed it is nothing that other devices have to draw.
    let op = match mark {
        Mark::Delivered | Mark::Seen => None,
        Mark::Deleted => Some("delete"),
        Mark::Read
        | Mark::Acknowledged
        | Mark::Unread
        | Mark::Archived
        | Mark::Unarchived
        | Mark::Snoozed(_)
        | Mark::Woken(_) => Some("state"),
    };
    if let Some(op) = op {
        own_changes(tx, reader, op, changed.iter().map(|id| Some(id.0)).collect()).await?;
    }
    chains::marked(tx, reader, wanted, mark).await?;
    Ok(Marked {
        changed,
        unread: unread(&mut tx.conn, reader, &keys).await?,
    })
}

/// A user's own changes take positions of the user's key.
async fn own_changes(
    tx: &mut Tx<'_>,
    reader: &ReaderKeys,
    op: &str,
    ids: Vec<Option<Uuid>>,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let key = TopicKey::user(&reader.tenant, &reader.user);
    let number = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    let first = take_positions(tx, vec![(key.as_str().to_owned(), number, 0)]).await?;
    let (first, _) = first.get(key.as_str()).copied().unwrap_or_default();
    let rows: Vec<_> = (first..)
        .zip(&ids)
        .map(|(position, id)| (key.as_str(), position, op, *id, tx.now))
        .collect();
    tx.conn.query(sql::INSERT_CHANGES).rows(&rows).run().await?;
    Ok(())
}

pub(super) async fn mark_all_read(
    tx: &mut Tx<'_>,
    reader: &ReaderKeys,
    reach: &Reach,
) -> Result<ReadAll, StoreError> {
    let keys = Keys::of(reader)?;
    lock(tx, reader).await?;
    let counters: Vec<(String, i64, i64, i64)> = tx.conn.query(sql::COUNTERS).list(&keys.all).all().await?;
    // What arrives from here on stays unread, and may be in either count.
    let before = unread(&mut tx.conn, reader, &keys).await?;
    let items: i64 = counters.iter().map(|(_, _, items, _)| items).sum();
    let mut marks = Vec::with_capacity(counters.len());
    // The feed names a time: up to the first row that stays unread.
    let mut at = tx.now.0;
    for (key, position, items, _) in counters {
        let named = match reach {
            Reach::Cursor(cursor) => cursor.0.get(&key).copied().unwrap_or_default().min(position),
            Reach::Time(time) if *time <= tx.now => newest_before(tx, &key, *time).await?,
            Reach::Now | Reach::Time(_) => {
                marks.push((key, position, items));
                continue;
            }
        };
        let next: Option<i64> = tx
            .conn
            .query(sql::FIRST_AFTER)
            .bind(&key)
            .bind(named)
            .scalar_optional()
            .await?;
        at = at.min(next.map_or(i64::MAX, |next| next - 1));
        let ordinal = ordinal_at(tx, &key, named).await?;
        marks.push((key, named, ordinal));
    }
    for statement in [sql::RAISE_WATERMARKS, sql::CLOSE_REOPENED, sql::RECOUNT] {
        tx.conn
            .query(statement)
            .bind(reader.tenant.as_str())
            .bind(reader.user.as_str())
            .rows(&marks)
            .bind(tx.now.0)
            .run()
            .await?;
    }
    let unread = unread(&mut tx.conn, reader, &keys).await?;
    let count = before.saturating_sub(unread);
    if count > 0 || (before > 0 && arrived_since(tx, &keys, items).await?) {
        read_all_entry(tx, reader, at).await?;
    }
    let own = TopicKey::user(&reader.tenant, &reader.user);
    if let Some((_, position, _)) = marks.iter().find(|(key, ..)| *key == own.as_str()) {
        chains::read_up_to(tx, reader, *position).await?;
    }
    Ok(ReadAll { count, unread })
}

/// Whether the keys got rows from another transaction since they had so many.
async fn arrived_since(tx: &mut Tx<'_>, keys: &Keys, items: i64) -> Result<bool, StoreError> {
    let counters: Vec<(String, i64, i64, i64)> = tx.conn.query(sql::COUNTERS).list(&keys.all).all().await?;
    Ok(counters.iter().map(|(_, _, items, _)| items).sum::<i64>() > items)
}

async fn read_all_entry(tx: &mut Tx<'_>, reader: &ReaderKeys, at: i64) -> Result<(), StoreError> {
    let now = std::mem::replace(&mut tx.now, Micros(at));
    let result = own_changes(tx, reader, "read_all", vec![None]).await;
    tx.now = now;
    result
}

/// Takes a notification back for everyone: its rows stay as tombstones, what was not yet sent is cancelled, see [`stops`].
pub(super) async fn withdraw(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: NotificationId,
    by: &Origin,
) -> Result<bool, StoreError> {
    let is_there = take_back(tx, tenant, id, "withdrawn").await?;
    if is_there {
        let entry = by.did("notification.withdraw", "notification", id);
        audit::append(tx, &[entry]).await?;
    }
    Ok(is_there)
}

/// The same for a reason, which its cancelled deliveries tell.
pub(super) async fn take_back(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: NotificationId,
    reason: &'static str,
) -> Result<bool, StoreError> {
    let is_there = take_rows_back(tx, tenant, id, reason).await?;
    if is_there {
        chains::withdrawn(tx, id, reason).await?;
    }
    Ok(is_there)
}

async fn take_rows_back(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: NotificationId,
    reason: &'static str,
) -> Result<bool, StoreError> {
    let visible_at: Option<i64> = tx
        .conn
        .query(sql::WITHDRAW)
        .bind(id.0)
        .bind(tenant.as_str())
        .scalar_optional()
        .await?;
    let Some(visible_at) = visible_at else {
        return Ok(false);
    };
    tx.conn
        .query(queue_sql::CANCEL_SCHEDULED)
        .bind(visible_at)
        .bind(id.0)
        .run()
        .await?;
    // The job first: a page that is on its way holds its row, and its deliveries are seen by what follows.
    tx.conn
        .query(queue_sql::CANCEL_JOB)
        .bind(id.0)
        .bind(tx.now.0)
        .run()
        .await?;
    stops::begin(tx, id, reason).await?;
    let mut keys: Vec<String> = tx.conn.query(sql::WITHDRAW_ROWS).bind(id.0).scalars().await?;
    if keys.is_empty() {
        return Ok(true);
    }
    keys.sort_unstable();
    keys.dedup();
    for statement in [sql::UNCOUNT_REOPENED, sql::CLEAR_REOPENED] {
        tx.conn.query(statement).bind(id.0).run().await?;
    }
    let first = take_positions(tx, keys.into_iter().map(|key| (key, 1, 0)).collect()).await?;
    let rows: Vec<_> = first
        .iter()
        .map(|(key, (position, _))| (key, *position, "withdraw", id.0, tx.now))
        .collect();
    tx.conn.query(sql::INSERT_CHANGES).rows(&rows).run().await?;
    Ok(true)
}

/// Forgets entries of the feed that are older than is promised, a bounded number; cursors before them are told to read
/// the inbox again.
pub(super) async fn prune_changes(tx: &mut Tx<'_>, limit: u32) -> Result<u64, StoreError> {
    let oldest = tx.now.minus(tx.config.feed_retention);
    let rows: Vec<(String, i64)> = tx
        .conn
        .query(sql::OLD_CHANGES)
        .bind(oldest.0)
        .bind(i64::from(limit))
        .all()
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    tx.conn.query(sql::RAISE_FLOORS).rows(&rows).run().await?;
    let pruned = tx.conn.query(sql::PRUNE_CHANGES).rows(&rows).run().await?;
    Ok(pruned)
}
