//! The audit log: appended to in the transactions of the changes, read, and forgotten at its time.

use common::{
    audit::{AuditEntry, CredentialKind, Origin},
    ids::TenantId,
};
use uuid::Uuid;

use super::{
    StoreError,
    access::Access,
    codec::{from_json, json, tenant_of, user_of},
    sql::audit as sql,
    transaction::Tx,
};
use crate::model::{AuditFilter, AuditPlace, Micros};

/// Entries that one step forgets.
const FORGOTTEN: i64 = 1000;

/// Writes entries with what else the transaction does. One that is there already is not written again.
pub(super) async fn append(tx: &mut Tx<'_>, entries: &[AuditEntry]) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let rows = entries
        .iter()
        .map(|entry| {
            let origin = &entry.origin;
            Ok((
                entry.id,
                entry.tenant.as_ref().map_or("", TenantId::as_str),
                origin.tenant.as_str(),
                origin.credential.as_str(),
                origin.credential_id.as_str(),
                origin.user.as_str(),
                &*entry.action,
                &*entry.object_kind,
                entry.object_id.as_str(),
                entry.before.as_ref().map(json).transpose()?,
                entry.after.as_ref().map(json).transpose()?,
                origin.address.map(|address| address.to_string()),
                origin.request.as_deref(),
                entry.at_us,
            ))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    tx.conn.query(sql::APPEND_AUDIT).rows(&rows).run().await?;
    Ok(())
}

type Row = (
    Uuid,
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
);

fn entry(
    (
        id,
        tenant,
        caller_tenant,
        credential,
        credential_id,
        user,
        action,
        object_kind,
        object_id,
        was,
        became,
        address,
        request,
        at,
    ): Row,
) -> Result<AuditEntry, StoreError> {
    let value = |text: Option<String>| text.map(|text| from_json("audit", &text)).transpose();
    Ok(AuditEntry {
        id,
        tenant: (!tenant.is_empty()).then(|| tenant_of(&tenant)).transpose()?,
        origin: Origin {
            tenant: tenant_of(&caller_tenant)?,
            credential: CredentialKind::parse(&credential)
                .ok_or_else(|| StoreError::unreadable("credential", &credential))?,
            credential_id,
            user: user_of(&user)?,
            address: address
                .map(|text| {
                    text.parse()
                        .map_err(|error| StoreError::unreadable("address", error))
                })
                .transpose()?,
            request,
        },
        action: action.into(),
        object_kind: object_kind.into(),
        object_id,
        before: value(was)?,
        after: value(became)?,
        at_us: at,
    })
}

/// A page of the log, the newest first; and where the next one begins, where there is more.
pub(super) async fn page(
    conn: &mut Access<'_>,
    filter: &AuditFilter,
    after: Option<AuditPlace>,
    limit: u32,
) -> Result<(Vec<AuditEntry>, Option<AuditPlace>), StoreError> {
    let statement = match (&filter.tenant, &filter.object_kind, &filter.object_id) {
        (None, ..) => sql::AUDIT_OF_ALL,
        (Some(_), Some(_), Some(_)) => sql::AUDIT_OF_OBJECT,
        (Some(_), ..) => sql::AUDIT_OF_TENANT,
    };
    let (at, id) = after.map_or((i64::MAX, Uuid::max()), |place| (place.at.0, place.id));
    let rows: Vec<Row> = conn
        .query(statement)
        .bind(filter.tenant.as_ref().map_or("", TenantId::as_str).to_owned())
        .bind(filter.action.clone())
        .bind(filter.who.clone())
        .bind(filter.object_kind.clone())
        .bind(filter.object_id.clone())
        .bind(filter.from.map_or(i64::MIN, |from| from.0))
        .bind(filter.to.map_or(i64::MAX, |to| to.0))
        .bind(at)
        .bind(id)
        .bind(i64::from(limit) + 1)
        .all()
        .await?;
    let more = rows.len() > limit as usize;
    let entries = rows
        .into_iter()
        .take(limit as usize)
        .map(entry)
        .collect::<Result<Vec<_>, _>>()?;
    let next = entries.last().filter(|_| more).map(|last| AuditPlace {
        at: Micros(last.at_us),
        id: last.id,
    });
    Ok((entries, next))
}

/// Forgets a step of what is too old. How many entries.
pub(super) async fn forget(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    if tx.config.audit_retention.is_zero() {
        return Ok(0);
    }
    let before = tx.now.minus(tx.config.audit_retention).0;
    tx.conn.query(sql::MAY_FORGET_AUDIT).bind(before).run().await?;
    tx.conn
        .query(sql::FORGET_AUDIT)
        .bind(before)
        .bind(FORGOTTEN)
        .run()
        .await
}
