//! Cancelling and replacing what was accepted.
//!
//! A cancel takes the locks on the same rows that a claim takes, so it knows of each delivery whether it was first. Of a large
//! notification it takes a page of them, and the rest in further transactions.

use std::collections::{BTreeMap, HashSet};

use common::{
    audit::Origin,
    ids::{NotificationId, TenantId},
    target::Audience,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Standing, StoreError, accept,
    access::Access,
    audit, chains,
    codec::count,
    collapse, records,
    sql::{accept as accept_sql, operate as sql, queue as queue_sql},
    stops,
    transaction::Tx,
};
use crate::model::{CancelFate, Cancelled, Content, DeliveryState, Micros, NewNotification, Replaced};

/// What is left of a cancelled notification after its first page, see [`stops`].
#[derive(Debug)]
pub(super) struct Rest {
    /// When it was cancelled.
    pub(super) since: Micros,
    /// Where the next page begins.
    pub(super) place: String,
}

/// Marks it as cancelled and stops what has not begun, up to a page. None: the tenant has no such notification.
pub(super) async fn cancel(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: NotificationId,
    by: &Origin,
) -> Result<Option<(Cancelled, Option<Rest>)>, StoreError> {
    let answer = stop(tx, tenant, id).await?;
    if let Some((cancelled, rest)) = &answer {
        let entry = by.did("notification.cancel", "notification", id).after(&json!({
            "stopped": cancelled.stopped,
            "on_the_way": cancelled.on_the_way,
            "ended": cancelled.ended,
            "steps_stopped": cancelled.steps_stopped,
            "fan_out_stopped": cancelled.fan_out_stopped,
            "never_visible": cancelled.never_visible,
            // The rest is stopped, and counted, after this.
            "complete": rest.is_none(),
        }));
        audit::append(tx, &[entry]).await?;
    }
    Ok(answer)
}

async fn stop(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: NotificationId,
) -> Result<Option<(Cancelled, Option<Rest>)>, StoreError> {
    let visible_at: Option<i64> = tx
        .conn
        .query(sql::MARK_CANCELLED)
        .bind(id.0)
        .bind(tenant.as_str())
        .bind(tx.now.0)
        .scalar_optional()
        .await?;
    let Some(visible_at) = visible_at else {
        return Ok(None);
    };
    let never_visible = tx
        .conn
        .query(queue_sql::CANCEL_SCHEDULED)
        .bind(visible_at)
        .bind(id.0)
        .run()
        .await?;
    // Before its deliveries: a page that the job stores at this moment is seen by the statement after.
    let fan_out = tx
        .conn
        .query(queue_sql::CANCEL_JOB)
        .bind(id.0)
        .bind(tx.now.0)
        .run()
        .await?;
    let page = stops::begin(tx, id, "cancelled").await?;
    let rest = page.next.map(|place| Rest { since: tx.now, place });
    let mut cancelled = Cancelled {
        deliveries: Vec::new(),
        stopped: 0,
        on_the_way: 0,
        ended: 0,
        delivered: 0,
        cancelled: 0,
        fan_out_stopped: fan_out > 0,
        steps_stopped: 0,
        never_visible: never_visible > 0,
    };
    if rest.is_some() {
        // It is counted after its further pages.
        cancelled.steps_stopped = chains::withdrawn(tx, id, "cancelled").await?;
        return Ok(Some((cancelled, rest)));
    }
    let (stopped, now) = (page.stopped.into_iter().collect::<HashSet<Uuid>>(), tx.now);
    // What two calls of one moment stopped is told by the first alone.
    let before = counts(&mut tx.conn, id, now).await?;
    // No step follows; what one has just begun is stopped with it.
    cancelled.steps_stopped = chains::withdrawn(tx, id, "cancelled").await?;
    let Some((_, deliveries)) = records::notification(&mut tx.conn, tenant, id).await? else {
        return Ok(None);
    };
    let after = counts(&mut tx.conn, id, now).await?;
    let by_chains = after.just_cancelled.saturating_sub(before.just_cancelled);
    cancelled.stopped = stopped.len() as u64 + by_chains;
    cancelled.on_the_way = after.pending + after.running;
    cancelled.ended = after.ended.saturating_sub(cancelled.stopped);
    cancelled.delivered = after.delivered;
    cancelled.cancelled = after.cancelled;
    cancelled.deliveries = deliveries
        .into_iter()
        .map(|delivery| {
            let by_chain = delivery.state == DeliveryState::Cancelled && delivery.updated_at == now;
            let fate = if by_chain || stopped.contains(&delivery.id.0) {
                CancelFate::Stopped
            } else if delivery.state.is_terminal() {
                CancelFate::Ended
            } else {
                CancelFate::OnTheWay
            };
            (delivery, fate)
        })
        .collect();
    Ok(Some((cancelled, None)))
}

/// What became of a large notification after its further pages: what still waits counts as stopped, as the mark is there.
pub(super) async fn recount(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    id: NotificationId,
    since: Micros,
    cancelled: &mut Cancelled,
) -> Result<(), StoreError> {
    let now = counts(conn, id, since).await?;
    cancelled.stopped = now.pending + now.just_cancelled;
    cancelled.on_the_way = now.running;
    cancelled.ended = now.ended.saturating_sub(now.just_cancelled);
    cancelled.delivered = now.delivered;
    cancelled.cancelled = now.pending + now.cancelled;
    let Some((_, deliveries)) = records::notification(conn, tenant, id).await? else {
        return Ok(());
    };
    cancelled.deliveries = deliveries
        .into_iter()
        .map(|delivery| {
            let fate = match delivery.state {
                DeliveryState::Pending => CancelFate::Stopped,
                DeliveryState::Running => CancelFate::OnTheWay,
                DeliveryState::Cancelled if delivery.updated_at >= since => CancelFate::Stopped,
                _ => CancelFate::Ended,
            };
            (delivery, fate)
        })
        .collect();
    Ok(())
}

/// How many deliveries of a notification are where.
struct Counts {
    pending: u64,
    running: u64,
    ended: u64,
    delivered: u64,
    cancelled: u64,
    /// Since the time that is asked for.
    just_cancelled: u64,
}

async fn counts(conn: &mut Access<'_>, id: NotificationId, since: Micros) -> Result<Counts, StoreError> {
    let (pending, running, ended, delivered, cancelled, just_cancelled): (i64, i64, i64, i64, i64, i64) =
        conn.query(sql::CANCEL_COUNTS)
            .bind(id.0)
            .bind(since.0)
            .one()
            .await?;
    Ok(Counts {
        pending: count(pending),
        running: count(running),
        ended: count(ended),
        delivered: count(delivered),
        cancelled: count(cancelled),
        just_cancelled: count(just_cancelled),
    })
}

/// Puts a notification in the place of one that is not due yet, under the same id and with its time of acceptance.
pub(super) async fn replace(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    new: &NewNotification,
    by: &Origin,
) -> Result<Replaced, StoreError> {
    let found: Option<(i64, i64, i64, i64)> = tx
        .conn
        .query(sql::REPLACEABLE)
        .bind(new.id.0)
        .bind(tenant.as_str())
        .optional()
        .await?;
    let Some((visible_at, created_at, withdrawn, cancelled)) = found else {
        return Ok(Replaced::Unknown);
    };
    if withdrawn != 0 || cancelled != 0 {
        return Ok(Replaced::Cancelled);
    }
    if visible_at <= tx.now.0 {
        return Ok(Replaced::Due);
    }
    let (begun, failed): (i64, i64) = tx
        .conn
        .query(sql::REPLACED_DELIVERIES)
        .bind(new.id.0)
        .one()
        .await?;
    // A clock that is ahead of this one may have claimed.
    if count(begun) > 0 {
        return Ok(Replaced::Due);
    }
    let unscheduled = tx
        .conn
        .query(queue_sql::CANCEL_SCHEDULED)
        .bind(visible_at)
        .bind(new.id.0)
        .run()
        .await?;
    if unscheduled == 0 {
        return Ok(Replaced::Due);
    }
    let mut entry = by
        .did("notification.update", "notification", new.id)
        .after(&shown(
            &new.content,
            new.audience.as_ref(),
            new.visible_at,
            &new.channels,
        ));
    if let Some((stored, deliveries)) = records::notification(&mut tx.conn, tenant, new.id).await? {
        let (at, channels) = (stored.visible_at, &stored.channels);
        entry = entry.before(&shown(&stored.content, stored.audience.as_ref(), at, channels));
        if let Some(was) = Standing::of_stored(&stored, &deliveries)? {
            collapse::leave(tx, &was, Standing::of(new).as_ref()).await?;
        }
    }
    audit::append(tx, &[entry]).await?;
    for statement in [sql::FORGET_DELIVERIES, sql::DROP_CHAINS, sql::FORGET_JOB] {
        tx.conn.query(statement).bind(new.id.0).run().await?;
    }
    tx.conn
        .query(accept_sql::ADD_TOTALS)
        .rows(&[(tenant.as_str(), -1_i64, 0_i64, -failed)])
        .run()
        .await?;
    let mut new = new.clone();
    new.created_at = crate::model::Micros(created_at);
    accept::replace(tx, &new).await?;
    Ok(Replaced::Done)
}

/// What the audit log shows of a notification.
fn shown(content: &Content, audience: Option<&Audience>, at: Micros, channels: &[String]) -> Value {
    json!({
        "content": content,
        "audience": audience,
        "visible_at": at.rfc3339(),
        "channels": channels,
        "template": content.template,
    })
}

/// What a tenant's failed deliveries amount to changes by this.
pub(super) async fn add_failed(tx: &mut Tx<'_>, tenant: &TenantId, number: i64) -> Result<(), StoreError> {
    super::totals::add_totals(tx, BTreeMap::from([(tenant.as_str(), (0, number))])).await
}
