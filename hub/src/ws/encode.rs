use bytes::Bytes;

use super::{MAX_CONTROL_PAYLOAD, Opcode};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// The header of an unfragmented server frame: 2, 4 or 10 bytes. Servers do not mask (RFC 6455 section 5.1).
#[derive(Debug, Clone, Copy)]
pub struct FrameHeader {
    bytes: [u8; 10],
    len: u8,
}

impl FrameHeader {
    fn new(opcode: Opcode, payload_len: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = FIN | opcode as u8;
        let len = if payload_len <= MAX_CONTROL_PAYLOAD {
            bytes[1] = payload_len as u8;
            2
        } else if let Ok(short) = u16::try_from(payload_len) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&short.to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        };
        Self { bytes, len }
    }
}

impl AsRef<[u8]> for FrameHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header to write before a text payload of `payload_len` bytes.
#[must_use]
pub fn text_header(payload_len: usize) -> FrameHeader {
    FrameHeader::new(Opcode::Text, payload_len)
}

/// A text frame whose payload is `parts` joined. The joined payload must be UTF-8, or clients will fail the connection.
#[must_use]
pub fn encode_text<P: AsRef<[u8]>>(parts: &[P]) -> Bytes {
    encode(Opcode::Text, parts)
}

/// The payload of a frame that was made here.
pub(crate) fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// A Ping. A payload over 125 bytes is cut there.
#[must_use]
pub fn encode_ping(payload: &[u8]) -> Bytes {
    encode(Opcode::Ping, &[cut(payload)])
}

/// A Pong. A payload over 125 bytes is cut there; that of a [`Ping`](super::Event::Ping) always fits.
#[must_use]
pub fn encode_pong(payload: &[u8]) -> Bytes {
    encode(Opcode::Pong, &[cut(payload)])
}

/// A Close. Without a code the payload is empty, as the answer to a Close without a code must be; a reason over 123
/// bytes is cut at a character boundary.
///
/// The caller sees to it that the code may be sent (RFC 6455 section 7.4: not 1005, 1006 or 1015).
#[must_use]
pub fn encode_close(code: impl Into<Option<u16>>, reason: &str) -> Bytes {
    let Some(code) = code.into() else {
        return encode::<&[u8]>(Opcode::Close, &[]);
    };
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL_PAYLOAD - 2)];
    encode(Opcode::Close, &[&code.to_be_bytes(), reason.as_bytes()])
}

/// Whether a frame of these functions is a Ping.
pub(crate) fn is_ping(frame: &[u8]) -> bool {
    frame.first() == Some(&(FIN | Opcode::Ping as u8))
}

/// A frame whose payload permessage-deflate has compressed (RFC 7692 section 6).
pub(super) fn encode_compressed(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut header = FrameHeader::new(opcode, payload.len());
    header.bytes[0] |= RSV1;
    [header.as_ref(), payload].concat().into()
}

fn cut(payload: &[u8]) -> &[u8] {
    payload.get(..MAX_CONTROL_PAYLOAD).unwrap_or(payload)
}

fn encode<P: AsRef<[u8]>>(opcode: Opcode, parts: &[P]) -> Bytes {
    let payload_len = parts.iter().map(|part| part.as_ref().len()).sum();
    let header = FrameHeader::new(opcode, payload_len);
    let header = header.as_ref();
    // Exact, so that turning the Vec into Bytes needs no second allocation.
    let mut frame = Vec::with_capacity(header.len() + payload_len);
    frame.extend_from_slice(header);
    for part in parts {
        frame.extend_from_slice(part.as_ref());
    }
    frame.into()
}
