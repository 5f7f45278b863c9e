//! The floor: what the kernel alone asks for pushing one message to many sockets.
//!
//! One thread, one epoll. It accepts WebSockets on `/ws` (the broadcast topic) and `/ws/{number}` (a topic a user),
//! takes a message by `POST /pub` or `POST /pub/{number}`, answers at once, and writes one ready frame to each socket
//! of the topic: by `send(2)`, or with `--uring` by slices of io_uring. No tokens, no history, no limits; a hub is
//! measured by how close it comes to this. Loopback only.

mod connection;
mod http;
mod ring;
mod server;

use std::{io::Write, net::SocketAddr};

use anyhow::{Context, bail};
use clap::Parser;

use crate::{ring::Ring, server::Server};

/// The floor: writes one ready WebSocket frame to each socket and does nothing else.
#[derive(Debug, Parser)]
#[command(name = "floor", version)]
struct Args {
    /// Where to listen; port 0 takes a free one. The address is told on standard output.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Hands the frames to the kernel through io_uring, up to 256 a system call.
    #[arg(long)]
    uring: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.listen.ip().is_loopback() {
        bail!("{} is not a loopback address", args.listen);
    }
    rlimit::increase_nofile_limit(u64::MAX).context("raising the limit of open files")?;
    let ring =
        args.uring.then(Ring::new).transpose().context(
            "the kernel refuses io_uring (see kernel.io_uring_disabled, or the container's profile)",
        )?;
    let mut server = Server::bind(args.listen, ring)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening on {}", server.address()?)?;
    out.flush()?;
    server.run()
}
