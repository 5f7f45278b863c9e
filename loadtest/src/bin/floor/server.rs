//! The event loop.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    os::fd::AsRawFd,
};

use anyhow::Context;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    connection::Connection,
    http::{self, Request, Topic},
    ring::{Refused, Ring},
};

const LISTENER: Token = Token(usize::MAX);

/// As many as the kernel allows (`net.core.somaxconn`).
const BACKLOG: i32 = 65_535;

const ACCEPTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const UNKNOWN: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
const MALFORMED: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// All connections and where they are told of.
#[derive(Debug)]
pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Slab<Connection>,
    /// The socket of each user, by the user's number.
    users: Vec<Option<usize>>,
    ring: Option<Ring>,
    /// Broken ones; removed after a fan-out, not within it.
    dead: Vec<usize>,
    buffer: Vec<u8>,
}

impl Server {
    /// Listens.
    pub(crate) fn bind(address: SocketAddr, ring: Option<Ring>) -> anyhow::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket
            .bind(&address.into())
            .with_context(|| format!("listening on {address}"))?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: Slab::new(),
            users: Vec::new(),
            ring,
            dead: Vec::new(),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the process is ended.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let id = event.token().0;
                if event.is_writable() && self.flush(id).is_err() {
                    self.remove(id);
                }
                if event.is_readable() && !self.readable(id)? {
                    self.remove(id);
                }
            }
        }
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => return Err(error).context("accepting"),
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let entry = self.connections.vacant_entry();
        self.poll
            .registry()
            .register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        entry.insert(Connection::new(stream));
        Ok(())
    }

    fn flush(&mut self, id: usize) -> io::Result<()> {
        match self.connections.get_mut(id) {
            Some(connection) => connection.flush(self.poll.registry(), Token(id)),
            None => Ok(()),
        }
    }

    /// False when the connection has ended.
    fn readable(&mut self, id: usize) -> anyhow::Result<bool> {
        let Some(connection) = self.connections.get_mut(id) else {
            return Ok(true);
        };
        let read = connection.read(&mut self.buffer, |connection, bytes| {
            // What subscribers say (pongs) means nothing here.
            if connection.topic.is_none() {
                connection.input.extend_from_slice(bytes);
            }
        });
        if !read.unwrap_or(false) {
            return Ok(false);
        }
        let mut input = std::mem::take(&mut connection.input);
        let mut used = 0;
        let open = loop {
            match http::parse(&input[used..]) {
                Ok(None) => break true,
                Ok(Some((request, len))) => {
                    if !self.serve(id, request)? {
                        break false;
                    }
                    used += len;
                }
                Err(http::Malformed) => {
                    // The connection ends anyway: whether its peer still reads this does not matter.
                    self.answer(id, MALFORMED).ok();
                    break false;
                }
            }
        };
        input.drain(..used);
        if let Some(connection) = self.connections.get_mut(id)
            && connection.topic.is_none()
        {
            connection.input = input;
        }
        Ok(open)
    }

    fn answer(&mut self, id: usize, text: &str) -> io::Result<()> {
        self.send(id, text.as_bytes())
    }

    fn send(&mut self, id: usize, bytes: &[u8]) -> io::Result<()> {
        match self.connections.get_mut(id) {
            Some(connection) => connection.send(bytes, self.poll.registry(), Token(id)),
            None => Ok(()),
        }
    }

    /// False when the connection is broken.
    fn serve(&mut self, id: usize, request: Request<'_>) -> anyhow::Result<bool> {
        match request {
            Request::Subscribe(topic, accept) => {
                let text = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n"
                );
                let answered = self.answer(id, &text);
                self.subscribe(id, topic);
                Ok(answered.is_ok())
            }
            // Answered before the fan-out: the publisher waits for the acceptance, not for the slowest socket.
            Request::Publish(topic, body) => {
                let answered = self.answer(id, ACCEPTED);
                let frame = http::frame(body);
                match topic {
                    Topic::All => self.fan_out(&frame)?,
                    Topic::User(user) => self.unicast(user, &frame),
                }
                Ok(answered.is_ok())
            }
            Request::Ready => Ok(self.answer(id, ACCEPTED).is_ok()),
            Request::Unknown => Ok(self.answer(id, UNKNOWN).is_ok()),
        }
    }

    fn subscribe(&mut self, id: usize, topic: Topic) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.topic = Some(topic);
        }
        // Numbers come from the harness; the limit keeps a foreign one from asking for the whole memory.
        if let Topic::User(user @ 0..1_000_000) = topic {
            let user = user as usize;
            if self.users.len() <= user {
                self.users.resize(user + 1, None);
            }
            self.users[user] = Some(id);
        }
    }

    fn unicast(&mut self, user: u32, frame: &[u8]) {
        if let Some(id) = self.users.get(user as usize).copied().flatten()
            && self.send(id, frame).is_err()
        {
            self.remove(id);
        }
    }

    fn fan_out(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        match self.ring.take() {
            None => self.fan_out_plain(frame),
            Some(mut ring) => {
                let sent = self.fan_out_ring(&mut ring, frame);
                self.ring = Some(ring);
                sent?;
            }
        }
        while let Some(id) = self.dead.pop() {
            self.remove(id);
        }
        Ok(())
    }

    fn fan_out_plain(&mut self, frame: &[u8]) {
        for (id, connection) in &mut self.connections {
            if connection.topic == Some(Topic::All)
                && connection.send(frame, self.poll.registry(), Token(id)).is_err()
            {
                self.dead.push(id);
            }
        }
    }

    fn fan_out_ring(&mut self, ring: &mut Ring, frame: &[u8]) -> anyhow::Result<()> {
        let mut refused = Vec::new();
        let ready = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.topic == Some(Topic::All) && !connection.is_behind())
            .map(|(id, connection)| (id, connection.stream.as_raw_fd()));
        // Those that were behind before this frame; those that refuse this very frame are added below.
        let behind: Vec<Refused> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.topic == Some(Topic::All) && connection.is_behind())
            .map(|(id, _)| Refused { id, taken: Ok(0) })
            .collect();
        ring.send_all(frame, ready, &mut refused).context("io_uring")?;
        for Refused { id, taken } in refused.into_iter().chain(behind) {
            let kept = taken.and_then(|taken| match self.connections.get_mut(id) {
                Some(connection) => connection.keep(&frame[taken..], self.poll.registry(), Token(id)),
                None => Ok(()),
            });
            if kept.is_err() {
                self.dead.push(id);
            }
        }
        Ok(())
    }

    fn remove(&mut self, id: usize) {
        let Some(connection) = self.connections.try_remove(id) else {
            return;
        };
        if let Some(Topic::User(user)) = connection.topic
            && let Some(place) = self.users.get_mut(user as usize)
            && *place == Some(id)
        {
            *place = None;
        }
    }
}
