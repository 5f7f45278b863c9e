//! What is asked for over one connection, and whether it still hears.

mod heard;

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::Ordering,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::super::{
    hearing::{Hearing, Order, State},
    link::{Link, LinkError, Place, Reader, Writer},
    wanted::{Serial, Stand},
    wire::Commands,
};
use crate::topic::{TopicHasher, TopicKey};

/// Channels of one `SSUBSCRIBE`.
const CHANNELS: usize = 512;

/// Channels that may be asked for and not yet confirmed: Redis keeps its answers in memory until they are read.
const UNCONFIRMED: usize = 16 * 1024;

/// Batches of commands that may wait to be written.
const WRITES: usize = 64;

/// What was written and is not answered yet.
enum Written {
    /// Without keys: of the probe.
    Subscribe {
        keys: Vec<TopicKey>,
        missing: usize,
    },
    Unsubscribe(TopicKey),
}

/// A probe through the bus.
enum Probe {
    None,
    /// On its way to Redis.
    Sent(oneshot::Receiver<bool>),
    /// Redis took it then.
    Taken(Instant),
}

pub(super) struct Connection<'a> {
    hearing: &'a Hearing,
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
    /// Since when nothing of it was confirmed.
    asked: Instant,
    /// Topics whose subscription is being ended, and how often: what is said of them until then is of the past.
    leaving: HashMap<TopicKey, usize, TopicHasher>,
    /// When all is confirmed, the node compares its topics.
    tell: bool,
    /// The partition whose probe channel is subscribed.
    probing: Option<usize>,
    probe: Probe,
    /// When the last message came, a probe's included.
    heard: Instant,
    /// A message has come over this connection: confirmations alone do not show that any will.
    proved: bool,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        (hearing, state, place): (&'a Hearing, &'a State, &'a Place),
        link: Link,
        serial: Serial,
    ) -> Self {
        let Link { reader, writer } = link;
        let (writes, waiting) = mpsc::channel(WRITES);
        let within = hearing.dialing.timeout;
        Self {
            hearing,
            state,
            place,
            serial,
            reader,
            writes,
            writing: tokio::spawn(write(writer, waiting, within)),
            written: VecDeque::new(),
            queued: VecDeque::new(),
            unconfirmed: 0,
            asked: Instant::now(),
            leaving: HashMap::default(),
            tell: false,
            probing: None,
            probe: Probe::None,
            heard: Instant::now(),
            proved: false,
        }
    }

    /// Until the connection breaks, or nobody orders any more.
    pub(super) async fn serve(mut self, orders: &mut mpsc::Receiver<Order>) -> Result<(), LinkError> {
        self.state.serial.store(self.serial, Ordering::Release);
        self.subscribe_all().await?;
        let every = (self.hearing.probe_after / 5).clamp(Duration::from_millis(10), Duration::from_secs(1));
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
        let map = self.hearing.map();
        let partitions = 0..self.hearing.names.partitions();
        for partition in partitions.filter(|partition| map.listening(*partition) == Some(self.place)) {
            self.subscribe_partition(partition);
        }
        self.choose_probe().await?;
        self.go_on().await
    }

    /// Asks for what is wanted of a partition and not asked for here. It may have been heard over another connection, here
    /// or at the server that had the partition before.
    fn subscribe_partition(&mut self, partition: usize) {
        let (keys, missed) = self.hearing.wanted().ask(partition, self.serial);
        if missed {
            self.tell = true;
            self.hearing.metrics.resubscribed.inc_by(keys.len() as u64);
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
        let map = self.hearing.map();
        let mut partitions = 0..self.hearing.names.partitions();
        self.probing = partitions.find(|partition| map.listening(*partition) == Some(self.place));
        let Some(partition) = self.probing else {
            return Ok(());
        };
        let channel = self.hearing.names.probe(partition, &self.hearing.node);
        let mut command = Commands::default();
        command.push(&[b"SSUBSCRIBE", channel.as_bytes()]);
        self.expect(Vec::new(), 1);
        self.write(command).await
    }

    fn expect(&mut self, keys: Vec<TopicKey>, missing: usize) {
        if self.unconfirmed == 0 {
            self.asked = Instant::now();
        }
        self.unconfirmed += missing;
        self.written.push_back(Written::Subscribe { keys, missing });
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
            let names = &self.hearing.names;
            {
                // What was left while it waited here is not wanted any more.
                let wanted = self.hearing.wanted();
                keys.retain(|key| wanted.find(key.as_str(), partition).is_some());
            }
            if keys.is_empty() {
                continue;
            }
            let channels: Vec<String> = keys.iter().map(|key| names.channel(partition, key)).collect();
            let mut arguments: Vec<&[u8]> = vec![b"SSUBSCRIBE"];
            arguments.extend(channels.iter().map(String::as_bytes));
            let mut command = Commands::default();
            command.push(&arguments);
            let missing = keys.len();
            self.expect(keys, missing);
            self.write(command).await?;
        }
        if self.unconfirmed == 0 && self.queued.is_empty() {
            if !self.proved && matches!(self.probe, Probe::None) {
                self.send_probe();
            }
            if self.proved && !self.state.restored.swap(true, Ordering::AcqRel) {
                self.hearing.attention.notify_one();
            }
            if std::mem::take(&mut self.tell) {
                self.hearing.events.unsure();
            }
        }
        Ok(())
    }

    fn send_probe(&mut self) {
        if let Some(partition) = self.probing {
            self.hearing.metrics.probes.inc();
            self.probe = Probe::Sent(self.hearing.send_probe(partition));
        }
    }

    async fn write(&self, commands: Commands) -> Result<(), LinkError> {
        let taken = self.writes.send(commands).await;
        taken.map_err(|_| LinkError::Broken("writing failed".to_owned()))
    }

    async fn obey(&mut self, order: Order) -> Result<(), LinkError> {
        let names = &self.hearing.names;
        match order {
            Order::Topics(keys) => {
                let mut keys: Vec<(usize, TopicKey)> =
                    keys.into_iter().map(|key| (names.partition(&key), key)).collect();
                keys.sort_unstable_by_key(|(partition, _)| *partition);
                {
                    let mut wanted = self.hearing.wanted();
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
                    *self.leaving.entry(key.clone()).or_default() += 1;
                    self.written.push_back(Written::Unsubscribe(key));
                    self.write(command).await?;
                }
            }
        }
        self.go_on().await
    }

    /// Looks whether the connection still hears.
    async fn look(&mut self) -> Result<(), LinkError> {
        let limit = self.hearing.dialing.timeout;
        if self.unconfirmed > 0 && self.asked.elapsed() > limit {
            return Err(LinkError::TimedOut);
        }
        if self.probing.is_none() {
            self.choose_probe().await?;
        }
        match &mut self.probe {
            Probe::None => {
                if self.heard.elapsed() >= self.hearing.probe_after || !self.proved {
                    self.send_probe();
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
                    self.hearing.metrics.probes_lost.inc();
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
