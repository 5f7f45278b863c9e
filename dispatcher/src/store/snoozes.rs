//! What readers have put off, and who is due to have it back.

use std::collections::{BTreeMap, HashMap};

use common::{ids::NotificationId, topic::TopicKey};
use uuid::Uuid;

use super::{
    StoreError,
    access::Access,
    codec::{tenant_of, user_of},
    positions::FILTERED,
    sql::inbox as sql,
    transaction::Tx,
};
use crate::model::{Micros, ReaderKeys};

/// A reader with notifications that were put off until now or before.
pub(super) type Due = (ReaderKeys, Vec<NotificationId>);

/// What is due to come back, by reader, with the keys under which the store knows the reader.
pub(super) async fn due(conn: &mut Access<'_>, now: Micros, limit: u32) -> Result<Vec<Due>, StoreError> {
    let rows: Vec<(String, String, Uuid)> = conn
        .query(sql::DUE_SNOOZES)
        .bind(now.0)
        .bind(i64::from(limit))
        .all()
        .await?;
    let mut readers: BTreeMap<(String, String), Vec<NotificationId>> = BTreeMap::new();
    for (tenant, user, id) in rows {
        readers
            .entry((tenant, user))
            .or_default()
            .push(NotificationId(id));
    }
    let names: Vec<(&str, &str)> = readers
        .keys()
        .map(|(tenant, user)| (tenant.as_str(), user.as_str()))
        .collect();
    let known: Vec<(String, String, String)> = conn.query(sql::KNOWN_MEMBERSHIPS).rows(&names).all().await?;
    let mut keys: HashMap<(&str, &str), Vec<TopicKey>> = HashMap::new();
    // Rows of expressions lie under keys of their own, which nobody's token carries.
    for (tenant, user, key) in known.iter().filter(|(.., key)| !key.starts_with(FILTERED)) {
        let key = TopicKey::parse(key).map_err(|error| StoreError::unreadable("key", error))?;
        keys.entry((tenant, user)).or_default().push(key);
    }
    let mut due = Vec::with_capacity(readers.len());
    for ((tenant, user), ids) in &readers {
        let others = keys.remove(&(tenant, user)).unwrap_or_default();
        let (tenant, user) = (tenant_of(tenant)?, user_of(user)?);
        let own = TopicKey::user(&tenant, &user);
        let mut keys = vec![own.clone()];
        keys.extend(others.into_iter().filter(|key| *key != own));
        due.push((ReaderKeys { tenant, user, keys }, ids.clone()));
    }
    Ok(due)
}

/// What cannot come back is looked at again at a time.
pub(super) async fn put_off(
    tx: &mut Tx<'_>,
    reader: &ReaderKeys,
    ids: &[NotificationId],
    until: Micros,
) -> Result<(), StoreError> {
    for id in ids {
        tx.conn
            .query(sql::PUT_OFF_SNOOZE)
            .bind(reader.tenant.as_str())
            .bind(reader.user.as_str())
            .bind(id.0)
            .bind(tx.now.0)
            .bind(until.0)
            .run()
            .await?;
    }
    Ok(())
}
