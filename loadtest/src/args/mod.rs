//! What can be asked for on the command line.

mod bus;
mod cluster;
mod dispatch;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::bus::Bus;
pub(crate) use self::cluster::{Balancer, Chaos, Cluster, Rolling, Traffic};
pub(crate) use self::dispatch::{Dispatch, Kind};
use crate::table::TableArgs;

/// Load and fault harness for push servers: opens sockets, publishes, checks that nothing is lost, doubled or reordered,
/// and measures what it cost the server. Loopback only.
///
/// Without --describe and --address it starts the `carillon` beside this program, on free ports and with a data folder
/// of its own, and ends it. The exit code is 0 only when everything was as the scenario says it has to be.
#[derive(Debug, Clone, Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Open sockets and leave them alone: memory, the kernel's share, CPU time a handshake and while idle; the same
    /// again after a burst of broadcasts.
    #[command(visible_alias = "sockets")]
    Idle(Idle),
    /// Broadcasts to all sockets: so many in flight (by deliveries), or so many a second.
    Broadcast(Broadcast),
    /// Messages to single users: one a request, in batches, or as lines; as fast as answers come, or at a rate.
    Unicast(Unicast),
    /// A day of a shop in so many seconds: unicasts, roles, stores and topics at changing rates, bursts, churn. Memory
    /// at the end has to be what it was at the beginning.
    Mixed(Mixed),
    /// One topic with very many members beside a few quiet sockets in a process of their own, whose latency may hardly
    /// suffer.
    HotTopic(HotTopic),
    /// Sockets that never read beside others that do: memory, latency of the others, what becomes of the slow ones.
    Slow(Slow),
    /// Sockets are cut by chance and come back at once, while messages flow.
    Churn(Churn),
    /// All sockets are cut at once and come back with their positions, while messages flow: nothing is lost, readiness
    /// stays green.
    Storm(Storm),
    /// SIGTERM while messages flow, with a second server to go to: readiness, failed publishes, close codes, and how
    /// reconnects are spread.
    Drain(Drain),
    /// Random cuts with resume: proves that each socket received what was published, in order, once.
    Recover(Recover),
    /// Several hubs, Redis Cluster and nginx, to which faults happen by a plan while messages flow: proves that each
    /// session gets what was acknowledged, in order, once, or is told `resync`.
    Chaos(Chaos),
    /// All hubs of a cluster are restarted one after the other, while messages flow: nothing is lost, and reconnects are
    /// spread.
    Rolling(Rolling),
    /// The bus over Redis, measured in this process beside `redis-benchmark`: throughput, lag, what it costs and how it
    /// comes back.
    Bus(Bus),
    /// The dispatcher on SQLite and on PostgreSQL, measured from outside beside pgbench, a bare commit loop and smtp-source:
    /// what it accepts, what goes through, and the inbox.
    Dispatch(Dispatch),
    /// Compare results: a table, and with --html a page with charts.
    Compare(Compare),
    /// Write the document of a pass of `make bench-peers`.
    Table(TableArgs),
    /// A client process of this program; it is told what to do on its standard input.
    #[command(hide = true)]
    Agent,
}

/// What all scenarios share.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Sockets to open, each with a user (and token) of its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) sockets: u32,
    /// Seconds of traffic, or of idling.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Bytes of a payload, which is JSON (55 at least).
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) size: u32,

    /// A description of the server (TOML); default: Carillon. See loadtest/README.md.
    #[arg(long, help_heading = "Server")]
    pub(crate) describe: Option<PathBuf>,
    /// The executable of Carillon. Default: `carillon` beside this program.
    #[arg(long, help_heading = "Server")]
    pub(crate) server: Option<PathBuf>,
    /// Environment of the server: NAME=VALUE, also more than once. CARILLON_HUB__SEND_BUFFER=131072 sets that.
    #[arg(long = "set", value_name = "NAME=VALUE", help_heading = "Server")]
    pub(crate) environment: Vec<String>,
    /// The socket address of a server that runs already; of several nodes, each (repeated, or with commas), over which
    /// sockets spread, or of the one balancer before them.
    #[arg(
        long = "address",
        visible_alias = "url",
        value_delimiter = ',',
        help_heading = "Server"
    )]
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it takes publishes, if that is another address; of several nodes, each: publishing connections spread.
    #[arg(
        long = "publish",
        visible_alias = "internal",
        value_delimiter = ',',
        requires = "addresses",
        help_heading = "Server"
    )]
    pub(crate) publishes: Vec<SocketAddr>,
    /// The file with its HS256 secret (`auth.secret` in its data folder).
    #[arg(long, requires = "addresses", help_heading = "Server")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Its process, for memory and CPU time; or its processes.
    #[arg(
        long = "pid",
        value_delimiter = ',',
        requires = "addresses",
        help_heading = "Server"
    )]
    pub(crate) pids: Vec<u32>,
    /// Pin the server to this core.
    #[arg(long, help_heading = "Server")]
    pub(crate) server_core: Option<u32>,
    /// Kernel settings for the time of the run (root): net.ipv4.tcp_congestion_control=cubic.
    #[arg(long = "sysctl", value_name = "KEY=VALUE", help_heading = "Server")]
    pub(crate) sysctls: Vec<String>,

    /// Pin the client processes to this core.
    #[arg(long, help_heading = "Clients")]
    pub(crate) client_core: Option<u32>,
    /// Clients poll without sleeping, so that the server pays for no wake-ups; takes a whole core.
    #[arg(long, help_heading = "Clients")]
    pub(crate) spin: bool,
    /// Sockets offer permessage-deflate, and none counts as open without it. Carillon agrees with --set
    /// CARILLON_HUB__COMPRESSION=true.
    #[arg(long, help_heading = "Clients")]
    pub(crate) deflate: bool,
    /// Client processes; default: as few as the limit of open files allows.
    #[arg(long, help_heading = "Clients")]
    pub(crate) processes: Option<u32>,
    /// Loopback source addresses, from 127.0.0.2 on; one address has about 28,000 ports.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=200), help_heading = "Clients")]
    pub(crate) sources: u8,
    /// Handshakes that a client process has on the way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Clients")]
    pub(crate) connecting: u32,
    /// Seconds in which all sockets have to be open.
    #[arg(long, default_value_t = 120, help_heading = "Clients")]
    pub(crate) connect_seconds: u64,
    /// Seconds that late messages have before they count as lost.
    #[arg(long, default_value_t = 10, help_heading = "Clients")]
    pub(crate) grace_seconds: u64,
    /// Makes everything that is left to chance the same again (users, keys, cuts, the day's pattern).
    #[arg(long, default_value_t = 1, help_heading = "Clients")]
    pub(crate) seed: u64,

    /// Write the result as JSON.
    #[arg(long, help_heading = "Result")]
    pub(crate) json: Option<PathBuf>,
    /// Write the result as one HTML page with charts.
    #[arg(long, help_heading = "Result")]
    pub(crate) html: Option<PathBuf>,
    /// What the result is called in comparisons; default: the server's name.
    #[arg(long, help_heading = "Result")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Idle {
    /// Broadcasts of the burst between the two times of idling; 0: no burst.
    #[arg(long, default_value_t = 10)]
    pub(crate) burst: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Broadcast {
    /// Broadcasts in flight: the next one goes out when one has arrived at every socket.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) in_flight: u32,
    /// Instead: so many a second, whether or not earlier ones have arrived.
    #[arg(long, conflicts_with = "in_flight")]
    pub(crate) rate: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Unicast {
    /// Publishing connections, kept alive. Each has users of its own, so that the order within a topic is known.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) lanes: u32,
    /// Requests that may be on the way on each connection (HTTP pipelining).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) pipeline: u32,
    /// So many messages in one request.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) batch: Option<u32>,
    /// So many messages in one request, one a line (NDJSON).
    #[arg(long, conflicts_with = "batch", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) lines: Option<u32>,
    /// Messages a second in all; else as fast as answers come.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Mixed {
    /// Seconds that stand for 24 hours.
    #[arg(long, default_value_t = 300.0)]
    pub(crate) day_seconds: f64,
    /// Multiplies all rates of the pattern.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) strength: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HotTopic {
    /// Quiet sockets, beside --sockets on the hot topic.
    #[arg(long, default_value_t = 1_000)]
    pub(crate) quiet: u32,
    /// Publishes a second on the hot topic.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) hot_rate: f64,
    /// Unicasts a second to the quiet sockets.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    /// The quiet ones' p99 may rise by so many milliseconds.
    #[arg(long, default_value_t = 15.0)]
    pub(crate) allowed_ms: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What the server does with a slow consumer; Carillon is configured for it where the harness starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// It is closed (4008); it has to be gone at the end.
    Evict,
    /// Its oldest messages are dropped and it is told (`gap`).
    DropOldest,
    /// Messages are conflated by key; it wakes up at the end and has to get the newest of each.
    Latest,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Slow {
    /// Sockets that never read; default: one in a hundred.
    #[arg(long)]
    pub(crate) stalled: Option<u32>,
    /// Broadcasts a second.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) rate: f64,
    /// Seconds of the part in which all read, before; default: as long as the one with stalled sockets.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) before_seconds: Option<u64>,
    #[arg(long, value_enum, default_value = "evict")]
    pub(crate) policy: Policy,
    /// Keys of `latest`.
    #[arg(long, default_value_t = 16)]
    pub(crate) keys: u32,
    /// The p99 of the others may rise by this factor over the same run without stalled sockets.
    #[arg(long, default_value_t = 1.25)]
    pub(crate) allowed: f64,
    /// Bytes that may wait for one slow consumer, as the server is configured: bounds its memory.
    #[arg(long, default_value_t = 1_048_576)]
    pub(crate) queue_bytes: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Churn {
    /// Sockets cut a second.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) cuts: f64,
    /// Messages a second, over users, roles and the tenant.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Storm {
    /// Messages a second to users, throughout.
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// Handshakes a second that the server lets in (Carillon is configured so); 0: its default.
    #[arg(long, default_value_t = 0)]
    pub(crate) handshakes: u32,
    /// Storms, one after the other.
    #[arg(long, default_value_t = 3)]
    pub(crate) storms: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Drain {
    /// Messages a second to users, throughout.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Recover {
    /// Explicit topics, over which the publishes are spread.
    #[arg(long, default_value_t = 200)]
    pub(crate) topics: u32,
    /// How many of them a socket subscribes to.
    #[arg(long, default_value_t = 2)]
    pub(crate) topics_each: u32,
    /// Publishes a second.
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// Sockets cut a second.
    #[arg(long, default_value_t = 100.0)]
    pub(crate) cuts: f64,
    /// Milliseconds that a cut socket is away.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) away_ms: u64,
    /// Messages of history that the server keeps of each topic (Carillon is configured so).
    #[arg(long, default_value_t = 1_000)]
    pub(crate) history: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Compare {
    /// Results written by --json.
    #[arg(required = true)]
    pub(crate) results: Vec<PathBuf>,
    /// Write a page with charts.
    #[arg(long)]
    pub(crate) html: Option<PathBuf>,
}
