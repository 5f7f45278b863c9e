//! The claiming loop: woken by who made work, by room that became free, and by time.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use common::ids::TenantId;
use futures_util::future::join_all;

use super::{Context, rate::Bucket, shares::Shares, work};
use crate::{
    config::QueueConfig,
    lease::Room,
    model::{Channel, Claimed, Lane, Micros},
    store::{ClaimRequest, ClaimRules, StoreError},
};

const LANES: usize = Lane::COUNT;

/// Realtime deliveries that the queue itself publishes (scheduled or rescued) and that wait for their receipt.
const REALTIME_ROOM: usize = 4096;

/// Scheduled notifications that become visible in one transaction.
pub(super) const VISIBLE_BATCH: u32 = 500;

/// The least pause after a look that found nothing though something is due: another worker may hold it a moment longer.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

/// That pause doubles up to this where look after look finds nothing: what is due is paused, or its tenant holds enough.
const LONG_PAUSE: Duration = Duration::from_millis(250);

/// The least time between two questions to the store about what is due next. What is made or put off tells the queue itself,
/// and under load the loop rests whenever a room is full.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// The same while what is due waits for room or for a worker, which free places tell the queue of.
const FULL_ASK_PAUSE: Duration = Duration::from_millis(100);

/// A room with its shares and what is known of its lanes.
struct Lanes {
    room: Arc<Room>,
    shares: Shares,
    /// There may be something to claim. Cleared by a claim that found less than it asked for.
    hungry: [bool; LANES],
    /// Whose turn was the last, lane by lane.
    after: [Option<TenantId>; LANES],
    /// What the channel may send in a minute.
    bucket: Option<Bucket>,
    /// Attempts begin with their claims.
    begins: bool,
}

/// What a round did.
enum Looked {
    /// It claimed so many, and each lane that had less than was asked for is known to be out of work.
    Somewhere(usize),
    /// There is no lane that may have work and has room.
    Nowhere,
}

/// Claims until the queue stops.
pub(super) async fn run(context: Arc<Context>) {
    let mut live = context.settings.current();
    let mut rooms = rooms(&context, &live.config.queue);
    let mut trouble = Duration::ZERO;
    // Looks that found nothing though something is due.
    let mut in_vain = 0;
    let mut asked = None;
    while !context.stop.is_cancelled() {
        let now = context.settings.current();
        if !Arc::ptr_eq(&live, &now) {
            rooms.iter_mut().for_each(|lanes| {
                lanes.set(
                    &live.config.queue,
                    &now.config.queue,
                    context.config.critical_reserved,
                )
            });
            live = now;
        }
        match round(&context, &live.config.queue, &mut rooms).await {
            Ok(Looked::Somewhere(found)) => {
                trouble = Duration::ZERO;
                if found > 0 {
                    in_vain = 0;
                }
            }
            Ok(Looked::Nowhere) => {
                trouble = Duration::ZERO;
                in_vain = rest(&context, &rooms, in_vain, &mut asked).await;
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
fn rooms(context: &Context, live: &QueueConfig) -> Vec<Lanes> {
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
            shares: Shares::new(room.capacity, live.shares, context.config.critical_reserved),
            bucket: bucket(&room.channels, live),
            begins: match room.channels.as_slice() {
                [channel] => context.channels.admits_all(*channel),
                _ => false,
            },
            room,
            hungry: [false; LANES],
            after: [const { None }; LANES],
        })
        .collect()
}

/// What a room's channel may send in a minute, if that is bounded.
fn bucket(channels: &[Channel], live: &QueueConfig) -> Option<Bucket> {
    let [channel] = channels else { return None };
    let rate = live.rates.get(channel)?;
    Some(Bucket::new(*rate, tokio::time::Instant::now()))
}

impl Lanes {
    /// Takes on what was changed while the process runs.
    fn set(&mut self, was: &QueueConfig, now: &QueueConfig, critical_reserved: f64) {
        if was.shares != now.shares {
            self.shares = Shares::new(self.room.capacity, now.shares, critical_reserved);
        }
        if was.rates != now.rates {
            self.bucket = bucket(&self.room.channels, now);
        }
        self.hungry = [true; LANES];
    }
}

/// Claims what there is room for, all rooms and lanes in one go, so that the store can do it in one transaction.
async fn round(
    context: &Arc<Context>,
    live: &QueueConfig,
    rooms: &mut [Lanes],
) -> Result<Looked, StoreError> {
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

    let lease_until = context.lease_until();
    let mut plans = Vec::new();
    for (room, lanes) in rooms.iter_mut().enumerate() {
        let limit = context.config.claim_max as usize;
        let limit = match &mut lanes.bucket {
            Some(bucket) => limit.min(bucket.available(tokio::time::Instant::now())),
            None => limit,
        };
        let plan = lanes.shares.plan(lanes.room.running(), lanes.hungry, limit);
        for (lane, count) in plan.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            plans.push(Plan { room, lane, count });
        }
    }
    if plans.is_empty() {
        return Ok(Looked::Nowhere);
    }
    let request = |plan: &Plan, rooms: &[Lanes], held| ClaimRequest {
        worker: context.worker.clone(),
        lane: Lane::ALL[plan.lane],
        limit: u32::try_from(plan.count).unwrap_or(u32::MAX),
        channels: rooms[plan.room].room.channels.clone(),
        now,
        lease_until,
        rules: ClaimRules {
            after: rooms[plan.room].after[plan.lane].clone(),
            pauses: context.pausing.current(),
            tenant_max: (live.tenant_max > 0).then_some(live.tenant_max),
            held,
        },
        begin: rooms[plan.room].begins,
    };
    let started = Instant::now();
    let mut found = 0;
    let mut failed = None;
    if live.tenant_max > 0 {
        // One after the other: each has to know what the one before it took.
        for plan in plans {
            let request = request(&plan, rooms, context.tenants.held());
            let result = context.store.claim(request).await;
            found += taken(
                context,
                &mut rooms[plan.room],
                &plan,
                result,
                &mut failed,
                lease_until,
            );
        }
    } else {
        let claims = plans
            .iter()
            .map(|plan| context.store.claim(request(plan, rooms, HashMap::new())));
        let results = join_all(claims).await;
        for (plan, result) in plans.into_iter().zip(results) {
            found += taken(
                context,
                &mut rooms[plan.room],
                &plan,
                result,
                &mut failed,
                lease_until,
            );
        }
    }
    context
        .metrics
        .claim_seconds
        .observe(started.elapsed().as_secs_f64());
    tracing::trace!(found, "looked for deliveries");
    failed.map_or(Ok(Looked::Somewhere(found)), Err)
}

/// So many of a lane for a room.
struct Plan {
    room: usize,
    lane: usize,
    count: usize,
}

/// Begins what was claimed; how much it was.
fn taken(
    context: &Arc<Context>,
    lanes: &mut Lanes,
    plan: &Plan,
    result: Result<Vec<Claimed>, StoreError>,
    failed: &mut Option<StoreError>,
    lease_until: Micros,
) -> usize {
    let &Plan { lane, count, .. } = plan;
    match result {
        Ok(claimed) => {
            let found = claimed.len();
            if found < count {
                lanes.hungry[lane] = false;
                lanes.shares.refund(lane, count - found);
            }
            if let Some(bucket) = &mut lanes.bucket {
                bucket.take(found);
            }
            if let Some(last) = last_turn(lanes.after[lane].as_ref(), &claimed) {
                lanes.after[lane] = Some(last);
            }
            begin(context, &lanes.room, claimed, lease_until);
            found
        }
        Err(error) => {
            lanes.shares.refund(lane, count);
            *failed = Some(error);
            0
        }
    }
}

/// The tenant that came last, where the first turn was that of the one after `after`.
fn last_turn(after: Option<&TenantId>, claimed: &[Claimed]) -> Option<TenantId> {
    claimed
        .iter()
        .map(|one| &one.tenant)
        .max_by_key(|tenant| (after.is_some_and(|after| *tenant <= after), *tenant))
        .cloned()
}

fn begin(context: &Arc<Context>, room: &Arc<Room>, claimed: Vec<Claimed>, until: Micros) {
    if claimed.is_empty() {
        return;
    }
    let is_seated = context.settings.current().config.queue.tenant_max > 0;
    let batch = claimed
        .into_iter()
        .map(|delivery| {
            let mut place = room.enter(delivery.lane);
            if is_seated {
                place = place.seated(context.tenants.enter(&delivery.tenant));
            }
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
                // What is due and was not found here waits for a worker.
                let least = if next <= now { FULL_ASK_PAUSE } else { SHORT_PAUSE };
                context.wake.note_visible(next.max(now.plus(least)));
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

/// Waits for something to do. How often in a row that was in vain, though something is due.
async fn rest(context: &Context, rooms: &[Lanes], in_vain: u32, asked: &mut Option<Instant>) -> u32 {
    let poll = context.config.poll.0;
    // What is due and finds no room waits for room, not for time.
    let full = rooms
        .iter()
        .any(|lanes| lanes.room.running().iter().sum::<usize>() >= lanes.room.capacity);
    let pause_to_ask = if full { FULL_ASK_PAUSE } else { ASK_PAUSE };
    let again = asked.map_or(Duration::ZERO, |at| pause_to_ask.saturating_sub(at.elapsed()));
    if !again.is_zero() {
        let known = context.wake.next_look().0.saturating_sub(Micros::now().0).max(0);
        let known = Duration::from_micros(u64::try_from(known).unwrap_or_default());
        let wait = again.min(known.max(SHORT_PAUSE)).min(poll);
        pause(context, rated(rooms).map_or(wait, |rated| wait.min(rated))).await;
        return in_vain;
    }
    *asked = Some(Instant::now());
    let next = next_due(context).await;
    let now = Micros::now();
    if let Some(next) = next {
        context.wake.note_due(next);
        if next <= now && !full {
            // No delivery was found that is due: it may be a notification that has yet to become visible, or a job.
            context.wake.note_visible(now);
            context.wake.jobs();
        }
    }
    let until = context.wake.next_look().0.saturating_sub(now.0).max(0);
    let until = Duration::from_micros(u64::try_from(until).unwrap_or_default());
    let least = if full && until.is_zero() {
        poll
    } else {
        (SHORT_PAUSE * 2_u32.saturating_pow(in_vain.min(8)))
            .min(LONG_PAUSE)
            .min(poll)
    };
    let mut wait = until.clamp(least, poll);
    if let Some(rated) = rated(rooms) {
        wait = wait.min(rated);
    }
    tracing::trace!(?next, ?wait, full, "nothing to claim");
    if pause(context, wait).await && until.is_zero() {
        in_vain + 1
    } else {
        0
    }
}

/// When a channel with work may send again.
fn rated(rooms: &[Lanes]) -> Option<Duration> {
    let waits = rooms
        .iter()
        .filter(|lanes| lanes.hungry.contains(&true))
        .filter_map(|lanes| lanes.bucket.as_ref().map(Bucket::wait));
    let least = waits.filter(|wait| !wait.is_zero()).min();
    least.map(|wait| wait.max(Duration::from_millis(1)))
}

/// True when the whole time passed.
async fn pause(context: &Context, at_most: Duration) -> bool {
    tokio::select! {
        () = context.wake.woken() => false,
        () = tokio::time::sleep(at_most) => true,
        () = context.stop.cancelled() => false,
    }
}
