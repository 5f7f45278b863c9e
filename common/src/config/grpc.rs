//! `[grpc]`

use serde::Deserialize;

use super::{ConfigError, Span};

/// `[grpc]`: bounds of the gRPC listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcConfig {
    /// Calls of one connection at once.
    pub max_streams: u32,
    /// Calls of all connections at once, but for watches.
    pub max_calls: usize,
    /// Watches of inboxes at once.
    pub max_watches: usize,
    /// Watches of one end user at once.
    pub user_watches: usize,
    /// A watch says something at least so often.
    pub heartbeat: Span,
    /// A client that was silent for so long is asked whether it is there.
    pub keepalive: Span,
    /// And has so long for its answer.
    pub keepalive_timeout: Span,
}

impl GrpcConfig {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let numbers = [
            ("grpc.max_streams", self.max_streams as usize),
            ("grpc.max_calls", self.max_calls),
            ("grpc.max_watches", self.max_watches),
            ("grpc.user_watches", self.user_watches),
        ];
        if let Some((key, _)) = numbers.iter().find(|(_, number)| *number == 0) {
            return Err(ConfigError::invalid(*key, "has to be at least 1"));
        }
        let spans = [
            ("grpc.heartbeat", self.heartbeat),
            ("grpc.keepalive", self.keepalive),
            ("grpc.keepalive_timeout", self.keepalive_timeout),
        ];
        match spans.iter().find(|(_, span)| span.0.is_zero()) {
            Some((key, _)) => Err(ConfigError::invalid(*key, "has to be longer than nothing")),
            None => Ok(()),
        }
    }
}
