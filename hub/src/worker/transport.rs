//! What a session's frames are written to: its socket, or the pipe of an HTTP answer.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    task::{Context, Poll},
};

use common::protocol::Command;
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::pipe::PipeWriter;

/// The way to a client. Both take bytes until they are full and then say when they take more, so that a worker's queue,
/// policies and closing are the same for both.
#[derive(Debug)]
pub(crate) enum Transport {
    /// A WebSocket.
    Socket(TcpStream),
    /// An event stream or a long poll, whose frames an HTTP answer takes out on the other side.
    Pipe(Box<PipeWriter>),
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Socket(stream)
    }
}

impl From<PipeWriter> for Transport {
    fn from(pipe: PipeWriter) -> Self {
        Self::Pipe(Box::new(pipe))
    }
}

impl Transport {
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.try_write(bytes),
            Self::Pipe(pipe) => pipe.try_write(&[IoSlice::new(bytes)]),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.try_write_vectored(slices),
            Self::Pipe(pipe) => pipe.try_write(slices),
        }
    }

    /// Waits until it takes bytes again, or never will.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Socket(stream) => stream.writable().await,
            Self::Pipe(pipe) => {
                pipe.writable().await;
                Ok(())
            }
        }
    }

    /// Ends writing, or all. It fails where the other side is gone, which is as good.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        match self {
            Self::Socket(stream) => drop(SockRef::from(stream).shutdown(how)),
            Self::Pipe(pipe) => pipe.end(how == Shutdown::Both),
        }
    }

    /// Whether there is something to read. Nothing comes by a pipe but its end.
    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Socket(stream) => stream.poll_read_ready(context),
            Self::Pipe(pipe) => pipe.poll_abandoned(context).map(Ok),
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.try_read(buffer),
            Self::Pipe(_) => Ok(0),
        }
    }

    /// What a ring may write to by itself.
    #[cfg(target_os = "linux")]
    pub(crate) fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        match self {
            Self::Socket(stream) => Some(std::os::fd::AsRawFd::as_raw_fd(stream)),
            Self::Pipe(_) => None,
        }
    }

    /// Whether the client answers pings and says things. Who reads an HTTP answer can do neither.
    pub(crate) fn answers(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// What the client said in its request, to be carried out behind the welcome.
    pub(crate) fn take_commands(&self) -> Vec<Command> {
        match self {
            Self::Socket(_) => Vec::new(),
            Self::Pipe(pipe) => pipe.take_commands(),
        }
    }
}
