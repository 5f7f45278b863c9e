//! Pauses of the queue.

use common::{audit::Origin, ids::TenantId};

use super::{
    StoreError,
    access::Access,
    audit,
    codec::{channel_of, tenant_of},
    revisions::revise,
    sql::operate as sql,
    transaction::Tx,
};
use crate::model::{Channel, Micros, Pause, Pauses, Revised};

type PauseRow = (String, String, Option<String>, String, i64, Option<i64>);

pub(super) async fn pauses(conn: &mut Access<'_>) -> Result<Pauses, StoreError> {
    let rows: Vec<PauseRow> = conn.query(sql::PAUSES).all().await?;
    rows.into_iter()
        .map(|(tenant, channel, reason, paused_by, paused_at, ends_at)| {
            Ok(Pause {
                tenant: (!tenant.is_empty()).then(|| tenant_of(&tenant)).transpose()?,
                channel: (!channel.is_empty()).then(|| channel_of(&channel)).transpose()?,
                reason,
                paused_by,
                paused_at: Micros(paused_at),
                ends_at: ends_at.map(Micros),
            })
        })
        .collect::<Result<_, _>>()
        .map(Pauses)
}

/// The pause of exactly these deliveries, if it holds.
async fn held(
    tx: &mut Tx<'_>,
    tenant: Option<&TenantId>,
    channel: Option<Channel>,
) -> Result<Option<Pause>, StoreError> {
    let now = tx.now;
    let all = pauses(&mut tx.conn).await?.0;
    Ok(all
        .into_iter()
        .find(|pause| pause.is_of(tenant, channel) && pause.holds(now)))
}

/// Who paused or resumed these deliveries.
async fn note(
    tx: &mut Tx<'_>,
    action: &'static str,
    before: Option<&Pause>,
    after: Option<&Pause>,
    by: &Origin,
) -> Result<(), StoreError> {
    let Some(pause) = after.or(before) else {
        return Ok(());
    };
    let mut entry = by
        .did(action, "channel", pause.channel.map_or("*", Channel::as_str))
        .of(pause.tenant.clone());
    (entry.before, entry.after) = (before.map(Pause::shown), after.map(Pause::shown));
    audit::append(tx, &[entry]).await?;
    revise(tx, Revised::Pauses).await
}

pub(super) async fn pause(tx: &mut Tx<'_>, pause: &Pause, by: &Origin) -> Result<(), StoreError> {
    let before = held(tx, pause.tenant.as_ref(), pause.channel).await?;
    tx.conn.query(sql::FORGET_PAUSES).bind(tx.now.0).run().await?;
    tx.conn
        .query(sql::PAUSE)
        .bind(pause.tenant.as_ref().map_or("", TenantId::as_str))
        .bind(pause.channel.map_or("", Channel::as_str))
        .bind(pause.reason.clone())
        .bind(pause.paused_by.as_str())
        .bind(pause.paused_at.0)
        .bind(pause.ends_at.map(|end| end.0))
        .run()
        .await?;
    note(tx, "queue.pause", before.as_ref(), Some(pause), by).await
}

pub(super) async fn resume(
    tx: &mut Tx<'_>,
    tenant: Option<&TenantId>,
    channel: Option<Channel>,
    by: &Origin,
) -> Result<bool, StoreError> {
    let before = held(tx, tenant, channel).await?;
    let lifted = tx
        .conn
        .query(sql::RESUME)
        .bind(tenant.map_or("", TenantId::as_str))
        .bind(channel.map_or("", Channel::as_str))
        .bind(tx.now.0)
        .run()
        .await?;
    if lifted > 0 {
        note(tx, "queue.resume", before.as_ref(), None, by).await?;
    }
    Ok(lifted > 0)
}
