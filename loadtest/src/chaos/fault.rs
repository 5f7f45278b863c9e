//! What can go wrong.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// A hub is killed with -9, and started again.
    HubKilled,
    /// A primary of Redis is killed with -9, a replica takes over, and it comes back, without data, as a replica.
    RedisKilled,
    /// A primary of Redis hangs (SIGSTOP) until a replica has taken over and a little longer, then goes on.
    RedisPaused,
    /// A range of slots moves from one primary to another.
    SlotsMigrated,
    /// A part of the sockets is cut, and comes back.
    ClientsCut,
    /// Redis closes connections of the hubs (CLIENT KILL).
    ConnectionsKilled,
    /// nginx reads its configuration anew.
    NginxReloaded,
}

impl Fault {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 7] = [
        Self::HubKilled,
        Self::RedisKilled,
        Self::RedisPaused,
        Self::SlotsMigrated,
        Self::ClientsCut,
        Self::ConnectionsKilled,
        Self::NginxReloaded,
    ];

    /// Whether Redis may lose something by it, as its replication is asynchronous.
    pub(crate) fn may_lose(self) -> bool {
        matches!(self, Self::RedisKilled | Self::RedisPaused | Self::SlotsMigrated)
    }

    /// What people call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::HubKilled => "hub killed",
            Self::RedisKilled => "Redis primary killed",
            Self::RedisPaused => "Redis primary paused",
            Self::SlotsMigrated => "slots migrated",
            Self::ClientsCut => "clients cut",
            Self::ConnectionsKilled => "hub connections killed",
            Self::NginxReloaded => "nginx reloaded",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
