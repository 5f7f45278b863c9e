//! Notifications that replace each other: of those with one key for one target, the newest stands.
//!
//! Who stands is a row that the transaction which accepts the newer one locks, so of several at the same time each replaces
//! the one before it.

use std::collections::BTreeMap;

use common::{
    ids::{NotificationId, TenantId},
    target::Audience,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{StoreError, access::Access, codec::json, sql::collapse as sql, transaction::Tx};
use crate::model::{Channel, Delivery, NewNotification, Notification};

/// A notification that another one replaces.
pub(super) struct Replaced<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) id: NotificationId,
}

/// The place that a new notification with a collapse key takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    tenant: TenantId,
    key: String,
    target: String,
    id: NotificationId,
}

impl Standing {
    /// None: it has no such key.
    pub(crate) fn of(new: &NewNotification) -> Option<Self> {
        Some(Self {
            tenant: new.tenant.clone(),
            key: new.content.collapse_key.clone()?,
            target: target_of(new).ok()?,
            id: new.id,
        })
    }

    /// The place that a stored one took. None: it has no such key.
    pub(super) fn of_stored(
        stored: &Notification,
        deliveries: &[Delivery],
    ) -> Result<Option<Self>, StoreError> {
        let Some(key) = stored.content.collapse_key.clone() else {
            return Ok(None);
        };
        let addresses = deliveries.iter().map(|one| (one.channel, &one.address));
        Ok(Some(Self {
            tenant: stored.tenant.clone(),
            key,
            target: target(stored.audience.as_ref(), addresses)?,
            id: stored.id,
        }))
    }
}

fn target_of(new: &NewNotification) -> Result<String, StoreError> {
    let addresses = new.deliveries.iter().map(|one| (one.channel, &one.address));
    target(new.audience.as_ref(), addresses)
}

/// Whom a notification is for, as a short text: the target, or where there is none, the addresses.
fn target<'a>(
    audience: Option<&Audience>,
    addresses: impl Iterator<Item = (Channel, &'a Option<String>)>,
) -> Result<String, StoreError> {
    let text = match audience {
        Some(audience) => json(audience)?,
        None => {
            let mut addresses: Vec<_> = addresses.collect();
            addresses.sort_unstable();
            json(&addresses)?
        }
    };
    let hash = Sha256::digest(text.as_bytes());
    Ok(hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect())
}

/// Puts new notifications in the place of those before them, and says which these are: stored ones first, then those of this
/// transaction that are replaced at once.
pub(super) async fn take<'a>(
    tx: &mut Tx<'_>,
    fresh: &[&'a NewNotification],
) -> Result<Vec<Replaced<'a>>, StoreError> {
    let mut places: BTreeMap<(&'a str, &'a str, String), (&'a TenantId, Uuid)> = BTreeMap::new();
    let mut at_once = Vec::new();
    for new in fresh {
        let Some(key) = &new.content.collapse_key else {
            continue;
        };
        let place = (new.tenant.as_str(), key.as_str(), target_of(new)?);
        if let Some((tenant, earlier)) = places.insert(place, (&new.tenant, new.id.0)) {
            at_once.push(Replaced {
                tenant,
                id: NotificationId(earlier),
            });
        }
    }
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: BTreeMap<&str, &'a TenantId> = places
        .iter()
        .map(|((name, ..), (tenant, _))| (*name, *tenant))
        .collect();
    let rows: Vec<_> = places
        .iter()
        .map(|((tenant, key, target), (_, id))| (*tenant, *key, target, *id))
        .collect();
    let before: Vec<(String, Option<Uuid>)> = tx
        .conn
        .query(sql::TAKE_COLLAPSES)
        .rows(&rows)
        .bind(tx.now.0)
        .all()
        .await?;
    let mut replaced: Vec<Replaced<'a>> = before
        .into_iter()
        .filter_map(|(tenant, id)| {
            Some(Replaced {
                tenant: tenants.get(tenant.as_str())?,
                id: NotificationId(id?),
            })
        })
        .collect();
    replaced.sort_unstable_by_key(|one| one.id);
    replaced.append(&mut at_once);
    Ok(replaced)
}

/// A changed notification leaves the place where it stood, unless it still stands there: who takes that place later does
/// not mean it.
pub(super) async fn leave(tx: &mut Tx<'_>, was: &Standing, is: Option<&Standing>) -> Result<(), StoreError> {
    if is != Some(was) {
        tx.conn
            .query(sql::LEAVE_COLLAPSE)
            .bind(was.tenant.as_str())
            .bind(was.key.as_str())
            .bind(was.target.as_str())
            .bind(was.id.0)
            .run()
            .await?;
    }
    Ok(())
}

/// Keys under which inboxes hold what is replaced: they are locked with those of the new ones, in one order.
pub(super) async fn keys_of(tx: &mut Tx<'_>, replaced: &[Replaced<'_>]) -> Result<Vec<String>, StoreError> {
    if replaced.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = replaced.iter().map(|one| one.id.0).collect();
    tx.conn.query(sql::INBOX_KEYS).list(&ids).scalars().await
}

/// What a notification replaced, if it still stands.
pub(super) async fn replaced_by(
    conn: &mut Access<'_>,
    standing: &Standing,
) -> Result<Option<NotificationId>, StoreError> {
    let previous: Option<Uuid> = conn
        .query(sql::REPLACED_BY)
        .bind(standing.tenant.as_str())
        .bind(standing.key.as_str())
        .bind(standing.target.as_str())
        .bind(standing.id.0)
        .scalar_optional()
        .await?;
    Ok(previous.map(NotificationId))
}

/// Forgets who stood for what, a bounded number of those that are older than the feed is kept: nothing of them waits.
pub(super) async fn prune(tx: &mut Tx<'_>, limit: u32) -> Result<u64, StoreError> {
    let oldest = tx.now.minus(tx.config.feed_retention);
    tx.conn
        .query(sql::PRUNE_COLLAPSES)
        .bind(oldest.0)
        .bind(i64::from(limit))
        .run()
        .await
}
