//! What can be asked for on the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, ValueEnum};

/// Load and fault harness of Carillon: opens sockets, publishes, checks that nothing is lost, doubled or reordered,
/// and prints what it cost the server. Loopback only.
#[derive(Debug, Clone, Parser)]
#[command(name = "loadtest", version)]
pub(crate) struct Args {
    /// What to do once the sockets are open.
    #[arg(value_enum, default_value = "sockets")]
    pub(crate) scenario: Scenario,

    /// Sockets to open, each with a user and a token of its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) sockets: u32,

    /// Seconds of traffic; of idling, for `sockets`.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,

    /// Broadcasts (or unicasts over all lanes) a second; 0: the next one when the last one has arrived everywhere.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u32,

    /// Publishing connections of `unicast`; each has users of its own, so that the order within a topic is known.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) lanes: u32,

    /// Bytes of padding in each message.
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,

    /// The executable that is started as a standalone server. Default: `carillon` beside this program.
    #[arg(long, conflicts_with_all = ["target", "publish", "secret_file", "pid"])]
    pub(crate) server: Option<PathBuf>,

    /// The public listener of a server that runs already.
    #[arg(long, requires_all = ["publish", "secret_file"])]
    pub(crate) target: Option<SocketAddr>,

    /// Its internal listener.
    #[arg(long)]
    pub(crate) publish: Option<SocketAddr>,

    /// The file with its HS256 secret (`auth.secret` in its data folder).
    #[arg(long)]
    pub(crate) secret_file: Option<PathBuf>,

    /// Its process, for memory and CPU time.
    #[arg(long)]
    pub(crate) pid: Option<u32>,

    /// Loopback source addresses, from 127.0.0.2 on; one address has about 28,000 ports.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub(crate) sources: u8,

    /// Client processes. Default: one for each 10,000 sockets.
    #[arg(long)]
    pub(crate) workers: Option<u32>,

    /// Handshakes that each client process has on the way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) connecting: u32,

    /// Seconds in which all sockets have to be open.
    #[arg(long, default_value_t = 120)]
    pub(crate) connect_seconds: u64,

    /// Seconds that late messages have before they count as lost.
    #[arg(long, default_value_t = 10)]
    pub(crate) grace_seconds: u64,

    /// Where to write the figures as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// What happens once the sockets are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Memory and CPU time of idle sockets, then ten broadcasts one at a time.
    Sockets,
    /// Broadcasts to all sockets.
    Broadcast,
    /// Messages to single users.
    Unicast,
    /// A client process of this program; it is told what to do on its standard input.
    #[value(hide = true)]
    Client,
}
