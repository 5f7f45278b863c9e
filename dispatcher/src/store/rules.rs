//! Rules: every version is kept for a while, the newest holds.

use common::ids::TenantId;

use super::{
    StoreError,
    access::Access,
    codec::{from_json, json, small},
    sql::events as sql,
    transaction::Tx,
};
use crate::model::{EventRule, Micros, RuleBody, RuleVersion};

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

/// Writes the next version; without a body the rule is deleted.
async fn write(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    name: &str,
    body: Option<RuleBody>,
    author: &str,
    before: u32,
) -> Result<RuleVersion, StoreError> {
    let written = RuleVersion {
        name: name.to_owned(),
        version: before + 1,
        body,
        author: author.to_owned(),
        created_at: tx.now,
    };
    tx.conn
        .query(sql::PUT_RULE)
        .bind(tenant.as_str())
        .bind(name)
        .bind(i64::from(written.version))
        .bind(written.body.as_ref().map(json).transpose()?)
        .bind(author)
        .bind(tx.now.0)
        .run()
        .await
        .map_err(|error| match error {
            // Another has written this version since the look.
            StoreError::Conflict(_) => StoreError::Again,
            other => other,
        })?;
    tx.conn
        .query(sql::FORGET_RULE_VERSIONS)
        .bind(tenant.as_str())
        .bind(name)
        .bind(i64::from(written.version) - i64::from(KEPT))
        .run()
        .await?;
    Ok(written)
}

/// Makes or replaces a rule.
pub(super) async fn put(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    name: &str,
    body: &RuleBody,
    author: &str,
    most: usize,
) -> Result<RuleWritten, StoreError> {
    let newest = versions(&mut tx.conn, tenant, name).await?.into_iter().next();
    let there = newest.as_ref().is_some_and(|newest| newest.body.is_some());
    if !there && rules(&mut tx.conn, tenant).await?.len() >= most {
        return Ok(RuleWritten::TooMany);
    }
    let before = newest.map_or(0, |newest| newest.version);
    let written = write(tx, tenant, name, Some(body.clone()), author, before).await?;
    Ok(RuleWritten::Stored(written, there))
}

/// Deletes a rule. False: there was none.
pub(super) async fn delete(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    name: &str,
    author: &str,
) -> Result<bool, StoreError> {
    let newest = versions(&mut tx.conn, tenant, name).await?.into_iter().next();
    match newest {
        Some(newest) if newest.body.is_some() => {
            write(tx, tenant, name, None, author, newest.version).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}
