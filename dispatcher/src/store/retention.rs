//! Forgetting what is old.
//!
//! Rows of inboxes go first, the oldest of a key, with the receipts for them. A key's ordinals up to the last one that went
//! count as seen (`counters.gone`), its positions up to there as missed (`counters.floor`), and what receipts added to
//! readers' counts is taken out in the same transaction: so unread counts stay exact, and cursors are told to read again.
//! Notifications follow when nothing needs them: no row, no delivery on its way or lately ended, no time to come.
//!
//! Each step is one transaction with a bounded number of rows. Several processes may do the same at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use common::ids::NotificationId;
use uuid::Uuid;

use super::{
    StoreError, audit, chains, codec::count, dead, history::id_at, keys::Keys, positions::FILTERED,
    sql::retention as sql, transaction::Tx,
};
use crate::model::Micros;

/// Rows of one key, and rows of all keys, that one step looks at.
const ROWS: i64 = 200;

/// Receipts that one step deletes, more or less: those of one row at least.
const RECEIPTS: i64 = 5000;

/// Notifications that one step deletes.
const NOTIFICATIONS: i64 = 500;

/// Months for which there is room ahead.
const MONTHS: i64 = 3;

/// Rows that become old within this time are held while a reader marks them.
const SOON: std::time::Duration = std::time::Duration::from_hours(1);

/// A row of an inbox.
struct Row {
    key: String,
    position: i64,
    ordinal: i64,
    notification: Uuid,
}

/// One step. Answers how much it forgot.
pub(super) async fn forget(tx: &mut Tx<'_>, limit: u32) -> Result<u64, StoreError> {
    let entries = audit::forget(tx).await?;
    if entries > 0 || tx.config.retention.is_zero() {
        return Ok(entries);
    }
    let before = tx.now.minus(tx.config.retention);
    let rows = forget_rows(tx, before).await?;
    if rows > 0 {
        return Ok(rows);
    }
    let notifications = forget_notifications(tx, before, i64::from(limit)).await?;
    if notifications > 0 {
        return Ok(notifications);
    }
    let ended = chains::forget(tx, before, i64::from(limit)).await?;
    if ended > 0 {
        return Ok(ended);
    }
    let edits = dead::forget_edits(tx, before, i64::from(limit)).await?;
    if edits > 0 {
        return Ok(edits);
    }
    let months: i64 = tx.conn.query(sql::FORGET_MONTH).bind(before.0).scalar().await?;
    Ok(count(months))
}

pub(super) async fn make_room(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let made: i64 = tx
        .conn
        .query(sql::ENSURE_PARTITIONS)
        .bind(MONTHS)
        .scalar()
        .await?;
    Ok(count(made))
}

/// Keeps rows that a reader marks from being forgotten until the transaction ends: a receipt for a row that has gone would
/// be counted.
pub(super) async fn hold(tx: &mut Tx<'_>, ids: &[NotificationId], keys: &Keys) -> Result<(), StoreError> {
    if tx.config.retention.is_zero() {
        return Ok(());
    }
    let before = tx.now.minus(tx.config.retention).plus(SOON);
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    tx.conn
        .query(sql::LOCK_OLD_ROWS)
        .list(&ids)
        .list(&keys.all)
        .bind(before.0)
        .run()
        .await?;
    Ok(())
}

/// The rows that can go, in groups that go together, in the order in which those of a key have to.
async fn old_rows(tx: &mut Tx<'_>, before: Micros) -> Result<Vec<Vec<Row>>, StoreError> {
    let oldest: Vec<(String, Uuid)> = tx
        .conn
        .query(sql::OLD_ROWS)
        .bind(before.0)
        .bind(ROWS)
        .all()
        .await?;
    let (filtered, plain): (Vec<_>, Vec<_>) =
        oldest.into_iter().partition(|(key, _)| key.starts_with(FILTERED));
    let mut groups = Vec::new();
    for key in plain.into_iter().map(|(key, _)| key).collect::<BTreeSet<_>>() {
        let rows: Vec<(i64, i64, Uuid, i64)> =
            tx.conn.query(sql::FIRST_ROWS).bind(&key).bind(ROWS).all().await?;
        // Ordinals are forgotten without a gap, so an older row waits for a younger one before it.
        let old = rows.into_iter().take_while(|(.., at)| *at < before.0);
        groups.extend(old.map(|(position, ordinal, notification, _)| {
            vec![Row {
                key: key.clone(),
                position,
                ordinal,
                notification,
            }]
        }));
    }
    let ids: BTreeSet<Uuid> = filtered.into_iter().map(|(_, id)| id).collect();
    if !ids.is_empty() {
        let rows: Vec<(String, i64, i64, Uuid)> = tx
            .conn
            .query(sql::FILTERED_ROWS)
            .list(&ids.into_iter().collect::<Vec<_>>())
            .all()
            .await?;
        // A reader's receipt lies under one of a notification's keys and counts for all.
        let mut together: BTreeMap<Uuid, Vec<Row>> = BTreeMap::new();
        for (key, position, ordinal, notification) in rows {
            together.entry(notification).or_default().push(Row {
                key,
                position,
                ordinal,
                notification,
            });
        }
        groups.extend(together.into_values());
    }
    Ok(groups)
}

async fn forget_rows(tx: &mut Tx<'_>, before: Micros) -> Result<u64, StoreError> {
    let groups = old_rows(tx, before).await?;
    if groups.is_empty() {
        return Ok(0);
    }
    let ids: BTreeSet<Uuid> = groups.iter().flatten().map(|row| row.notification).collect();
    let receipts: Vec<(Uuid, i64)> = tx
        .conn
        .query(sql::COUNT_RECEIPTS)
        .list(&ids.into_iter().collect::<Vec<_>>())
        .all()
        .await?;
    let rows = within(groups, &receipts.into_iter().collect());
    let places: Vec<(&str, i64)> = rows.iter().map(|row| (row.key.as_str(), row.position)).collect();
    let marks: Vec<(&str, Uuid)> = rows
        .iter()
        .map(|row| (row.key.as_str(), row.notification))
        .collect();
    // In the order in which a mark holds them: rows, readers, counters.
    tx.conn.query(sql::DELETE_ROWS).rows(&places).run().await?;
    for statement in [sql::LOCK_READERS, sql::UNCOUNT, sql::DELETE_RECEIPTS] {
        tx.conn.query(statement).rows(&marks).run().await?;
    }
    tx.conn.query(sql::RAISE_GONE).rows(&gone(&rows)).run().await?;
    Ok(rows.len() as u64)
}

/// As many groups as have no more receipts than a step deletes, and one at least.
fn within(groups: Vec<Vec<Row>>, receipts: &HashMap<Uuid, i64>) -> Vec<Row> {
    let mut sum = 0;
    groups
        .into_iter()
        .take_while(|group| {
            let first = sum == 0;
            let receipts = group
                .first()
                .and_then(|row| receipts.get(&row.notification).copied());
            // Counting the row itself bounds the groups too.
            sum += receipts.unwrap_or_default() + 1;
            first || sum <= RECEIPTS
        })
        .flatten()
        .collect()
}

/// How far each key is gone: position and ordinal. Rows of expressions are counted singly, and have no use for ordinals.
fn gone(rows: &[Row]) -> Vec<(&str, i64, i64)> {
    let mut gone: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for row in rows {
        let last = gone.entry(&row.key).or_default();
        last.0 = last.0.max(row.position);
        if !row.key.starts_with(FILTERED) {
            last.1 = last.1.max(row.ordinal);
        }
    }
    gone.into_iter()
        .map(|(key, (position, ordinal))| (key, position, ordinal))
        .collect()
}

async fn forget_notifications(tx: &mut Tx<'_>, before: Micros, limit: i64) -> Result<u64, StoreError> {
    let ids: Vec<Uuid> = tx
        .conn
        .query(sql::OLD_NOTIFICATIONS)
        .bind(id_at(before))
        .bind(before.0)
        .bind(limit.clamp(1, NOTIFICATIONS))
        .scalars()
        .await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let limit = limit.max(1);
    let deliveries: Vec<Uuid> = tx
        .conn
        .query(sql::OLD_DELIVERIES)
        .list(&ids)
        .bind(limit)
        .scalars()
        .await?;
    for statement in [sql::DELETE_ATTEMPTS, sql::DELETE_DELIVERIES] {
        tx.conn.query(statement).list(&deliveries).run().await?;
    }
    // A group's deliveries may be many: then it goes with a later step.
    if deliveries.len() as u64 >= limit.unsigned_abs() {
        return Ok(deliveries.len() as u64);
    }
    for statement in [sql::DELETE_JOBS, sql::DELETE_NOTIFICATIONS] {
        tx.conn.query(statement).list(&ids).run().await?;
    }
    Ok(ids.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, place: i64, notification: u128) -> Row {
        Row {
            key: key.to_owned(),
            position: place,
            ordinal: place,
            notification: Uuid::from_u128(notification),
        }
    }

    #[test]
    fn a_step_is_bounded_by_receipts_and_takes_one_group_at_least() {
        let groups = || vec![vec![row("a", 1, 1)], vec![row("a", 2, 2)], vec![row("b", 1, 3)]];
        let many = HashMap::from([(Uuid::from_u128(1), RECEIPTS * 2)]);
        assert_eq!(within(groups(), &many).len(), 1);
        let later = HashMap::from([(Uuid::from_u128(2), RECEIPTS)]);
        assert_eq!(within(groups(), &later).len(), 1);
        assert_eq!(within(groups(), &HashMap::new()).len(), 3);
    }

    #[test]
    fn a_key_is_gone_up_to_its_last_row_and_an_expressions_ordinals_are_not_counted() {
        let rows = [row("a", 2, 1), row("a", 1, 2), row("x:a", 7, 3)];
        assert_eq!(gone(&rows), [("a", 2, 2), ("x:a", 7, 0)]);
    }
}
