//! Ending what was taken back, page by page.
//!
//! The transaction that cancels or withdraws a notification marks it and ends one page of what is pending: a group may have a
//! million deliveries, and no transaction ends so many in the time that it has. The mark is what counts: whoever claims one
//! of the rest from then on ends it and sends nothing. That there is a rest is kept beside the mark, and the queue's upkeep
//! ends it in further transactions, also after a crash, and where a channel is paused and nobody claims.

use common::ids::NotificationId;
use uuid::Uuid;

use super::{StoreError, access::Access, sql::stops as sql, transaction::Tx};

/// Deliveries that one transaction ends.
const PAGE: i64 = 2000;

/// Notifications that are answered at once.
const OPEN: i64 = 100;

/// What one transaction did.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) stopped: Vec<Uuid>,
    /// Where the next page begins. None: nothing is left.
    pub(super) next: Option<String>,
}

/// The first page of a notification that is marked in this transaction.
pub(super) async fn begin(tx: &mut Tx<'_>, id: NotificationId, reason: &str) -> Result<Page, StoreError> {
    let page = stop(tx, id, reason, "").await?;
    if page.next.is_some() {
        tx.conn
            .query(sql::KEEP_STOP)
            .bind(id.0)
            .bind(reason)
            .run()
            .await?;
    }
    Ok(page)
}

/// A further page. After the last one nothing is kept.
pub(super) async fn go_on(
    tx: &mut Tx<'_>,
    id: NotificationId,
    reason: &str,
    place: &str,
) -> Result<Option<String>, StoreError> {
    let page = stop(tx, id, reason, place).await?;
    if page.next.is_none() {
        tx.conn.query(sql::END_STOP).bind(id.0).run().await?;
    }
    Ok(page.next)
}

async fn stop(tx: &mut Tx<'_>, id: NotificationId, reason: &str, place: &str) -> Result<Page, StoreError> {
    let rows: Vec<(Uuid, Option<String>, i64)> = tx
        .conn
        .query(sql::STOP_PENDING)
        .bind(id.0)
        .bind(place)
        .bind(reason)
        .bind(PAGE)
        .bind(tx.now.0)
        .all()
        .await?;
    let looked_at = rows.iter().filter_map(|(_, place, _)| place.as_ref());
    let is_full = looked_at.clone().count() as i64 >= PAGE;
    let next = is_full.then(|| looked_at.max().cloned()).flatten();
    let stopped = rows.iter().filter(|(.., stopped)| *stopped != 0);
    Ok(Page {
        stopped: stopped.map(|(id, ..)| *id).collect(),
        next,
    })
}

/// Notifications of which something may be left, with the reason; a bounded number.
pub(super) async fn open(conn: &mut Access<'_>) -> Result<Vec<(NotificationId, String)>, StoreError> {
    let rows: Vec<(Uuid, String)> = conn.query(sql::OPEN_STOPS).bind(OPEN).all().await?;
    Ok(rows
        .into_iter()
        .map(|(id, reason)| (NotificationId(id), reason))
        .collect())
}
