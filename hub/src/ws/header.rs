use super::{MAX_CONTROL_PAYLOAD, Opcode, Violation};

/// Two bytes, a 64-bit length, a mask.
pub(super) const MAX_HEADER: usize = 14;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// The reserved bit that permessage-deflate gives a meaning, on the first frame of a message only (RFC 7692 section 6).
const RSV1: u8 = 0x40;

/// A client frame's header that passed every check that can be made without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    /// The message that begins here is compressed.
    pub(super) compressed: bool,
    pub(super) mask: [u8; 4],
    /// At most the message limit, or 125 in a control frame.
    pub(super) length: u32,
}

/// What a header is judged by, beside itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// A fragmented message waits for its continuation.
    pub(super) message_open: bool,
    /// permessage-deflate was agreed.
    pub(super) deflate: bool,
    /// Bytes that the current message may still grow by.
    pub(super) room: u32,
}

impl Header {
    /// Decodes the header at the start of `bytes`; `None` means that more bytes are needed. Also returns its length.
    ///
    /// Each check is made as soon as its byte is there, in the order of the bytes. So a violation found in some bytes is
    /// found in any longer run that starts with them, and how reads split the stream does not change the verdict.
    pub(super) fn decode(bytes: &[u8], context: Context) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let fin = first & FIN != 0;
        let opcode = check_first(first, context)?;

        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(Violation::Unmasked);
        }
        let short = second & LENGTH;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL_PAYLOAD {
            return Err(Violation::ControlTooLong);
        }
        if opcode == Opcode::Close && short == 1 {
            return Err(Violation::CloseTruncated);
        }

        let Some((length, rest)) = read_length(short, &bytes[2..])? else {
            return Ok(None);
        };
        let length = u32::try_from(length).map_err(|_| Violation::MessageTooBig)?;
        if !opcode.is_control() && length > context.room {
            return Err(Violation::MessageTooBig);
        }

        let Some((&mask, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        Ok(Some((
            Self {
                opcode,
                fin,
                compressed: first & RSV1 != 0,
                mask,
                length,
            },
            bytes.len() - rest.len(),
        )))
    }
}

fn check_first(first: u8, context: Context) -> Result<Opcode, Violation> {
    let may_compress = context.deflate && matches!(first & OPCODE, 0x1 | 0x2);
    let allowed = if may_compress { RSV1 } else { 0 };
    if first & RSV & !allowed != 0 {
        return Err(Violation::ReservedBits);
    }
    let opcode = Opcode::from_bits(first & OPCODE).ok_or(Violation::ReservedOpcode)?;
    if opcode.is_control() {
        return if first & FIN == 0 {
            Err(Violation::ControlFragmented)
        } else {
            Ok(opcode)
        };
    }
    match (opcode == Opcode::Continuation, context.message_open) {
        (true, false) => Err(Violation::UnexpectedContinuation),
        (false, true) => Err(Violation::MessageInterrupted),
        _ => Ok(opcode),
    }
}

/// The payload's length and the bytes behind it (RFC 6455 section 5.2: the fewest bytes that hold it, top bit clear).
fn read_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let (length, rest, minimum) = match short {
        127 => {
            let Some((long, rest)) = bytes.split_first_chunk() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*long), rest, 1 << 16)
        }
        126 => {
            let Some((long, rest)) = bytes.split_first_chunk() else {
                return Ok(None);
            };
            (u64::from(u16::from_be_bytes(*long)), rest, 126)
        }
        _ => (u64::from(short), bytes, 0),
    };
    if length >> 63 != 0 {
        return Err(Violation::LengthTopBit);
    }
    if length < minimum {
        return Err(Violation::LengthNotMinimal);
    }
    Ok(Some((length, rest)))
}
