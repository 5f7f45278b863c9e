//! permessage-deflate (RFC 7692), as far as a reader needs it that sends nothing compressed.

use flate2::{Decompress, FlushDecompress, Status};

/// What a handshake offers: without context take-over, so that all sockets of a process share one inflater.
pub(super) const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What every message ends with, and what is left out on the wire (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

/// Largest message that is believed, in bytes, and what room is made at a time.
const LARGEST: usize = 16 * 1024 * 1024;
const STEP: usize = 16 * 1024;

/// Whether a server's `Sec-WebSocket-Extensions` accepts the offer.
pub(super) fn agreed(answer: &str) -> bool {
    let mut parts = answer.split(';').map(str::trim);
    let named = parts
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate"));
    let mut alone = false;
    let known = parts.all(|parameter| {
        let name = parameter
            .split_once('=')
            .map_or(parameter, |(name, _)| name.trim_end());
        alone |= name == "server_no_context_takeover";
        // Any window fits into the inflater's.
        [
            "server_no_context_takeover",
            "client_no_context_takeover",
            "server_max_window_bits",
        ]
        .contains(&name)
    });
    named && known && alone
}

/// What is wrong with a compressed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotDeflated(pub(super) &'static str);

/// Inflates the messages of all sockets, into one buffer.
#[derive(Debug)]
pub(super) struct Inflater {
    state: Decompress,
    /// The last message as it came, and what it says.
    came: Vec<u8>,
    message: Vec<u8>,
}

impl Inflater {
    pub(super) fn new() -> Self {
        Self {
            state: Decompress::new(false),
            came: Vec::new(),
            message: Vec::new(),
        }
    }

    /// What a compressed message says. Every socket gets the same bytes of a broadcast, and without context take-over the
    /// same bytes are the same message: a repeated one is not inflated again.
    pub(super) fn message(&mut self, payload: &[u8]) -> Result<&[u8], NotDeflated> {
        if self.came.is_empty() || payload != self.came {
            self.came.clear();
            self.message.clear();
            self.state.reset(false);
            self.add(payload)?;
            self.add(&TAIL)?;
            self.came.extend_from_slice(payload);
        }
        Ok(&self.message)
    }

    fn add(&mut self, mut input: &[u8]) -> Result<(), NotDeflated> {
        loop {
            if self.message.len() == self.message.capacity() {
                self.message.reserve(STEP);
            }
            let (taken, len) = (self.state.total_in(), self.message.len());
            let status = self
                .state
                .decompress_vec(input, &mut self.message, FlushDecompress::Sync)
                .map_err(|_| NotDeflated("compressed data that are none"))?;
            // No more than the length that was given.
            let taken = (self.state.total_in() - taken) as usize;
            input = &input[taken..];
            if self.message.len() > LARGEST {
                return Err(NotDeflated("an endless compressed message"));
            }
            if status == Status::StreamEnd {
                // What follows a final block begins anew (section 7.2.3.4).
                self.state.reset(false);
            } else if taken == 0 && self.message.len() == len && !input.is_empty() {
                return Err(NotDeflated("compressed data that do not go on"));
            }
            if input.is_empty() && self.message.len() < self.message.capacity() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    fn deflated(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + 64);
        Compress::new(Compression::default(), false)
            .compress_vec(message, &mut out, FlushCompress::Sync)
            .unwrap();
        out.truncate(out.len() - TAIL.len());
        out
    }

    #[test]
    fn messages_are_inflated_each_for_itself() {
        let mut inflater = Inflater::new();
        let long: Vec<u8> = (0..200_000_u32).flat_map(|number| number.to_le_bytes()).collect();
        let messages = [&b"one"[..], b"one", b"", b"two", &long, b"one", &[b'x'; STEP]];
        for message in messages {
            assert_eq!(inflater.message(&deflated(message)), Ok(message));
        }
        // RFC 7692 section 7.2.3: no compression, a final block, two blocks.
        for hello in [
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00][..],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(inflater.message(hello), Ok(&b"Hello"[..]));
        }
    }

    #[test]
    fn what_is_not_deflated_is_refused_and_spoils_nothing() {
        let mut inflater = Inflater::new();
        let good = deflated(b"good");
        for bad in [&[0xff; 8][..], b"plain text"] {
            assert!(inflater.message(bad).is_err(), "{bad:?}");
            assert_eq!(inflater.message(&good), Ok(&b"good"[..]));
        }
        let bomb = deflated(&vec![0; LARGEST + 1]);
        assert_eq!(
            inflater.message(&bomb),
            Err(NotDeflated("an endless compressed message"))
        );
    }

    #[test]
    fn only_what_was_offered_is_agreed() {
        for good in [
            OFFER,
            "Permessage-Deflate;server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12",
        ] {
            assert!(agreed(good), "{good}");
        }
        for bad in [
            "",
            "permessage-deflate",
            "permessage-deflate; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=12",
            "permessage-deflate; server_no_context_takeover, other",
            "other; server_no_context_takeover",
        ] {
            assert!(!agreed(bad), "{bad}");
        }
    }
}
