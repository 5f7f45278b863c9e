//! Schedules: kept, claimed when due, moved on together with what they send.

use common::{
    audit::Origin,
    ids::{Name, NotificationId, TenantId},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    StoreError, accept,
    access::Access,
    audit,
    codec::{self, count, from_json, tenant_of, user_of},
    sql::schedules as sql,
    transaction::Tx,
};
use crate::model::{
    Micros, Occurred, Schedule, ScheduleBody, ScheduleChange, ScheduleClaim, ScheduleEnd, ScheduleState,
    Timing,
};

/// What was said of a schedule, but for what queries need.
#[derive(Serialize, Deserialize)]
struct Said {
    timing: Timing,
    notification: Value,
    scopes: Vec<String>,
}

/// id, tenant, name, author, said; state, next_at; runs, failed, missed; last_at, last_notification, last_error; created_at,
/// updated_at.
type Row = (
    Uuid,
    String,
    Option<String>,
    String,
    String,
    String,
    Option<i64>,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<Uuid>,
    Option<String>,
    i64,
    i64,
);

/// As [`Row`], with the token.
type ClaimedRow = (
    Uuid,
    String,
    Option<String>,
    String,
    String,
    String,
    Option<i64>,
    i64,
    i64,
    i64,
    Option<i64>,
    Option<Uuid>,
    Option<String>,
    i64,
    i64,
    i64,
);

fn schedule(
    (
        id,
        tenant,
        name,
        author,
        said,
        state,
        next_at,
        runs,
        failed,
        missed,
        last_at,
        last,
        error,
        created,
        updated,
    ): Row,
) -> Result<Schedule, StoreError> {
    let said: Said = from_json("schedule", &said)?;
    Ok(Schedule {
        id,
        tenant: tenant_of(&tenant)?,
        body: ScheduleBody {
            name,
            author: user_of(&author)?,
            scopes: said.scopes,
            timing: said.timing,
            notification: said.notification,
        },
        state: ScheduleState::parse(&state)
            .ok_or_else(|| StoreError::unreadable("schedule's state", &state))?,
        next_at: next_at.map(Micros),
        runs: count(runs),
        failed: count(failed),
        missed: count(missed),
        last_at: last_at.map(Micros),
        last_notification: last.map(NotificationId),
        last_error: error,
        created_at: Micros(created),
        updated_at: Micros(updated),
    })
}

fn said(body: &ScheduleBody) -> Result<String, StoreError> {
    codec::json(&Said {
        timing: body.timing.clone(),
        notification: body.notification.clone(),
        scopes: body.scopes.clone(),
    })
}

/// What the audit log shows of it.
fn shown(schedule: &Schedule) -> Value {
    let body = &schedule.body;
    json!({
        "name": body.name,
        "author": body.author.as_str(),
        "scopes": body.scopes,
        "timing": body.timing,
        "notification": body.notification,
        "state": schedule.state.as_str(),
        "next_at": schedule.next_at.map(Micros::rfc3339),
    })
}

/// False: the tenant has as many as it may have.
pub(super) async fn create(
    tx: &mut Tx<'_>,
    new: &Schedule,
    most: u32,
    by: &Origin,
) -> Result<bool, StoreError> {
    let made = tx
        .conn
        .query(sql::INSERT_SCHEDULE)
        .bind(new.id)
        .bind(new.tenant.as_str())
        .bind(new.body.name.clone())
        .bind(new.body.author.as_str())
        .bind(said(&new.body)?)
        .bind(new.state.as_str())
        .bind(new.next_at.map(|at| at.0))
        .bind(new.due_at().map(|at| at.0))
        .bind(new.created_at.0)
        .bind(i64::from(most))
        .run()
        .await?;
    if made > 0 {
        let entry = by.did("schedule.create", "schedule", new.id).after(&shown(new));
        audit::append(tx, &[entry]).await?;
    }
    Ok(made > 0)
}

pub(super) async fn get(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    id: Uuid,
) -> Result<Option<Schedule>, StoreError> {
    let row: Option<Row> = conn
        .query(sql::SCHEDULE)
        .bind(id)
        .bind(tenant.as_str())
        .optional()
        .await?;
    row.map(schedule).transpose()
}

pub(super) async fn list(
    conn: &mut Access<'_>,
    tenant: &TenantId,
    author: Option<&Name>,
    state: Option<ScheduleState>,
    after: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Schedule>, StoreError> {
    let rows: Vec<Row> = conn
        .query(sql::LIST_SCHEDULES)
        .bind(tenant.as_str())
        .bind(author.map(Name::to_string))
        .bind(state.map(ScheduleState::as_str))
        .bind(after.unwrap_or_default())
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.into_iter().map(schedule).collect()
}

/// What the change says of it now; none where there is no such schedule.
pub(super) async fn change(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: Uuid,
    change: &ScheduleChange,
    by: &Origin,
) -> Result<Option<Schedule>, StoreError> {
    let row: Option<Row> = tx
        .conn
        .query(sql::LOCK_SCHEDULE)
        .bind(id)
        .bind(tenant.as_str())
        .optional()
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut changed = schedule(row)?;
    let entry = by.did(change.action(), "schedule", id).before(&shown(&changed));
    changed.change(change.clone(), tx.now);
    tx.conn
        .query(sql::CHANGE_SCHEDULE)
        .bind(id)
        .bind(changed.body.name.clone())
        .bind(changed.body.author.as_str())
        .bind(said(&changed.body)?)
        .bind(changed.state.as_str())
        .bind(changed.next_at.map(|at| at.0))
        .bind(changed.due_at().map(|at| at.0))
        .bind(changed.updated_at.0)
        .run()
        .await?;
    audit::append(tx, &[entry.after(&shown(&changed))]).await?;
    Ok(Some(changed))
}

pub(super) async fn delete(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: Uuid,
    by: &Origin,
) -> Result<bool, StoreError> {
    let before = get(&mut tx.conn, tenant, id).await?;
    let deleted = tx
        .conn
        .query(sql::DELETE_SCHEDULE)
        .bind(id)
        .bind(tenant.as_str())
        .run()
        .await?;
    if let (1.., Some(before)) = (deleted, before) {
        let entry = by.did("schedule.delete", "schedule", id).before(&shown(&before));
        audit::append(tx, &[entry]).await?;
    }
    Ok(deleted > 0)
}

pub(super) async fn claim(
    tx: &mut Tx<'_>,
    worker: &str,
    now: Micros,
    lease_until: Micros,
    limit: u32,
) -> Result<Vec<ScheduleClaim>, StoreError> {
    let rows: Vec<ClaimedRow> = tx
        .conn
        .query(sql::CLAIM_SCHEDULES)
        .bind(now.0)
        .bind(worker)
        .bind(lease_until.0)
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.into_iter()
        .map(|(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, token)| {
            let schedule = schedule((a, b, c, d, e, f, g, h, i, j, k, l, m, n, o))?;
            let next_at = schedule
                .next_at
                .ok_or_else(|| StoreError::unreadable("schedule", "due without a next time"))?;
            Ok(ScheduleClaim {
                schedule,
                next_at,
                token,
            })
        })
        .collect()
}

/// Accepts the occurrence's notification and moves the schedule on. False: the claim is lost, nothing was stored.
pub(super) async fn end(tx: &mut Tx<'_>, end: &ScheduleEnd) -> Result<bool, StoreError> {
    let (at, notification, error) = match &end.occurred {
        Occurred::Ran(at, notification) => (Some(*at), Some(notification), None),
        Occurred::Failed(at, reason) => (Some(*at), None, Some(reason.clone())),
        Occurred::Nothing => (None, None, None),
    };
    let state = match end.next_at {
        Some(_) => ScheduleState::Active,
        None => ScheduleState::Ended,
    };
    let ended = tx
        .conn
        .query(sql::END_OCCURRENCE)
        .bind(end.id)
        .bind(end.token)
        .bind(end.next_at.map(|at| at.0))
        .bind(end.due_at.map(|at| at.0))
        .bind(state.as_str())
        .bind(i64::from(notification.is_some()))
        .bind(i64::from(error.is_some()))
        .bind(i64::try_from(end.missed).unwrap_or(i64::MAX))
        .bind(at.map(|at| at.0))
        .bind(notification.map(|new| new.id.0))
        .bind(error)
        .run()
        .await?;
    if ended == 0 {
        return Ok(false);
    }
    if let Some(notification) = notification {
        accept::accept(tx, &[std::slice::from_ref(&**notification)]).await?;
    }
    Ok(true)
}

/// Gives a claim back until a time. False: it is lost.
pub(super) async fn put_off(
    tx: &mut Tx<'_>,
    id: Uuid,
    token: i64,
    until: Micros,
) -> Result<bool, StoreError> {
    let moved = tx
        .conn
        .query(sql::PUT_OFF_SCHEDULE)
        .bind(id)
        .bind(token)
        .bind(until.0)
        .run()
        .await?;
    Ok(moved > 0)
}

pub(super) async fn next(conn: &mut Access<'_>) -> Result<Option<Micros>, StoreError> {
    let next: Option<i64> = conn.query(sql::NEXT_SCHEDULE).scalar_optional().await?;
    Ok(next.map(Micros))
}
