//! A connection that hears: sharded channels of the topics that this node wants from one server.
//!
//! Reading never waits for anybody. Every confirmation is counted. When nothing was heard for a while, a message is sent to
//! the node itself through the bus: a connection on which it does not come back is made anew, whatever TCP says of it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis_protocol::resp3::types::BytesFrame;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    link::{Link, LinkError, Place, Reader, Writer},
    node::NodeShared,
    router::{Item, Way},
    wanted::{Serial, Stand},
    wire::{Commands, Refusal, blob, list, text},
};
use crate::{
    backoff::Backoff,
    message::{Message, Position, decode_envelope},
    topic::TopicKey,
};

/// Channels of one `SSUBSCRIBE`.
const CHANNELS: usize = 512;

/// Channels that may be asked for and not yet confirmed: Redis keeps its answers in memory until they are read.
const UNCONFIRMED: usize = 16 * 1024;

/// Batches of commands that may wait to be written.
const WRITES: usize = 64;

/// Orders that may wait for a listener.
pub(super) const ORDERS: usize = 1024;

const RECONNECT: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(2),
};

/// What a listener is asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// Subscribe these.
    Topics(Vec<TopicKey>),
    /// Subscribe what is wanted of a partition and not asked for here.
    Partition(usize),
    /// End these.
    Leave(Vec<TopicKey>),
}

/// What others see of a listener.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The connection's number; 0 where there is none.
    serial: AtomicU32,
    /// All that was wanted when it connected is confirmed.
    restored: AtomicBool,
}

impl State {
    pub(super) fn serial(&self) -> Serial {
        self.serial.load(Ordering::Acquire)
    }

    pub(super) fn is_restored(&self) -> bool {
        self.restored.load(Ordering::Acquire)
    }
}

/// The listener of a place. It ends when `orders` has no sender.
pub(super) struct Listener {
    pub(super) place: Place,
    pub(super) shared: Arc<NodeShared>,
    pub(super) state: Arc<State>,
    pub(super) orders: mpsc::Receiver<Order>,
}

impl Listener {
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let connecting = Link::connect(&self.place, &self.shared.dialing);
            let error = match connecting.await {
                Ok(link) => {
                    let serial = self.shared.next_serial();
                    let parts = (&*self.shared, &*self.state, &self.place);
                    let ended = Connection::new(parts, link, serial).serve(&mut self.orders).await;
                    self.state.serial.store(0, Ordering::Release);
                    self.state.restored.store(false, Ordering::Release);
                    match ended {
                        Ok(()) => return,
                        Err(error) => {
                            failures = 0;
                            self.shared.metrics.reconnects.inc();
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            failures += 1;
            if failures == 1 {
                tracing::warn!(server = %self.place, %error, "a subscription to Redis is lost, or cannot be made");
            }
            self.shared.unsettle();
            if !self.turn_away(RECONNECT.delay(failures, fastrand::f64())).await {
                return;
            }
        }
    }

    /// With the next connection all that is wanted is asked for; what is ordered until then is part of that.
    async fn turn_away(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            match timeout_at(until, self.orders.recv()).await {
                Err(_) => return true,
                Ok(None) => return false,
                Ok(Some(_)) => {}
            }
        }
    }
}

/// What was written and is not answered yet.
enum Written {
    Subscribe { keys: Vec<TopicKey>, missing: usize },
    Unsubscribe,
}

/// A probe through the bus.
enum Probe {
    None,
    /// On its way to Redis.
    Sent(oneshot::Receiver<bool>),
    /// Redis took it then.
    Taken(Instant),
}

struct Connection<'a> {
    shared: &'a NodeShared,
    state: &'a State,
    place: &'a Place,
    serial: Serial,
    reader: Reader,
    writes: mpsc::Sender<Commands>,
    writing: JoinHandle<()>,
    written: VecDeque<Written>,
    /// Topics that wait until enough of those before them are confirmed.
    queued: VecDeque<(usize, Vec<TopicKey>)>,
    unconfirmed: usize,
    /// When all is confirmed, the node compares its topics.
    tell: bool,
    /// The partition whose probe channel is subscribed.
    probing: Option<usize>,
    probe: Probe,
    heard: Instant,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

impl<'a> Connection<'a> {
    fn new(
        (shared, state, place): (&'a NodeShared, &'a State, &'a Place),
        link: Link,
        serial: Serial,
    ) -> Self {
        let Link { reader, writer } = link;
        let (writes, waiting) = mpsc::channel(WRITES);
        let within = shared.dialing.timeout;
        Self {
            shared,
            state,
            place,
            serial,
            reader,
            writes,
            writing: tokio::spawn(write(writer, waiting, within)),
            written: VecDeque::new(),
            queued: VecDeque::new(),
            unconfirmed: 0,
            tell: false,
            probing: None,
            probe: Probe::None,
            heard: Instant::now(),
        }
    }

    /// Until the connection breaks, or nobody orders any more.
    async fn serve(mut self, orders: &mut mpsc::Receiver<Order>) -> Result<(), LinkError> {
        self.state.serial.store(self.serial, Ordering::Release);
        self.subscribe_all().await?;
        let every = (self.shared.probe_after / 5).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut tick = Instant::now() + every;
        loop {
            tokio::select! {
                frame = self.reader.next() => {
                    self.heard(&frame?);
                    while let Some(frame) = self.reader.buffered()? {
                        self.heard(&frame);
                    }
                    self.go_on().await?;
                }
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await?,
                    None => return Ok(()),
                },
                () = sleep_until(tick) => {
                    tick = Instant::now() + every;
                    self.look().await?;
                }
            }
        }
    }

    /// Asks for all that is wanted from this place.
    async fn subscribe_all(&mut self) -> Result<(), LinkError> {
        let map = self.shared.map();
        let partitions = 0..self.shared.names.partitions();
        for partition in partitions.filter(|partition| map.listening(*partition) == Some(self.place)) {
            self.subscribe_partition(partition);
        }
        self.choose_probe().await?;
        self.go_on().await
    }

    /// Asks for what is wanted of a partition and not asked for here. It may have been heard over another connection, here
    /// or at the server that had the partition before.
    fn subscribe_partition(&mut self, partition: usize) {
        let (keys, missed) = self.shared.wanted().ask(partition, self.serial);
        if missed {
            self.tell = true;
            self.shared.metrics.resubscribed.inc_by(keys.len() as u64);
        }
        self.enqueue(partition, keys);
    }

    fn enqueue(&mut self, partition: usize, keys: Vec<TopicKey>) {
        if !keys.is_empty() {
            self.queued.push_back((partition, keys));
        }
    }

    /// Subscribes to the probe of a partition that is heard here.
    async fn choose_probe(&mut self) -> Result<(), LinkError> {
        let map = self.shared.map();
        let mut partitions = 0..self.shared.names.partitions();
        self.probing = partitions.find(|partition| map.listening(*partition) == Some(self.place));
        let Some(partition) = self.probing else {
            return Ok(());
        };
        let channel = self.shared.names.probe(partition, &self.shared.node);
        let mut command = Commands::default();
        command.push(&[b"SSUBSCRIBE", channel.as_bytes()]);
        self.unconfirmed += 1;
        self.written.push_back(Written::Subscribe {
            keys: Vec::new(),
            missing: 1,
        });
        self.write(command).await
    }

    /// Writes what waits, as far as there is room for confirmations; and when all is confirmed says so.
    async fn go_on(&mut self) -> Result<(), LinkError> {
        while self.unconfirmed < UNCONFIRMED
            && let Some((partition, mut keys)) = self.queued.pop_front()
        {
            if keys.len() > CHANNELS {
                let rest = keys.split_off(CHANNELS);
                self.queued.push_front((partition, rest));
            }
            let names = &self.shared.names;
            let channels: Vec<String> = keys.iter().map(|key| names.channel(partition, key)).collect();
            let mut arguments: Vec<&[u8]> = vec![b"SSUBSCRIBE"];
            arguments.extend(channels.iter().map(String::as_bytes));
            let mut command = Commands::default();
            command.push(&arguments);
            self.unconfirmed += keys.len();
            self.written.push_back(Written::Subscribe {
                missing: keys.len(),
                keys,
            });
            self.write(command).await?;
        }
        if self.unconfirmed == 0 && self.queued.is_empty() {
            if !self.state.restored.swap(true, Ordering::AcqRel) {
                self.shared.attention.notify_one();
            }
            if std::mem::take(&mut self.tell) {
                self.shared.events.unsure();
            }
        }
        Ok(())
    }

    async fn write(&self, commands: Commands) -> Result<(), LinkError> {
        let taken = self.writes.send(commands).await;
        taken.map_err(|_| LinkError::Broken("writing failed".to_owned()))
    }

    async fn obey(&mut self, order: Order) -> Result<(), LinkError> {
        let names = &self.shared.names;
        match order {
            Order::Topics(keys) => {
                let mut keys: Vec<(usize, TopicKey)> =
                    keys.into_iter().map(|key| (names.partition(&key), key)).collect();
                keys.sort_unstable_by_key(|(partition, _)| *partition);
                {
                    let mut wanted = self.shared.wanted();
                    for (_, key) in &keys {
                        wanted.set(key, Stand::Asked(self.serial));
                    }
                }
                for some in keys.chunk_by(|first, second| first.0 == second.0) {
                    let keys = some.iter().map(|(_, key)| key.clone()).collect();
                    self.enqueue(some[0].0, keys);
                }
            }
            Order::Partition(partition) => self.subscribe_partition(partition),
            Order::Leave(keys) => {
                for key in keys {
                    let channel = names.channel(names.partition(&key), &key);
                    let mut command = Commands::default();
                    command.push(&[b"SUNSUBSCRIBE", channel.as_bytes()]);
                    self.written.push_back(Written::Unsubscribe);
                    self.write(command).await?;
                }
            }
        }
        self.go_on().await
    }

    /// Something came: the connection is alive.
    fn heard(&mut self, frame: &BytesFrame) {
        self.heard = Instant::now();
        self.probe = Probe::None;
        if let Some(refusal) = Refusal::in_reply(frame) {
            self.refused(&refusal);
            return;
        }
        let Some([kind, channel, rest @ ..]) = list(frame) else {
            return;
        };
        let (Some(kind), Some(channel)) = (text(kind), text(channel)) else {
            return;
        };
        match kind {
            "smessage" => {
                if let Some(payload) = rest.first().and_then(blob) {
                    self.message(channel, payload);
                }
            }
            "ssubscribe" => self.confirmed(channel),
            "sunsubscribe" => self.ended(channel),
            _ => {}
        }
    }

    fn message(&self, channel: &str, payload: &Bytes) {
        let Some(topic) = self.shared.names.topic_of(channel) else {
            return;
        };
        let key = {
            let wanted = self.shared.wanted();
            let partition = self.shared.names.partition_of(topic);
            // What is on its way when a subscription ends is not wanted any more.
            wanted.find(topic, partition).map(|(key, _)| key.clone())
        };
        let Some(key) = key else { return };
        match read_message(key, payload) {
            Some(message) => {
                if !self.shared.events.message(Arc::new(message)) {
                    self.shared.metrics.dropped.inc();
                }
            }
            None => {
                self.shared.metrics.unreadable.inc();
            }
        }
    }

    fn confirmed(&mut self, channel: &str) {
        if let Some(topic) = self.shared.names.topic_of(channel) {
            let partition = self.shared.names.partition_of(topic);
            self.shared.wanted().confirm(topic, partition, self.serial);
        }
        if let Some(Written::Subscribe { missing, .. }) = self.written.front_mut() {
            *missing = missing.saturating_sub(1);
            self.unconfirmed = self.unconfirmed.saturating_sub(1);
            if *missing == 0 {
                self.written.pop_front();
            }
        }
    }

    /// A subscription ended: because it was asked for, or because its slot moved away.
    fn ended(&mut self, channel: &str) {
        let Some(topic) = self.shared.names.topic_of(channel) else {
            // The probe's slot moved. Another partition is here, or none and this connection of no use.
            self.probing = None;
            return;
        };
        let mut wanted = self.shared.wanted();
        let partition = self.shared.names.partition_of(topic);
        let moved = match wanted.find(topic, partition) {
            Some((key, Stand::Confirmed(serial))) if serial == self.serial => Some(key.clone()),
            _ => None,
        };
        if let Some(key) = moved {
            wanted.set(&key, Stand::Nowhere);
            drop(wanted);
            self.shared.metrics.moved.inc();
            self.shared.unsettle();
        } else if matches!(self.written.front(), Some(Written::Unsubscribe)) {
            self.written.pop_front();
        }
    }

    /// Redis refused the oldest command that is not answered.
    fn refused(&mut self, refusal: &Refusal) {
        match self.written.pop_front() {
            Some(Written::Subscribe { keys, missing }) => {
                self.unconfirmed = self.unconfirmed.saturating_sub(missing);
                if keys.is_empty() {
                    self.probing = None;
                }
                let mut wanted = self.shared.wanted();
                for key in &keys {
                    wanted.set(key, Stand::Nowhere);
                }
                drop(wanted);
                if let Refusal::Refused(reason) = refusal {
                    tracing::error!(server = %self.place, %reason, "Redis refuses a subscription");
                }
                self.shared.unsettle();
            }
            Some(Written::Unsubscribe) | None => {}
        }
    }

    /// Looks whether the connection still hears.
    async fn look(&mut self) -> Result<(), LinkError> {
        let silent = self.heard.elapsed();
        let limit = self.shared.dialing.timeout;
        if self.unconfirmed > 0 && silent > limit {
            return Err(LinkError::TimedOut);
        }
        if self.probing.is_none() {
            self.choose_probe().await?;
        }
        match &mut self.probe {
            Probe::None => {
                if let Some(partition) = self.probing.filter(|_| silent >= self.shared.probe_after) {
                    self.shared.metrics.probes.inc();
                    self.probe = Probe::Sent(self.shared.send_probe(partition));
                }
            }
            Probe::Sent(taken) => match taken.try_recv() {
                Ok(true) => self.probe = Probe::Taken(Instant::now()),
                // A probe that was not sent proves nothing.
                Ok(false) | Err(oneshot::error::TryRecvError::Closed) => self.probe = Probe::None,
                Err(oneshot::error::TryRecvError::Empty) => {}
            },
            Probe::Taken(at) => {
                if at.elapsed() >= limit {
                    self.shared.metrics.probes_lost.inc();
                    return Err(LinkError::Broken("a probe did not come back".to_owned()));
                }
            }
        }
        Ok(())
    }
}

/// Writes until the connection is given up; when it cannot, the reading side finds out.
async fn write(mut writer: Writer, mut waiting: mpsc::Receiver<Commands>, within: Duration) {
    while let Some(commands) = waiting.recv().await {
        let written = timeout(within, writer.send(&commands)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
    }
}

/// `epoch:offset`, or nothing where there is no history, then a space and the envelope.
fn read_message(key: TopicKey, payload: &Bytes) -> Option<Message> {
    let space = payload.iter().take(64).position(|byte| *byte == b' ')?;
    let (header, body) = decode_envelope(&payload.slice(space + 1..)).ok()?;
    let position = if space == 0 {
        None
    } else {
        let (epoch, offset) = std::str::from_utf8(&payload[..space]).ok()?.split_once(':')?;
        Some(Position {
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            offset: offset.parse().ok()?,
            check: header.id.check(),
        })
    };
    Some(Message {
        key,
        position,
        header,
        payload: body,
    })
}

/// What is sent to oneself.
pub(super) fn probe_item(shared: &NodeShared, partition: usize) -> (Way, Item) {
    let channel = shared.names.probe(partition, &shared.node);
    let mut command = Commands::default();
    command.push(&[b"SPUBLISH", channel.as_bytes(), b"probe"]);
    (Way::Read, Item { partition, command })
}
