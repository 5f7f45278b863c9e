//! Writing to sockets: straight to the kernel, and to the outbound queue what it refuses.

use std::{
    io::{ErrorKind, IoSlice},
    sync::Arc,
};

use bytes::Bytes;
use common::protocol::Close;

use super::{
    Control, SessionId, Transport, Worker,
    outbound::{MAX_SLICES, Outbound},
    places::{Frames, PLACES, Pending},
    session::Phase,
    session_of,
    slow::{Refused, unix_ms},
    wheel::Due,
};
use crate::{receive::Outgoing, ws};

impl Worker {
    /// Writes the frames that the session has pending, in one write.
    pub(super) fn flush_pending(&mut self, id: SessionId) {
        let now = self.wheel.now();
        let Some(session) = self.sessions.get_mut(id.slot as usize) else {
            return;
        };
        if session.generation != id.generation || session.pending.is_empty() {
            return;
        }
        let pending = session.pending.take();
        if session.phase == Phase::Closing {
            // Nothing follows a close frame.
            self.fanout.places.done(pending);
            return;
        }
        let frames = self.fanout.places.frames(pending, session.wire);
        if let Some(outbound) = &mut session.outbound {
            for (outgoing, frame) in frames.iter() {
                let refused = Refused {
                    outgoing,
                    frame,
                    written: 0,
                };
                refused.queue(outbound, &self.index, &self.shared, &session.who.reader, now);
            }
            self.fanout.places.done(pending);
            self.relieve(id);
            return;
        }
        match write_frames(&session.stream, frames) {
            Ok(written) if written == frames.total() => {
                self.shared.metrics.bytes_out.inc_by(written as u64);
                self.fanout.places.done(pending);
            }
            written => self.settle_rest(id, pending, written.ok()),
        }
    }

    /// The kernel took a part of a session's frames, which may be nothing: the rest is queued. None is a broken socket.
    pub(super) fn settle_rest(&mut self, id: SessionId, pending: Pending, written: Option<usize>) {
        let now = self.wheel.now();
        let Some(session) = session_of(&mut self.sessions, id) else {
            self.fanout.places.done(pending);
            return;
        };
        let Some(mut taken) = written else {
            self.fanout.places.done(pending);
            self.remove(id, "write_failed");
            return;
        };
        self.shared.metrics.bytes_out.inc_by(taken as u64);
        let mut outbound = Box::new(Outbound::new(now));
        for (outgoing, frame) in self.fanout.places.frames(pending, session.wire).iter() {
            if taken >= frame.len() {
                taken -= frame.len();
                continue;
            }
            let refused = Refused {
                outgoing,
                frame,
                written: std::mem::take(&mut taken),
            };
            refused.queue(&mut outbound, &self.index, &self.shared, &session.who.reader, now);
        }
        self.fanout.places.done(pending);
        self.block(id, outbound);
    }

    /// Sends one session a message of its topic, behind what it has pending.
    pub(super) fn send_outgoing(&mut self, id: SessionId, outgoing: &Arc<Outgoing>) {
        self.flush_pending(id);
        let now = self.wheel.now();
        let Some(session) =
            session_of(&mut self.sessions, id).filter(|session| session.phase != Phase::Closing)
        else {
            return;
        };
        let frame = outgoing.frame_for(session.wire, self.shared.config.compression_min.0);
        match &mut session.outbound {
            Some(outbound) => {
                let refused = Refused {
                    outgoing,
                    frame,
                    written: 0,
                };
                refused.queue(outbound, &self.index, &self.shared, &session.who.reader, now);
                self.relieve(id);
            }
            None => self.write_or_queue(id, frame, Some(outgoing)),
        }
    }

    /// Sends one session a message of its topic in answer to a command: no policy lets it go.
    pub(super) fn send_replayed(&mut self, id: SessionId, outgoing: &Outgoing) {
        let Some(session) = self.session_ref(id) else {
            return;
        };
        let frame = outgoing.frame_for(session.wire, self.shared.config.compression_min.0);
        self.send(id, frame.clone());
    }

    /// Sends one session a frame of its own, behind what it has pending.
    pub(super) fn send(&mut self, id: SessionId, frame: Bytes) {
        self.flush_pending(id);
        let now = self.wheel.now();
        let Some(session) = self.session(id).filter(|session| session.phase != Phase::Closing) else {
            return;
        };
        if let Some(outbound) = &mut session.outbound {
            outbound.push(frame, now);
            self.relieve(id);
            return;
        }
        self.write_or_queue(id, &frame, None);
    }

    /// Sends one session a JSON frame of its own.
    pub(super) fn send_json(&mut self, id: SessionId, json: Vec<u8>) {
        self.send(id, ws::encode_text(&[json]));
    }

    /// Sends a control frame, before data that waits.
    pub(super) fn send_control(&mut self, id: SessionId, frame: Bytes) {
        self.flush_pending(id);
        let Some(session) = self.session(id).filter(|session| session.phase != Phase::Closing) else {
            return;
        };
        match &mut session.outbound {
            Some(outbound) => {
                outbound.push_control(frame);
                // A client that pings and never reads must not grow its queue without bound.
                self.relieve(id);
            }
            None => self.write_or_queue(id, &frame, None),
        }
    }

    /// Writes a frame: of a message, or of the session's own.
    fn write_or_queue(&mut self, id: SessionId, frame: &Bytes, message: Option<&Arc<Outgoing>>) {
        let now = self.wheel.now();
        let Some(session) = session_of(&mut self.sessions, id) else {
            return;
        };
        let written = match session.stream.try_write(frame) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.remove(id, "write_failed");
                return;
            }
        };
        self.shared.metrics.bytes_out.inc_by(written as u64);
        if written < frame.len() {
            let mut outbound = Box::new(Outbound::new(now));
            match message {
                Some(outgoing) => {
                    let refused = Refused {
                        outgoing,
                        frame,
                        written,
                    };
                    refused.queue(&mut outbound, &self.index, &self.shared, &session.who.reader, now);
                }
                None if written > 0 => outbound.push_torn(frame.clone(), written, true, now),
                None => outbound.push(frame.clone(), now),
            }
            self.block(id, outbound);
        }
    }

    /// Keeps what the kernel refused, and asks to be told when it takes bytes again.
    fn block(&mut self, id: SessionId, outbound: Box<Outbound>) {
        let Some(session) = self.session(id) else { return };
        session.outbound = Some(outbound);
        self.blocked.insert(id);
        self.await_writable(id);
        self.relieve(id);
    }

    fn await_writable(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let stream = Arc::clone(&session.stream);
        self.ask(async move {
            // An error shows with the next write.
            drop(stream.writable().await);
            Control::Writable(id)
        });
    }

    /// The kernel takes bytes again.
    pub(super) fn writable(&mut self, id: SessionId) {
        let now = self.wheel.now();
        loop {
            let Some(session) = session_of(&mut self.sessions, id) else {
                return;
            };
            let Some(outbound) = &mut session.outbound else {
                return;
            };
            self.shared.metrics.expired.inc_by(outbound.expire(unix_ms));
            if outbound.is_empty() {
                session.outbound = None;
                if session.phase == Phase::Closing {
                    self.end_writing(id);
                } else {
                    self.unpark(id);
                }
                return;
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = outbound.slices(&mut slices);
            match session.stream.try_write_vectored(&slices[..count]) {
                Ok(written) => {
                    outbound.advance(written, now);
                    self.shared.metrics.bytes_out.inc_by(written as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.await_writable(id);
                    return;
                }
                Err(_) => {
                    self.remove(id, "write_failed");
                    return;
                }
            }
        }
    }

    /// Closes a session in order: what waits goes out, then the close frame.
    pub(super) fn close(&mut self, id: SessionId, close: Close) {
        self.close_with(id, close.code(), close.text(), close.label());
    }

    /// Closes with a code and text of its own.
    pub(super) fn close_with(
        &mut self,
        id: SessionId,
        code: impl Into<Option<u16>>,
        text: &str,
        label: &'static str,
    ) {
        self.send(id, ws::encode_close(code, text));
        self.begin_closing(id, label);
        if self.session(id).is_some_and(|session| !session.is_blocked()) {
            self.end_writing(id);
        }
    }

    pub(super) fn begin_closing(&mut self, id: SessionId, label: &'static str) {
        let Some(session) = self.session(id).filter(|session| session.phase != Phase::Closing) else {
            return;
        };
        session.phase = Phase::Closing;
        self.end(id, label);
        let timeout = u32::try_from(self.shared.config.close_timeout.0.as_secs()).unwrap_or(u32::MAX);
        self.wheel.after(timeout, Due::Drop(id));
    }

    /// The session counts no more, for this reason.
    fn end(&mut self, id: SessionId, label: &'static str) {
        self.forget_plan(id);
        if let Some(session) = self.session_ref(id) {
            super::trace::session(&self.shared, "closed", &session.who.reader, Some(label));
        }
        self.leave_all(id);
        self.shared.metrics.closed(label);
    }

    /// The close frame is out: the other side sees the end, and has time to send its own.
    fn end_writing(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            session.stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Forgets a session at once.
    pub(super) fn remove(&mut self, id: SessionId, label: &'static str) {
        let Some(session) = self.session(id) else { return };
        let was_closing = session.phase == Phase::Closing;
        session.reader.abort();
        let pending = session.pending.take();
        self.fanout.places.done(pending);
        if !was_closing {
            self.end(id, label);
        }
        let session = self.sessions.remove(id.slot as usize);
        self.shared.metrics.connections.dec();
        // Its place in the counts is given back before the client can see the end of the connection.
        drop(session.seat);
        // Wakes whoever still waits for the socket, and with it holds it: a peer that never reads would keep it open.
        session.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Writes as much of the frames as the kernel takes; nothing where it takes nothing now.
fn write_frames(stream: &Transport, frames: Frames<'_>) -> std::io::Result<usize> {
    let written = if let Some(joined) = frames.joined() {
        stream.try_write(joined)
    } else if frames.count() == 1 {
        let mut only = frames.iter();
        stream.try_write(only.next().map_or(&[], |(_, frame)| frame))
    } else {
        let mut slices = [IoSlice::new(&[]); PLACES];
        for (slice, (_, frame)) in slices.iter_mut().zip(frames.iter()) {
            *slice = IoSlice::new(frame);
        }
        stream.try_write_vectored(&slices[..frames.count()])
    };
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
