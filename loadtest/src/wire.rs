//! What the parent and its client processes say to each other: one JSON object a line, over standard input and output.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{check::Faults, stamp::Topic, target::Target, times::Counts};

/// Parent to client process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Comes once, first. The secret travels here, so that no process list shows it.
    Setup(Box<Setup>),
    /// Open sockets.
    Open(Open),
    /// Publish.
    Job(Job),
    /// Another pace for a job that paces itself by time.
    Pace { job: u32, per_second: f64 },
    /// So many more messages of a job may be on the way.
    Credit { job: u32, count: u32 },
    /// No more messages; answered by `stopped` once every answer is there.
    Stop,
    /// These many sockets, evenly spread, stop reading; or all go on.
    Stall { count: u32 },
    /// The stalled ones read again.
    Wake,
    /// Cut sockets by chance, so many a second, each for so long; 0 ends it.
    Cut { per_second: f64, away_ms: u64 },
    /// Cut all sockets at once; they come back as soon as they may.
    CutAll,
    /// What connects from now on goes there.
    Move {
        addresses: Vec<SocketAddr>,
        publishes: Vec<SocketAddr>,
    },
    /// Ask for the figures since the last time; answered by `window`.
    Mark,
    /// Everything has been sent: wait for what is on the way, then answer `settled`.
    Settle(Settle),
}

/// What all sockets of a client process share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) target: Target,
    /// Where sockets connect: nodes over which they spread, or one balancer. One at least.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where publishes go, over which connections spread. One at least.
    pub(crate) publishes: Vec<SocketAddr>,
    /// Signs the tokens.
    pub(crate) secret: Option<String>,
    /// The run's own tenant, `load-{run}`.
    pub(crate) tenant: String,
    pub(crate) run: u32,
    /// Loopback source addresses.
    pub(crate) sources: u8,
    /// Handshakes at once.
    pub(crate) connecting: u32,
    /// How long tokens are valid.
    pub(crate) ttl_seconds: i64,
    /// Poll without sleeping.
    pub(crate) spin: bool,
    /// Offer permessage-deflate, and go on only where it is agreed.
    pub(crate) deflate: bool,
    /// Keep positions, and resume with them.
    pub(crate) resume: bool,
    /// Whether broadcasts are followed until they have arrived at every socket, and by whom.
    pub(crate) rounds: Rounds,
    /// Of everything that is left to chance.
    pub(crate) seed: u64,
}

/// Who puts together where a broadcast has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rounds {
    Off,
    /// This process has all sockets.
    Here,
    /// The parent, from what each process tells it.
    Parent,
}

/// Sockets to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Open {
    /// Number of the first user.
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Whether they get what is for their user, where that is another path.
    pub(crate) as_users: bool,
    /// The first explicit topic; sockets spread over `topics` of them.
    pub(crate) first_topic: u32,
    pub(crate) topics: u32,
    /// How many of them a socket subscribes to.
    pub(crate) topics_each: u32,
}

/// Messages to publish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: u32,
    pub(crate) to: To,
    pub(crate) pace: Pace,
    pub(crate) form: Form,
    /// Connections.
    pub(crate) lanes: u32,
    /// Requests on the way on each.
    pub(crate) pipeline: u32,
    /// Bytes of a payload.
    pub(crate) size: usize,
    /// Messages in all; 0: until `stop`.
    pub(crate) limit: u64,
    /// Messages are conflated by so many keys; 0: not.
    pub(crate) keys: u32,
    /// Fields added to each publish, such as `,"history":false`.
    pub(crate) extra: String,
    /// Each publish has an idempotency key; without a good answer it is repeated, on the next node, until it has one.
    #[serde(default)]
    pub(crate) repeat: bool,
}

/// Whom messages are for; by chance, where there are several.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum To {
    All,
    Users { first: u32, count: u32 },
    Roles { count: u32 },
    Stores { count: u32 },
    Topics { first: u32, count: u32 },
}

/// When the next message goes out.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// By the clock (open loop).
    PerSecond(f64),
    /// When a credit comes back: so many at first.
    Credits(u32),
    /// When a connection is free (closed loop).
    Answers,
}

/// How messages are put into requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Form {
    Single,
    Batch(u32),
    Lines(u32),
}

/// What was sent, for those who have to say whether it came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Settle {
    pub(crate) sent: Vec<(Topic, u32)>,
    /// Numbers of which the publisher has no good answer.
    pub(crate) failed: Vec<(Topic, u32)>,
    /// How long late messages are waited for.
    pub(crate) grace_ms: u64,
    /// Sockets that were stalled have to have the newest value of each of so many keys; 0: they are not looked at.
    pub(crate) keys: u32,
}

/// Client process to parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Each second, or faster while sockets open.
    Tick(Tick),
    /// Every socket that was asked for is open, or has failed for good.
    Opened {
        opened: u32,
        failed: BTreeMap<String, u32>,
    },
    /// A broadcast has arrived at every socket of this process that reads.
    Round {
        number: u32,
        at_us: u64,
        first_us: u64,
        last_us: u64,
    },
    Stopped(Stopped),
    Window(Box<Window>),
    Settled(Settled),
}

/// Progress.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tick {
    /// Open now.
    pub(crate) open: u32,
    /// Handshakes that succeeded so far.
    pub(crate) handshakes: u64,
    /// Sockets that the server closed so far.
    pub(crate) closed: u64,
    /// Messages since the last tick.
    pub(crate) received: u64,
    pub(crate) published: u64,
    /// Topics of which sessions were told `resync` since the last tick.
    pub(crate) resyncs: u64,
    /// Milliseconds from publish to receive since the last tick.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What was published.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stopped {
    /// The highest number of each topic.
    pub(crate) sent: Vec<(Topic, u32)>,
    pub(crate) failed: Vec<(Topic, u32)>,
}

/// Figures of a part of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) received: u64,
    pub(crate) reads: u64,
    /// Bytes that sockets read: frames with their headers, and handshakes of this time.
    pub(crate) bytes: u64,
    /// Messages that came compressed.
    pub(crate) compressed: u64,
    pub(crate) published: u64,
    /// Failed publishes, by reason.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Publishes that were repeated with their key, by why.
    pub(crate) repeated: BTreeMap<String, u64>,
    /// Of them, those whose first try may have been taken: the connection broke, or no answer came.
    pub(crate) unclear: u64,
    /// Sockets that the server closed, by code or reason.
    pub(crate) closed: BTreeMap<String, u64>,
    /// Handshakes that failed, by reason; they were tried again.
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) handshakes: u64,
    pub(crate) resumed: u64,
    pub(crate) recovered: u64,
    /// Topics of which a session was told `resync`.
    pub(crate) resyncs: u64,
    /// Each of them, the first of them where there are very many.
    pub(crate) resynced: Vec<Resynced>,
    pub(crate) gaps: u64,
    /// Microseconds from when a message should have been sent to its arrival.
    pub(crate) delivery: Counts,
    /// From then to the publish's answer.
    pub(crate) answer: Counts,
    /// From then until the last socket has it; only where one process has all sockets.
    pub(crate) whole: Counts,
    /// From the first socket to the last.
    pub(crate) spread: Counts,
    /// From a cut to being open again.
    pub(crate) reopen: Counts,
}

/// A session was told `resync` for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resynced {
    /// Unix microseconds.
    pub(crate) at_us: u64,
    pub(crate) user: u32,
    pub(crate) topic: Topic,
    /// As the answer to its `resume`; else while it was connected.
    pub(crate) resuming: bool,
}

/// The end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Settled {
    /// Sockets that were held against what was sent.
    pub(crate) checked: u32,
    /// Messages that they should have.
    pub(crate) expected: u64,
    pub(crate) faults: Faults,
    pub(crate) faulty: u32,
    /// Of the sockets with faults, a few in words.
    pub(crate) examples: Vec<String>,
    /// Sockets that are not open at the end.
    pub(crate) not_open: u32,
    /// Stalled sockets, and how many of them have the newest value of every key.
    pub(crate) stalled: u32,
    pub(crate) stalled_newest: u32,
}
