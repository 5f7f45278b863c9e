//! The queue: begin, settle, rescue. Every write after a claim names the claim's token.

use std::collections::{BTreeMap, HashSet};

use common::ids::{DeliveryId, NotificationId};
use uuid::Uuid;

use super::{
    AttemptStart, LaneDepth, OnUnknown, Rescued, StoreError,
    access::{Access, Statement},
    chains::{self, End},
    codec::{channel_of, count, from_json, ids, state_of},
    positions::{Arrival, StoredRoute, appear},
    sql::queue as sql,
    totals::{add_totals, counts},
    transaction::Tx,
};
use crate::model::{ChainId, Channel, DeliveryState, Lane, Micros, Settlement};

/// Answers in the order of the inputs: whether the database knew the delivery under the token. A pair that is named twice
/// counts once.
fn deal(inputs: impl Iterator<Item = (DeliveryId, i64)>, rows: Vec<(Uuid, i64)>) -> Vec<bool> {
    let mut found: HashSet<(Uuid, i64)> = rows.into_iter().collect();
    inputs
        .map(|(delivery, token)| found.remove(&(delivery.0, token)))
        .collect()
}

pub(super) async fn begin_attempts(
    tx: &mut Tx<'_>,
    starts: &[&AttemptStart],
) -> Result<Vec<bool>, StoreError> {
    begin_by(tx, sql::BEGIN_ATTEMPTS, starts).await
}

/// The same for leases that this transaction took.
pub(super) async fn begin_claimed(
    tx: &mut Tx<'_>,
    starts: &[&AttemptStart],
) -> Result<Vec<bool>, StoreError> {
    begin_by(tx, sql::BEGIN_CLAIMED, starts).await
}

async fn begin_by(
    tx: &mut Tx<'_>,
    statement: Statement,
    starts: &[&AttemptStart],
) -> Result<Vec<bool>, StoreError> {
    let input: Vec<_> = starts
        .iter()
        .map(|start| {
            (
                start.delivery.0,
                start.token,
                i64::from(start.number),
                start.started_at,
                start.provider.as_deref(),
            )
        })
        .collect();
    let rows = tx.conn.query(statement).rows(&input).all().await?;
    Ok(deal(
        starts.iter().map(|start| (start.delivery, start.token)),
        rows,
    ))
}

pub(super) async fn settle(tx: &mut Tx<'_>, settlements: &[&Settlement]) -> Result<Vec<bool>, StoreError> {
    // Of several under one lease the first holds.
    let mut named = HashSet::with_capacity(settlements.len());
    let first: Vec<&&Settlement> = settlements
        .iter()
        .filter(|one| named.insert((one.delivery, one.token)))
        .collect();
    let input: Vec<_> = first
        .iter()
        .map(|one| {
            (
                one.delivery.0,
                one.token,
                one.state.as_str(),
                one.due_at,
                one.reason.as_deref(),
            )
        })
        .collect();
    let rows: Vec<(Uuid, i64, String, String)> = tx
        .conn
        .query(sql::SETTLE)
        .rows(&input)
        .bind(tx.now.0)
        .all()
        .await?;
    let mut settled = Vec::with_capacity(rows.len());
    let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (id, token, tenant, state) in &rows {
        settled.push((*id, *token));
        let (sent, failed) = DeliveryState::parse(state).map(counts).unwrap_or_default();
        let sums = totals.entry(tenant).or_default();
        sums.0 += sent;
        sums.1 += failed;
    }
    let held: HashSet<(Uuid, i64)> = settled.iter().copied().collect();
    let ended: Vec<_> = first
        .iter()
        .filter(|one| one.outcome.is_some() && held.contains(&(one.delivery.0, one.token)))
        .map(|one| {
            (
                one.delivery.0,
                one.token,
                one.outcome,
                one.reason.as_deref(),
                one.response.as_deref(),
            )
        })
        .collect();
    if !ended.is_empty() {
        tx.conn
            .query(sql::END_ATTEMPTS)
            .rows(&ended)
            .bind(tx.now.0)
            .run()
            .await?;
    }
    add_totals(tx, totals).await?;
    let ends = rows
        .iter()
        .filter(|(id, ..)| ChainId::of(DeliveryId(*id)).is_some())
        .map(|(id, token, _, state)| {
            let settlement = first
                .iter()
                .find(|one| one.delivery.0 == *id && one.token == *token);
            Ok(End {
                delivery: DeliveryId(*id),
                state: state_of(state)?,
                // What was put off without an attempt, as its turn had not come, has not failed.
                reason: settlement
                    .filter(|one| one.outcome.is_some() || state != DeliveryState::Pending.as_str())
                    .and_then(|one| one.reason.clone()),
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    chains::moved(tx, ends).await?;
    Ok(deal(
        settlements.iter().map(|one| (one.delivery, one.token)),
        settled,
    ))
}

pub(super) async fn extend(
    tx: &mut Tx<'_>,
    leases: &[&(DeliveryId, i64, Micros)],
) -> Result<Vec<bool>, StoreError> {
    let input: Vec<_> = leases
        .iter()
        .map(|(delivery, token, until)| (delivery.0, *token, *until))
        .collect();
    let rows = tx.conn.query(sql::EXTEND).rows(&input).all().await?;
    Ok(deal(
        leases.iter().map(|(delivery, token, _)| (*delivery, *token)),
        rows,
    ))
}

pub(super) async fn release(tx: &mut Tx<'_>, leases: &[(DeliveryId, i64)]) -> Result<(), StoreError> {
    let input: Vec<_> = leases
        .iter()
        .map(|(delivery, token)| (delivery.0, *token))
        .collect();
    let released: Vec<(Uuid, i64)> = tx
        .conn
        .query(sql::RELEASE)
        .rows(&input)
        .bind(tx.now.0)
        .all()
        .await?;
    let none: Option<&str> = None;
    let ended: Vec<_> = released
        .iter()
        .map(|(id, token)| (*id, *token, "interrupted", none, none))
        .collect();
    tx.conn
        .query(sql::END_ATTEMPTS)
        .rows(&ended)
        .bind(tx.now.0)
        .run()
        .await?;
    // What was read meanwhile is not sent again.
    let back = released.into_iter().map(|(id, _)| End {
        delivery: DeliveryId(id),
        state: DeliveryState::Pending,
        reason: None,
    });
    chains::moved(tx, back.collect()).await
}

pub(super) async fn rescue(
    tx: &mut Tx<'_>,
    now: Micros,
    limit: u32,
    on_unknown: fn(Channel) -> OnUnknown,
) -> Result<Rescued, StoreError> {
    let rows: Vec<(Uuid, i64, String, i64, i64, i64)> = tx
        .conn
        .query(sql::EXPIRED_LEASES)
        .bind(now.0)
        .bind(i64::from(limit))
        .all()
        .await?;
    // A job whose lease ran out is due by that; only a lease that still runs has to be taken back.
    let jobs = tx
        .conn
        .query(sql::RESCUE_JOBS)
        .bind(tx.now.0)
        .bind(now.0)
        .run()
        .await?;
    let mut rescued = Rescued {
        jobs,
        ..Rescued::default()
    };
    let mut unknown = Vec::new();
    let mut settled = Vec::with_capacity(rows.len());
    for (id, token, channel, max_attempts, attempts, open) in rows {
        rescued.released += 1;
        let is_unknown = open > 0;
        if is_unknown {
            rescued.unknown += 1;
            unknown.push((id, token));
        }
        let channel = channel_of(&channel)?;
        let (state, reason) = match is_unknown.then(|| on_unknown(channel)) {
            Some(OnUnknown::Hold) => (DeliveryState::Dead, Some("unknown")),
            // A frame is bounded by its age, not by attempts.
            Some(OnUnknown::Resend) if channel.is_external() && attempts >= max_attempts => {
                (DeliveryState::Dead, Some("attempts_exhausted"))
            }
            _ => (DeliveryState::Pending, None),
        };
        settled.push(Settlement {
            delivery: DeliveryId(id),
            token,
            state,
            // `now` may lie ahead, where the caller takes back leases that still run.
            due_at: (state == DeliveryState::Pending).then(|| now.min(Micros::now())),
            reason: reason.map(Into::into),
            outcome: None,
            response: None,
        });
    }
    if !settled.is_empty() {
        tx.conn.query(sql::MARK_UNKNOWN).rows(&unknown).run().await?;
        settle(tx, &settled.iter().collect::<Vec<_>>()).await?;
    }
    Ok(rescued)
}

pub(super) async fn make_visible(
    tx: &mut Tx<'_>,
    now: Micros,
    limit: u32,
) -> Result<Vec<NotificationId>, StoreError> {
    let rows: Vec<(i64, Uuid, String, Option<String>)> = tx
        .conn
        .query(sql::DUE_SCHEDULED)
        .bind(now.0)
        .bind(i64::from(limit))
        .all()
        .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut arrivals = Vec::with_capacity(rows.len());
    for (visible_at, id, routes, group) in &rows {
        let routes: Vec<StoredRoute> = from_json("routes", routes)?;
        arrivals.push(Arrival {
            id: NotificationId(*id),
            visible_at: Micros(*visible_at),
            routes,
            group: group.clone(),
        });
    }
    appear(tx, &arrivals).await?;
    tx.conn
        .query(sql::DELETE_SCHEDULED)
        .rows(
            &rows
                .iter()
                .map(|(visible_at, id, ..)| (*visible_at, *id))
                .collect::<Vec<_>>(),
        )
        .run()
        .await?;
    let due = ids(rows.iter().map(|(_, id, ..)| *id));
    let tenants: Vec<(String,)> = tx
        .conn
        .query(sql::DELIVER_VISIBLE)
        .list(&due)
        .bind(tx.now.0)
        .all()
        .await?;
    let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (tenant,) in &tenants {
        totals.entry(tenant).or_default().0 += 1;
    }
    add_totals(tx, totals).await?;
    Ok(arrivals.into_iter().map(|arrival| arrival.id).collect())
}

pub(super) async fn answers(conn: &mut Access<'_>) -> Result<(), StoreError> {
    let _: i64 = conn.query(sql::ANSWERS).scalar().await?;
    Ok(())
}

pub(super) async fn next_due(conn: &mut Access<'_>) -> Result<Option<Micros>, StoreError> {
    let channels = Channel::ALL.map(Channel::as_str);
    let due: Option<i64> = conn.query(sql::NEXT_DUE).list(&channels).scalar().await?;
    Ok(due.map(Micros))
}

pub(super) async fn depths(conn: &mut Access<'_>) -> Result<Vec<LaneDepth>, StoreError> {
    let rows: Vec<(i64, i64, Option<i64>)> = conn.query(sql::DEPTHS).all().await?;
    Ok(Lane::ALL
        .into_iter()
        .map(|lane| {
            let row = rows
                .iter()
                .find(|(number, ..)| *number == i64::from(lane.number()));
            let (depth, oldest) = row.map_or((0, None), |(_, depth, oldest)| (count(*depth), *oldest));
            LaneDepth {
                lane,
                depth,
                oldest_due: oldest.map(Micros),
            }
        })
        .collect())
}
