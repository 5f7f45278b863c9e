//! One socket: connecting, handshake, dialogue, reading.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::Context;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::{deflate::Inflater, handshake, record::Record, shared::Shared};
use crate::{
    frame::{BINARY, CLOSE, Frames, PING, PONG, TEXT, masked},
    stamp::Topic,
    target::{Step, Values},
    wire::{Resynced, Setup},
};

/// What all sockets read with.
#[derive(Debug)]
pub(super) struct Reader {
    scratch: Vec<u8>,
    inflater: Inflater,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self {
            scratch: vec![0; 256 * 1024],
            inflater: Inflater::new(),
        }
    }
}

/// A socket that is to be kept open.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) stream: Option<TcpStream>,
    frames: Frames,
    pub(super) talk: Talk,
}

/// All of a socket but its stream.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) user: u32,
    /// Whether it connects where users get what is for them.
    pub(super) as_user: bool,
    /// Explicit topics.
    pub(super) topics: Vec<u32>,
    pub(super) phase: Phase,
    head: Vec<u8>,
    /// What the kernel has not taken yet.
    out: Vec<u8>,
    /// The end of a byte stream's last frame.
    rest: Vec<u8>,
    pub(super) record: Record,
    /// Whether it reads nothing now; whether it ever did not.
    pub(super) stalled: bool,
    pub(super) was_stalled: bool,
    /// Whether it was open before.
    pub(super) known: bool,
    /// When it was cut or closed, Unix microseconds.
    pub(super) gone_us: u64,
    /// Handshakes since it was last open.
    pub(super) tries: u32,
    /// When it began to connect or, once it is open, to wait for the answer to its `resume`; Unix microseconds.
    pub(super) since_us: u64,
    /// Why it has to come back: a topic was refused to it.
    refused: Option<End>,
}

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not connected.
    Away,
    /// The kernel connects.
    Connecting,
    /// The handshake is on the way.
    Handshake,
    /// Waits for a step of the dialogue.
    Dialogue(usize),
    /// So many topics are not confirmed yet.
    Subscribing(usize),
    Open,
}

/// How a socket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) reason: String,
    /// When the server wants it back, milliseconds.
    pub(super) retry_ms: Option<u64>,
}

impl End {
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            retry_ms: None,
        }
    }
}

impl Slot {
    pub(super) fn new(user: u32, as_user: bool, topics: Vec<u32>) -> Self {
        Self {
            stream: None,
            frames: Frames::default(),
            talk: Talk {
                user,
                as_user,
                topics,
                phase: Phase::Away,
                head: Vec::new(),
                out: Vec::new(),
                rest: Vec::new(),
                record: Record::default(),
                stalled: false,
                was_stalled: false,
                known: false,
                gone_us: 0,
                tries: 0,
                since_us: 0,
                refused: None,
            },
        }
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, setup: &Setup) -> anyhow::Result<()> {
        self.frames = Frames::new(setup.deflate);
        self.talk.rest.clear();
        self.talk.head.clear();
        self.talk.out.clear();
        self.talk.phase = Phase::Connecting;
        let talk = &mut self.talk;
        // Nodes share the sockets; who is not let in tries the next one.
        let nodes = setup.addresses.len();
        let node = (talk.user as usize + talk.tries.saturating_sub(1) as usize) % nodes.max(1);
        let address = *setup.addresses.get(node).context("no address to connect to")?;
        talk.since_us = crate::times::now_us();
        self.stream = Some(connect(address, setup.sources, talk.user)?);
        Ok(())
    }

    /// Gives the connection up.
    pub(super) fn drop_stream(&mut self) {
        self.stream = None;
        self.frames = Frames::default();
        self.talk.phase = Phase::Away;
    }

    /// The poll says something of it; `ending`, that there is an end behind what can be read.
    pub(super) fn event(
        &mut self,
        setup: &Setup,
        shared: &mut Shared,
        reader: &mut Reader,
        writable: bool,
        ending: bool,
    ) -> Result<(), End> {
        if self.talk.phase == Phase::Connecting {
            let Some(stream) = &self.stream else {
                return Ok(());
            };
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {}
                Ok(None) => return Ok(()),
                Ok(Some(error)) | Err(error) => return Err(End::because(error.kind().to_string())),
            }
            stream.set_nodelay(true).ok();
            self.talk
                .handshake(setup)
                .map_err(|error| End::because(format!("{error:#}")))?;
            self.flush()?;
        } else if writable {
            self.flush()?;
        }
        if !self.talk.stalled {
            self.read(setup, shared, reader, ending)?;
        }
        Ok(())
    }

    /// Reads until the kernel has no more.
    fn read(
        &mut self,
        setup: &Setup,
        shared: &mut Shared,
        reader: &mut Reader,
        ending: bool,
    ) -> Result<(), End> {
        let Reader { scratch, inflater } = reader;
        loop {
            let Some(stream) = &mut self.stream else {
                return Ok(());
            };
            let read = match stream.read(scratch) {
                Ok(0) => return Err(End::because("end of stream")),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::because(error.kind().to_string())),
            };
            shared.reads += 1;
            shared.bytes += read as u64;
            self.bytes(setup, shared, inflater, &scratch[..read])?;
            if !self.talk.out.is_empty() {
                self.flush()?;
            }
            // Edges are told: a read that fills less than the buffer has emptied the socket. But an end that came together
            // with the last bytes is no edge of its own.
            if read < scratch.len() && !ending {
                return Ok(());
            }
        }
    }

    fn bytes(
        &mut self,
        setup: &Setup,
        shared: &mut Shared,
        inflater: &mut Inflater,
        bytes: &[u8],
    ) -> Result<(), End> {
        let now_us = crate::times::now_us();
        let Self { frames, talk, .. } = self;
        let early;
        let mut bytes = bytes;
        if talk.phase == Phase::Handshake {
            talk.head.extend_from_slice(bytes);
            let Some(end) = handshake::answered(&talk.head, setup.deflate)? else {
                return Ok(());
            };
            early = std::mem::take(&mut talk.head).split_off(end);
            bytes = &early;
            talk.go_on(setup, 0);
        }
        let mut ended = None;
        talk.refused = None;
        let cut = frames.take(bytes, |opcode, compressed, payload| match opcode {
            TEXT | BINARY if compressed => match inflater.message(payload) {
                Ok(message) => {
                    shared.compressed += 1;
                    talk.message(setup, shared, message, now_us);
                }
                Err(bad) => ended = Some(End::because(bad.0)),
            },
            TEXT | BINARY => talk.message(setup, shared, payload, now_us),
            PING => masked(PONG, payload, &mut talk.out),
            CLOSE => ended = Some(close(payload)),
            _ => {}
        });
        match (cut, ended.or_else(|| talk.refused.take())) {
            (Err(bad), _) => Err(End::because(bad.0)),
            (_, Some(end)) => Err(end),
            (Ok(()), None) => Ok(()),
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), End> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let out = &mut self.talk.out;
        let mut sent = 0;
        while sent < out.len() {
            match stream.write(&out[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(End::because(error.kind().to_string())),
            }
        }
        out.drain(..sent);
        if out.is_empty() {
            // An idle socket keeps nothing.
            *out = Vec::new();
        }
        Ok(())
    }
}

impl Talk {
    fn steps<'a>(&self, setup: &'a Setup) -> &'a [Step] {
        let socket = &setup.target.socket;
        match &socket.user_dialogue {
            Some(steps) if self.as_user => steps,
            _ => &socket.dialogue,
        }
    }

    fn handshake(&mut self, setup: &Setup) -> anyhow::Result<()> {
        let request = handshake::request(setup, self.user, self.as_user)?;
        self.out.extend_from_slice(request.as_bytes());
        if self.known {
            if setup.resume {
                // Right behind the handshake, so that nothing comes between the welcome and the missed messages.
                if let Some(resume) = self.record.resume() {
                    masked(TEXT, resume.as_bytes(), &mut self.out);
                }
            } else {
                self.record.forget();
            }
        }
        self.phase = Phase::Handshake;
        Ok(())
    }

    /// Goes through the dialogue from `step` on, as far as nothing has to be waited for.
    fn go_on(&mut self, setup: &Setup, mut step: usize) {
        let steps = self.steps(setup);
        while let Some(next) = steps.get(step) {
            self.phase = Phase::Dialogue(step);
            if !next.expect.is_empty() {
                return;
            }
            self.say(setup, next, 0);
            step += 1;
        }
        let subscribe = setup.target.socket.subscribe.as_ref();
        let mut left = 0;
        if let Some(subscribe) = subscribe {
            for topic in self.topics.clone() {
                // `resume` subscribes, too.
                if !(self.record.resuming() && self.record.stands_in(Topic::explicit(topic))) {
                    self.say(setup, subscribe, topic);
                }
                left += usize::from(!subscribe.expect.is_empty());
            }
        }
        self.phase = if left == 0 {
            Phase::Open
        } else {
            Phase::Subscribing(left)
        };
    }

    fn say(&mut self, setup: &Setup, step: &Step, topic: u32) {
        if step.send.is_empty() {
            return;
        }
        let values = Values {
            user: self.user,
            topic,
            ..Values::default()
        };
        let opcode = if setup.target.socket.binary { BINARY } else { TEXT };
        masked(opcode, step.send.render(&values).as_bytes(), &mut self.out);
    }

    fn message(&mut self, setup: &Setup, shared: &mut Shared, payload: &[u8], now_us: u64) {
        let socket = &setup.target.socket;
        if let Some((_, answer)) = socket
            .answers
            .iter()
            .find(|(begin, _)| payload.starts_with(begin.as_bytes()))
        {
            let opcode = if socket.binary { BINARY } else { TEXT };
            masked(opcode, answer.as_bytes(), &mut self.out);
        }
        let stamped = shared.message(&mut self.record, &mut self.rest, payload, now_us);
        if !stamped && setup.target.resume {
            let resuming = self.record.resuming();
            let told = self.record.control(payload, self.user);
            for topic in told.resyncs {
                shared.resync(Resynced {
                    at_us: now_us,
                    user: self.user,
                    topic,
                    resuming,
                });
            }
            shared.gaps += told.gaps;
            shared.recovered += u64::from(told.recovered);
            if let Some(error) = told.error {
                // A topic that is refused will not be confirmed: as a client without patience it comes back for it.
                if let Phase::Subscribing(_) = self.phase {
                    self.refused = Some(End::because(error));
                } else {
                    *shared.closed.entry(error).or_default() += 1;
                }
            }
        }
        match self.phase {
            Phase::Dialogue(step) => {
                if let Some(waited) = self.steps(setup).get(step)
                    && payload.starts_with(waited.expect.as_bytes())
                {
                    self.say(setup, waited, 0);
                    self.go_on(setup, step + 1);
                }
            }
            Phase::Subscribing(left) => {
                let expect = socket.subscribe.as_ref().map_or("", |step| &step.expect);
                if payload.starts_with(expect.as_bytes()) {
                    self.phase = if left == 1 {
                        Phase::Open
                    } else {
                        Phase::Subscribing(left - 1)
                    };
                }
            }
            _ => {}
        }
    }
}

/// Of a close frame: its code and reason, and when the reason says to come back.
fn close(payload: &[u8]) -> End {
    let Some((code, reason)) = payload.split_at_checked(2) else {
        return End::because("closed with 1005");
    };
    let code = u16::from_be_bytes([code[0], code[1]]);
    let reason = String::from_utf8_lossy(reason);
    let retry = reason
        .split("retry_after_ms=")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    End {
        reason: format!(
            "closed with {code} {}",
            reason.split(';').next().unwrap_or_default()
        )
        .trim_end()
        .to_owned(),
        retry_ms: retry,
    }
}

/// One source address has about 28,000 ports, so sockets are spread over several.
fn connect(target: SocketAddr, sources: u8, user: u32) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))
        .context("this process may open no more files (ulimit -n)")?;
    socket.set_nonblocking(true)?;
    if target.is_ipv4() {
        let source = Ipv4Addr::new(127, 0, 0, 2 + (user % u32::from(sources)) as u8);
        socket
            .bind(&SocketAddr::new(IpAddr::V4(source), 0).into())
            .context("no port is left on a source address (use more --sources)")?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        // EINPROGRESS: the poll tells how it went.
        Err(error) if error.raw_os_error() == Some(115) || error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(error).context("connecting"),
    }
    Ok(TcpStream::from_std(socket.into()))
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
