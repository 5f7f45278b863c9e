//! Why a hub closes a socket: code, text, and whether the client should come back.

/// Every reason for which a hub closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// The client closed first; its close is answered.
    Normal,
    /// A frame that RFC 6455 does not allow.
    Protocol,
    /// A binary frame: both dialects are text.
    Unsupported,
    /// Text that is not UTF-8.
    NotUtf8,
    /// A message over the limit.
    TooBig,
    /// The server is being restarted; the hint says when to come back.
    Restart,
    /// The bus cannot confirm the session's topics.
    Unavailable,
    /// The token expired.
    TokenExpired,
    /// The token of a `refresh` is not valid, or is another user's.
    TokenInvalid,
    /// An operator closed the session.
    Disconnected,
    /// Too many messages in.
    RateLimited,
    /// The outbound queue grew over its bound.
    SlowConsumer,
    /// Two heartbeats stayed unanswered, or nothing came within the idle limit.
    HeartbeatLost,
}

impl Close {
    /// Every reason, for documents and tests.
    pub const ALL: [Self; 13] = [
        Self::Normal,
        Self::Protocol,
        Self::Unsupported,
        Self::NotUtf8,
        Self::TooBig,
        Self::Restart,
        Self::Unavailable,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::Disconnected,
        Self::RateLimited,
        Self::SlowConsumer,
        Self::HeartbeatLost,
    ];

    /// The close code: RFC 6455 section 7.4.1 below 3000, ours from 4000.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Protocol => 1002,
            Self::Unsupported => 1003,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::Restart => 1012,
            Self::Unavailable => 1013,
            Self::TokenExpired => 4001,
            Self::TokenInvalid => 4002,
            Self::Disconnected => 4003,
            Self::RateLimited => 4007,
            Self::SlowConsumer => 4008,
            Self::HeartbeatLost => 4009,
        }
    }

    /// The reason's text, at most 123 bytes.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Protocol => "protocol error",
            Self::Unsupported => "text frames only",
            Self::NotUtf8 => "not UTF-8",
            Self::TooBig => "message too big",
            Self::Restart => "restart",
            Self::Unavailable => "try again later",
            Self::TokenExpired => "token expired",
            Self::TokenInvalid => "token invalid",
            Self::Disconnected => "disconnected",
            Self::RateLimited => "too many messages",
            Self::SlowConsumer => "slow consumer",
            Self::HeartbeatLost => "heartbeat lost",
        }
    }

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Protocol => "protocol",
            Self::Unsupported => "unsupported",
            Self::NotUtf8 => "not_utf8",
            Self::TooBig => "too_big",
            Self::Restart => "restart",
            Self::Unavailable => "unavailable",
            Self::TokenExpired => "token_expired",
            Self::TokenInvalid => "token_invalid",
            Self::Disconnected => "disconnected",
            Self::RateLimited => "rate_limited",
            Self::SlowConsumer => "slow_consumer",
            Self::HeartbeatLost => "heartbeat_lost",
        }
    }

    /// Whether a client should connect again: with a new token after 4001 and 4002, not at all after 4003.
    #[must_use]
    pub fn reconnect(self) -> bool {
        !matches!(
            self,
            Self::Normal | Self::Disconnected | Self::Protocol | Self::Unsupported | Self::NotUtf8
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_texts_fit_a_control_frame() {
        for (index, close) in Close::ALL.iter().enumerate() {
            assert!(close.text().len() <= 123);
            assert!(
                Close::ALL[..index]
                    .iter()
                    .all(|other| other.code() != close.code())
            );
        }
    }
}
