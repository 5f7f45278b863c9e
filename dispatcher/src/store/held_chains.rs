//! Chains whose rows are held: what happened to them is decided, and then done.

use std::collections::{BTreeMap, HashMap};

use common::ids::{DeliveryId, NotificationId};
use uuid::Uuid;

use super::{
    StoreError,
    codec::{from_json, json, lane_of},
    deliveries,
    sql::chains as sql,
    totals::{add_totals, counts},
    transaction::Tx,
};
use crate::{
    model::{Chain, ChainId, Channel, DeliveryState, Lane, Micros, NewDelivery},
    strategy::{self, Effects, Event},
};

/// Id, notification, tenant, lane, chain.
pub(super) type Row = (Uuid, Uuid, String, i64, String);

/// A chain whose row is held.
pub(super) struct Held {
    pub(super) notification: NotificationId,
    pub(super) tenant: String,
    pub(super) lane: Lane,
    pub(super) chain: Chain,
    /// What is to be done, of all that happened to it.
    pub(super) effects: Effects,
}

impl Held {
    pub(super) fn of((_, notification, tenant, lane, chain): Row) -> Result<Self, StoreError> {
        Ok(Self {
            notification: NotificationId(notification),
            tenant,
            lane: lane_of(lane)?,
            chain: from_json("chain", &chain)?,
            effects: Effects::default(),
        })
    }

    pub(super) fn apply(&mut self, event: Event, now: Micros) {
        let Effects { begin, stop, leave } = strategy::apply(&mut self.chain, event, now);
        self.effects.begin.extend(begin);
        self.effects.stop.extend(stop);
        self.effects.leave.extend(leave);
    }
}

pub(super) fn held(rows: Vec<Row>) -> Result<Vec<Held>, StoreError> {
    rows.into_iter().map(Held::of).collect()
}

/// Does what was decided, and keeps the chains.
pub(super) async fn carry_out(tx: &mut Tx<'_>, mut chains: Vec<Held>) -> Result<(), StoreError> {
    if chains.is_empty() {
        return Ok(());
    }
    begin(tx, &chains).await?;
    stop(tx, &mut chains).await?;
    let rows = chains
        .iter()
        .map(|held| {
            let chain = &held.chain;
            Ok((
                chain.id.0,
                i64::from(chain.is_open()),
                chain.next_at(),
                i64::from(chain.untold),
                json(chain)?,
            ))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    tx.conn
        .query(sql::PUT_CHAINS)
        .rows(&rows)
        .bind(tx.now.0)
        .run()
        .await?;
    Ok(())
}

/// Puts the deliveries of steps that begin into the queue.
async fn begin(tx: &mut Tx<'_>, chains: &[Held]) -> Result<(), StoreError> {
    let mut made: Vec<(&Held, NewDelivery)> = Vec::new();
    for held in chains {
        let due_at = tx.now.max(held.chain.begins_at);
        for index in &held.effects.begin {
            let Some(step) = held.chain.steps.get(*index) else {
                continue;
            };
            // Rows of the inbox are there from the beginning.
            if step.channel == Channel::InApp {
                continue;
            }
            let deliveries = step.deliveries.iter();
            made.extend(deliveries.map(|one| (held, one.new_delivery(&held.chain, step.channel, due_at))));
        }
    }
    let rows = deliveries::rows(
        made.iter()
            .map(|(held, new)| (held.notification, held.tenant.as_str(), held.lane, new)),
        tx.now,
    );
    deliveries::insert(tx, &rows).await?;
    let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (held, new) in &made {
        let (sent, failed) = counts(new.state);
        let sums = totals.entry(&held.tenant).or_default();
        *sums = (sums.0 + sent, sums.1 + failed);
    }
    add_totals(tx, totals).await
}

/// Takes out of the queue what is not needed any more, where it waits in it.
async fn stop(tx: &mut Tx<'_>, chains: &mut [Held]) -> Result<(), StoreError> {
    let mut rows: Vec<(Uuid, &'static str, String)> = Vec::new();
    let mut left: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for held in chains.iter() {
        let reason = held
            .chain
            .reason
            .as_deref()
            .unwrap_or(held.chain.reached.as_str());
        for delivery in &held.effects.stop {
            rows.push((delivery.0, DeliveryState::Cancelled.as_str(), reason.to_owned()));
        }
        for (delivery, reason) in &held.effects.leave {
            rows.push((
                delivery.0,
                DeliveryState::Dead.as_str(),
                reason.as_ref().to_owned(),
            ));
            left.entry(held.tenant.clone()).or_default().1 += 1;
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_unstable();
    rows.dedup_by_key(|row| row.0);
    let stopped: Vec<Uuid> = tx
        .conn
        .query(sql::STOP_DELIVERIES)
        .rows(&rows)
        .bind(tx.now.0)
        .scalars()
        .await?;
    let mut by_chain: HashMap<ChainId, Vec<DeliveryId>> = HashMap::new();
    for id in stopped.into_iter().map(DeliveryId) {
        if let Some(chain) = ChainId::of(id) {
            by_chain.entry(chain).or_default().push(id);
        }
    }
    for held in chains {
        for id in by_chain.remove(&held.chain.id).unwrap_or_default() {
            if held.effects.stop.contains(&id) {
                strategy::stopped(&mut held.chain, id, tx.now);
            }
        }
    }
    let left = left.iter().map(|(tenant, sums)| (tenant.as_str(), *sums));
    add_totals(tx, left.collect()).await
}
