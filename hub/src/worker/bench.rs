//! A worker whose sessions have no sockets of their own, for the benches alone (feature `bench`): what a message and what
//! coming and going cost in the index, by the very code that serves sockets, without the kernel.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    sync::Arc,
};

use bytes::Bytes;
use common::{bus::Subscriptions, protocol::Dialect, receipts::Reader, token::Identity, topic::TopicKey};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::AbortHandle,
};

use super::{
    Control, SessionId, Transport, Who, Worker,
    index::Membership,
    outbound::{MAX_SLICES, Outbound},
    session::{Phase, Session},
};
use crate::{Hub, limits::Seat, receive::Outgoing};

/// A session before it is in the index: what admission gives it.
#[derive(Debug)]
pub struct Seated {
    seat: Seat,
    keys: Arc<[TopicKey]>,
}

impl Seated {
    /// The keys of its token.
    #[must_use]
    pub fn keys(&self) -> &[TopicKey] {
        &self.keys
    }
}

/// A session's places in its topics.
#[derive(Debug)]
pub struct Joined(Vec<Membership>);

/// The worker.
pub struct Node {
    hub: Hub,
    worker: Worker,
    subscriptions: Subscriptions,
    /// All sessions have this one.
    stream: Arc<Transport>,
    peer: TcpStream,
    who: Arc<Who>,
    reader: AbortHandle,
    _controls: mpsc::Receiver<Control>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

impl Node {
    /// A worker beside those of the hub, with its settings and its bus. Needs a runtime.
    ///
    /// # Errors
    /// Where loopback has no port.
    pub async fn new(hub: &Hub, somebody: Identity) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        let (peer, _) = listener.accept().await?;
        let (controls, _controls) = mpsc::channel(1);
        let shared = Arc::clone(&hub.inner.shared);
        let (subscriptions, _) = shared.bus.attach(1);
        let reader = Reader {
            tenant: somebody.tenant.clone(),
            user: somebody.user.clone(),
            session: "bench".into(),
            keys: Arc::from([]),
        };
        Ok(Self {
            hub: hub.clone(),
            worker: Worker::new(0, shared, controls),
            subscriptions,
            stream: Arc::new(stream.into()),
            peer,
            who: Arc::new(Who::new(somebody, reader)),
            reader: tokio::spawn(std::future::ready(())).abort_handle(),
            _controls,
        })
    }

    /// Admits a session; none where a limit refuses.
    #[must_use]
    pub fn admit(&self, identity: &Identity) -> Option<Seated> {
        let address = IpAddr::from([127, 0, 0, 1]);
        let keys = self.hub.keys(identity);
        let connections = &self.hub.inner.connections;
        let seat = connections.admit(&identity.tenant, keys.first()?, address).ok()?;
        Some(Seated { seat, keys })
    }

    /// Asks for the session's topics that are new here, as the interest task does.
    pub async fn subscribe(&self, seated: &Seated) {
        let is_new = |key: &&TopicKey| self.worker.index.find(key).is_none();
        let new: Vec<TopicKey> = seated.keys.iter().filter(is_new).cloned().collect();
        for key in &new {
            self.hub
                .inner
                .registry
                .add(key, self.hub.inner.registry.home(key));
        }
        // The in-process bus confirms always.
        drop(self.subscriptions.subscribe(&new).await);
    }

    /// Puts the session, of this number, into the index.
    pub async fn join(&mut self, seated: &Seated, session: u32) -> Joined {
        let mut topics = Vec::with_capacity(seated.keys.len());
        for key in seated.keys.iter() {
            let number = match self.worker.index.find(key) {
                Some(number) => number,
                None => {
                    let heads = self.worker.shared.bus.heads(std::slice::from_ref(key)).await;
                    let Some(head) = heads.first().copied().flatten() else {
                        continue;
                    };
                    self.worker.index.insert_confirmed(key, head)
                }
            };
            topics.extend(self.worker.index.join(number, session, 0));
        }
        Joined(topics)
    }

    /// The number that the next session gets.
    #[must_use]
    pub fn next(&self) -> u32 {
        self.worker.sessions.vacant_key() as u32
    }

    /// Makes the session live.
    pub fn enter(&mut self, seated: Seated, joined: Joined) -> u32 {
        let slot = self.next();
        self.worker.sessions.insert(Session {
            generation: 0,
            phase: Phase::Live,
            dialect: Dialect::CarillonV1,
            wire: crate::receive::Wire::Plain,
            heard: 0,
            unanswered: 0,
            expiry_watched: false,
            pending: Default::default(),
            topics: joined.0,
            stream: Arc::clone(&self.stream),
            who: Arc::clone(&self.who),
            outbound: None,
            rare: None,
            reader: self.reader.clone(),
            seat: Box::new(seated.seat),
        });
        slot
    }

    /// The session goes, and with it the topics that nobody else has, at once.
    pub async fn leave(&mut self, slot: u32) {
        let id = SessionId { slot, generation: 0 };
        let numbers: Vec<u32> = self
            .worker
            .session(id)
            .iter()
            .flat_map(|session| session.topics.iter().map(|its| its.topic))
            .collect();
        self.worker.leave_all(id);
        self.worker.sessions.try_remove(slot as usize);
        // The while for which a topic lingers is over.
        self.worker.wheel.tick();
        self.worker.wheel.tick();
        for number in numbers {
            if let Some(key) = self.worker.index.remove_unused(number) {
                let home = self.hub.inner.registry.home(&key);
                if self.hub.inner.registry.remove(&key, home) {
                    self.subscriptions.unsubscribe(&[key]).await;
                }
            }
        }
    }

    /// Puts messages before the sessions of their topics: look-up, filter, and a mark on each session.
    pub fn fan_out(&mut self, messages: &mut Vec<Arc<Outgoing>>) {
        self.worker.begin_fanout(messages);
    }

    /// Forgets what was put before these sessions, which are all that were reached.
    pub fn discard(&mut self, slots: &[u32]) {
        // Nothing is written behind a close.
        for slot in slots {
            if let Some(session) = self.worker.sessions.get_mut(*slot as usize) {
                session.phase = Phase::Closing;
            }
        }
        while self.worker.fanout.is_active() {
            self.worker.flush_slice();
        }
        for slot in slots {
            if let Some(session) = self.worker.sessions.get_mut(*slot as usize) {
                session.phase = Phase::Live;
            }
        }
    }

    /// Writes what was put before sessions to their socket.
    pub fn flush(&mut self) {
        while self.worker.fanout.is_active() {
            self.worker.flush_slice();
        }
    }

    /// Reads what was written, so that the socket takes more.
    pub fn drain(&self) {
        let mut bytes = [0; 16 * 1024];
        while self.peer.try_read(&mut bytes).is_ok_and(|taken| taken > 0) {}
    }
}

/// What waits for one slow consumer.
#[derive(Debug)]
pub struct Outlet(Outbound);

impl Default for Outlet {
    fn default() -> Self {
        Self(Outbound::new(0))
    }
}

impl Outlet {
    /// A frame that the kernel refused.
    pub fn push(&mut self, frame: Bytes) {
        self.0.push(frame, 0);
    }

    /// The kernel takes at most so many bytes.
    pub fn take(&mut self, mut most: usize) {
        while !self.0.is_empty() && most > 0 {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let count = self.0.slices(&mut slices);
            let shown: usize = slices[..count].iter().map(|slice| slice.len()).sum();
            let taken = shown.min(most);
            self.0.advance(taken, 0);
            most -= taken;
        }
    }
}
