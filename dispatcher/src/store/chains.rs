//! Chains: each is moved by [`crate::strategy`] under its row's lock, in the transaction of what moves it.
//!
//! Locks: chains come after keys, counters and deliveries, in the order of their ids. Who holds a chain takes deliveries out
//! of the queue only where nobody else holds them: who does is about to end them or to give them back, and then looks at the
//! chain, or has claimed them, and then they are on the way.

use std::collections::BTreeMap;

use common::{
    ids::{DeliveryId, Name, NotificationId, TenantId},
    topic::TopicKey,
};
use uuid::Uuid;

use super::{
    FailedOver, Mark, StoreError,
    access::Access,
    codec::{from_json, json, tenant_of},
    held_chains::{Held, Row, carry_out, held},
    sql::{chains as sql, queue as queue_sql},
    totals::add_totals,
    transaction::Tx,
};
use crate::{
    model::{
        Chain, ChainId, DeliveryState, Micros, NewDelivery, NewNotification, Reached, ReaderKeys, Reason,
        Step, StepState,
    },
    strategy::{self, Effects, Event},
};

/// Chains of one notification that are shown.
const SHOWN: i64 = 1000;

/// A delivery that ended, or came back into the queue.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) delivery: DeliveryId,
    pub(super) state: DeliveryState,
    pub(super) reason: Option<Reason>,
}

/// Stores the chains of accepted notifications. What has ended between accepting and storing, as frames do that went out while
/// the database was away, moves them at once.
pub(super) async fn insert(tx: &mut Tx<'_>, fresh: &[&NewNotification]) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    let mut moved = Vec::new();
    for new in fresh {
        for chain in &new.chains {
            rows.push((
                chain.id.0,
                new.id.0,
                new.tenant.as_str(),
                chain.user.as_ref().map_or("", Name::as_str),
                i64::from(new.lane.number()),
                i64::from(chain.is_open()),
                chain.next_at(),
                i64::from(chain.untold),
                json(chain)?,
            ));
            moved.extend(caught_up(new, chain, tx.now));
        }
    }
    if !rows.is_empty() {
        tx.conn
            .query(sql::INSERT_CHAINS)
            .rows(&rows)
            .bind(tx.now.0)
            .run()
            .await?;
    }
    carry_out(tx, moved).await
}

/// A chain that knows of the ends of deliveries that are stored with it; none where it does already.
fn caught_up(new: &NewNotification, chain: &Chain, now: Micros) -> Option<Held> {
    let open = |delivery: &&NewDelivery| {
        let mut all = chain.steps.iter().flat_map(|step| &step.deliveries);
        all.any(|one| one.id == delivery.id && one.end.is_none())
    };
    let ended = new.deliveries.iter().filter(|one| one.state.is_terminal());
    let ended: Vec<&NewDelivery> = ended.filter(open).collect();
    if ended.is_empty() {
        return None;
    }
    let mut held = Held {
        notification: new.id,
        tenant: new.tenant.as_str().to_owned(),
        lane: new.lane,
        chain: chain.clone(),
        effects: Effects::default(),
    };
    for one in ended {
        let event = Event::Ended {
            delivery: one.id,
            state: one.state,
            reason: one.reason.clone(),
        };
        held.apply(event, now);
    }
    Some(held)
}

/// Deliveries ended or came back: the chains of those that belong to one go on.
pub(super) async fn moved(tx: &mut Tx<'_>, ends: Vec<End>) -> Result<(), StoreError> {
    let mut by_chain: BTreeMap<ChainId, Vec<End>> = BTreeMap::new();
    for end in ends {
        if let Some(chain) = ChainId::of(end.delivery) {
            by_chain.entry(chain).or_default().push(end);
        }
    }
    if by_chain.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = by_chain.keys().map(|id| id.0).collect();
    let mut chains = held(tx.conn.query(sql::CHAINS_BY_ID).list(&ids).all().await?)?;
    for held in &mut chains {
        for end in by_chain.remove(&held.chain.id).unwrap_or_default() {
            let (delivery, reason) = (end.delivery, end.reason);
            let event = match end.state {
                DeliveryState::Pending | DeliveryState::Running => Event::Returned { delivery, reason },
                state => Event::Ended {
                    delivery,
                    state,
                    reason,
                },
            };
            held.apply(event, tx.now);
        }
    }
    carry_out(tx, chains).await
}

/// How far a mark says that a notification has come.
fn level(mark: Mark) -> Option<Reached> {
    match mark {
        Mark::Delivered => Some(Reached::Delivered),
        Mark::Seen | Mark::Snoozed(_) => Some(Reached::Seen),
        // Who puts it away has dealt with it.
        Mark::Read | Mark::Archived | Mark::Deleted => Some(Reached::Read),
        Mark::Acknowledged => Some(Reached::Acknowledged),
        Mark::Unread | Mark::Unarchived | Mark::Woken(_) => None,
    }
}

/// A receipt of a reader: its chains of these notifications learn it.
pub(super) async fn marked(
    tx: &mut Tx<'_>,
    reader: &ReaderKeys,
    wanted: &[NotificationId],
    mark: Mark,
) -> Result<(), StoreError> {
    let Some(level) = level(mark) else {
        return Ok(());
    };
    let ids: Vec<Uuid> = wanted.iter().map(|id| id.0).collect();
    let rows = tx
        .conn
        .query(sql::CHAINS_OF_READER)
        .bind(reader.tenant.as_str())
        .bind(reader.user.as_str())
        .list(&ids)
        .all()
        .await?;
    reached(tx, rows, level).await
}

/// A reader has read everything of its own up to a position.
pub(super) async fn read_up_to(
    tx: &mut Tx<'_>,
    reader: &ReaderKeys,
    position: i64,
) -> Result<(), StoreError> {
    let rows = tx
        .conn
        .query(sql::CHAINS_UP_TO)
        .bind(reader.tenant.as_str())
        .bind(reader.user.as_str())
        .bind(TopicKey::user(&reader.tenant, &reader.user).as_str())
        .bind(position)
        .all()
        .await?;
    reached(tx, rows, Reached::Read).await
}

async fn reached(tx: &mut Tx<'_>, rows: Vec<Row>, level: Reached) -> Result<(), StoreError> {
    let mut chains = held(rows)?;
    // A notification that is named twice has one row for each time.
    chains.sort_by_key(|held| held.chain.id);
    chains.dedup_by_key(|held| held.chain.id);
    for held in &mut chains {
        held.apply(Event::Reached(level), tx.now);
    }
    carry_out(tx, chains).await
}

/// A notification is taken back: nothing of it follows. How many steps had not begun and never will.
pub(super) async fn withdrawn(
    tx: &mut Tx<'_>,
    id: NotificationId,
    reason: &'static str,
) -> Result<u64, StoreError> {
    let rows = tx
        .conn
        .query(sql::CHAINS_OF_NOTIFICATION)
        .bind(id.0)
        .all()
        .await?;
    let mut chains = held(rows)?;
    if chains.is_empty() {
        return Ok(0);
    }
    let waiting = |chains: &[Held]| -> usize {
        let steps = chains.iter().flat_map(|held| &held.chain.steps);
        steps.filter(|step| step.state == StepState::Pending).count()
    };
    let before = waiting(&chains);
    for held in &mut chains {
        held.apply(Event::Withdrawn(Reason::Borrowed(reason)), tx.now);
    }
    // Who takes it back has cancelled what was in the queue.
    let cancelled: Vec<Uuid> = tx.conn.query(sql::CANCELLED).bind(id.0).scalars().await?;
    for held in &mut chains {
        for id in cancelled.iter().map(|id| DeliveryId(*id)) {
            if ChainId::of(id) == Some(held.chain.id) {
                strategy::stopped(&mut held.chain, id, tx.now);
            }
        }
    }
    let stopped = before.saturating_sub(waiting(&chains));
    carry_out(tx, chains).await?;
    Ok(stopped as u64)
}

/// Begins steps whose time has come. How many chains were looked at.
pub(super) async fn start_due(tx: &mut Tx<'_>, now: Micros, limit: u32) -> Result<u64, StoreError> {
    let rows = tx
        .conn
        .query(sql::DUE_CHAINS)
        .bind(now.0)
        .bind(i64::from(limit))
        .all()
        .await?;
    let mut chains = held(rows)?;
    let looked = chains.len() as u64;
    for held in &mut chains {
        held.apply(Event::Due, now);
    }
    carry_out(tx, chains).await?;
    Ok(looked)
}

/// Frames arrived at devices, whichever process published them. How many deliveries that ended.
pub(super) async fn received(
    tx: &mut Tx<'_>,
    receipts: &[(TenantId, Name, NotificationId)],
) -> Result<u64, StoreError> {
    let input: Vec<_> = receipts
        .iter()
        .map(|(tenant, user, id)| (id.0, tenant.as_str(), user.as_str()))
        .collect();
    let rows: Vec<(Uuid, i64, String)> = tx
        .conn
        .query(sql::RECEIVED)
        .rows(&input)
        .bind(tx.now.0)
        .all()
        .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let none: Option<&str> = None;
    let ended: Vec<_> = rows
        .iter()
        .map(|(id, token, _)| (*id, *token, "delivered", none, none))
        .collect();
    tx.conn
        .query(queue_sql::END_ATTEMPTS)
        .rows(&ended)
        .bind(tx.now.0)
        .run()
        .await?;
    let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (.., tenant) in &rows {
        totals.entry(tenant).or_default().0 += 1;
    }
    add_totals(tx, totals).await?;
    let ends = rows.iter().map(|(id, ..)| End {
        delivery: DeliveryId(*id),
        state: DeliveryState::Delivered,
        reason: None,
    });
    moved(tx, ends.collect()).await?;
    Ok(rows.len() as u64)
}

pub(super) async fn of_notification(
    conn: &mut Access<'_>,
    id: NotificationId,
) -> Result<Vec<Chain>, StoreError> {
    let rows: Vec<String> = conn
        .query(sql::SHOWN_CHAINS)
        .bind(id.0)
        .bind(SHOWN)
        .scalars()
        .await?;
    rows.iter().map(|text| from_json("chain", text)).collect()
}

pub(super) async fn next_step(conn: &mut Access<'_>) -> Result<Option<Micros>, StoreError> {
    let next: Option<i64> = conn.query(sql::NEXT_STEP).scalar().await?;
    Ok(next.map(Micros))
}

/// Chains of which a channel failed and nobody was told, the oldest first.
pub(super) async fn untold(conn: &mut Access<'_>, limit: u32) -> Result<Vec<FailedOver>, StoreError> {
    let rows: Vec<Row> = conn
        .query(sql::UNTOLD_CHAINS)
        .bind(i64::from(limit))
        .all()
        .await?;
    rows.into_iter()
        .map(|row| {
            let held = Held::of(row)?;
            Ok(FailedOver {
                notification: held.notification,
                tenant: tenant_of(&held.tenant)?,
                chain: held.chain,
            })
        })
        .collect()
}

/// Takes the mark off the chains that were told of; what has failed since is still to be told.
pub(super) async fn told(tx: &mut Tx<'_>, seen: &[Chain]) -> Result<(), StoreError> {
    let seen: BTreeMap<ChainId, &Chain> = seen.iter().map(|chain| (chain.id, chain)).collect();
    let ids: Vec<Uuid> = seen.keys().map(|id| id.0).collect();
    let mut chains = held(tx.conn.query(sql::CHAINS_BY_ID).list(&ids).all().await?)?;
    for held in &mut chains {
        let Some(seen) = seen.get(&held.chain.id) else {
            continue;
        };
        let news = seen.steps.iter().map(Step::is_news);
        for (step, news) in held.chain.steps.iter_mut().zip(news) {
            step.told |= news;
        }
        held.chain.untold &= held.chain.steps.iter().any(Step::is_news);
    }
    carry_out(tx, chains).await
}

/// Forgets chains that ended before a time, at most so many.
pub(super) async fn forget(tx: &mut Tx<'_>, before: Micros, limit: i64) -> Result<u64, StoreError> {
    tx.conn
        .query(sql::FORGET_CHAINS)
        .bind(before.0)
        .bind(limit)
        .run()
        .await
}
