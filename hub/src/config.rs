//! `[hub]`: limits and times of the sockets.

use std::time::Duration;

use common::config::{Bytes, ConfigError, Span};
use serde::Deserialize;

/// Everything about sockets that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// Workers that own the sessions; 0 is one a core.
    pub workers: usize,
    /// Sessions of this node.
    pub max_connections: usize,
    /// Sessions of a tenant on this node.
    pub max_connections_per_tenant: usize,
    /// Sessions of a user on this node.
    pub max_connections_per_user: usize,
    /// Sessions from an address; behind a proxy, of the client's address where the proxy is trusted.
    pub max_connections_per_address: usize,
    /// Handshakes a second, and as many at once.
    pub handshakes_per_second: u32,
    /// Explicit topics of a session.
    pub max_topics: usize,
    /// Messages a second that a session may send, and twice as many at once.
    pub inbound_per_second: u32,
    /// Largest message that a session may send.
    pub max_message: Bytes,
    /// How often the hub pings. Two unanswered pings end a session.
    pub heartbeat: Span,
    /// Bound of a session's outbound queue. Over it, its topics' policies say what goes; by default the session, with 4008.
    pub outbound_bytes: Bytes,
    /// Frames that may wait in it.
    pub outbound_frames: usize,
    /// How long a frame may wait in it.
    pub outbound_age: Span,
    /// A socket that took nothing for so long while something waited is given up, whatever the policies say.
    pub outbound_stall: Span,
    /// Send buffer of a socket in the kernel; 0 leaves it to the kernel. A small one shows slow readers early.
    pub send_buffer: Bytes,
    /// How a fan-out to many sockets is written.
    pub flush: Flush,
    /// Whether permessage-deflate is agreed with clients that offer it.
    pub compression: bool,
    /// Payloads of fewer bytes go uncompressed.
    pub compression_min: Bytes,
    /// Time for an orderly close before the socket is dropped.
    pub close_timeout: Span,
    /// Messages that may wait for a worker; beyond, they are dropped, counted and read again from history.
    pub worker_queue: usize,
    /// How often subscribed topics are compared with the bus.
    pub head_check: Span,
    /// Topics stay subscribed for so long after their last session.
    pub topic_linger: Span,
    /// While stopping: sockets and listeners still serve for so long.
    pub lame_duck: Span,
    /// While stopping: sessions are told to reconnect spread over this time.
    pub drain_window: Span,
    /// Largest body of a publish.
    pub max_publish: Bytes,
    /// A user whose last session left counts as there for so long.
    pub presence_grace: Span,
    /// Where this node runs, for those who look at the list of nodes.
    pub region: String,
    /// How often this node announces itself to the others; who was not heard for three times as long has gone.
    pub announce: Span,
    /// Traces that run at once; 0 allows none.
    pub traces: usize,
    /// A trace ends after so long.
    pub trace_time: Span,
}

/// How a fan-out to many sockets is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flush {
    /// A system call for each socket.
    Write,
    /// A system call for up to 256 sockets; [`Flush::Write`] where the kernel or the container refuses `io_uring`.
    IoUring,
}

impl HubConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("hub.max_connections", self.max_connections),
            ("hub.max_connections_per_tenant", self.max_connections_per_tenant),
            ("hub.max_connections_per_user", self.max_connections_per_user),
            (
                "hub.max_connections_per_address",
                self.max_connections_per_address,
            ),
            ("hub.handshakes_per_second", self.handshakes_per_second as usize),
            ("hub.inbound_per_second", self.inbound_per_second as usize),
            ("hub.worker_queue", self.worker_queue),
            ("hub.max_publish", self.max_publish.0),
            ("hub.outbound_frames", self.outbound_frames),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(ConfigError::invalid(key, "has to be at least 1"));
            }
        }
        if self.workers > crate::registry::MAX_WORKERS {
            return Err(ConfigError::invalid("hub.workers", "can be at most 64"));
        }
        if self.max_message.0 < 1024 {
            return Err(ConfigError::invalid(
                "hub.max_message",
                "has to be at least 1KiB: a refresh carries a token",
            ));
        }
        let seconds = self.heartbeat.0.as_secs();
        if !(1..=3600).contains(&seconds) {
            return Err(ConfigError::invalid(
                "hub.heartbeat",
                "has to be between 1s and 1h",
            ));
        }
        if self.outbound_bytes.0 < self.max_publish.0 {
            return Err(ConfigError::invalid(
                "hub.outbound_bytes",
                "has to hold one publish (hub.max_publish)",
            ));
        }
        if self.outbound_age.0.is_zero() || self.close_timeout.0.is_zero() || self.head_check.0.is_zero() {
            return Err(ConfigError::invalid(
                "hub",
                "outbound_age, close_timeout and head_check have to be longer than nothing",
            ));
        }
        if !(Duration::from_millis(50)..=Duration::from_secs(60)).contains(&self.announce.0) {
            return Err(ConfigError::invalid(
                "hub.announce",
                "has to be between 50ms and 1m",
            ));
        }
        if self.region.len() > 64 || self.region.contains(char::is_control) {
            return Err(ConfigError::invalid(
                "hub.region",
                "can have at most 64 bytes, without control characters",
            ));
        }
        if self.outbound_stall.0 < self.outbound_age.0 {
            return Err(ConfigError::invalid(
                "hub.outbound_stall",
                "has to be at least hub.outbound_age, so that policies come first",
            ));
        }
        Ok(())
    }

    pub(crate) fn worker_count(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.workers == 0 {
            cores.min(crate::registry::MAX_WORKERS)
        } else {
            self.workers
        }
    }
}

#[cfg(test)]
impl HubConfig {
    /// Large limits, for tests that meet none of them.
    pub(crate) fn for_tests() -> Self {
        let seconds = |seconds| Span(std::time::Duration::from_secs(seconds));
        Self {
            workers: 1,
            max_connections: 1000,
            max_connections_per_tenant: 1000,
            max_connections_per_user: 1000,
            max_connections_per_address: 1000,
            handshakes_per_second: 1000,
            max_topics: 100,
            inbound_per_second: 100,
            max_message: Bytes(64 * 1024),
            heartbeat: seconds(25),
            outbound_bytes: Bytes(1024 * 1024),
            outbound_frames: 8192,
            outbound_age: seconds(30),
            outbound_stall: seconds(300),
            send_buffer: Bytes(0),
            flush: Flush::Write,
            compression: false,
            compression_min: Bytes(256),
            close_timeout: seconds(5),
            worker_queue: 1024,
            head_check: seconds(30),
            topic_linger: seconds(1),
            lame_duck: seconds(0),
            drain_window: seconds(0),
            max_publish: Bytes(256 * 1024),
            presence_grace: seconds(5),
            region: String::new(),
            announce: seconds(3),
            traces: 4,
            trace_time: seconds(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_values_are_named() {
        HubConfig::for_tests().validate().unwrap();
        for (key, change) in [
            (
                "hub.max_connections",
                (|config| config.max_connections = 0) as fn(&mut HubConfig),
            ),
            ("hub.workers", |config| config.workers = 65),
            ("hub.max_message", |config| config.max_message = Bytes(1023)),
            ("hub.heartbeat", |config| config.heartbeat = Span::default()),
            ("hub.outbound_bytes", |config| {
                config.outbound_bytes = Bytes(config.max_publish.0 - 1)
            }),
            ("hub.outbound_frames", |config| config.outbound_frames = 0),
            ("hub.outbound_stall", |config| {
                config.outbound_stall = Span(std::time::Duration::from_secs(29))
            }),
            ("hub.announce", |config| config.announce = Span::default()),
            ("hub.region", |config| config.region = "x".repeat(65)),
            ("hub", |config| config.close_timeout = Span::default()),
        ] {
            let mut config = HubConfig::for_tests();
            change(&mut config);
            assert!(config.validate().unwrap_err().to_string().contains(key), "{key}");
        }
    }
}
