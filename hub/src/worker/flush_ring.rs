//! A slice of a large fan-out by io_uring: one system call for many sockets.

use std::{collections::VecDeque, os::fd::RawFd};

use bytes::Bytes;

use super::{SessionId, Worker, places::Pending, ring::SENDS, session::Phase};

/// A send of a slice.
#[derive(Debug)]
struct Send {
    id: SessionId,
    pending: Pending,
    /// Held here, so that whatever happens to the message the bytes stay until the kernel is done.
    bytes: Bytes,
    socket: RawFd,
}

impl Worker {
    /// Flushes up to [`SENDS`] sessions. What does not go by one plain send goes by itself.
    pub(super) fn flush_by_ring(&mut self, sessions: &mut VecDeque<SessionId>) {
        let Some(mut ring) = self.ring.take() else { return };
        let mut sends = Vec::with_capacity(SENDS.min(sessions.len()));
        for _ in 0..SENDS {
            let Some(id) = sessions.pop_front() else { break };
            match self.piece(id) {
                Some(send) => sends.push(send),
                None => self.flush_pending(id),
            }
        }
        let pieces: Vec<(RawFd, &[u8])> = sends.iter().map(|send| (send.socket, &send.bytes[..])).collect();
        let mut sent = Vec::new();
        match ring.send(&pieces, &mut sent) {
            Ok(()) => self.ring = Some(ring),
            Err(error) => {
                tracing::warn!(%error, "io_uring failed; sockets are written one by one from here on")
            }
        }
        drop(pieces);
        for (send, sent) in sends.iter().zip(sent) {
            self.settle_send(send, sent);
        }
    }

    /// What a session has pending, if it can go by one send.
    fn piece(&mut self, id: SessionId) -> Option<Send> {
        let session = self.session(id)?;
        if session.pending.is_empty() || session.phase == Phase::Closing || session.is_blocked() {
            return None;
        }
        let (pending, wire, socket) = (session.pending, session.wire, session.stream.raw_fd()?);
        let frames = self.fanout.places.frames(pending, wire);
        let bytes = match frames.joined() {
            Some(joined) => joined.clone(),
            None if frames.count() == 1 => frames.iter().next()?.1.clone(),
            None => return None,
        };
        self.session(id)?.pending.take();
        Some(Send {
            id,
            pending,
            bytes,
            socket,
        })
    }

    fn settle_send(&mut self, send: &Send, sent: i32) {
        let written = match usize::try_from(sent) {
            Ok(written) if written == send.bytes.len() => {
                self.shared.metrics.bytes_out.inc_by(written as u64);
                self.fanout.places.done(send.pending);
                return;
            }
            Ok(written) => Some(written),
            // Not sent at all because the ring failed, or the buffer is full.
            Err(_) if sent == i32::MIN || sent == -libc::EAGAIN => Some(0),
            Err(_) => None,
        };
        self.settle_rest(send.id, send.pending, written);
    }
}
