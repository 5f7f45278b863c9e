//! The server's side of the WebSocket framing, RFC 6455 section 5, without a socket.
//!
//! [`Parser`] turns what a client sent into [`Event`]s, or into the [`Violation`] that the connection must be closed
//! with. The `encode_*` functions make the frames that the hub sends. The handshake is not here.
//!
//! Bytes in, events out: `header` decides about a frame by its header alone, `parser` joins fragments and reads,
//! `close` judges what a Close frame holds, `deflate` inflates and compresses, `encode` writes.

mod close;
mod deflate;
mod encode;
mod header;
mod parser;
mod violation;

#[cfg(test)]
mod tests;

pub use deflate::{DEFLATE_ANSWER, accepts_deflate, encode_deflated};
pub use encode::{FrameHeader, encode_close, encode_ping, encode_pong, encode_text, text_header};
pub(crate) use encode::{is_ping, payload_of};
pub use parser::{Event, Parser};
pub use violation::Violation;

/// Longest payload of a control frame in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// Opcodes of RFC 6455 section 5.2. All others are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}
