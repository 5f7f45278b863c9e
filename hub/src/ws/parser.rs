use std::mem;

use fastwebsockets::unmask;

use super::deflate::inflate;
use super::header::{Context, Header, MAX_HEADER};
use super::{MAX_CONTROL_PAYLOAD, Opcode, Violation, close};

/// The first allocation for an incomplete frame, unless the frame is shorter.
const MIN_BUFFER: usize = 64;

/// A whole message or control frame from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message, its fragments joined.
    Text(&'a str),
    /// A binary message, its fragments joined.
    Binary(&'a [u8]),
    /// To be answered by a Pong with the same payload.
    Ping(&'a [u8]),
    /// Answers a Ping, or comes unasked.
    Pong(&'a [u8]),
    /// To be answered by a Close, unless one was sent. Nothing follows it.
    Close {
        /// What the client closes with; only codes that RFC 6455 section 7.4 lets it send.
        code: Option<u16>,
        /// The client's words; at most 123 bytes.
        reason: &'a str,
    },
}

/// Parses what one client sends. One for each session.
///
/// Owns a heap buffer only while a frame is incomplete or a fragmented message is open. That buffer grows with the
/// bytes that came, never with a length that was only claimed, and its capacity never exceeds the message limit plus
/// one control frame (125 bytes).
#[derive(Debug)]
pub struct Parser {
    /// The open message's payload so far; behind it what came of an incomplete control frame. Unmasked.
    buffer: Vec<u8>,
    max_message: u32,
    /// Frames since [`Parser::take_frames`].
    frames: u32,
    stage: Stage,
    /// The kind of the message that waits for a continuation.
    open: Option<Kind>,
    /// permessage-deflate was agreed.
    deflate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
    DeflatedText,
    DeflatedBinary,
}

#[derive(Debug)]
enum Stage {
    /// Collects a header; `bytes[..len]` came and are not enough.
    Header {
        bytes: [u8; MAX_HEADER],
        len: u8,
    },
    /// Collects the payload of a frame.
    Payload(Frame),
    /// A Close came.
    Closed,
    Failed(Violation),
}

impl Stage {
    const START: Self = Self::Header {
        bytes: [0; MAX_HEADER],
        len: 0,
    };
}

/// A frame whose header is known and whose payload is not complete.
#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    compressed: bool,
    /// Rotated, so that its first byte belongs to the next byte of payload.
    mask: [u8; 4],
    received: u32,
    remaining: u32,
}

impl Parser {
    /// Text and binary messages over `max_message` bytes are refused with 1009; 0 allows empty ones only. Limits over
    /// 4 GiB count as 4 GiB.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self {
            buffer: Vec::new(),
            max_message: u32::try_from(max_message).unwrap_or(u32::MAX),
            frames: 0,
            stage: Stage::START,
            open: None,
            deflate: false,
        }
    }

    /// Takes compressed messages too, as permessage-deflate was agreed.
    #[must_use]
    pub fn with_deflate(mut self, deflate: bool) -> Self {
        self.deflate = deflate;
        self
    }

    /// Frames that began since this was last asked: an endless run of empty fragments makes no event and no memory, but
    /// work.
    pub fn take_frames(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }

    /// Whether it is between messages: a new parser would go on as well as this one.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.open.is_none() && matches!(self.stage, Stage::Header { len: 0, .. })
    }

    /// Heap bytes this parser holds; 0 between messages.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Feeds bytes just read from the socket, in any portions, and calls `on_event` for what they complete, in order.
    ///
    /// They are unmasked in place. A message that lies whole in `input` is handed out as a slice of it, without a copy.
    /// After a Close further input is ignored.
    ///
    /// # Errors
    /// The first violation, after the events before it; the connection is to be closed with its code. Further calls
    /// return it again and parse nothing.
    pub fn feed(&mut self, input: &mut [u8], mut on_event: impl FnMut(Event<'_>)) -> Result<(), Violation> {
        let result = self.parse(input, &mut on_event);
        if let Err(violation) = result {
            self.end(Stage::Failed(violation));
        }
        result
    }

    fn parse(&mut self, mut input: &mut [u8], on_event: &mut impl FnMut(Event<'_>)) -> Result<(), Violation> {
        loop {
            match self.stage {
                Stage::Closed => return Ok(()),
                Stage::Failed(violation) => return Err(violation),
                Stage::Header { bytes, len } => {
                    let used = self.header(bytes, usize::from(len), input)?;
                    input = &mut input[used..];
                    if matches!(self.stage, Stage::Header { .. }) {
                        return Ok(());
                    }
                }
                Stage::Payload(frame) => {
                    let available = input.len().min(frame.remaining as usize);
                    let (payload, rest) = input.split_at_mut(available);
                    input = rest;
                    self.payload(frame, payload, on_event)?;
                    if matches!(self.stage, Stage::Payload(_)) {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Takes the header's missing bytes from the start of `input`, or all of it, and returns how many these were.
    fn header(&mut self, mut bytes: [u8; MAX_HEADER], len: usize, input: &[u8]) -> Result<usize, Violation> {
        let taken = input.len().min(MAX_HEADER - len);
        bytes[len..len + taken].copy_from_slice(&input[..taken]);
        let context = Context {
            message_open: self.open.is_some(),
            deflate: self.deflate,
            // Between frames the buffer holds the open message only, which passed this check frame by frame.
            room: self.max_message.saturating_sub(self.buffer.len() as u32),
        };
        match Header::decode(&bytes[..len + taken], context)? {
            None => {
                // A header never needs more than MAX_HEADER bytes, so all of the input was taken.
                self.stage = Stage::Header {
                    bytes,
                    len: (len + taken) as u8,
                };
                Ok(taken)
            }
            Some((
                Header {
                    opcode,
                    fin,
                    compressed,
                    mask,
                    length,
                },
                used,
            )) => {
                self.frames = self.frames.saturating_add(1);
                self.stage = Stage::Payload(Frame {
                    opcode,
                    fin,
                    compressed,
                    mask,
                    received: 0,
                    remaining: length,
                });
                Ok(used - len)
            }
        }
    }

    /// Takes the next part of a frame's payload; `part` is never longer than what remains.
    fn payload(
        &mut self,
        mut frame: Frame,
        part: &mut [u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        unmask(part, frame.mask);
        if part.len() < frame.remaining as usize {
            self.append(&frame, part);
            frame.mask.rotate_left(part.len() % 4);
            frame.received += part.len() as u32;
            frame.remaining -= part.len() as u32;
            self.stage = Stage::Payload(frame);
            return Ok(());
        }
        self.stage = Stage::START;
        if frame.opcode.is_control() {
            self.finish_control(frame, part, on_event)
        } else {
            self.finish_data(frame, part, on_event)
        }
    }

    fn finish_control(
        &mut self,
        frame: Frame,
        last: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        if frame.received == 0 {
            on_event(control_event(frame.opcode, last)?);
        } else {
            let message_len = self.buffer.len() - frame.received as usize;
            self.append(&frame, last);
            on_event(control_event(frame.opcode, &self.buffer[message_len..])?);
            self.buffer.truncate(message_len);
            if message_len == 0 {
                self.buffer = Vec::new();
            }
        }
        if frame.opcode == Opcode::Close {
            self.end(Stage::Closed);
        }
        Ok(())
    }

    fn finish_data(
        &mut self,
        frame: Frame,
        last: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        let kind = match (frame.opcode, frame.compressed) {
            (Opcode::Text, false) => Kind::Text,
            (Opcode::Text, true) => Kind::DeflatedText,
            (Opcode::Binary, false) => Kind::Binary,
            (Opcode::Binary, true) => Kind::DeflatedBinary,
            // The header's check let a continuation pass only with an open message.
            _ => self.open.ok_or(Violation::UnexpectedContinuation)?,
        };
        if !frame.fin {
            self.append(&frame, last);
            self.open = Some(kind);
            return Ok(());
        }
        self.open = None;
        if self.buffer.is_empty() {
            self.message(kind, last, on_event)
        } else {
            self.append(&frame, last);
            let message = mem::take(&mut self.buffer);
            self.message(kind, &message, on_event)
        }
    }

    fn message(
        &self,
        kind: Kind,
        payload: &[u8],
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Violation> {
        let mut whole = |payload: &[u8]| {
            on_event(message_event(kind, payload)?);
            Ok(())
        };
        match kind {
            Kind::Text | Kind::Binary => whole(payload),
            Kind::DeflatedText | Kind::DeflatedBinary => inflate(payload, self.max_message as usize, whole),
        }
    }

    /// Keeps a part of the frame. Grows by doubling, for linear cost, but not beyond what the message can still become.
    fn append(&mut self, frame: &Frame, part: &[u8]) {
        let needed = self.buffer.len() + part.len();
        if needed > self.buffer.capacity() {
            let last_frame = if frame.opcode.is_control() {
                self.open.is_none()
            } else {
                frame.fin
            };
            let ceiling = if last_frame {
                self.buffer.len() + frame.remaining as usize
            } else {
                self.max_message as usize + MAX_CONTROL_PAYLOAD
            };
            let doubled = (self.buffer.capacity() * 2).max(MIN_BUFFER);
            let capacity = doubled.min(ceiling).max(needed);
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
        self.buffer.extend_from_slice(part);
    }

    fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.open = None;
        self.buffer = Vec::new();
    }
}

fn message_event(kind: Kind, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match kind {
        // Checked over the joined message: a character may be cut by a fragment's end, but not by the message's.
        Kind::Text | Kind::DeflatedText => simdutf8::basic::from_utf8(payload)
            .map(Event::Text)
            .map_err(|_| Violation::NotUtf8),
        Kind::Binary | Kind::DeflatedBinary => Ok(Event::Binary(payload)),
    }
}

fn control_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, Violation> {
    match opcode {
        Opcode::Ping => Ok(Event::Ping(payload)),
        Opcode::Pong => Ok(Event::Pong(payload)),
        _ => close::read(payload),
    }
}
