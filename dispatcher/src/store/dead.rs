//! Dead letters: looked at, sent again, discarded.

use common::{
    audit::{AuditEntry, Origin},
    ids::{DeliveryId, NotificationId, TenantId},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    StoreError,
    access::Access,
    audit,
    codec::{self, channel_of, from_json, ids, lane_of, small, user_of},
    operate::add_failed,
    records,
    sql::operate as sql,
    transaction::Tx,
};
use crate::model::{
    Attempt, Candidate, Channel, DeadFilter, DeadLetter, DeadPlace, DeliveryState, Micros, Redrive,
    RedriveResult, Redriven,
};

/// Rows that are read at once where a text is looked for, and how many of them at the most for one page.
const SEARCH_STEP: u32 = 500;
const SEARCH_MOST: usize = 10_000;

type DeadRow = (
    Uuid,
    Uuid,
    String,
    Option<String>,
    Option<String>,
    i64,
    Option<String>,
    i64,
    i64,
    Option<String>,
    i64,
    Option<i64>,
    String,
);

fn letter(row: DeadRow) -> Result<DeadLetter, StoreError> {
    let (
        id,
        notification,
        channel,
        user,
        address,
        lane,
        reason,
        died_at,
        attempts,
        response,
        created,
        expires,
        content,
    ) = row;
    Ok(DeadLetter {
        id: DeliveryId(id),
        notification: NotificationId(notification),
        channel: channel_of(&channel)?,
        user: user.as_deref().map(user_of).transpose()?,
        address,
        lane: lane_of(lane)?,
        reason,
        attempts: small("attempts", attempts)?,
        response,
        died_at: Micros(died_at),
        created_at: Micros(created),
        expires_at: expires.map(Micros),
        content: from_json("content", &content)?,
    })
}

/// A page, newest first, and where the next one begins. A search for a text reads so much and no more: its page may be
/// short, or empty, though there are further ones.
pub(super) async fn letters(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    filter: &DeadFilter,
    after: Option<DeadPlace>,
    limit: u32,
) -> Result<(Vec<DeadLetter>, Option<DeadPlace>), StoreError> {
    let text = filter.text.as_deref().map(str::to_lowercase);
    let step = if text.is_some() { SEARCH_STEP } else { limit };
    let mut place = after;
    let mut found = Vec::new();
    let mut looked_at = 0;
    loop {
        let rows = page(conn, tenant, filter, place, step).await?;
        let is_last = rows.len() < step as usize;
        looked_at += rows.len();
        for letter in rows {
            place = Some(DeadPlace {
                died_at: letter.died_at,
                id: letter.id,
            });
            if text.as_deref().is_none_or(|text| holds(&letter, text)) {
                found.push(letter);
                if found.len() >= limit as usize {
                    return Ok((found, place));
                }
            }
        }
        if is_last {
            return Ok((found, None));
        }
        if looked_at >= SEARCH_MOST {
            return Ok((found, place));
        }
    }
}

fn holds(letter: &DeadLetter, text: &str) -> bool {
    [&letter.content.title, &letter.content.content]
        .into_iter()
        .chain(&letter.address)
        .any(|part| part.to_lowercase().contains(text))
}

async fn page(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    filter: &DeadFilter,
    after: Option<DeadPlace>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let (at, id) = after.map_or((i64::MAX, Uuid::max()), |place| (place.died_at.0, place.id.0));
    let rows: Vec<DeadRow> = conn
        .query(sql::DEAD_LETTERS)
        .bind(tenant.as_str())
        .bind(at)
        .bind(id)
        .bind(filter.reason.clone())
        .bind(filter.channel.map(Channel::as_str))
        .bind(filter.user.as_ref().map(|user| user.as_str().to_owned()))
        .bind(filter.notification.map(|notification| notification.0))
        .bind(filter.from.map_or(i64::MIN, |from| from.0))
        .bind(filter.to.map_or(i64::MAX, |to| to.0))
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.into_iter().map(letter).collect()
}

pub(super) async fn one(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<(DeadLetter, Vec<Attempt>)>, StoreError> {
    let row: Option<DeadRow> = conn
        .query(sql::DEAD_LETTER)
        .bind(id.0)
        .bind(tenant.as_str())
        .optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    let attempts = records::attempts(conn, [id.0]).await?.remove(&id.0);
    Ok(Some((letter(row)?, attempts.unwrap_or_default())))
}

type CandidateRow = (Uuid, String, String, Option<String>);

fn candidate((id, channel, state, reason): CandidateRow) -> Result<Candidate, StoreError> {
    Ok(Candidate {
        id: DeliveryId(id),
        channel: channel_of(&channel)?,
        state: DeliveryState::parse(&state).ok_or_else(|| StoreError::unreadable("state", &state))?,
        reason,
    })
}

/// What is dead of a notification and can be sent again: so many in the order of their ids.
pub(super) async fn dead_of(
    conn: &mut Access<'_>,
    notification: NotificationId,
    after: Option<DeliveryId>,
    limit: u32,
) -> Result<Vec<Candidate>, StoreError> {
    let rows: Vec<CandidateRow> = conn
        .query(sql::DEAD_OF)
        .bind(notification.0)
        .bind(after.map_or(Uuid::nil(), |id| id.0))
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.into_iter().map(candidate).collect()
}

/// Those of these deliveries that are the notification's, each once, in no order.
pub(super) async fn named_of(
    conn: &mut Access<'_>,
    notification: NotificationId,
    named: &[DeliveryId],
) -> Result<Vec<Candidate>, StoreError> {
    let rows: Vec<CandidateRow> = conn
        .query(sql::NAMED_OF)
        .bind(notification.0)
        .list(&ids(named.iter().map(|id| id.0)))
        .all()
        .await?;
    rows.into_iter().map(candidate).collect()
}

pub(super) async fn redrive(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    redrive: &Redrive,
    by: &Origin,
) -> Result<RedriveResult, StoreError> {
    if let (Some(address), [(id, _)]) = (&redrive.address, redrive.deliveries.as_slice()) {
        let taken: i64 = tx
            .conn
            .query(sql::ADDRESS_TAKEN)
            .bind(id.0)
            .bind(address.as_str())
            .scalar()
            .await?;
        if taken > 0 {
            return Ok(RedriveResult::AddressTaken);
        }
    }
    let wanted: Vec<(Uuid, i64)> = redrive
        .deliveries
        .iter()
        .map(|(id, attempts)| (id.0, i64::from(*attempts)))
        .collect();
    let rows: Vec<(Uuid, i64)> = tx
        .conn
        .query(sql::REDRIVE)
        .bind(tenant.as_str())
        .rows(&wanted)
        .bind(tx.now.0)
        .all()
        .await?;
    for (id, _) in &rows {
        if let Some(address) = &redrive.address {
            tx.conn
                .query(sql::EDIT_ADDRESS)
                .bind(*id)
                .bind(address.as_str())
                .run()
                .await?;
        }
        if let Some(content) = &redrive.content {
            tx.conn
                .query(sql::EDIT_CONTENT)
                .bind(*id)
                .bind(codec::json(content)?)
                .bind(by.user.as_str())
                .bind(tx.now.0)
                .run()
                .await?;
        }
    }
    // Where it goes now and what it says, if that was corrected.
    let edit = json!({ "address": redrive.address, "content": redrive.content });
    let entries: Vec<AuditEntry> = rows
        .iter()
        .map(|(id, _)| by.did("dead_letter.redrive", "delivery", id).after(&edit))
        .collect();
    audit::append(tx, &entries).await?;
    if !rows.is_empty() {
        add_failed(tx, tenant, -i64::try_from(rows.len()).unwrap_or(i64::MAX)).await?;
    }
    rows.into_iter()
        .map(|(id, lane)| {
            Ok(Redriven {
                id: DeliveryId(id),
                lane: lane_of(lane)?,
            })
        })
        .collect::<Result<_, _>>()
        .map(RedriveResult::Redriven)
}

pub(super) async fn discard(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    deliveries: &[DeliveryId],
    by: &Origin,
) -> Result<u64, StoreError> {
    let wanted = ids(deliveries.iter().map(|id| id.0));
    let discarded: Vec<Uuid> = tx
        .conn
        .query(sql::DISCARD)
        .bind(tenant.as_str())
        .list(&wanted)
        .bind(tx.now.0)
        .scalars()
        .await?;
    let entries: Vec<AuditEntry> = discarded
        .iter()
        .map(|id| by.did("dead_letter.discard", "delivery", id))
        .collect();
    audit::append(tx, &entries).await?;
    Ok(discarded.len() as u64)
}

/// Forgets edits of deliveries that are forgotten, a bounded number. How many.
pub(super) async fn forget_edits(tx: &mut Tx<'_>, before: Micros, limit: i64) -> Result<u64, StoreError> {
    tx.conn
        .query(sql::FORGET_EDITS)
        .bind(before.0)
        .bind(limit)
        .run()
        .await
}
