//! Pauses of the queue.

use common::ids::TenantId;

use super::{
    StoreError,
    access::Access,
    codec::{channel_of, tenant_of},
    sql::operate as sql,
    transaction::Tx,
};
use crate::model::{Channel, Micros, Pause, Pauses};

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

pub(super) async fn pause(tx: &mut Tx<'_>, pause: &Pause) -> Result<(), StoreError> {
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
    Ok(())
}

pub(super) async fn resume(
    tx: &mut Tx<'_>,
    tenant: Option<&TenantId>,
    channel: Option<Channel>,
) -> Result<bool, StoreError> {
    let lifted = tx
        .conn
        .query(sql::RESUME)
        .bind(tenant.map_or("", TenantId::as_str))
        .bind(channel.map_or("", Channel::as_str))
        .bind(tx.now.0)
        .run()
        .await?;
    Ok(lifted > 0)
}
