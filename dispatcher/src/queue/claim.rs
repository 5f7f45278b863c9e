//! The claiming loop: woken by who made work, by room that became free, and by time.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use super::{Context, shares::Shares, work};
use crate::{
    lease::Room,
    model::{Channel, Claimed, Lane, Micros},
    store::{ClaimRequest, StoreError},
};

const LANES: usize = Lane::COUNT;

/// Realtime deliveries that the queue itself publishes (scheduled or rescued) and that wait for their receipt.
const REALTIME_ROOM: usize = 4096;

/// Scheduled notifications that become visible in one transaction.
const VISIBLE_BATCH: u32 = 500;

/// The least pause after a look that found nothing though something is due: another worker may hold it a moment longer.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

/// A room with its shares and what is known of its lanes.
struct Lanes {
    room: Arc<Room>,
    shares: Shares,
    /// There may be something to claim. Cleared by a claim that found less than it asked for.
    hungry: [bool; LANES],
}

/// What a round did.
enum Looked {
    /// It claimed, and each lane that had less than was asked for is known to be out of work.
    Somewhere,
    /// There is no lane that may have work and has room.
    Nowhere,
}

/// Claims until the queue stops.
pub(super) async fn run(context: Arc<Context>) {
    let mut rooms = rooms(&context);
    let mut trouble = Duration::ZERO;
    while !context.stop.is_cancelled() {
        match round(&context, &mut rooms).await {
            Ok(Looked::Somewhere) => trouble = Duration::ZERO,
            Ok(Looked::Nowhere) => {
                trouble = Duration::ZERO;
                rest(&context, &rooms).await;
            }
            Err(error) => {
                trouble = (trouble * 2).clamp(Duration::from_millis(100), Duration::from_secs(2));
                context.metrics.store_refusals.inc();
                tracing::warn!(%error, pause_ms = trouble.as_millis(), "deliveries could not be claimed");
                pause(&context, trouble).await;
            }
        }
    }
}

/// One room for each channel that has a bound of its own, one for realtime, one for all others.
fn rooms(context: &Context) -> Vec<Lanes> {
    let reserved = context.config.critical_reserved;
    let room = |channels, capacity| Room::new(channels, capacity, capacity, reserved);
    let mut rooms: Vec<_> = context
        .channels
        .capacities()
        .map(|(channel, capacity)| Room::new(vec![channel], capacity.held, capacity.sending, reserved))
        .collect();
    rooms.push(room(vec![Channel::Realtime], REALTIME_ROOM));
    // Rows of the inbox have no worker: the store delivers them when they become visible.
    let others = Channel::ALL.into_iter().filter(|channel| {
        *channel != Channel::InApp && !rooms.iter().any(|room| room.channels.contains(channel))
    });
    let others = others.collect();
    rooms.push(room(others, context.config.concurrency));
    rooms
        .into_iter()
        .map(|room| Lanes {
            shares: Shares::new(
                room.capacity,
                context.config.shares,
                context.config.critical_reserved,
            ),
            room,
            hungry: [false; LANES],
        })
        .collect()
}

/// Claims what there is room for, all rooms and lanes in one go, so that the store can do it in one transaction.
async fn round(context: &Arc<Context>, rooms: &mut [Lanes]) -> Result<Looked, StoreError> {
    if !context.can_hold.load(Ordering::Acquire) {
        return Ok(Looked::Nowhere);
    }
    let now = Micros::now();
    let mut woken = context.wake.take_lanes();
    // First the inbox, then the channels: nobody is told of what cannot be seen.
    let visible = make_visible(context, now).await;
    if visible.is_err() || matches!(visible, Ok(true)) || context.wake.take_due(now) {
        woken = [true; LANES];
    }
    for lanes in rooms.iter_mut() {
        (0..LANES).for_each(|lane| lanes.hungry[lane] |= woken[lane]);
    }
    visible?;

    let started = Instant::now();
    let lease_until = context.lease_until();
    let mut plans = Vec::new();
    for (room, lanes) in rooms.iter_mut().enumerate() {
        let limit = context.config.claim_max as usize;
        let plan = lanes.shares.plan(lanes.room.running(), lanes.hungry, limit);
        for (lane, count) in plan.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            plans.push((room, lane, count));
        }
    }
    if plans.is_empty() {
        return Ok(Looked::Nowhere);
    }
    let claims = plans.iter().map(|&(room, lane, count)| {
        context.store.claim(ClaimRequest {
            worker: context.worker.clone(),
            lane: Lane::ALL[lane],
            limit: u32::try_from(count).unwrap_or(u32::MAX),
            channels: rooms[room].room.channels.clone(),
            now,
            lease_until,
        })
    });
    let results = join_all(claims).await;
    context
        .metrics
        .claim_seconds
        .observe(started.elapsed().as_secs_f64());

    let mut found = 0;
    let mut failed = None;
    for ((room, lane, count), result) in plans.into_iter().zip(results) {
        let lanes = &mut rooms[room];
        match result {
            Ok(claimed) => {
                found += claimed.len();
                if claimed.len() < count {
                    lanes.hungry[lane] = false;
                    lanes.shares.refund(lane, count - claimed.len());
                }
                begin(context, &lanes.room, claimed, lease_until);
            }
            Err(error) => {
                lanes.shares.refund(lane, count);
                failed = Some(error);
            }
        }
    }
    tracing::trace!(found, "looked for deliveries");
    failed.map_or(Ok(Looked::Somewhere), Err)
}

fn begin(context: &Arc<Context>, room: &Arc<Room>, claimed: Vec<Claimed>, until: Micros) {
    if claimed.is_empty() {
        return;
    }
    let batch = claimed
        .into_iter()
        .map(|delivery| {
            let place = room.enter(delivery.lane);
            let lease = context
                .leases
                .hold(delivery.id, delivery.token, until, Some(place));
            (delivery, lease)
        })
        .collect();
    context.tasks.spawn(work::run(Arc::clone(context), batch));
}

/// Gives scheduled notifications whose time has come their place in the inbox. Whether there were any.
async fn make_visible(context: &Context, now: Micros) -> Result<bool, StoreError> {
    if !context.wake.take_visible(now) {
        return Ok(false);
    }
    match context.store.make_visible(now, VISIBLE_BATCH).await {
        Ok(ids) => {
            if ids.len() >= VISIBLE_BATCH as usize {
                context.wake.note_visible(now);
            }
            if let Some(next) = next_due(context).await {
                context.wake.note_visible(next.max(now.plus(SHORT_PAUSE)));
            }
            Ok(!ids.is_empty())
        }
        Err(error) => {
            context.wake.note_visible(now);
            Err(error)
        }
    }
}

async fn next_due(context: &Context) -> Option<Micros> {
    context.store.next_due().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the store could not say what is due next");
        None
    })
}

/// Waits for something to do.
async fn rest(context: &Context, rooms: &[Lanes]) {
    let poll = context.config.poll.0;
    let next = next_due(context).await;
    let now = Micros::now();
    if let Some(next) = next {
        context.wake.note_due(next);
        if next <= now {
            // No delivery was found that is due: it may be a notification that has yet to become visible, or a job.
            context.wake.note_visible(now);
            context.wake.jobs();
        }
    }
    let until = context.wake.next_look().0.saturating_sub(now.0).max(0);
    let until = Duration::from_micros(u64::try_from(until).unwrap_or_default());
    // What is due and finds no room waits for room, not for time.
    let full = rooms
        .iter()
        .any(|lanes| lanes.room.running().iter().sum::<usize>() >= lanes.room.capacity);
    let least = if full && until.is_zero() {
        poll
    } else {
        SHORT_PAUSE.min(poll)
    };
    let wait = until.clamp(least, poll);
    tracing::trace!(?next, ?wait, full, "nothing to claim");
    pause(context, wait).await;
}

async fn pause(context: &Context, at_most: Duration) {
    tokio::select! {
        () = context.wake.woken() => {}
        () = tokio::time::sleep(at_most) => {}
        () = context.stop.cancelled() => {}
    }
}
