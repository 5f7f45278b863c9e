//! New deliveries.

use common::ids::NotificationId;

use super::{
    StoreError,
    codec::{hex, json},
    sqlite::accept as sql,
    transaction::Tx,
};
use crate::model::{DeliveryState, Lane, Micros, NewDelivery};

/// Inserts what [`rows`] made; a repeat of notification, user, channel and address is left out.
pub(super) async fn insert(tx: &mut Tx<'_>, rows: Option<String>) -> Result<(), StoreError> {
    if let Some(rows) = rows {
        sqlx::query(sql::INSERT_DELIVERIES)
            .bind(rows)
            .execute(&mut *tx.conn)
            .await?;
    }
    Ok(())
}

/// Deliveries with their notification, its tenant and lane, as a parameter; none where there are none.
pub(super) fn rows<'a>(
    deliveries: impl Iterator<Item = (NotificationId, &'a str, Lane, &'a NewDelivery)>,
    now: Micros,
) -> Result<Option<String>, StoreError> {
    let rows: Vec<_> = deliveries
        .map(|(notification, tenant, lane, new)| {
            (
                hex(new.id.0),
                hex(notification.0),
                tenant,
                new.channel.as_str(),
                &new.user,
                &new.address,
                lane.number(),
                new.state.as_str(),
                &new.reason,
                new.due_at,
                new.lease_until,
                i64::from(new.state == DeliveryState::Running),
                new.max_attempts,
                now,
            )
        })
        .collect();
    (!rows.is_empty()).then(|| json(&rows)).transpose()
}
