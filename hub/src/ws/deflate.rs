//! permessage-deflate, RFC 7692, without context take-over in either direction: each message stands for itself, so that a
//! compressed frame can be shared by all sessions, and no session keeps a window.

use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Opcode, Violation, encode::encode_compressed};

/// What the answer to a handshake says when the extension is agreed.
pub const DEFLATE_ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What every message ends with on its way through deflate, and what is left out on the wire (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// A final block of one stored byte. It is read as that only where the message before it is whole.
const PROBE: [u8; 6] = [1, 1, 0, 0xFE, 0xFF, b'.'];

/// Bytes that one step of inflation makes at the most, so that a bomb is seen before it has grown.
const STEP: usize = 16 * 1024;

/// What a thread keeps of the buffer of an inflated message.
const KEPT: usize = 64 * 1024;

thread_local! {
    static DEFLATER: RefCell<Compress> = RefCell::new(Compress::new(Compression::default(), false));
    static INFLATER: RefCell<Inflater> = RefCell::new(Inflater::new());
}

/// Whether one of the extensions that the client offers is permessage-deflate in a form that the hub can keep
/// (section 7.1): frames are shared, so a client that wants a smaller window than the common one of 32 KiB gets none.
///
/// `offers` is the value of `Sec-WebSocket-Extensions`, several of them joined by commas.
#[must_use]
pub fn accepts_deflate(offers: &str) -> bool {
    offers.split(',').any(is_acceptable)
}

fn is_acceptable(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    if !parts
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate"))
    {
        return false;
    }
    let mut seen = [false; 4];
    parts.all(|parameter| {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (parameter, None),
        };
        let bits = |value: &str| {
            value
                .parse()
                .ok()
                .filter(|bits: &u8| (8..=15).contains(bits) && !value.starts_with(['0', '+']))
        };
        let (number, fits) = match name.to_ascii_lowercase().as_str() {
            "server_no_context_takeover" => (0, value.is_none()),
            "client_no_context_takeover" => (1, value.is_none()),
            "server_max_window_bits" => (2, value.and_then(bits) == Some(15)),
            // A hint; the hub inflates with any window.
            "client_max_window_bits" => (3, value.is_none_or(|value| bits(value).is_some())),
            _ => return false,
        };
        fits && !std::mem::replace(&mut seen[number], true)
    })
}

/// A text frame with a compressed payload; none where that would not be smaller than `plain`, the same message's frame.
#[must_use]
pub fn encode_deflated(payload: &[u8], plain: &Bytes) -> Option<Bytes> {
    DEFLATER.with_borrow_mut(|deflater| {
        deflater.reset();
        // What does not fit into as much as the message has is not worth sending.
        let mut out = Vec::with_capacity(payload.len() + TAIL.len());
        let status = deflater
            .compress_vec(payload, &mut out, FlushCompress::Sync)
            .ok()?;
        let whole = status == Status::Ok && deflater.total_in() == payload.len() as u64;
        let body = out.strip_suffix(&TAIL).filter(|_| whole)?;
        let frame = encode_compressed(Opcode::Text, body);
        (frame.len() < plain.len()).then_some(frame)
    })
}

/// Inflates a message and hands its bytes on; at most `limit` of them, and no more than a step beyond is ever made.
pub(super) fn inflate<T>(
    payload: &[u8],
    limit: usize,
    take: impl FnOnce(&[u8]) -> Result<T, Violation>,
) -> Result<T, Violation> {
    INFLATER.with_borrow_mut(|inflater| {
        inflater.state.reset(false);
        let inflated = inflater.message(payload, limit);
        let taken = inflated.and_then(|()| take(&inflater.out));
        inflater.out.clear();
        inflater.out.shrink_to(KEPT);
        taken
    })
}

struct Inflater {
    state: Decompress,
    step: Box<[u8; STEP]>,
    out: Vec<u8>,
}

impl Inflater {
    fn new() -> Self {
        Self {
            state: Decompress::new(false),
            step: Box::new([0; STEP]),
            out: Vec::new(),
        }
    }

    fn message(&mut self, payload: &[u8], limit: usize) -> Result<(), Violation> {
        let mut at_end = false;
        self.add(payload, limit, &mut at_end)?;
        if at_end {
            // Its last block was a final one, behind which nothing has to come.
            return Ok(());
        }
        self.add(&TAIL, limit, &mut at_end)?;
        let made = self.state.total_out();
        let status = self
            .state
            .decompress(&PROBE, &mut self.step[..], FlushDecompress::Sync);
        if matches!(status, Ok(Status::StreamEnd)) && self.state.total_out() - made == 1 {
            Ok(())
        } else {
            Err(Violation::NotDeflated)
        }
    }

    /// Inflates; whether the input ended with a final block.
    fn add(&mut self, mut input: &[u8], limit: usize, at_end: &mut bool) -> Result<(), Violation> {
        loop {
            let (taken, made) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(input, &mut self.step[..], FlushDecompress::Sync)
                .map_err(|_| Violation::NotDeflated)?;
            // No more than the lengths that were given.
            let taken = (self.state.total_in() - taken) as usize;
            let made = (self.state.total_out() - made) as usize;
            if self.out.len() + made > limit {
                return Err(Violation::MessageTooBig);
            }
            self.out.extend_from_slice(&self.step[..made]);
            input = &input[taken..];
            *at_end = status == Status::StreamEnd;
            if *at_end {
                // What follows a final block begins anew (section 7.2.3.4).
                self.state.reset(false);
            } else if taken == 0 && made == 0 && !input.is_empty() {
                return Err(Violation::NotDeflated);
            }
            if input.is_empty() && (*at_end || made < STEP) {
                return Ok(());
            }
        }
    }
}
