//! A session's frames as they come out of its pipe.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};

use crate::pipe::PipeReader;

/// A frame of the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A JSON object.
    Text(Bytes),
    /// The session ends.
    Close {
        /// By a code of the table in `docs/protocol.md`.
        code: u16,
        /// Its text.
        reason: String,
    },
}

/// Cuts what a worker wrote, which is what it writes to sockets, into frames.
#[derive(Debug)]
pub(super) struct Frames {
    pipe: PipeReader,
    bytes: BytesMut,
}

impl Frames {
    pub(super) fn new(pipe: PipeReader) -> Self {
        Self {
            pipe,
            bytes: BytesMut::new(),
        }
    }

    /// The next frame; none where the session ended without a close frame.
    pub(super) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Option<Frame>> {
        loop {
            if let Some(frame) = cut(&mut self.bytes) {
                return Poll::Ready(Some(frame));
            }
            let Some(more) = ready!(self.pipe.poll_take(context)) else {
                return Poll::Ready(None);
            };
            if self.bytes.is_empty() {
                self.bytes = more;
            } else {
                self.bytes.extend_from_slice(&more);
            }
        }
    }

    pub(super) async fn next(&mut self) -> Option<Frame> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next frame if it is there already.
    pub(super) fn now(&mut self) -> Option<Frame> {
        match self.poll_next(&Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        }
    }
}

/// Cuts off the first whole frame that means something here (RFC 6455 section 5.2; a hub's frames are whole and not
/// masked).
fn cut(bytes: &mut BytesMut) -> Option<Frame> {
    loop {
        let &[first, second, ..] = &bytes[..] else {
            // An idle session keeps no memory.
            if bytes.is_empty() {
                *bytes = BytesMut::new();
            }
            return None;
        };
        let (header, len) = match second {
            126 => (
                4,
                usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            ),
            127 => (
                10,
                usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
            ),
            len => (2, usize::from(len)),
        };
        if bytes.len() - header < len {
            return None;
        }
        bytes.advance(header);
        let mut payload = bytes.split_to(len).freeze();
        match first & 0x0f {
            1 => return Some(Frame::Text(payload)),
            8 => {
                let code = payload.try_get_u16().unwrap_or(1000);
                let reason = String::from_utf8_lossy(&payload).into_owned();
                return Some(Frame::Close { code, reason });
            }
            // Pings and pongs are for who can answer.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::{pipe::pipe, ws};

    #[test]
    fn frames_are_cut_wherever_the_bytes_are_torn() {
        let long = "x".repeat(200);
        let longer = "y".repeat(70_000);
        let mut bytes = Vec::new();
        for text in ["{}", &long, &longer] {
            bytes.extend_from_slice(&ws::encode_text(&[text]));
            bytes.extend_from_slice(&ws::encode_ping(b"p"));
        }
        bytes.extend_from_slice(&ws::encode_close(4008, "slow consumer"));
        for size in [1, 3, 127, 40_000] {
            let (writer, reader) = pipe(Vec::new(), None);
            let mut frames = Frames::new(reader);
            let mut seen = Vec::new();
            for part in bytes.chunks(size) {
                assert_eq!(writer.try_write(&[IoSlice::new(part)]).unwrap(), part.len());
                while let Some(frame) = frames.now() {
                    seen.push(frame);
                }
            }
            let texts =
                ["{}", &long, &longer].map(|text| Frame::Text(Bytes::copy_from_slice(text.as_bytes())));
            assert_eq!(seen[..3], texts);
            let close = Frame::Close {
                code: 4008,
                reason: "slow consumer".to_owned(),
            };
            assert_eq!(seen[3..], [close]);
            assert_eq!(frames.bytes.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn the_end_is_told() {
        let (writer, reader) = pipe(Vec::new(), None);
        drop(writer);
        assert_eq!(Frames::new(reader).next().await, None);
    }
}
