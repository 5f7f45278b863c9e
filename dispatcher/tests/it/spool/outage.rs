//! A real PostgreSQL that dies, hangs, or loses answers, under load on two dispatchers.
//!
//! `CARILLON_OUTAGE_SECONDS` makes the outage longer than a test usually takes, `CARILLON_OUTAGE_RATE` the load heavier.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use common::ids::NotificationId;
use dispatcher::{service::Service, store::StoreConfig};
use rig::{link::Link, postgres};
use tokio::{task::JoinSet, time::Instant};

use super::*;
use crate::support::{Running, by_realtime, quick};

/// Two dispatchers on one database, of which both have a spool.
struct Two {
    _shared: Shared,
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
            _shared: shared,
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
    spooled: usize,
    refused: usize,
    /// From the begin, and how long.
    times: Vec<(Instant, Duration)>,
}

/// One user's notifications, one after the other, by one dispatcher and the other in turn; until `stop`.
async fn send(
    services: Vec<Service>,
    user: String,
    mut next: Instant,
    pause: Duration,
    stop: Arc<AtomicBool>,
) -> Log {
    let mut log = Log::default();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let new = by_realtime(row(&user), Some(&user));
        let id = new.id;
        turn += 1;
        let begin = Instant::now();
        let answer = services[turn % services.len()]
            .accept_or_spool(vec![new], |_| {})
            .await;
        log.times.push((begin, begin.elapsed()));
        match answer.as_deref() {
            Ok([Accepted::New]) => log.accepted.push(id),
            Ok([Accepted::Spooled]) => {
                log.accepted.push(id);
                log.spooled += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => {
                tracing::debug!(%error, "refused");
                log.refused += 1;
            }
        }
        next += pause;
        tokio::time::sleep_until(next).await;
    }
    log
}

/// Sends by many users while `outage` goes on, a second before it and until it is drained. Proves that every 2xx is stored, in
/// the user's order, once; gives what was spooled and refused, and prints how long answers took.
async fn under_load(what: &str, two: &Two, outage: impl AsyncFnOnce()) -> (usize, usize) {
    let rate: u32 = env::var("CARILLON_OUTAGE_RATE").map_or(200, |rate| rate.parse().unwrap());
    let users = 20;
    let stop = Arc::new(AtomicBool::new(false));
    let mut sending = JoinSet::new();
    for user in 0..users {
        let stop = Arc::clone(&stop);
        let services = two.services();
        let name = format!("u{user}");
        let pause = Duration::from_secs(1) * users / rate;
        let first = Instant::now() + pause * user / users;
        sending.spawn(async move { (name.clone(), send(services, name, first, pause, stop).await) });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let begin = Instant::now();
    outage().await;
    let end = Instant::now();
    let spools: Vec<_> = two
        .worlds
        .iter()
        .filter_map(|world| world.spool.clone())
        .collect();
    eventually("all is drained", async || {
        let quiet = spools
            .iter()
            .all(|spool| !spool.is_open() && !spool.away().is_down());
        quiet.then_some(())
    })
    .await;
    let drained = end.elapsed();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut spooled, mut refused, mut accepted, mut during) = (0, 0, 0, Vec::new());
    while let Some(log) = sending.join_next().await {
        let (user, log) = log.unwrap();
        spooled += log.spooled;
        refused += log.refused;
        accepted += log.accepted.len();
        during.extend(
            log.times
                .iter()
                .filter(|(at, _)| (begin..end).contains(at))
                .map(|(_, took)| *took),
        );
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
        "{what}: {:?} away, drained {drained:?} after; {accepted} accepted, {spooled} of them spooled, {refused} refused; \
         acceptance meanwhile p50 {:?} p99 {:?} p99.9 {:?} max {:?} of {}",
        end - begin,
        at(500),
        at(990),
        at(999),
        during.last().copied().unwrap_or_default(),
        during.len(),
    );
    (spooled, refused)
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
    let (spooled, refused) = under_load("killed and started again", &two, async || {
        server.kill().unwrap();
        tokio::time::sleep(seconds()).await;
        server.restart().unwrap();
    })
    .await;
    assert!(spooled > 0);
    assert_eq!(refused, 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_9_a_database_that_hangs_is_away() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let two = Two::start(&redis, &database(&server)).await;
    let (spooled, refused) = under_load("stopped (SIGSTOP) and continued", &two, async || {
        server.pause().unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        server.resume().unwrap();
    })
    .await;
    assert!(spooled > 0);
    assert_eq!(refused, 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_whose_answers_are_lost_are_settled() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let database = server.database("swallowed").unwrap();
    let link = Link::to(server.address()).unwrap();
    let two = Two::start(&redis, &database.url_through(link.address())).await;
    let (_, refused) = under_load("answers to COMMIT lost", &two, async || {
        for number in 1..=20 {
            link.swallow_answer(b"COMMIT");
            eventually("an answer is lost", async || {
                (link.swallowed() >= number).then_some(())
            })
            .await;
        }
    })
    .await;
    assert_eq!(refused, 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_cut_again_and_again_loses_no_notification() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let database = server.database("lossy").unwrap();
    let link = Link::to(server.address()).unwrap();
    let two = Two::start(&redis, &database.url_through(link.address())).await;
    let (_, refused) = under_load("cut again and again", &two, async || {
        for _ in 0..20 {
            link.cut();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    assert_eq!(refused, 0);
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
    let (spooled, refused) = under_load("failed over", &two, async || {
        primary.kill().unwrap();
        replica
            .query("ALTER SYSTEM SET synchronous_standby_names = ''")
            .unwrap();
        replica.query("SELECT pg_reload_conf()").unwrap();
        replica.promote().unwrap();
        link.lead_to(replica.address());
    })
    .await;
    assert!(spooled > 0);
    assert_eq!(refused, 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_makes_statements_too_slow_and_nothing_is_lost() {
    let redis = durable();
    let server = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let two = Two::start(&redis, &database(&server)).await;
    let (spooled, refused) = under_load("locked", &two, async || {
        let mut locker = server.connect("carillon").unwrap();
        locker.query("BEGIN").unwrap();
        locker
            .query("LOCK TABLE notifications IN ACCESS EXCLUSIVE MODE")
            .unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        locker.query("COMMIT").unwrap();
    })
    .await;
    assert!(spooled > 0);
    assert_eq!(refused, 0);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_connection_to_spare_is_away() {
    let redis = durable();
    let options = postgres::Options::fast().setting("max_connections", "40");
    let server = postgres::Server::start(&options).unwrap();
    let two = Two::start(&redis, &database(&server)).await;
    let (_, refused) = under_load("no connection to spare", &two, async || {
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
        tokio::time::sleep(Duration::from_secs(3)).await;
    })
    .await;
    assert_eq!(refused, 0);
    two.stop().await;
}
