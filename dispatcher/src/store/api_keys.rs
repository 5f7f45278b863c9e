//! API keys: made, replaced, taken back; and what nodes need of them.

use std::collections::BTreeSet;

use common::{
    audit::Origin,
    credential::{KeyRecord, KeyUse, PreviousSecret},
    ids::TenantId,
    token::{KeyHash, KeyId},
};
use std::time::Duration;

use super::{
    StoreError,
    access::Access,
    audit,
    codec::{from_json, json, tenant_of},
    revisions::revise,
    sql::api_keys as sql,
    transaction::Tx,
};
use crate::model::{ApiKey, KeyFilter, KeyMade, KeyRotated, KeyState, Micros, NewApiKey, Revised};

/// What has ended so long ago is forgotten when its tenant makes another key.
const KEPT: Duration = Duration::from_hours(90 * 24);

/// id, tenant, name, scopes, role, created_by, created_at, expires_at, rotated_at, previous_until, revoked_at, last_used_at.
type Row = (
    String,
    String,
    String,
    String,
    Option<String>,
    String,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

fn api_key(
    (
        id,
        tenant,
        name,
        scopes,
        role,
        created_by,
        created_at,
        expires_at,
        rotated_at,
        previous_until,
        revoked_at,
        last_used_at,
    ): Row,
) -> Result<ApiKey, StoreError> {
    Ok(ApiKey {
        id: id_of(&id)?,
        tenant: tenant_of(&tenant)?,
        name,
        scopes: from_json("scopes", &scopes)?,
        role: role
            .map(|role| {
                role.parse()
                    .map_err(|error| StoreError::unreadable("role", error))
            })
            .transpose()?,
        created_by,
        created_at: Micros(created_at),
        expires_at: expires_at.map(Micros),
        rotated_at: rotated_at.map(Micros),
        previous_until: previous_until.map(Micros),
        revoked_at: revoked_at.map(Micros),
        last_used_at: last_used_at.map(Micros),
    })
}

fn id_of(text: &str) -> Result<KeyId, StoreError> {
    text.parse().map_err(|error| StoreError::unreadable("key", error))
}

fn hash_of(text: &str) -> Result<KeyHash, StoreError> {
    KeyHash::from_hex(text).ok_or_else(|| StoreError::unreadable("key", "its hash"))
}

/// Makes a key, and forgets those of its tenant that ended long ago.
pub(super) async fn create(tx: &mut Tx<'_>, new: &NewApiKey, by: &Origin) -> Result<KeyMade, StoreError> {
    let NewApiKey { key, hash, most } = new;
    revise(tx, Revised::Keys).await?;
    let forgotten: Vec<String> = tx
        .conn
        .query(sql::FORGET_KEYS)
        .bind(key.tenant.as_str())
        .bind(tx.now.minus(KEPT).0)
        .scalars()
        .await?;
    let made = tx
        .conn
        .query(sql::INSERT_KEY)
        .bind(key.id.as_str())
        .bind(key.tenant.as_str())
        .bind(key.name.as_str())
        .bind(json(&key.scopes)?)
        .bind(key.role.map(|role| role.as_str()))
        .bind(hash.to_hex())
        .bind(key.created_by.as_str())
        .bind(key.created_at.0)
        .bind(key.expires_at.map(|end| end.0))
        .bind(i64::from(*most))
        .run()
        .await?;
    if made > 0 {
        let entry = by
            .did("key.create", "key", key.id)
            .of(Some(key.tenant.clone()))
            .plain(None, Some(key.shown()));
        audit::append(tx, &[entry]).await?;
    }
    Ok(KeyMade {
        made: made > 0,
        forgotten: forgotten.iter().map(|id| id_of(id)).collect::<Result<_, _>>()?,
    })
}

pub(super) async fn get(
    conn: &mut Access<'_>,
    tenant: Option<&TenantId>,
    id: &KeyId,
) -> Result<Option<ApiKey>, StoreError> {
    let row: Option<Row> = conn
        .query(sql::KEY)
        .bind(id.as_str())
        .bind(tenant.map(ToString::to_string))
        .optional()
        .await?;
    row.map(api_key).transpose()
}

/// Keys in the order of their ids.
pub(super) async fn list(
    conn: &mut Access<'_>,
    filter: &KeyFilter,
    now: Micros,
    after: Option<&KeyId>,
    limit: u32,
) -> Result<Vec<ApiKey>, StoreError> {
    let rows: Vec<Row> = conn
        .query(sql::LIST_KEYS)
        .bind(filter.tenant.as_ref().map(ToString::to_string))
        .bind(filter.state.map(KeyState::as_str))
        .bind(now.0)
        .bind(after.map_or("", KeyId::as_str))
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.into_iter().map(api_key).collect()
}

/// The key, which nobody else changes until the transaction ends: every change begins with the revision.
async fn held(tx: &mut Tx<'_>, tenant: Option<&TenantId>, id: &KeyId) -> Result<Option<ApiKey>, StoreError> {
    revise(tx, Revised::Keys).await?;
    get(&mut tx.conn, tenant, id).await
}

/// Gives a key another secret. The one before counts until then.
pub(super) async fn rotate(
    tx: &mut Tx<'_>,
    tenant: Option<&TenantId>,
    id: &KeyId,
    hash: &KeyHash,
    previous_until: Micros,
    by: &Origin,
) -> Result<KeyRotated, StoreError> {
    let Some(before) = held(tx, tenant, id).await? else {
        return Ok(KeyRotated::None);
    };
    let state = before.state(tx.now);
    if state != KeyState::Active {
        return Ok(KeyRotated::Ended(state));
    }
    tx.conn
        .query(sql::ROTATE_KEY)
        .bind(id.as_str())
        .bind(hash.to_hex())
        .bind(previous_until.0)
        .bind(tx.now.0)
        .run()
        .await?;
    let after = ApiKey {
        rotated_at: Some(tx.now),
        previous_until: Some(previous_until),
        ..before.clone()
    };
    note(tx, "key.rotate", &before, &after, by).await?;
    Ok(KeyRotated::Done(Box::new(after)))
}

/// Takes a key back. One that was taken back before stays as it is.
pub(super) async fn revoke(
    tx: &mut Tx<'_>,
    tenant: Option<&TenantId>,
    id: &KeyId,
    by: &Origin,
) -> Result<Option<ApiKey>, StoreError> {
    let Some(before) = held(tx, tenant, id).await? else {
        return Ok(None);
    };
    if before.revoked_at.is_some() {
        return Ok(Some(before));
    }
    tx.conn
        .query(sql::REVOKE_KEY)
        .bind(id.as_str())
        .bind(tx.now.0)
        .run()
        .await?;
    let after = ApiKey {
        revoked_at: Some(tx.now),
        ..before.clone()
    };
    note(tx, "key.revoke", &before, &after, by).await?;
    Ok(Some(after))
}

async fn note(
    tx: &mut Tx<'_>,
    action: &'static str,
    before: &ApiKey,
    after: &ApiKey,
    by: &Origin,
) -> Result<(), StoreError> {
    let entry = by
        .did(action, "key", before.id)
        .of(Some(before.tenant.clone()))
        .plain(Some(before.shown()), Some(after.shown()));
    audit::append(tx, &[entry]).await
}

/// id, tenant, scopes, role, hash, previous_hash, previous_until, expires_at, revoked, revision.
type RecordRow = (
    String,
    String,
    String,
    Option<String>,
    String,
    Option<String>,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
);

fn record(
    (id, tenant, scopes, role, hash, previous_hash, previous_until, expires_at, revoked, revision): RecordRow,
) -> Result<KeyRecord, StoreError> {
    let scopes: BTreeSet<String> = from_json("scopes", &scopes)?;
    Ok(KeyRecord {
        id: id_of(&id)?,
        revision,
        tenant: tenant_of(&tenant)?,
        hash: hash_of(&hash)?,
        previous: previous_hash
            .zip(previous_until)
            .map(|(hash, until)| {
                Ok::<_, StoreError>(PreviousSecret {
                    hash: hash_of(&hash)?,
                    until: Micros(until).seconds(),
                })
            })
            .transpose()?,
        scopes,
        role: role
            .map(|role| {
                role.parse()
                    .map_err(|error| StoreError::unreadable("role", error))
            })
            .transpose()?,
        expires_at: expires_at.map(|end| Micros(end).seconds()),
        revoked: revoked != 0,
    })
}

/// What nodes need of these keys, in no order.
pub(super) async fn records(conn: &mut Access<'_>, ids: &[KeyId]) -> Result<Vec<KeyRecord>, StoreError> {
    let rows: Vec<_> = ids.iter().map(|id| (id.as_str(),)).collect();
    let rows: Vec<RecordRow> = conn.query(sql::KEY_RECORDS).rows(&rows).all().await?;
    rows.into_iter().map(record).collect()
}

/// Keys that were changed after a revision, those that were changed first, first.
pub(super) async fn changed(
    conn: &mut Access<'_>,
    after: i64,
    limit: u32,
) -> Result<Vec<KeyRecord>, StoreError> {
    let rows: Vec<RecordRow> = conn
        .query(sql::CHANGED_KEYS)
        .bind(after)
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.into_iter().map(record).collect()
}

/// Notes when keys were used, where that is a minute after what is known.
pub(super) async fn used(tx: &mut Tx<'_>, uses: &[KeyUse]) -> Result<(), StoreError> {
    let rows: Vec<_> = uses
        .iter()
        .map(|one| {
            (
                one.id.as_str(),
                one.tenant.as_str(),
                one.at.saturating_mul(1_000_000).min(tx.now.0),
            )
        })
        .collect();
    tx.conn.query(sql::USED_KEYS).rows(&rows).run().await?;
    Ok(())
}
