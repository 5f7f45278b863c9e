//! One connection: a publisher's, or a subscriber's socket.

use std::io::{self, ErrorKind, Read, Write};

use mio::{Interest, Registry, Token, net::TcpStream};

use crate::http::Topic;

/// What a reader may leave unread before its socket is cut, in bytes.
const MAX_PENDING: usize = 16 * 1024 * 1024;

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) topic: Option<Topic>,
    /// Of a publisher: the start of a request that is not whole yet.
    pub(crate) input: Vec<u8>,
    /// What the kernel has not taken yet.
    pending: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            topic: None,
            input: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Whether new bytes have to wait behind older ones.
    pub(crate) fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes at once what the kernel takes, and keeps the rest.
    pub(crate) fn send(&mut self, bytes: &[u8], registry: &Registry, token: Token) -> io::Result<()> {
        let taken = if self.is_behind() {
            0
        } else {
            write(&mut self.stream, bytes)?
        };
        self.keep(&bytes[taken..], registry, token)
    }

    /// Keeps what the kernel did not take until the socket is writable.
    pub(crate) fn keep(&mut self, rest: &[u8], registry: &Registry, token: Token) -> io::Result<()> {
        if rest.is_empty() {
            return Ok(());
        }
        if self.pending.len() + rest.len() > MAX_PENDING {
            return Err(ErrorKind::OutOfMemory.into());
        }
        let first = !self.is_behind();
        self.pending.extend_from_slice(rest);
        if first {
            registry.reregister(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)?;
        }
        Ok(())
    }

    /// The socket is writable: goes on where the kernel stopped.
    pub(crate) fn flush(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if !self.is_behind() {
            return Ok(());
        }
        let taken = write(&mut self.stream, &self.pending)?;
        self.pending.drain(..taken);
        if !self.is_behind() {
            self.pending = Vec::new();
            registry.reregister(&mut self.stream, token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Reads until nothing is left and hands on each piece; false at the end of the stream.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        mut on: impl FnMut(&mut Self, &[u8]),
    ) -> io::Result<bool> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(len) => {
                    on(self, &buffer[..len]);
                    // A short read of a stream socket has emptied it; what comes later is an event of its own.
                    if len < buffer.len() {
                        return Ok(true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How many bytes the kernel took.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < bytes.len() {
        match stream.write(&bytes[taken..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(len) => taken += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}
