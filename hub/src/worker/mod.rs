//! A worker owns its sessions and the index of their topics, so that the delivery path takes no lock.
//!
//! Its inputs: messages of the bus (`receive`), what sockets sent (`reader`), answers of the bus
//! (`interest` and its own reads of history), and a tick each second. Everything that a session gets is written
//! here and nowhere else, so frames cannot interleave.
//!
//! A fan-out is done in slices of at most a millisecond; between slices the other inputs are served.

mod beat;
#[cfg(feature = "bench")]
pub mod bench;
mod commands;
pub(crate) mod control;
mod fanout;
mod filter;
#[cfg(target_os = "linux")]
mod flush_ring;
mod healing;
pub mod index;
mod join;
mod outbound;
mod patience;
mod places;
pub(crate) mod presence;
mod reader;
mod recovery;
mod replay;
#[cfg(target_os = "linux")]
mod ring;
mod session;
mod slow;
mod trace;
mod transport;
mod turns;
mod wheel;
mod write;

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use common::{
    bus::{Bus, BusError, Head, History},
    credential::{Credentials, Denied},
    ids::NodeId,
    policy::Policies,
    protocol::{Close, Command},
    token::{Identity, TokenError},
    topic::TopicKey,
};
use slab::Slab;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

use self::{
    fanout::Fanout, index::Index, outbound::Bounds, places::PLACES, reader::Feed, session::Session,
    slow::Blocked, wheel::Wheel,
};
pub(crate) use self::{
    session::{NewSession, SessionId, Who},
    transport::Transport,
};
use crate::{
    ceilings::Ceilings,
    config::{Flush, HubConfig},
    interest::{Asked, Joined, Wish},
    metrics::HubMetrics,
    receipts::Receipts,
    receive::{Missed, Outgoing},
    trace::Traces,
};

/// What a worker is told, other than messages.
#[derive(Debug)]
pub(crate) enum Control {
    /// A connection was upgraded.
    Connect(Box<NewSession>),
    /// A client sent something.
    Input(SessionId, Input),
    /// The kernel takes bytes again.
    Writable(SessionId),
    /// The bus answered to a wish.
    Joined(Joined),
    /// History after a worker's place in a topic was read.
    Healed(TopicKey, Result<History, BusError>),
    /// The bus was asked for a new epoch of a topic.
    Renewed(TopicKey, Result<Head, BusError>),
    /// History after a session's position was read, for the replay of this serial.
    Replayed(SessionId, u32, Result<History, BusError>),
    /// The ends of topics were read.
    Heads(Comparison),
    /// The process ends: sessions are told to reconnect, spread over this time.
    Drain(Duration),
    /// The interest task asks whether this worker has a topic.
    Asked(Asked),
    /// What a session brought as its newer token was looked up.
    Verified(SessionId, Result<Arc<Identity>, Denied>),
    /// The API key of a session of this user is no longer good.
    KeyEnded(SessionId, Weak<Who>, TokenError),
    /// An operator asks or orders.
    Operator(Box<control::Job>),
}

impl From<Asked> for Control {
    fn from(asked: Asked) -> Self {
        Self::Asked(asked)
    }
}

impl From<Joined> for Control {
    fn from(joined: Joined) -> Self {
        Self::Joined(joined)
    }
}

/// Topics that are compared with the bus.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The topics, and where this worker stood when the bus was asked.
    pub(crate) asked: Vec<(TopicKey, Head)>,
    /// Their ends, in the same order; none where it could not be known.
    pub(crate) heads: Vec<Option<Head>>,
    /// Part of a comparison of all topics.
    pub(crate) sweep: bool,
}

/// What a client sent.
#[derive(Debug)]
pub(crate) enum Input {
    /// A command, or why it was not understood.
    Command(Result<Command, common::protocol::CommandError>),
    /// A Ping control frame.
    Ping(Vec<u8>),
    /// A Pong control frame.
    Pong(Vec<u8>),
    /// A Close control frame.
    Close(Option<u16>),
    /// It broke a rule; the code may be more exact than [`Close::code`].
    Violation(Close, &'static str),
    /// The connection ended.
    Gone,
}

/// What all workers of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// As at the start; what can be changed is in `ceilings`.
    pub(crate) config: HubConfig,
    pub(crate) ceilings: Arc<Ceilings>,
    pub(crate) node: NodeId,
    pub(crate) bus: Bus,
    pub(crate) policies: Policies,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) public_topics: Vec<String>,
    pub(crate) receipts: Receipts,
    pub(crate) wishes: mpsc::Sender<Wish>,
    pub(crate) traces: Arc<Traces>,
    /// Comings and goings in topics with presence.
    pub(crate) attended: mpsc::Sender<presence::Attended>,
    pub(crate) metrics: HubMetrics,
}

/// Other inputs that one round takes.
const CONTROLS: usize = 128;

pub(crate) struct Worker {
    number: usize,
    shared: Arc<Shared>,
    index: Index,
    sessions: Slab<Session>,
    generation: u32,
    wheel: Wheel,
    fanout: Fanout,
    /// Where it is configured and the kernel allows it.
    #[cfg(target_os = "linux")]
    ring: Option<ring::Ring>,
    bounds: Bounds,
    /// Sessions with an outbound queue, looked at each second; some may have recovered or gone.
    blocked: HashSet<SessionId>,
    told_blocked: Blocked,
    /// Wishes that the interest task has not taken yet, in order: a leave must not overtake a join, nor be overtaken.
    wishes: VecDeque<Wish>,
    /// Healings of large topics, read and waiting for places. Until they are through no other message is taken.
    healings: VecDeque<(TopicKey, History)>,
    sweep: Sweep,
    controls: mpsc::Sender<Control>,
    /// What the readers of its sessions share.
    feed: Arc<Feed>,
    draining: bool,
    jobs: control::Jobs,
    attendees: presence::Attendees,
}

/// The comparison of all topics with the bus, after something was dropped. One runs at a time, so that a worker that is
/// too slow is not given ever more to do.
#[derive(Debug, Default)]
struct Sweep {
    /// Answers of the bus that have not come.
    outstanding: usize,
    /// Something was dropped since it began.
    again: bool,
}

/// The receiving ends of a worker.
pub(crate) struct Inputs {
    pub(crate) messages: mpsc::Receiver<Arc<Outgoing>>,
    pub(crate) missed: Arc<Missed>,
    pub(crate) controls: mpsc::Receiver<Control>,
}

impl Worker {
    pub(crate) fn new(number: usize, shared: Arc<Shared>, controls: mpsc::Sender<Control>) -> Self {
        let config = &shared.config;
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let bounds = Bounds {
            bytes: config.outbound_bytes.0,
            frames: config.outbound_frames,
            age: seconds(config.outbound_age.0),
            stall: seconds(config.outbound_stall.0),
        };
        let feed = Feed::new(controls.clone(), &shared);
        let index = Index::new(shared.policies.clone());
        let wheel = Wheel::new(usize::try_from(config.heartbeat.0.as_secs()).unwrap_or(25));
        Self {
            number,
            index,
            sessions: Slab::new(),
            generation: 0,
            wheel,
            fanout: Fanout::new(config.compression_min.0),
            #[cfg(target_os = "linux")]
            ring: (shared.config.flush == Flush::IoUring).then(open_ring).flatten(),
            bounds,
            blocked: HashSet::new(),
            told_blocked: Blocked::default(),
            wishes: VecDeque::new(),
            healings: VecDeque::new(),
            sweep: Sweep::default(),
            feed: Arc::new(feed),
            controls,
            draining: false,
            shared,
            jobs: control::Jobs::default(),
            attendees: presence::Attendees::default(),
        }
    }

    /// Serves until it has been told to drain and its last session has gone.
    pub(crate) async fn run(mut self, inputs: Inputs) {
        let Inputs {
            mut messages,
            missed,
            mut controls,
        } = inputs;
        let mut waiting = Vec::with_capacity(PLACES);
        let mut asked = Vec::with_capacity(CONTROLS);
        let second = Duration::from_secs(1);
        let mut tick = tokio::time::interval_at(Instant::now() + second, second);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        let mut bus_ended = false;
        loop {
            if self.draining && self.sessions.is_empty() {
                return;
            }
            if self.fanout.is_active() {
                self.flush_slice();
                self.go_on_healing();
                // What has come meanwhile joins in, as long as there are places.
                let room = if self.healings.is_empty() {
                    self.fanout.places.free()
                } else {
                    0
                };
                while waiting.len() < room
                    && let Ok(outgoing) = messages.try_recv()
                {
                    waiting.push(outgoing);
                }
                self.begin_fanout(&mut waiting);
                while asked.len() < CONTROLS
                    && let Ok(control) = controls.try_recv()
                {
                    asked.push(control);
                }
                asked.drain(..).for_each(|control| self.control(control));
                self.send_wishes();
                if missed.take_now() {
                    self.compare_all();
                }
                self.step_job();
                if tick_is_due(&mut tick).await {
                    self.tick();
                }
                tokio::task::yield_now().await;
                continue;
            }
            self.go_on_healing();
            tokio::select! {
                taken = messages.recv_many(&mut waiting, PLACES), if !bus_ended => {
                    // When the bus has ended, sessions live on until they are drained.
                    bus_ended = taken == 0;
                    self.begin_fanout(&mut waiting);
                }
                _ = controls.recv_many(&mut asked, CONTROLS) => {
                    asked.drain(..).for_each(|control| self.control(control));
                }
                () = missed.take() => self.compare_all(),
                permit = shared.wishes.reserve(), if !self.wishes.is_empty() => {
                    if let (Ok(permit), Some(wish)) = (permit, self.wishes.pop_front()) {
                        permit.send(wish);
                    }
                    self.send_wishes();
                }
                _ = tick.tick() => self.tick(),
                () = std::future::ready(()), if !self.jobs.is_empty() => {
                    self.step_job();
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Connect(new) => self.connect(*new),
            Control::Input(id, input) => self.input(id, input),
            Control::Writable(id) => self.writable(id),
            Control::Joined(joined) => self.joined(joined),
            Control::Healed(key, history) => self.healed(&key, history),
            Control::Renewed(key, head) => self.renewed(&key, head),
            Control::Replayed(id, serial, history) => self.replayed(id, serial, history),
            Control::Heads(comparison) => self.compared(&comparison),
            Control::Drain(window) => self.drain(window),
            Control::Asked(asked) => {
                asked.answer.send(self.index.find(&asked.key).is_some()).ok();
            }
            Control::Verified(id, verified) => self.refreshed(id, verified),
            Control::KeyEnded(id, who, error) => self.key_ended(id, &who, error),
            Control::Operator(job) => self.begin_job(*job),
        }
    }

    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        session_of(&mut self.sessions, id)
    }

    fn session_ref(&self, id: SessionId) -> Option<&Session> {
        self.sessions
            .get(id.slot as usize)
            .filter(|session| session.generation == id.generation)
    }

    /// Runs something that waits, and takes its answer as an input.
    fn ask(&self, question: impl Future<Output = Control> + Send + 'static) {
        let controls = self.controls.clone();
        tokio::spawn(async move {
            let answer = question.await;
            // A worker that has ended needs no answer.
            drop(controls.send(answer).await);
        });
    }
}

/// The session of an id, where the rest of the worker has to stay in reach.
fn session_of(sessions: &mut Slab<Session>, id: SessionId) -> Option<&mut Session> {
    sessions
        .get_mut(id.slot as usize)
        .filter(|session| session.generation == id.generation)
}

async fn tick_is_due(tick: &mut tokio::time::Interval) -> bool {
    tokio::select! {
        biased;
        _ = tick.tick() => true,
        () = std::future::ready(()) => false,
    }
}

#[cfg(target_os = "linux")]
fn open_ring() -> Option<ring::Ring> {
    ring::Ring::new()
        .inspect_err(
            |error| tracing::warn!(%error, "io_uring is not to be had here; sockets are written one by one"),
        )
        .ok()
}
