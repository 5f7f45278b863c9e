//! One publishing connection: what it has asked, and what it has to ask again.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Write},
    net::SocketAddr,
};

use mio::{Interest, Registry, Token, net::TcpStream};

use super::job::Waiting;
use crate::stamp::Stamp;

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) job: usize,
    /// Its number within its job.
    pub(super) index: usize,
    /// The node where it connects.
    pub(super) node: usize,
    pub(super) stream: Option<TcpStream>,
    pub(super) connected: bool,
    pub(super) again_us: u64,
    pub(super) waiting: Waiting,
    pub(super) asked: VecDeque<Asked>,
    /// What has to be asked again before anything else, in order.
    pub(super) again: VecDeque<Asked>,
    pub(super) out: Vec<u8>,
    pub(super) input: Vec<u8>,
}

/// A request that is on the way.
#[derive(Debug)]
pub(super) struct Asked {
    /// When it should have been sent, and when it was.
    pub(super) at_us: u64,
    pub(super) sent_us: u64,
    pub(super) stamps: Vec<Stamp>,
    /// All of it, where it can be repeated.
    pub(super) request: Vec<u8>,
}

/// Why a connection is given up.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) reason: String,
    /// The first request on the way was refused; of the others, and without it of all, it is not known whether they were
    /// taken.
    pub(super) refused: bool,
}

impl From<&str> for Broken {
    fn from(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            refused: false,
        }
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::from(&*error.kind().to_string())
    }
}

impl Lane {
    /// A lane of a job; it connects when its turn comes.
    pub(super) fn new(job: usize, index: usize) -> Self {
        Self {
            job,
            index,
            node: index,
            stream: None,
            connected: false,
            again_us: 0,
            waiting: Waiting::new(),
            asked: VecDeque::new(),
            again: VecDeque::new(),
            out: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Begins to connect.
    pub(super) fn connect(
        &mut self,
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.connected = false;
        self.out.clear();
        self.input.clear();
        Ok(())
    }

    /// Gives the connection up until then, Unix microseconds.
    pub(super) fn close(&mut self, again_us: u64) {
        self.stream = None;
        self.connected = false;
        self.again_us = again_us;
        self.out.clear();
    }

    /// What was on the way is asked again, before anything else and in its order; how many requests that are.
    pub(super) fn ask_again(&mut self) -> u64 {
        let count = self.asked.len() as u64;
        while let Some(asked) = self.asked.pop_back() {
            self.again.push_front(asked);
        }
        count
    }

    /// Whether nothing is on the way, or has to be.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty() && self.again.is_empty() && self.out.is_empty()
    }

    /// Writes as far as the kernel takes it.
    pub(super) fn flush(&mut self) -> Result<(), Broken> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut sent = 0;
        let broke = loop {
            if sent == self.out.len() {
                break None;
            }
            match stream.write(&self.out[sent..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Some(error.into()),
            }
        };
        self.out.drain(..sent);
        broke.map_or(Ok(()), Err)
    }
}
