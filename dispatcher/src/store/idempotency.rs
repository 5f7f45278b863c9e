//! Idempotency keys: the first request's answer is the answer of its repeats.

use std::collections::HashMap;

use common::ids::TenantId;

use super::{StoreError, access::Access, sql::accept as sql, transaction::Tx};
use crate::model::{Accepted, IdempotencyKey, Micros, NewNotification};

/// How long answers to repeat are kept.
const KEEP_ANSWERS: std::time::Duration = std::time::Duration::from_hours(24);

#[derive(PartialEq, Eq, Hash)]
struct KeyName<'a> {
    tenant: &'a str,
    credential: &'a str,
    route: &'a str,
    key: &'a str,
}

/// Tenant, credential, route, key; hash, status, response.
type KnownRow = (String, String, String, String, Vec<u8>, i64, String);

/// Tenant, credential, route, key, as they lie in the database.
type Names<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Names; hash, status, response.
type FreshRow<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [u8], i64, &'a str);

struct Known<'a> {
    hash: std::borrow::Cow<'a, [u8]>,
    status: u16,
    response: std::borrow::Cow<'a, str>,
    /// The call that brought it; none: it was stored before.
    call: Option<usize>,
}

impl Known<'_> {
    /// What a request with this key is told.
    fn answer(&self, key: &IdempotencyKey) -> Accepted {
        if *self.hash == *key.request_hash {
            Accepted::Repeat {
                status: self.status,
                response: self.response.clone().into_owned(),
            }
        } else {
            Accepted::Mismatch
        }
    }
}

fn name<'a>(tenant: &'a TenantId, key: &'a IdempotencyKey) -> KeyName<'a> {
    KeyName {
        tenant: tenant.as_str(),
        credential: &key.credential,
        route: &key.route,
        key: &key.key,
    }
}

/// Keys as rows, in the order in which every transaction takes them.
fn sorted<'a>(names: impl Iterator<Item = KeyName<'a>>) -> Vec<Names<'a>> {
    let mut names: Vec<_> = names
        .map(|name| (name.tenant, name.credential, name.route, name.key))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The answers that are kept for keys.
async fn kept(conn: &mut Access<'_>, names: &[Names<'_>], now: Micros) -> Result<Vec<KnownRow>, StoreError> {
    conn.query(sql::KNOWN_KEYS).rows(names).bind(now.0).all().await
}

fn by_name(rows: &[KnownRow]) -> HashMap<KeyName<'_>, Known<'_>> {
    rows.iter()
        .map(|(tenant, credential, route, key, hash, status, response)| {
            let name = KeyName {
                tenant,
                credential,
                route,
                key,
            };
            let known = Known {
                hash: hash.into(),
                status: u16::try_from(*status).unwrap_or(500),
                response: response.into(),
                call: None,
            };
            (name, known)
        })
        .collect()
}

/// What a request with these keys is told, by the first of them that is known.
pub(super) async fn answered(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    keys: &[IdempotencyKey],
) -> Result<Option<Accepted>, StoreError> {
    let names = sorted(keys.iter().map(|key| name(tenant, key)));
    let rows = kept(conn, &names, Micros::now()).await?;
    let known = by_name(&rows);
    Ok(keys
        .iter()
        .find_map(|key| Some(known.get(&name(tenant, key))?.answer(key))))
}

/// Says of each notification whether it is new, a repeat or a mismatch, and keeps the answers of the new ones.
pub(super) async fn judge(
    tx: &mut Tx<'_>,
    calls: &[&[NewNotification]],
) -> Result<Vec<Vec<Accepted>>, StoreError> {
    let names = calls
        .iter()
        .copied()
        .flatten()
        .flat_map(|new| new.idempotency.iter().map(move |key| name(&new.tenant, key)));
    let names = sorted(names);
    if names.is_empty() {
        return Ok(calls.iter().map(|call| vec![Accepted::New; call.len()]).collect());
    }
    let rows = kept(&mut tx.conn, &names, tx.now).await?;
    let mut known = by_name(&rows);
    let mut fresh = Vec::new();
    let mut answers = Vec::with_capacity(calls.len());
    for (number, call) in calls.iter().enumerate() {
        let mut of_call = Vec::with_capacity(call.len());
        for new in *call {
            let answer = new.idempotency.iter().find_map(|key| {
                let found = known.get(&name(&new.tenant, key))?;
                // A request's own key stands on each of its notifications.
                let same_request = found.call == Some(number) && !key.credential.is_empty();
                match found.answer(key) {
                    Accepted::Repeat { .. } if same_request => None,
                    answer => Some(answer),
                }
            });
            if answer.is_none() {
                for key in &new.idempotency {
                    known.entry(name(&new.tenant, key)).or_insert_with(|| {
                        fresh.push((
                            new.tenant.as_str(),
                            key.credential.as_str(),
                            key.route.as_ref(),
                            key.key.as_str(),
                            key.request_hash.as_slice(),
                            i64::from(key.status),
                            key.response.as_str(),
                        ));
                        Known {
                            hash: key.request_hash.as_slice().into(),
                            status: key.status,
                            response: key.response.as_str().into(),
                            call: Some(number),
                        }
                    });
                }
            }
            of_call.push(answer.unwrap_or(Accepted::New));
        }
        answers.push(of_call);
    }
    if !fresh.is_empty() {
        fresh.sort_unstable_by_key(|row: &FreshRow<'_>| (row.0, row.1, row.2, row.3));
        let kept = tx
            .conn
            .query(sql::KEEP_KEYS)
            .rows(&fresh)
            .bind(tx.now.plus(KEEP_ANSWERS).0)
            .bind(tx.now.0)
            .run()
            .await?;
        // A row that is in the way and has not expired is of a transaction that committed since the look above.
        if kept < fresh.len() as u64 {
            return Err(StoreError::Again);
        }
    }
    Ok(answers)
}

/// Puts another answer in the place of the one that is kept under a key.
pub(super) async fn amend(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    key: &IdempotencyKey,
) -> Result<(), StoreError> {
    tx.conn
        .query(sql::AMEND_ANSWER)
        .bind(tenant.as_str())
        .bind(key.credential.as_str())
        .bind(key.route.as_ref())
        .bind(key.key.as_str())
        .bind(key.response.as_str())
        .run()
        .await?;
    Ok(())
}

/// Forgets answers that are no longer kept, a bounded number.
pub(super) async fn prune(tx: &mut Tx<'_>, now: Micros, limit: u32) -> Result<u64, StoreError> {
    let pruned = tx
        .conn
        .query(sql::PRUNE_KEYS)
        .bind(now.0)
        .bind(i64::from(limit))
        .run()
        .await?;
    Ok(pruned)
}
