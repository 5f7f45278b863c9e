use thiserror::Error;

/// What a client did that ends its connection.
///
/// The text of the error is [`Violation::reason`], which suits a Close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error("{}", self.reason())]
pub enum Violation {
    /// A client frame without mask (RFC 6455 section 5.1).
    Unmasked,
    /// A reserved bit that no negotiated extension gives a meaning (section 5.2).
    ReservedBits,
    /// An opcode of 0x3 to 0x7 or 0xB to 0xF (section 5.2).
    ReservedOpcode,
    /// A control frame without FIN (section 5.5).
    ControlFragmented,
    /// A control frame of more than 125 bytes (section 5.5).
    ControlTooLong,
    /// A continuation while no message is open (section 5.4).
    UnexpectedContinuation,
    /// A text or binary frame while a fragmented message is open (section 5.4).
    MessageInterrupted,
    /// A 64-bit length with its top bit set (section 5.2).
    LengthTopBit,
    /// A length written in more bytes than it needs (section 5.2).
    LengthNotMinimal,
    /// A Close payload of one byte, which cannot hold a code (section 5.5.1).
    CloseTruncated,
    /// A close code that must not be sent (section 7.4).
    CloseCode,
    /// Text, or a close reason, that is not UTF-8 (section 8.1).
    NotUtf8,
    /// A compressed message that cannot be inflated (RFC 7692 section 7.2.2).
    NotDeflated,
    /// A message over the limit, counted over all its fragments, and again when it is inflated (section 7.4.1).
    MessageTooBig,
}

impl Violation {
    /// The code to close the connection with: 1002, 1007 or 1009 (RFC 6455 section 7.4.1).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::NotUtf8 | Self::NotDeflated => 1007,
            Self::MessageTooBig => 1009,
            Self::Unmasked
            | Self::ReservedBits
            | Self::ReservedOpcode
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::UnexpectedContinuation
            | Self::MessageInterrupted
            | Self::LengthTopBit
            | Self::LengthNotMinimal
            | Self::CloseTruncated
            | Self::CloseCode => 1002,
        }
    }

    /// A short text for the Close frame and for metric labels; never holds what the client sent.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unmasked => "frame is not masked",
            Self::ReservedBits => "reserved bit is set",
            Self::ReservedOpcode => "reserved opcode",
            Self::ControlFragmented => "fragmented control frame",
            Self::ControlTooLong => "control frame too long",
            Self::UnexpectedContinuation => "continuation without start",
            Self::MessageInterrupted => "message interrupted",
            Self::LengthTopBit => "length out of range",
            Self::LengthNotMinimal => "length not minimal",
            Self::CloseTruncated => "close code truncated",
            Self::CloseCode => "invalid close code",
            Self::NotUtf8 => "invalid UTF-8",
            Self::NotDeflated => "invalid compressed data",
            Self::MessageTooBig => "message too big",
        }
    }
}
