//! A line between a node and Redis that dies without a word, as when a firewall forgets a connection: what is open goes
//! silent for ever, and new connections are as good as ever.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;

/// Longest wait for the server behind.
const CONNECT: Duration = Duration::from_secs(2);

/// A forwarder.
#[derive(Debug)]
pub(super) struct Line {
    address: SocketAddr,
    open: Arc<Mutex<Vec<Arc<State>>>>,
}

/// Which connections go silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Those that have subscribed to something.
    Subscribing,
}

#[derive(Debug, Default)]
struct State {
    subscribing: AtomicBool,
    silent: AtomicBool,
}

/// The command of a connection that subscribes.
const SUBSCRIBE: &[u8] = b"SSUBSCRIBE";

impl Line {
    /// A line to a server. Its threads end with their connections; that of its listener with the process.
    pub(super) fn to(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening")?;
        let address = listener.local_addr()?;
        let open: Arc<Mutex<Vec<Arc<State>>>> = Arc::default();
        let all = Arc::clone(&open);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that cannot be made is closed, as by any server.
                join(client, server, &all).ok();
            }
        });
        Ok(Self { address, open })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Silences those that are open now.
    pub(super) fn silence(&self, which: Which) {
        for one in self.open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if which == Which::All || one.subscribing.load(Ordering::Acquire) {
                one.silent.store(true, Ordering::Release);
            }
        }
    }
}

fn join(client: TcpStream, server: SocketAddr, all: &Mutex<Vec<Arc<State>>>) -> std::io::Result<()> {
    let server = TcpStream::connect_timeout(&server, CONNECT)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let state = Arc::new(State::default());
    all.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Arc::clone(&state));
    let back = (server.try_clone()?, client.try_clone()?, Arc::clone(&state));
    std::thread::spawn(move || carry(client, server, &state));
    std::thread::spawn(move || carry(back.0, back.1, &back.2));
    Ok(())
}

/// Moves bytes until an end closes; once it is silent they vanish, and an end that closes is not told either.
fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer);
        let is_silent = state.silent.load(Ordering::Acquire);
        match read {
            Ok(length) if length > 0 => {
                if memchr::memmem::find(&buffer[..length], SUBSCRIBE).is_some() {
                    state.subscribing.store(true, Ordering::Release);
                }
                if is_silent || to.write_all(&buffer[..length]).is_ok() {
                    continue;
                }
            }
            _ => {}
        }
        if !is_silent {
            // Who has closed already is not connected.
            to.shutdown(std::net::Shutdown::Both).ok();
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_goes_silent_and_what_comes_later_does_not() {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = echo.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in echo.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        stream.write_all(&byte).unwrap();
                    }
                });
            }
        });
        let line = Line::to(address).unwrap();
        let open = |word: &[u8]| {
            let mut stream = TcpStream::connect(line.address()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            stream.write_all(word).unwrap();
            stream.read_exact(&mut vec![0; word.len()]).unwrap();
            stream
        };
        let answers = |stream: &mut TcpStream| {
            stream.write_all(b"b").unwrap();
            stream.read_exact(&mut [0]).is_ok()
        };
        let (mut subscribing, mut other) = (open(SUBSCRIBE), open(b"a"));
        line.silence(Which::Subscribing);
        assert!(!answers(&mut subscribing) && answers(&mut other));
        line.silence(Which::All);
        assert!(!answers(&mut other));
        open(b"a");
    }
}
