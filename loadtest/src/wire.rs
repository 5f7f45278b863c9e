//! What the parent and its client processes say to each other: one JSON object a line, over standard input and output.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::check::Faults;

/// Parent to client process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Order {
    /// Open sockets. Comes once, first. The secret travels here, so that no process list shows it.
    Open(Open),
    /// Everything has been sent: wait for what is on the way, then report.
    Finish {
        /// Messages that each of this process's sockets should have, in their order.
        expected: Expected,
        /// How long late messages are waited for.
        grace_ms: u64,
    },
}

/// Which sockets to open.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Open {
    /// The public listener.
    pub(crate) target: SocketAddr,
    /// Signs the tokens.
    pub(crate) secret: String,
    /// The run's own tenant.
    pub(crate) tenant: String,
    /// Number of the first user.
    pub(crate) first: u32,
    /// How many.
    pub(crate) count: u32,
    /// Source addresses.
    pub(crate) sources: u8,
    /// Handshakes at once.
    pub(crate) connecting: u32,
    /// How long the tokens are valid.
    pub(crate) ttl_seconds: i64,
}

/// What each socket should have received.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Expected {
    /// The same for all.
    All(u64),
    /// By socket.
    Each(Vec<u64>),
}

impl Expected {
    pub(crate) fn of(&self, socket: usize) -> u64 {
        match self {
            Self::All(count) => *count,
            Self::Each(counts) => counts.get(socket).copied().unwrap_or(0),
        }
    }
}

/// Client process to parent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// Now and then while connecting.
    Opening {
        /// Welcomed so far.
        opened: u32,
    },
    /// Every handshake has ended.
    Ready {
        /// Welcomed.
        opened: u32,
        /// Refused or broken, by reason.
        failed: BTreeMap<String, u32>,
    },
    /// A broadcast has arrived at every socket of this process.
    Round {
        /// Its number.
        number: u64,
        /// When the first socket had it, Unix microseconds.
        first_us: u64,
        /// When the last one had it.
        last_us: u64,
    },
    /// The end.
    Done(Done),
}

/// What a client process saw.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Messages.
    pub(crate) received: u64,
    /// Faults, and on how many sockets.
    pub(crate) faults: Faults,
    /// Sockets with faults.
    pub(crate) faulty: u32,
    /// Sockets that the server closed, by code or reason.
    pub(crate) closed: BTreeMap<String, u32>,
    /// From publish to arrival: microseconds and how often.
    pub(crate) latency_us: Vec<(u64, u64)>,
}

/// Microseconds since 1970. All processes are on one machine, so they share this clock.
pub(crate) fn now_us() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
