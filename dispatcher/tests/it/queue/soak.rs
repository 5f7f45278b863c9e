//! For longer: a flood of one importance beside a little of another, and a snapshot that somebody holds open.
//!
//! `CARILLON_SOAK=1` makes the floods 1,000,000 (`make soak`), another number as many.

use std::{
    collections::HashMap,
    env,
    sync::Mutex,
    time::{Duration, Instant},
};

use common::ids::NotificationId;
use dispatcher::model::{Channel, Lane, Outcome};
use tokio::time::interval;

use super::in_lane;
use crate::support::{Database, Outbox, Running, World, by_email, notification, quick};

/// Notifications of a flood, in the short form and in the whole one.
const FEW: usize = 5_000;
const MANY: usize = 1_000_000;
/// Of a flood that are accepted together.
const TOGETHER: usize = 500;
/// On the way at once.
const ROOM: usize = 32;

/// What is seen of a flood, and of what comes beside it.
struct Seen {
    /// From before accepting to the sink, in order of length.
    waits: Vec<Duration>,
    /// What of the flood came to the sink in each second.
    flood: Vec<usize>,
}

impl Seen {
    fn longest_of(&self, part: usize) -> Duration {
        self.waits[(self.waits.len() - 1) * part / 100]
    }
}

/// How many are a flood, and the pause between two beside it.
fn flood() -> (usize, Duration) {
    let second = Duration::from_secs(1);
    match env::var("CARILLON_SOAK").ok().as_deref() {
        None | Some("") => (FEW, second / 10),
        Some("1") => (MANY, second),
        Some(number) => (number.parse().unwrap(), second),
    }
}

/// Sends a flood in these lanes, and one notification at a time in another one, until all of the flood has come.
async fn beside_a_flood(lanes: [Lane; 2], lane: Lane) -> Seen {
    let (many, pause) = flood();
    let world = World::new().await;
    let (running, mut sent) = world.start_outbox(quick(), ROOM).await;
    let accepted: Mutex<HashMap<NotificationId, Instant>> = Mutex::default();
    let mut came: HashMap<NotificationId, Instant> = HashMap::new();
    let mut flood = Vec::new();
    let flooding = async {
        for _ in 0..many / TOGETHER {
            running
                .accept((0..TOGETHER).map(|number| in_lane(lanes[number % 2])).collect())
                .await;
        }
    };
    let beside = async {
        let mut ticks = interval(pause);
        loop {
            ticks.tick().await;
            let one = in_lane(lane);
            accepted.lock().unwrap().insert(one.id, Instant::now());
            running.accept_one(one).await;
        }
    };
    let begin = Instant::now();
    let sink = async {
        let mut left = many;
        while left > 0 {
            let one = sent
                .next("the flood, or what is beside it")
                .await
                .end(Outcome::Delivered);
            if one.lane == lane {
                came.insert(one.notification, Instant::now());
            } else {
                left -= 1;
                let second = begin.elapsed().as_secs() as usize;
                flood.resize(flood.len().max(second + 1), 0);
                flood[second] += 1;
            }
        }
    };
    tokio::select! {
        () = sink => {}
        ((), ()) = async { tokio::join!(flooding, beside) } => {}
    }
    // What has not come yet has waited until now.
    let end = Instant::now();
    let accepted = accepted.into_inner().unwrap();
    let wait = |(id, at): (&NotificationId, &Instant)| *came.get(id).unwrap_or(&end) - *at;
    let mut waits: Vec<Duration> = accepted.iter().map(wait).collect();
    waits.sort_unstable();
    let seen = Seen { waits, flood };
    eprintln!(
        "{lane:?} beside {many} of {lanes:?}: {} accepted, {} came, p50 {:.1?} p99 {:.1?} max {:.1?}; the flood in {:.1?}, in each \
         second between {:?} and {:?}",
        seen.waits.len(),
        came.len(),
        seen.longest_of(50),
        seen.longest_of(99),
        seen.longest_of(100),
        end - begin,
        seen.flood.iter().min(),
        seen.flood.iter().max(),
    );
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_5_what_is_critical_arrives_at_once_beside_a_flood_and_the_flood_goes_on() {
    let seen = Box::pin(beside_a_flood([Lane::Low, Lane::Medium], Lane::Critical)).await;
    assert!(seen.waits.len() > 3, "the flood was over too soon");
    assert!(seen.longest_of(99) < Duration::from_secs(2), "{:?}", seen.waits);
    let still = seen.flood.iter().filter(|came| **came == 0).count();
    assert_eq!(still, 0, "in each second some of it came: {:?}", seen.flood);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_5_what_is_low_goes_on_beside_a_critical_flood() {
    let seen = Box::pin(beside_a_flood([Lane::Critical, Lane::Critical], Lane::Low)).await;
    assert!(seen.waits.len() > 3, "the flood was over too soon");
    assert!(seen.longest_of(99) < Duration::from_secs(5), "{:?}", seen.waits);
    let still = seen.flood.iter().filter(|came| **came == 0).count();
    assert_eq!(still, 0, "in each second some of it came: {:?}", seen.flood);
}

/// Rows that are gone and that a snapshot still sees, so that their entries stay in the index, before what is to be claimed.
const DEAD: i64 = 200_000;
/// Deliveries that go through beside them.
const THROUGH: usize = 3_000;

/// Has so many emails sent.
async fn go_through(running: &Running, sent: &mut Outbox) -> Duration {
    let begin = Instant::now();
    for _ in 0..THROUGH / TOGETHER {
        let one = |_| by_email(notification("u1"), "user@example.com");
        running.accept((0..TOGETHER).map(one).collect()).await;
    }
    for _ in 0..THROUGH {
        sent.deliver().await;
    }
    begin.elapsed()
}

/// A backup, a report or a forgotten session holds a snapshot: what is gone stays in the index, in front of what is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_held_open_does_not_stop_the_queue() {
    let database = Database::shared();
    let (mut holder, mut other) = (database.administer(), database.administer());
    let world = World::on(database, |_| {}).await;
    let (running, mut sent) = world.start_outbox(quick(), ROOM).await;
    let before = go_through(&running, &mut sent).await;
    holder.query("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
    holder.query("SELECT count(*) FROM deliveries").unwrap();
    // As if they had been sent since: the oldest of this lane and channel.
    other.query("BEGIN").unwrap();
    other
        .query(&format!(
            "WITH made AS (INSERT INTO deliveries (id, notification_id, tenant, channel, lane, state, due_at, token, \
             max_attempts, updated_at) SELECT gen_random_uuid(), gen_random_uuid(), 't1', '{}', {}, 'pending', n, 0, 1, n \
             FROM generate_series(1, {DEAD}) AS n RETURNING id) SELECT count(*) FROM made",
            Channel::Email.as_str(),
            Lane::Medium.number(),
        ))
        .unwrap();
    other
        .query("DELETE FROM deliveries WHERE updated_at <= 1000000")
        .unwrap();
    other.query("COMMIT").unwrap();
    let read = |other: &mut rig::postgres::Connection| -> i64 {
        other.query("SELECT pg_stat_force_next_flush()").unwrap();
        let sum = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'deliveries'";
        other.value(sum).unwrap().unwrap().parse().unwrap()
    };
    let walked = read(&mut other);
    let held = go_through(&running, &mut sent).await;
    running.stop().await;
    // What its connections counted is told when they end.
    world.store.close().await;
    let walked = read(&mut other) - walked;
    eprintln!(
        "{THROUGH} deliveries took {before:.2?}, and {held:.2?} behind {DEAD} rows that a snapshot holds; {walked} entries \
         walked over"
    );
    // Each claim would walk over all of them, and so would each look for what is due.
    let claims = (THROUGH / ROOM) as i64;
    assert!(walked < DEAD * claims / 3, "{walked}");
    assert!(
        held < before * 4 + Duration::from_secs(2),
        "{held:?} instead of {before:?}"
    );
    holder.query("ROLLBACK").unwrap();
}
