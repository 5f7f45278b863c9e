//! The dispatcher dies at each of its named moments, and goes on where it stood: nothing is lost, and a webhook comes twice
//! only where its attempt's outcome is unknown.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rig::{
    carillon::{Node, Service},
    postgres,
};
use tokio::task::{JoinSet, block_in_place};

use super::{
    durable_redis, ended,
    ledger::{Accepted, Ledger, Load, Senders, USERS},
    settings,
    sink::HookSink,
};
use crate::support::{
    cluster::{Common, token},
    eventually,
    socket::Socket,
};

/// How long the dispatcher may take to come to a moment.
const REACHED: Duration = Duration::from_secs(20);
/// How long, after the last of several moments, all deliveries may take to end.
const ENDED: Duration = Duration::from_secs(40);

/// Notifications for each moment.
const EACH: usize = 4;

/// Moments that all notifications come to, in the order of their way.
const MOMENTS: [&str; 14] = [
    "Accept.before_commit",
    "Accept.after_commit",
    "accept.before_publish",
    "realtime.after_publish",
    "receipts.before_store",
    "receipts.before_done",
    "Claim.before_commit",
    "Claim.after_commit",
    "Begin.before_commit",
    "Begin.after_commit",
    "webhook.before_call",
    "webhook.after_call",
    "Settle.before_commit",
    "Settle.after_commit",
];
/// Moments of chains, and of frames that wait for a receipt.
const STEPS: [&str; 3] = ["Extend.before_commit", "Extend.after_commit", "steps.after_start"];
/// Moments while the database is away.
const SPOOLING: [&str; 2] = ["spool.before_take", "spool.after_take"];
/// Moments when it is back.
const DRAINING: [&str; 3] = ["drain.before_store", "drain.before_done", "drain.after_done"];

struct Walk {
    postgres: postgres::Server,
    dispatcher: Node,
    senders: Senders,
    point: PathBuf,
    accepted: Accepted,
    walked: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_dies_at_any_moment_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let point = folder.path().join("point");
    fs::write(&point, "").unwrap();
    let hooks = HookSink::start().await;
    let postgres = postgres::Server::start(&postgres::Options::fast()).unwrap();
    let redis = durable_redis();
    let url = postgres.create_database("carillon").unwrap();
    let common = Common::on(&redis).with(&settings(&url, "2s"));
    let common = common.set("FAIL_POINT_FILE", point.to_str().unwrap());
    let hub = common.start(Service::Hub);
    let dispatcher = common.start(Service::Dispatcher);
    // Held open: their users are online.
    #[allow(clippy::collection_is_never_read, reason = "what is held is what counts")]
    let mut sockets = Vec::new();
    for user in 0..USERS {
        let token = token(&hub, &format!("u{user}"), "");
        sockets.push(Socket::open(hub.address(), &token).await);
    }
    let mut walk = Walk {
        senders: Senders {
            addresses: [dispatcher.address(); 2],
            token: token(&dispatcher, "sender", "notifications:write service"),
            hook: hooks.url(),
            load: Load::Hooks,
            ledger: Arc::new(Ledger::new(0, 0)),
        },
        postgres,
        dispatcher,
        point,
        accepted: Accepted::new(),
        walked: 0,
    };
    for moment in MOMENTS {
        walk.to(moment, Load::Hooks, When::Always).await;
    }
    walk.rest().await;
    for moment in STEPS {
        walk.to(moment, Load::Escalations, When::Always).await;
    }
    walk.rest().await;
    for moment in SPOOLING {
        walk.to(moment, Load::Hooks, When::Away).await;
    }
    for moment in DRAINING {
        walk.to(moment, Load::Hooks, When::Back).await;
    }
    let found = ended(&walk.postgres, &walk.accepted, ENDED).await;
    let calls = hooks.calls();
    assert_eq!(calls.len(), walk.accepted.len(), "each was called");
    let repeats = found.explains("webhook", &calls);
    println!(
        "{} moments: {} accepted, states {:?}, {} unknown attempts, {repeats} repeats",
        walk.walked,
        walk.accepted.len(),
        found.states(),
        found.unknown()
    );
    // After the call and before its end is stored nobody can know.
    assert!(found.unknown() > 0);
}

/// When the dispatcher is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// While the database is away.
    Away,
    /// After it came back.
    Back,
}

impl Walk {
    /// Has the dispatcher die at this moment while notifications come, starts it again, and waits until all is accepted.
    async fn to(&mut self, moment: &str, load: Load, when: When) {
        let begin = Instant::now();
        let ledger = Arc::new(Ledger::new(self.walked * EACH, EACH));
        ledger.allow(usize::MAX);
        let senders = Senders {
            ledger: Arc::clone(&ledger),
            load,
            ..self.senders.clone()
        };
        if when != When::Always {
            block_in_place(|| self.postgres.kill()).unwrap();
        }
        if when != When::Back {
            fs::write(&self.point, moment).unwrap();
        }
        let mut sending = JoinSet::new();
        senders.spawn(0, &mut sending);
        if when == When::Back {
            ledger.reaches(EACH).await;
            fs::write(&self.point, moment).unwrap();
            block_in_place(|| self.postgres.restart()).unwrap();
        }
        eventually(&format!("it dies at {moment}"), REACHED, async || {
            (!self.dispatcher.is_running()).then_some(())
        })
        .await;
        let died = begin.elapsed();
        fs::write(&self.point, "").unwrap();
        block_in_place(|| {
            if !self.postgres.is_running() {
                self.postgres.restart().unwrap();
            }
            self.dispatcher.restart().unwrap();
        });
        while let Some(sent) = sending.join_next().await {
            sent.unwrap();
        }
        println!(
            "{moment}: dead after {died:.2?}, all accepted after {:.2?}; from number {}",
            begin.elapsed(),
            self.walked * EACH
        );
        self.accepted.extend(ledger.ids());
        self.walked += 1;
    }

    /// Waits until nothing is left of the moments before. Between them it does not: deaths come faster than leases end.
    async fn rest(&self) {
        ended(&self.postgres, &self.accepted, ENDED).await;
    }
}
