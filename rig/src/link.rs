//! A cable that can be cut: a TCP forwarder between a client and a server of a test.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::Error;

/// Longest wait for the server behind.
const CONNECT: Duration = Duration::from_secs(2);
/// Bytes that a direction moves at once, and holds while it stalls.
const BUFFER: usize = 64 * 1024;

/// Forwards connections to a server until it is told otherwise. All end when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    mode: Mode,
    /// The next request with these bytes goes through, and its answer does not.
    swallow: Option<Vec<u8>>,
    /// Answers that were lost so.
    swallowed: usize,
    /// Both ends of each connection, by a number that is not used again.
    open: HashMap<u64, [TcpStream; 2]>,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Stalled,
    Refusing,
    Over,
}

impl Link {
    /// A link to a server, on a port of its own.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn to(target: SocketAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::system("listening"))?;
        let address = listener.local_addr().map_err(Error::system("listening"))?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                target,
                mode: Mode::Open,
                swallow: None,
                swallowed: 0,
                open: HashMap::new(),
                next: 0,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections; new ones go to another server: what a fail-over behind one address looks like.
    pub fn lead_to(&self, target: SocketAddr) {
        let mut state = self.shared.state();
        state.target = target;
        self.shared.cut(&mut state);
    }

    /// The next request that holds these bytes reaches the server, and its connection is closed instead of an answer: nobody
    /// on this side knows whether it was done. They have to arrive in one piece, as what is written at once does.
    pub fn swallow_answer(&self, request: &[u8]) {
        self.shared.state().swallow = Some(request.to_vec());
    }

    /// Answers that were swallowed.
    #[must_use]
    pub fn swallowed(&self) -> usize {
        self.shared.state().swallowed
    }

    /// Closes all connections; new ones are welcome.
    pub fn cut(&self) {
        self.shared.cut(&mut self.shared.state());
    }

    /// Nothing flows any more, and no end learns of it: what a half-open connection looks like. New connections are
    /// taken and are as silent.
    pub fn stall(&self) {
        self.shared.turn(Mode::Stalled);
    }

    /// Closes all connections, and each new one at once.
    pub fn refuse(&self) {
        self.shared.turn(Mode::Refusing);
        self.cut();
    }

    /// Leads to another server from here on, as a name or a virtual address does after a fail-over. All connections are closed.
    pub fn turn_to(&self, target: SocketAddr) {
        let mut state = self.shared.state();
        state.target = target;
        self.shared.cut(&mut state);
    }

    /// Everything flows again, what a stall held back first.
    pub fn heal(&self) {
        self.shared.turn(Mode::Open);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.turn(Mode::Over);
        self.cut();
        // Wakes the listener, which then sees that it is over. If it cannot be reached it has ended.
        TcpStream::connect_timeout(&self.address, CONNECT).ok();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, mode: Mode) {
        self.state().mode = mode;
        self.changed.notify_all();
    }

    fn cut(&self, state: &mut State) {
        for stream in state.open.drain().flat_map(|(_, ends)| ends) {
            // Who has closed already is not connected.
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Whether the answer to this request is to be lost.
    fn swallows(&self, request: &[u8]) -> bool {
        let mut state = self.state();
        let found = state
            .swallow
            .as_ref()
            .is_some_and(|bytes| request.windows(bytes.len().max(1)).any(|part| part == bytes));
        if found {
            state.swallow = None;
        }
        found
    }

    /// Waits while it stalls.
    fn pass(&self) {
        let stalled = |state: &mut State| state.mode == Mode::Stalled;
        drop(
            self.changed
                .wait_while(self.state(), stalled)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let mode = shared.state().mode;
        match (client, mode) {
            (_, Mode::Over) => return,
            (Ok(client), Mode::Open | Mode::Stalled) => {
                // The client sees a failure as a closed connection.
                join(client, shared).ok();
            }
            (Ok(_) | Err(_), _) => {}
        }
    }
}

/// Connects to the server and starts both directions.
fn join(client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    let target = shared.state().target;
    let server = TcpStream::connect_timeout(&target, CONNECT)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
    let ends = [client.try_clone()?, server.try_clone()?];
    let number = {
        let mut state = shared.state();
        state.next += 1;
        let number = state.next;
        state.open.insert(number, ends);
        number
    };
    let (there, back) = (Arc::clone(shared), Arc::clone(shared));
    let doomed = Arc::new(AtomicBool::new(false));
    let doomed_too = Arc::clone(&doomed);
    let request = move |bytes: &[u8], shared: &Shared| {
        if shared.swallows(bytes) {
            doomed.store(true, Ordering::Release);
        }
        true
    };
    let answer = move |_: &[u8], shared: &Shared| {
        let lost = doomed_too.load(Ordering::Acquire);
        shared.state().swallowed += usize::from(lost);
        !lost
    };
    thread::spawn(move || carry(client, server, &there, number, request));
    thread::spawn(move || carry(server_too, client_too, &back, number, answer));
    Ok(())
}

/// Moves bytes until one end closes, or `goes_on` says that what came does not.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    shared: &Shared,
    number: u64,
    goes_on: impl Fn(&[u8], &Shared) -> bool,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer);
        shared.pass();
        match read {
            Ok(length)
                if length > 0
                    && goes_on(&buffer[..length], shared)
                    && to.write_all(&buffer[..length]).is_ok() => {}
            _ => break,
        }
    }
    // The other side's end is this side's end; who has closed already is not connected.
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
    shared.state().open.remove(&number);
}
