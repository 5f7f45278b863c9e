//! A real PostgreSQL that dies, hangs, or loses answers, under load on two dispatchers.
//!
//! `CARILLON_OUTAGE_SECONDS` makes the outage longer than a test usually takes, `CARILLON_OUTAGE_RATE` the load heavier.

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use common::{ids::NotificationId, patience};
use dispatcher::{service::Service, store::StoreConfig};
use rig::{link::Link, postgres};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, interval_at},
};

use super::*;
use crate::support::{PATIENCE, Running, by_realtime, quick};

/// Users whose notifications are sent, each one's in a row.
const USERS: u32 = 20;

/// Two dispatchers on one database, of which both have a spool.
struct Two {
    shared: Shared,
    worlds: Vec<World>,
    running: Vec<Running>,
}

impl Two {
    async fn start(redis: &Server, url: &str) -> Self {
        let shared = Shared::on(redis);
        let (mut worlds, mut running) = (Vec::new(), Vec::new());
        for name in ["a", "b"] {
            let mut world = World::open(StoreConfig::server(url)).await;
            world.spool = Some(shared.node(name).await);
            running.push(world.start_with(quick(), Default::default(), false).await);
            worlds.push(world);
        }
        Self {
            shared,
            worlds,
            running,
        }
    }

    fn services(&self) -> Vec<Service> {
        self.running.iter().map(|one| one.service.clone()).collect()
    }

    async fn stop(self) {
        for running in self.running {
            running.dispatcher.stop().await;
        }
    }
}

/// What a user was answered with 2xx, in order, and how long each answer took.
#[derive(Default)]
struct Log {
    accepted: Vec<NotificationId>,
    /// From the begin, and how long.
    times: Vec<(Instant, Duration)>,
}

/// What all users were answered so far.
#[derive(Debug)]
struct Load {
    /// Notifications a second, of all users.
    rate: u32,
    accepted: AtomicUsize,
    spooled: AtomicUsize,
    refused: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rate: env::var("CARILLON_OUTAGE_RATE").map_or(200, |rate| rate.parse().unwrap()),
            accepted: AtomicUsize::new(0),
            spooled: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// How many come in this time.
    fn within(&self, time: Duration) -> usize {
        (time.as_secs_f64() * f64::from(self.rate)) as usize
    }

    /// Waits until as many more are accepted as come in this time, wherever they go.
    async fn accepts(&self, time: Duration) {
        self.more(&self.accepted, time).await;
    }

    /// Waits until as many more are spooled as come in this time.
    async fn spools(&self, time: Duration) {
        self.more(&self.spooled, time).await;
    }

    async fn more(&self, count: &AtomicUsize, time: Duration) {
        let wanted = count.load(Ordering::Relaxed) + self.within(time);
        patience::eventually("so many are answered", time * 2 + PATIENCE, async || {
            (count.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    fn spooled(&self) -> usize {
        self.spooled.load(Ordering::Relaxed)
    }

    fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// One user's notifications, one after the other, by one dispatcher and the other in turn, until the stop.
    async fn send(self: Arc<Self>, services: Vec<Service>, user: u32) -> (String, Log) {
        let mut log = Log::default();
        let pause = Duration::from_secs(1) * USERS / self.rate;
        let mut ticks = interval_at(Instant::now() + pause * user / USERS, pause);
        // Who waited for an answer sends the next ones at once, as others would have come meanwhile.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let user = format!("u{user}");
        for service in services.iter().cycle() {
            ticks.tick().await;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let new = by_realtime(row(&user), Some(&user));
            let id = new.id;
            let begin = Instant::now();
            let answer = service.accept_or_spool(vec![new], |_| {}).await;
            log.times.push((begin, begin.elapsed()));
            let count = match answer.as_deref() {
                Ok([Accepted::New]) => &self.accepted,
                Ok([Accepted::Spooled]) => {
                    self.spooled.fetch_add(1, Ordering::Relaxed);
                    &self.accepted
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    tracing::debug!(%error, "refused");
                    &self.refused
                }
            };
            if answer.is_ok() {
                log.accepted.push(id);
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        (user, log)
    }
}

/// Sends by many users while `outage` goes on, a second before it and until it is drained. Proves that every 2xx is stored, in
/// the user's order, once; and prints how long answers took, and how fast the spool was drained.
async fn under_load(what: &str, two: &Two, outage: impl AsyncFnOnce(&Load)) -> Arc<Load> {
    let load = Load::new();
    let mut sending = JoinSet::new();
    for user in 0..USERS {
        sending.spawn(Arc::clone(&load).send(two.services(), user));
    }
    load.accepts(Duration::from_secs(1)).await;
    let begin = Instant::now();
    outage(&load).await;
    let end = Instant::now();
    let rates = two.drained(end - begin).await;
    let drained = end.elapsed();
    load.accepts(Duration::from_millis(500)).await;
    load.stop.store(true, Ordering::Relaxed);
    let (mut accepted, mut during) = (0, Vec::new());
    while let Some(log) = sending.join_next().await {
        let (user, log) = log.unwrap();
        accepted += log.accepted.len();
        let meanwhile = log.times.iter().filter(|(at, _)| (begin..end).contains(at));
        during.extend(meanwhile.map(|(_, took)| *took));
        let wanted: std::collections::HashSet<_> = log.accepted.iter().copied().collect();
        let stored = stored(&two.worlds[0].store, &user).await;
        let unique: std::collections::HashSet<_> = stored.iter().copied().collect();
        assert_eq!(unique.len(), stored.len(), "{what}: stored twice");
        // What was refused may be stored all the same, where nobody knew.
        let kept: Vec<_> = stored.into_iter().filter(|id| wanted.contains(id)).collect();
        assert_eq!(kept, log.accepted, "{what}: {user}'s notifications, in order");
    }
    during.sort_unstable();
    let at = |part: usize| {
        during
            .get(during.len() * part / 1000)
            .copied()
            .unwrap_or_default()
    };
    eprintln!(
        "{what}: {:?} away at {}/s, drained {drained:?} after ({rates:?} in each second); {accepted} accepted, {} of them \
         spooled, {} refused; acceptance meanwhile p50 {:?} p99 {:?} p99.9 {:?} max {:?} of {}",
        end - begin,
        load.rate,
        load.spooled(),
        load.refused(),
        at(500),
        at(990),
        at(999),
        during.last().copied().unwrap_or_default(),
        during.len(),
    );
    load
}

impl Two {
    fn spools(&self) -> impl Iterator<Item = &Spool> {
        self.worlds.iter().filter_map(|world| world.spool.as_ref())
    }

    async fn somebody_thinks_that_it_is_back(&self) {
        let mut looks = interval(Duration::from_millis(5));
        while self.spools().all(|spool| spool.away().is_down()) {
            looks.tick().await;
        }
    }

    /// Waits until the database is back and all is drained, for no longer than half the time that it was away, and a bit: what
    /// is drained in a second has to be a multiple of what comes in one. What was drained in each second.
    async fn drained(&self, away: Duration) -> Vec<u64> {
        let metrics = &self.shared.metrics;
        let rates = Mutex::new(Vec::new());
        let measure = async {
            let mut seconds = interval(Duration::from_secs(1));
            let mut before = metrics.drained.get();
            seconds.tick().await;
            loop {
                seconds.tick().await;
                let now = metrics.drained.get();
                rates.lock().unwrap().push(now - before);
                before = now;
            }
        };
        let drained = patience::eventually("all is drained", away / 2 + PATIENCE, async || {
            let quiet = |spool: &Spool| !spool.is_open() && !spool.away().is_down();
            self.spools().all(quiet).then_some(())
        });
        tokio::select! {
            () = drained => {}
            () = measure => {}
        }
        rates.into_inner().unwrap()
    }
}

fn seconds() -> Duration {
    Duration::from_secs(env::var("CARILLON_OUTAGE_SECONDS").map_or(10, |seconds| seconds.parse().unwrap()))
}

fn database(server: &postgres::Server) -> String {
    server.create_database("carillon").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_the_database_away_under_load_loses_nothing_and_doubles_nothing() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::default()).unwrap();
    let two = Two::start(&redis, &database(&server)).await;
    let load = under_load("killed and started again", &two, async |load| {
        server.kill().unwrap();
        // All have found out by then, and until it is there again nobody thinks that it is.
        load.spools(Duration::from_secs(1)).await;
        tokio::select! {
            () = load.spools(seconds()) => {}
            () = two.somebody_thinks_that_it_is_back() => panic!("it is away"),
        }
        server.restart().unwrap();
    })
    .await;
    assert!(load.spooled() > 0);
    assert_eq!(load.refused(), 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_a_database_that_hangs_is_away() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let two = Two::start(&redis, &database(&server)).await;
    let load = under_load("stopped (SIGSTOP) and continued", &two, async |load| {
        server.pause().unwrap();
        load.spools(Duration::from_secs(2)).await;
        server.resume().unwrap();
    })
    .await;
    assert!(load.spooled() > 0);
    assert_eq!(load.refused(), 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_whose_answers_are_lost_are_settled() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let database = server.database("swallowed").unwrap();
    let link = Link::to(server.address()).unwrap();
    let two = Two::start(&redis, &database.url_through(link.address())).await;
    let load = under_load("answers to COMMIT lost", &two, async |_| {
        for number in 1..=20 {
            link.swallow_answer(b"COMMIT");
            eventually("an answer is lost", async || {
                (link.swallowed() >= number).then_some(())
            })
            .await;
        }
    })
    .await;
    assert_eq!(load.refused(), 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_again_and_again_loses_no_notification() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let database = server.database("lossy").unwrap();
    let link = Link::to(server.address()).unwrap();
    let two = Two::start(&redis, &database.url_through(link.address())).await;
    let load = under_load("cut again and again", &two, async |load| {
        for _ in 0..20 {
            link.cut();
            load.accepts(Duration::from_millis(200)).await;
        }
    })
    .await;
    assert_eq!(load.refused(), 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_a_promoted_replica_goes_on_where_the_primary_was() {
    let redis = durable();
    let primary = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let url = database(&primary);
    let replica = postgres::Server::replica(&primary).unwrap();
    replica.catch_up(&primary).unwrap();
    // What is answered is on both. Alone it would wait for ever, so it becomes so when the replica is there.
    primary
        .query("ALTER SYSTEM SET synchronous_standby_names = '*'")
        .unwrap();
    primary.query("SELECT pg_reload_conf()").unwrap();
    let link = Link::to(primary.address()).unwrap();
    let through = url.replace(&primary.address().to_string(), &link.address().to_string());
    assert_ne!(through, url);
    let two = Two::start(&redis, &through).await;
    let load = under_load("failed over", &two, async |_| {
        primary.kill().unwrap();
        replica
            .query("ALTER SYSTEM SET synchronous_standby_names = ''")
            .unwrap();
        replica.query("SELECT pg_reload_conf()").unwrap();
        replica.promote().unwrap();
        link.lead_to(replica.address());
    })
    .await;
    assert!(load.spooled() > 0);
    assert_eq!(load.refused(), 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_makes_statements_too_slow_and_nothing_is_lost() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let two = Two::start(&redis, &database(&server)).await;
    let load = under_load("locked", &two, async |load| {
        let mut locker = server.connect("carillon").unwrap();
        locker.query("BEGIN").unwrap();
        locker
            .query("LOCK TABLE notifications IN ACCESS EXCLUSIVE MODE")
            .unwrap();
        load.spools(Duration::from_secs(2)).await;
        locker.query("COMMIT").unwrap();
    })
    .await;
    assert!(load.spooled() > 0);
    assert_eq!(load.refused(), 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_connection_to_spare_is_away() {
    let redis = durable();
    let options = postgres::Options::fast().setting("max_connections", "40");
    let server = postgres::Server::start(&options).unwrap();
    let two = Two::start(&redis, &database(&server)).await;
    let load = under_load("no connection to spare", &two, async |load| {
        let mut others = Vec::new();
        while let Ok(connection) = server.connect("carillon") {
            others.push(connection);
        }
        // What the dispatchers had is taken away, and nobody gets a new one.
        server
            .query("SELECT 1")
            .expect_err("no connection is left, also not for the superuser");
        if let Some(last) = others.last_mut() {
            last.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'carillon'",
            )
            .unwrap();
        }
        while let Ok(connection) = server.connect("carillon") {
            others.push(connection);
        }
        load.accepts(Duration::from_secs(3)).await;
    })
    .await;
    assert_eq!(load.refused(), 0);
    two.stop().await;
}
