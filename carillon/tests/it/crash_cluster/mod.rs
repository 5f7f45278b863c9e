//! What two dispatchers on PostgreSQL have accepted survives kill -9 of each of them, of PostgreSQL and of Redis: stored once,
//! every delivery ended with a reason, and at a sink twice only where an attempt's outcome is unknown.
//!
//! `CARILLON_SOAK=1` makes it 100,000 notifications (`make soak`), another number as many.

mod fail_points;
mod ledger;
mod listeners;
mod sink;
mod zombie;

use std::{
    collections::BTreeMap,
    env,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rig::{
    carillon::{Node, Service},
    postgres,
    redis::{self, Restart},
};
use tokio::{
    task::{JoinSet, block_in_place},
    time::Instant,
};

use self::{
    ledger::{Accepted, Found, Ledger, Load, Senders},
    listeners::Listeners,
    sink::HookSink,
};
use crate::support::{
    cluster::{Common, token},
    eventually,
    smtp::{Gate, Smtp},
};

/// Notifications of the short form, and of the whole one.
const FEW: usize = 2_000;
const MANY: usize = 100_000;
/// Concurrent senders, each with a kept connection.
const SENDERS: usize = 32;
/// Answers that have to come between a fault and its end, so that it is met by requests.
const MET: usize = 20;
/// Notifications that may be accepted while a fault lasts, so that the next one is met by others.
const ROOM: usize = 4 * MET + SENDERS;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// What ends without warning.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Dispatcher(usize),
    Database,
    Redis,
    /// At the same moment.
    DispatcherAndDatabase(usize),
    DatabaseAndRedis,
}

const FAULTS: [Fault; 6] = [
    Fault::Dispatcher(0),
    Fault::Dispatcher(1),
    Fault::Database,
    Fault::Redis,
    Fault::DispatcherAndDatabase(0),
    Fault::DatabaseAndRedis,
];

struct Cluster {
    postgres: postgres::Server,
    redis: redis::Server,
    dispatchers: [Node; 2],
    hub: Node,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_dispatchers_accepted_survives_every_kill() {
    let wanted = match env::var("CARILLON_SOAK").ok().as_deref() {
        None | Some("") => FEW,
        Some("1") => MANY,
        Some(number) => number.parse().unwrap(),
    };
    let began = Instant::now();
    let mut smtp = Smtp::start().await;
    let gate = Gate::start(&smtp).await;
    let hooks = HookSink::start().await;
    let cluster = block_in_place(|| Cluster::start(&gate));
    let sender = block_in_place(|| token(&cluster.dispatchers[0], "sender", "notifications:write service"));

    let listeners = Listeners::at(&cluster.hub).await;

    let ledger = Arc::new(Ledger::new(0, wanted));
    let mut sending = JoinSet::new();
    let senders = Senders {
        addresses: cluster.dispatchers.each_ref().map(Node::address),
        token: sender,
        hook: hooks.url(),
        load: Load::Mixed,
        ledger: Arc::clone(&ledger),
    };
    for number in 0..SENDERS {
        senders.clone().spawn(number, &mut sending);
    }
    let rounds = if wanted > FEW { 5 } else { 1 };
    let mut faults: Vec<Fault> = (0..rounds).flat_map(|_| FAULTS).collect();
    fastrand::shuffle(&mut faults);
    let share = wanted / (faults.len() + 1);
    for (number, fault) in faults.into_iter().enumerate() {
        // Somewhere in the fault's share of the run, and never so late that the senders are through.
        let moment = number * share + fastrand::usize(share / 10..share);
        ledger.allow((number + 1) * share + ROOM);
        ledger.reaches(moment).await;
        cluster.suffer(fault, &ledger, &gate).await;
        println!("{fault:?} after {} accepted", ledger.accepted());
    }
    ledger.allow(wanted);
    while let Some(ended) = sending.join_next().await {
        ended.unwrap();
    }
    let sent = began.elapsed();

    let found = ended(&cluster.postgres, &ledger.ids(), PATIENCE).await;
    let mut mails: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    let wanted_mails = found.delivered_by("email");
    eventually("the mails are in the mailbox", PATIENCE, async || {
        for mail in smtp.new_mails() {
            mails.entry(mail.number).or_default().push(mail.message_id);
        }
        wanted_mails
            .iter()
            .all(|number| mails.contains_key(number))
            .then_some(())
    })
    .await;
    let calls = hooks.calls();
    for number in found.delivered_by("webhook") {
        assert!(
            calls.contains_key(&number),
            "no call of {number}, which is delivered"
        );
    }
    // A receipt says that a socket has it.
    let told = found.delivered_by("realtime");
    eventually("the frames are at the sockets", PATIENCE, async || {
        let frames = listeners.came();
        told.iter()
            .all(|number| frames.contains_key(number))
            .then_some(())
    })
    .await;
    let frames = listeners.came();
    let mail_repeats = found.explains("email", &mails);
    let call_repeats = found.explains("webhook", &calls);
    println!(
        "crash test on PostgreSQL: {} accepted, {} of them spooled, {} tries without an answer, {} refusals; states {:?}; \
         {} unknown attempts; {} mails ({} repeats), {} calls ({} repeats), frames of {} ({} repeats); \
         {:.0} s to accept, {:.0} s in all",
        ledger.accepted(),
        ledger.spooled.load(Ordering::Relaxed),
        ledger.unanswered.load(Ordering::Relaxed),
        ledger.refused.load(Ordering::Relaxed),
        found.states(),
        found.unknown(),
        mails.values().map(Vec::len).sum::<usize>(),
        mail_repeats,
        calls.values().map(Vec::len).sum::<usize>(),
        call_repeats,
        frames.len(),
        frames.values().sum::<usize>() - frames.len(),
        sent.as_secs_f64(),
        began.elapsed().as_secs_f64(),
    );
}

impl Cluster {
    fn start(gate: &Gate) -> Self {
        let postgres = postgres::Server::start(&postgres::Options::default()).unwrap();
        let url = postgres.create_database("carillon").unwrap();
        let redis = durable_redis();
        let config = format!(
            r#"{}
            [smtp]
            host = "{}"
            port = {}
            tls = "none"
            from = "carillon@example.test"
            pool_size = 32
            "#,
            settings(&url, "3s"),
            gate.address.ip(),
            gate.address.port(),
        );
        let common = Common::on(&redis).with(&config);
        let dispatchers = [(); 2].map(|()| common.start(Service::Dispatcher));
        let hub = common.start(Service::Hub);
        Self {
            postgres,
            redis,
            dispatchers,
            hub,
        }
    }

    /// Lets it happen, waits until requests have met it, and starts again what ended.
    async fn suffer(&self, fault: Fault, ledger: &Ledger, gate: &Gate) {
        if let Fault::Dispatcher(_) | Fault::DispatcherAndDatabase(_) = fault {
            // Mails are stuck in the middle: of every two connections one before the text, one behind it.
            gate.close();
            eventually("mails are under way", PATIENCE, async || {
                (gate.in_flight() > 1).then_some(())
            })
            .await;
        }
        block_in_place(|| match fault {
            Fault::Dispatcher(one) => self.dispatchers[one].kill().unwrap(),
            Fault::Database => self.postgres.kill().unwrap(),
            Fault::Redis => self.redis.kill().unwrap(),
            Fault::DispatcherAndDatabase(one) => {
                self.postgres.kill().unwrap();
                self.dispatchers[one].kill().unwrap();
            }
            Fault::DatabaseAndRedis => {
                self.postgres.kill().unwrap();
                self.redis.kill().unwrap();
            }
        });
        gate.open();
        // However far the senders were allowed to come: the fault meets those that come now.
        ledger.allow_more(ROOM);
        let met = ledger.answers() + MET;
        eventually("requests have met the fault", PATIENCE, async || {
            (ledger.answers() >= met).then_some(())
        })
        .await;
        block_in_place(|| {
            if !self.postgres.is_running() {
                self.postgres.restart().unwrap();
            }
            if !self.redis.is_running() {
                self.redis.restart(Restart::WithData).unwrap();
            }
            for dispatcher in &self.dispatchers {
                if !dispatcher.is_running() {
                    dispatcher.restart().unwrap();
                }
            }
        });
    }
}

/// Waits until nothing is left to do, and reads what became of everything.
async fn ended(postgres: &postgres::Server, ids: &Accepted, within: Duration) -> Found {
    let mut database = block_in_place(|| postgres.connect("carillon")).unwrap();
    let begin = Instant::now();
    eventually("every delivery has ended", within * 2, async || {
        let mut ask = |sql: &str| block_in_place(|| database.query(sql)).unwrap();
        // Of each chain the last step is one of these.
        let rows = ask(
            "SELECT (SELECT count(*) FROM all_deliveries WHERE channel IN ('email', 'webhook')), \
             (SELECT count(*) FROM deliveries)",
        );
        let count = |column: usize| -> usize { rows[0][column].as_ref().unwrap().parse().unwrap() };
        let (stored, left) = (count(0), count(1));
        if stored >= ids.len() && left == 0 {
            return Some(());
        }
        assert!(
            begin.elapsed() < within,
            "{stored} of {} are stored, {left} deliveries have not ended: {:?}; open chains: {:?}",
            ids.len(),
            ask(
                "SELECT n.content, d.channel, d.state, d.reason, d.token FROM deliveries d \
                 JOIN notifications n ON n.id = d.notification_id LIMIT 10"
            ),
            ask("SELECT chain FROM chains WHERE open = 1 LIMIT 10"),
        );
        None
    })
    .await;
    block_in_place(|| Found::read(&mut database, ids))
}

/// Settings with which a dispatcher on this database works for the tests here.
fn settings(database: &str, lease: &str) -> String {
    format!(
        r#"
        [database]
        url = "{database}"
        away_after = "500ms"
        # Less than the lease.
        statement_timeout = "1500ms"
        lock_timeout = "1s"
        [queue]
        lease = "{lease}"
        heartbeat = "200ms"
        retry = ["500ms"]
        # A delivery may be under way at every kill.
        max_attempts = 50
        [realtime]
        # A hub reports it at once, where it is there.
        receipt_wait = "500ms"
        [strategy]
        delivered_within = "500ms"
        escalate_after = "500ms"
        [webhook]
        secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        allow_private = ["127.0.0.0/8"]
        allow_http = true
        ports = []
        per_minute = 1000000
        timeout = "20s"
        "#
    )
}

/// A server that has on disk what it answered: else nothing may be spooled in it.
fn durable_redis() -> redis::Server {
    let durable = redis::Options::default()
        .line("appendonly yes")
        .line("appendfsync always");
    redis::Server::start(&durable).unwrap()
}
