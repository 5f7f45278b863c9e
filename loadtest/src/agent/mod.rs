//! A client process: sockets and publishing connections on one thread, around one poll.

mod deflate;
mod handshake;
mod http;
mod job;
mod lane;
mod lanes;
mod record;
mod shared;
mod socket;
mod sockets;

use std::{
    io::{BufRead, Write},
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError, sync_channel},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use common::token::{NewToken, mint};
use mio::{Events, Poll, Token, Waker};
use secrecy::SecretString;

use self::{
    lanes::{FIRST_LANE, Lanes},
    shared::Shared,
    sockets::{Sockets, Truth},
};
use crate::{
    times::now_us,
    wire::{Event, Order, Pace, Rounds, Settle, Setup, Tick, Window},
};

const WAKER: Token = Token(usize::MAX);

/// How often progress is told: while sockets open, and else.
const FAST_TICK_US: u64 = 200_000;
const TICK_US: u64 = 1_000_000;

/// How often it is looked whether everything has come, and for how long repeats are waited for behind it.
const LOOK_US: u64 = 50_000;
const REPEATS_US: u64 = 300_000;

/// Runs until the parent closes standard input.
///
/// # Errors
/// An order that cannot be read or carried out, or a parent that is gone.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first)?;
    let Order::Setup(setup) = serde_json::from_str(&first).context("the first order")? else {
        bail!("the first order has to be `setup`")
    };
    fastrand::seed(setup.seed);
    let mut agent = Agent::new(*setup)?;
    let waker = Arc::new(Waker::new(agent.poll.registry(), WAKER)?);
    let (sender, orders) = sync_channel(64);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() || waker.wake().is_err() {
                return;
            }
        }
        drop(sender);
        waker.wake().ok();
    });
    agent.go(&orders)
}

/// The process.
#[derive(Debug)]
struct Agent {
    poll: Poll,
    setup: Setup,
    sockets: Sockets,
    lanes: Lanes,
    shared: Shared,
    opening: bool,
    stopping: bool,
    settling: Option<Settling>,
    tick_us: u64,
    /// Messages that were published by the last tick, and by the last mark.
    published: u64,
    marked: u64,
    marked_handshakes: u64,
}

#[derive(Debug)]
struct Settling {
    truth: Truth,
    deadline_us: u64,
    look_us: u64,
    /// When everything was there.
    complete_us: Option<u64>,
}

impl Agent {
    fn new(setup: Setup) -> anyhow::Result<Self> {
        let token = match &setup.secret {
            Some(secret) => publisher_token(&setup, secret)?,
            None => String::new(),
        };
        Ok(Self {
            poll: Poll::new()?,
            sockets: Sockets::new(setup.clone()),
            lanes: Lanes::new(
                setup.run,
                setup.target.publish.clone(),
                setup.publishes.clone(),
                token,
            )?,
            shared: Shared::new(&setup)?,
            setup,
            opening: false,
            stopping: false,
            settling: None,
            tick_us: now_us(),
            published: 0,
            marked: 0,
            marked_handshakes: 0,
        })
    }

    fn go(&mut self, orders: &Receiver<String>) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let wait = self.wait(now_us());
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                let writable = event.is_writable() || event.is_error() || event.is_write_closed();
                let ending = event.is_read_closed() || event.is_error();
                match event.token() {
                    WAKER => {}
                    Token(token) if token >= FIRST_LANE => {
                        let readable = event.is_readable() || ending;
                        self.lanes.event(token - FIRST_LANE, readable, writable, ending);
                    }
                    Token(token) => self.sockets.event(token, writable, ending, &mut self.shared),
                }
            }
            loop {
                match orders.try_recv() {
                    Ok(line) => self.order(serde_json::from_str(&line).context("an order of the parent")?)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.tick(now_us())?;
        }
    }

    /// How long the poll may sleep. What is due within a millisecond is waited for awake: the kernel's clock is coarse.
    fn wait(&self, now: u64) -> Duration {
        if self.setup.spin {
            return Duration::ZERO;
        }
        let settling = self.settling.as_ref().map(|settling| settling.look_us);
        let due = [self.sockets.next_us(), self.lanes.next_us(), settling];
        let next = due.into_iter().flatten().fold(self.tick_us, u64::min);
        Duration::from_millis(next.saturating_sub(now) / 1000)
    }

    fn order(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Setup(_) => bail!("`setup` comes once"),
            Order::Open(open) => {
                enough_descriptors(self.sockets.len() + open.count as usize)?;
                self.sockets.open(&open);
                self.opening = true;
            }
            Order::Job(job) => {
                if matches!(job.pace, Pace::Credits(_)) && self.setup.rounds == Rounds::Off {
                    bail!("a job that goes by arrivals needs rounds to be followed");
                }
                self.lanes.start(job)?;
            }
            Order::Pace { job, per_second } => self.lanes.pace(job, per_second),
            Order::Credit { job, count } => self.lanes.credit(Some(job), count),
            Order::Stop => {
                self.lanes.stop();
                self.stopping = true;
            }
            Order::Stall { count } => self.sockets.stall(count, &mut self.shared),
            Order::Wake => self.sockets.wake(&mut self.shared),
            Order::Cut { per_second, away_ms } => self.sockets.cut_some(per_second, away_ms),
            Order::CutAll => self.sockets.cut_all(&mut self.shared),
            Order::Move { addresses, publishes } => {
                self.sockets.aim(addresses);
                self.lanes.aim(publishes);
            }
            Order::Mark => {
                let window = self.window();
                tell(&Event::Window(Box::new(window)))?;
            }
            Order::Settle(settle) => self.settle(&settle),
        }
        Ok(())
    }

    fn settle(&mut self, settle: &Settle) {
        let now = now_us();
        self.settling = Some(Settling {
            truth: Truth::new(settle),
            deadline_us: now + settle.grace_ms * 1000,
            look_us: now,
            complete_us: None,
        });
    }

    fn tick(&mut self, now: u64) -> anyhow::Result<()> {
        let registry = self.poll.registry();
        self.sockets.tick(now, &mut self.shared, registry);
        for (number, round) in self.shared.whole_rounds.drain(..) {
            if self.setup.rounds == Rounds::Here {
                self.lanes.credit(None, 1);
            } else {
                tell(&Event::Round {
                    number,
                    at_us: round.at_us,
                    first_us: round.first_us,
                    last_us: round.last_us,
                })?;
            }
        }
        self.lanes.tick(now, registry);
        if self.opening && self.sockets.undecided == 0 {
            self.opening = false;
            let (opened, failed) = (self.sockets.opened(), std::mem::take(&mut self.sockets.failed));
            tell(&Event::Opened { opened, failed })?;
        }
        if self.stopping && self.lanes.idle() {
            self.stopping = false;
            let stopped = self.lanes.stopped();
            tell(&Event::Stopped(stopped))?;
        }
        self.look(now)?;
        if now >= self.tick_us {
            self.tick_us = now + if self.opening { FAST_TICK_US } else { TICK_US };
            self.sockets.look_for_late(now, &mut self.shared);
            self.lanes.look_for_late(now);
            self.progress()?;
        }
        Ok(())
    }

    /// Whether everything has come, now and then.
    fn look(&mut self, now: u64) -> anyhow::Result<()> {
        let Some(settling) = &mut self.settling else {
            return Ok(());
        };
        if now < settling.look_us {
            return Ok(());
        }
        settling.look_us = now + LOOK_US;
        if settling.complete_us.is_none() && self.sockets.complete(&settling.truth) {
            settling.complete_us = Some(now);
        }
        let late = now >= settling.deadline_us;
        if late || settling.complete_us.is_some_and(|at| now >= at + REPEATS_US) {
            let settled = self.sockets.settled(&settling.truth);
            self.settling = None;
            tell(&Event::Settled(settled))?;
        }
        Ok(())
    }

    fn progress(&mut self) -> anyhow::Result<()> {
        let [p50_ms, p99_ms, max_ms] = self.shared.recent.brief();
        let tick = Tick {
            open: self.sockets.opened(),
            handshakes: self.shared.handshakes,
            closed: self.shared.closed_ever,
            received: std::mem::take(&mut self.shared.recent_received),
            published: self.lanes.published - std::mem::replace(&mut self.published, self.lanes.published),
            resyncs: std::mem::take(&mut self.shared.recent_resyncs),
            p50_ms,
            p99_ms,
            max_ms,
        };
        self.shared.recent.drain();
        tell(&Event::Tick(tick))
    }

    /// The figures since the last time.
    fn window(&mut self) -> Window {
        let (shared, lanes) = (&mut self.shared, &mut self.lanes);
        Window {
            received: std::mem::take(&mut shared.received),
            reads: std::mem::take(&mut shared.reads),
            bytes: std::mem::take(&mut shared.bytes),
            compressed: std::mem::take(&mut shared.compressed),
            published: lanes.published - std::mem::replace(&mut self.marked, lanes.published),
            errors: std::mem::take(&mut lanes.errors),
            repeated: std::mem::take(&mut lanes.repeated),
            unclear: std::mem::take(&mut lanes.unclear),
            closed: std::mem::take(&mut shared.closed),
            refused: std::mem::take(&mut shared.refused),
            handshakes: shared.handshakes - std::mem::replace(&mut self.marked_handshakes, shared.handshakes),
            resumed: std::mem::take(&mut shared.resumed),
            recovered: std::mem::take(&mut shared.recovered),
            resyncs: std::mem::take(&mut shared.resyncs),
            resynced: std::mem::take(&mut shared.resynced),
            gaps: std::mem::take(&mut shared.gaps),
            delivery: shared.delivery.drain(),
            answer: lanes.answer.drain(),
            whole: shared.whole.drain(),
            spread: shared.spread.drain(),
            reopen: shared.reopen.drain(),
        }
    }
}

fn tell(event: &Event) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

fn enough_descriptors(sockets: usize) -> anyhow::Result<()> {
    let needed = sockets as u64 + 1_100;
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    if limit < needed {
        bail!(
            "{sockets} sockets need {needed} open files, this process may have {limit} (ulimit -Hn): use more --processes"
        );
    }
    Ok(())
}

fn publisher_token(setup: &Setup, secret: &str) -> anyhow::Result<String> {
    let new = NewToken {
        user: "loadtest".to_owned(),
        tenant: Some(setup.tenant.clone()),
        scopes: vec!["publish notifications:write".to_owned()],
        ttl_seconds: setup.ttl_seconds,
        ..NewToken::default()
    };
    Ok(mint(&new, &SecretString::from(secret.to_owned()))?)
}
