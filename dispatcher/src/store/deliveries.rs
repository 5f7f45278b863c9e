//! New deliveries.

use common::ids::{Name, NotificationId};
use uuid::Uuid;

use super::{StoreError, sql::accept as sql, transaction::Tx};
use crate::model::{DeliveryState, Lane, Micros, NewDelivery};

/// Inserts what [`rows`] made; a repeat of notification, user, channel and address is left out.
pub(super) async fn insert(tx: &mut Tx<'_>, rows: &[DeliveryRow<'_>]) -> Result<(), StoreError> {
    if !rows.is_empty() {
        tx.conn.query(sql::INSERT_DELIVERIES).rows(rows).run().await?;
    }
    Ok(())
}

/// Id, notification, tenant, channel, user, address, lane, state, reason, due, lease, token, attempts at the most, now.
pub(super) type DeliveryRow<'a> = (
    Uuid,
    Uuid,
    &'a str,
    &'static str,
    Option<&'a str>,
    &'a Option<String>,
    i64,
    &'static str,
    Option<&'a str>,
    Micros,
    Option<Micros>,
    i64,
    i64,
    Micros,
);

/// Deliveries with their notification, its tenant and lane, as rows.
pub(super) fn rows<'a>(
    deliveries: impl Iterator<Item = (NotificationId, &'a str, Lane, &'a NewDelivery)>,
    now: Micros,
) -> Vec<DeliveryRow<'a>> {
    deliveries
        .map(|(notification, tenant, lane, new)| {
            (
                new.id.0,
                notification.0,
                tenant,
                new.channel.as_str(),
                new.user.as_ref().map(Name::as_str),
                &new.address,
                i64::from(lane.number()),
                new.state.as_str(),
                new.reason.as_deref(),
                new.due_at,
                new.lease_until,
                i64::from(new.state == DeliveryState::Running),
                i64::from(new.max_attempts),
                now,
            )
        })
        .collect()
}
