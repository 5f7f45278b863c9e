//! Rules: every version is kept for a while, the newest holds.

use common::{audit::Origin, ids::TenantId};

use super::{
    StoreError,
    access::Access,
    audit,
    codec::{from_json, json, small},
    revisions::revise,
    sql::events as sql,
    transaction::Tx,
};
use crate::model::{EventRule, Micros, Revised, RuleBody, RuleVersion};

/// Versions of a rule that are kept.
const KEPT: u32 = 50;

/// Name, version, body, author, time.
type Row = (String, i64, Option<String>, String, i64);

/// What became of a rule that was to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum RuleWritten {
    /// It holds now; whether it was there before.
    Stored(RuleVersion, bool),
    /// The tenant has as many as it may have.
    TooMany,
}

fn version((name, version, body, author, created): Row) -> Result<RuleVersion, StoreError> {
    Ok(RuleVersion {
        name,
        version: small("rule's version", version)?,
        body: body.map(|body| from_json("rule", &body)).transpose()?,
        author,
        created_at: Micros(created),
    })
}

/// The rules that hold, by name.
pub(super) async fn rules(conn: &mut Access<'_>, tenant: &TenantId) -> Result<Vec<EventRule>, StoreError> {
    let rows: Vec<Row> = conn.query(sql::RULES).bind(tenant.as_str()).all().await?;
    rows.into_iter()
        .map(|row| {
            let found = version(row)?;
            let body = found
                .body
                .ok_or_else(|| StoreError::unreadable("rule", "has no body"))?;
            Ok(EventRule {
                name: found.name,
                version: found.version,
                body,
            })
        })
        .collect()
}

/// Every version that is kept, the newest first.
pub(super) async fn versions(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    name: &str,
) -> Result<Vec<RuleVersion>, StoreError> {
    let rows: Vec<Row> = conn
        .query(sql::RULE_VERSIONS)
        .bind(tenant.as_str())
        .bind(name)
        .all()
        .await?;
    rows.into_iter().map(version).collect()
}

/// The newest version of a rule, which nobody else changes until the transaction ends: every change begins with the revision.
async fn held(tx: &mut Tx<'_>, tenant: &TenantId, name: &str) -> Result<Option<RuleVersion>, StoreError> {
    revise(tx, Revised::Rules).await?;
    Ok(versions(&mut tx.conn, tenant, name).await?.into_iter().next())
}

/// Writes the version behind the newest; without a body the rule is deleted.
async fn write(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    name: &str,
    newest: Option<RuleVersion>,
    body: Option<RuleBody>,
    by: &Origin,
) -> Result<RuleVersion, StoreError> {
    let written = RuleVersion {
        name: name.to_owned(),
        version: newest.as_ref().map_or(0, |newest| newest.version) + 1,
        body,
        author: by.user.as_str().to_owned(),
        created_at: tx.now,
    };
    tx.conn
        .query(sql::PUT_RULE)
        .bind(tenant.as_str())
        .bind(name)
        .bind(i64::from(written.version))
        .bind(written.body.as_ref().map(json).transpose()?)
        .bind(written.author.as_str())
        .bind(tx.now.0)
        .run()
        .await?;
    tx.conn
        .query(sql::FORGET_RULE_VERSIONS)
        .bind(tenant.as_str())
        .bind(name)
        .bind(i64::from(written.version) - i64::from(KEPT))
        .run()
        .await?;
    let action = match &written.body {
        Some(_) => "rule.put",
        None => "rule.delete",
    };
    let mut entry = by.did(action, "rule", name).of(Some(tenant.clone()));
    if let Some(before) = newest.and_then(|newest| newest.body) {
        entry = entry.before(&before);
    }
    if let Some(after) = &written.body {
        entry = entry.after(after);
    }
    audit::append(tx, &[entry]).await?;
    Ok(written)
}

/// Makes or replaces a rule.
pub(super) async fn put(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    name: &str,
    body: &RuleBody,
    most: usize,
    by: &Origin,
) -> Result<RuleWritten, StoreError> {
    let newest = held(tx, tenant, name).await?;
    let there = newest.as_ref().is_some_and(|newest| newest.body.is_some());
    if !there && rules(&mut tx.conn, tenant).await?.len() >= most {
        return Ok(RuleWritten::TooMany);
    }
    let written = write(tx, tenant, name, newest, Some(body.clone()), by).await?;
    Ok(RuleWritten::Stored(written, there))
}

/// Deletes a rule. False: there was none.
pub(super) async fn delete(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    name: &str,
    by: &Origin,
) -> Result<bool, StoreError> {
    let newest = held(tx, tenant, name).await?;
    let there = newest.as_ref().is_some_and(|newest| newest.body.is_some());
    if there {
        write(tx, tenant, name, newest, None, by).await?;
    }
    Ok(there)
}
