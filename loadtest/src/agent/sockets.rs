//! All sockets of a client process: opening, cutting, stalling, coming back.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
};

use mio::{Interest, Registry, Token};

use super::{
    handshake::groups,
    shared::Shared,
    socket::{End, Phase, Reader, Slot},
};
use crate::{
    stamp::Topic,
    times::now_us,
    wire::{Open, Settle, Settled, Setup},
};

/// Handshakes that may fail before a socket that was never open counts as failed.
const TRIES: u32 = 4;
/// First pause before a handshake is tried again, where the server names none; it doubles up to the longest.
const PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 5_000;
/// Longest wait for the end of a handshake, and for the answer to a `resume`.
const LONGEST_ANSWER_US: u64 = 30_000_000;
/// Faulty sockets that are described.
const EXAMPLES: usize = 5;

/// The sockets, by number.
#[derive(Debug)]
pub(super) struct Sockets {
    setup: Setup,
    slots: Vec<Slot>,
    to_open: VecDeque<usize>,
    connecting: u32,
    /// When sockets come back, Unix microseconds.
    timers: BinaryHeap<Reverse<(u64, usize)>>,
    /// Sockets of `open` that are neither open nor given up.
    pub(super) undecided: u32,
    open: u32,
    /// Open ones that do not read.
    stalled: u32,
    pub(super) failed: BTreeMap<String, u32>,
    cuts: Option<Cuts>,
    reader: Reader,
}

#[derive(Debug, Clone, Copy)]
struct Cuts {
    per_second: f64,
    away_us: u64,
    due_us: f64,
}

impl Sockets {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            slots: Vec::new(),
            to_open: VecDeque::new(),
            connecting: 0,
            timers: BinaryHeap::new(),
            undecided: 0,
            open: 0,
            stalled: 0,
            failed: BTreeMap::new(),
            cuts: None,
            reader: Reader::new(),
        }
    }

    pub(super) fn open(&mut self, open: &Open) {
        for index in 0..open.count {
            let topics = (0..open.topics_each)
                .map(|nth| open.first_topic + (index * open.topics_each + nth) % open.topics.max(1))
                .collect();
            self.to_open.push_back(self.slots.len());
            self.slots
                .push(Slot::new(open.first + index, open.as_users, topics));
        }
        self.undecided += open.count;
    }

    pub(super) fn opened(&self) -> u32 {
        self.open
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn aim(&mut self, addresses: Vec<std::net::SocketAddr>) {
        self.setup.addresses = addresses;
    }

    /// Gives up handshakes that are not answered, and sockets whose `resume` is not.
    pub(super) fn look_for_late(&mut self, now: u64, shared: &mut Shared) {
        for index in 0..self.slots.len() {
            let talk = &self.slots[index].talk;
            let waits = match talk.phase {
                Phase::Away => continue,
                Phase::Open => talk.record.resuming() && !talk.stalled,
                _ => true,
            };
            if waits && now > talk.since_us + LONGEST_ANSWER_US {
                let what = if talk.phase == Phase::Open {
                    "its `resume` was not answered in time"
                } else {
                    "its handshake was not answered in time"
                };
                self.ended(index, &End::because(what), shared);
            }
        }
    }

    /// When something is due, Unix microseconds.
    pub(super) fn next_us(&self) -> Option<u64> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let cut = self.cuts.map(|cuts| cuts.due_us as u64);
        timer.into_iter().chain(cut).min()
    }

    pub(super) fn cut_some(&mut self, per_second: f64, away_ms: u64) {
        self.cuts = (per_second > 0.0).then(|| Cuts {
            per_second,
            away_us: away_ms * 1000,
            due_us: now_us() as f64,
        });
    }

    /// Connects and cuts what is due.
    pub(super) fn tick(&mut self, now: u64, shared: &mut Shared, registry: &Registry) {
        while let Some(Reverse((at, index))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            self.to_open.push_back(index);
        }
        while self.connecting < self.setup.connecting {
            let Some(index) = self.to_open.pop_front() else {
                break;
            };
            self.connect(index, shared, registry);
        }
        while let Some(cuts) = &mut self.cuts
            && cuts.due_us <= now as f64
        {
            // Independent cuts: the pauses between them are exponential.
            cuts.due_us += -(1.0 - fastrand::f64()).ln() * 1e6 / cuts.per_second;
            let away_us = cuts.away_us;
            if self.slots.is_empty() {
                break;
            }
            let index = fastrand::usize(..self.slots.len());
            if self.slots[index].talk.phase == Phase::Open && !self.slots[index].talk.stalled {
                self.cut(index, shared);
                self.timers.push(Reverse((now + away_us, index)));
            }
        }
    }

    /// Cuts all at once; they come back at once.
    pub(super) fn cut_all(&mut self, shared: &mut Shared) {
        for index in 0..self.slots.len() {
            if self.slots[index].talk.phase == Phase::Open {
                self.cut(index, shared);
                self.to_open.push_back(index);
            }
        }
    }

    fn cut(&mut self, index: usize, shared: &mut Shared) {
        let slot = &mut self.slots[index];
        slot.drop_stream();
        slot.talk.gone_us = now_us();
        self.open -= 1;
        shared.fewer_members(self.members());
    }

    /// Sockets that a broadcast has to reach.
    fn members(&self) -> u32 {
        self.open - self.stalled
    }

    fn connect(&mut self, index: usize, shared: &mut Shared, registry: &Registry) {
        self.connecting += 1;
        let slot = &mut self.slots[index];
        slot.talk.tries += 1;
        let connected = slot.connect(&self.setup).and_then(|()| {
            if let Some(stream) = &mut slot.stream {
                registry.register(stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            }
            Ok(())
        });
        if let Err(error) = connected {
            self.ended(index, &End::because(format!("{error:#}")), shared);
        }
    }

    /// The poll says something of a socket.
    pub(super) fn event(&mut self, index: usize, writable: bool, ending: bool, shared: &mut Shared) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.stream.is_none() {
            return;
        }
        let before = slot.talk.phase;
        let result = slot.event(&self.setup, shared, &mut self.reader, writable, ending);
        // One read may bring both the answer to the handshake and what ends the socket.
        if before != Phase::Open && slot.talk.phase == Phase::Open {
            self.welcome(index, shared);
        }
        if let Err(end) = result {
            self.ended(index, &end, shared);
        }
    }

    fn welcome(&mut self, index: usize, shared: &mut Shared) {
        self.connecting -= 1;
        self.open += 1;
        let talk = &mut self.slots[index].talk;
        shared.handshakes += 1;
        shared.members += u32::from(!talk.stalled);
        self.stalled += u32::from(talk.stalled);
        if talk.known {
            shared.resumed += 1;
            shared.reopen.add(now_us().saturating_sub(talk.gone_us));
        } else {
            talk.known = true;
            self.undecided -= 1;
        }
        talk.tries = 0;
    }

    fn ended(&mut self, index: usize, end: &End, shared: &mut Shared) {
        let slot = &mut self.slots[index];
        let was_open = slot.talk.phase == Phase::Open;
        slot.drop_stream();
        let talk = &mut slot.talk;
        let (tries, known) = (talk.tries, talk.known);
        if was_open {
            talk.gone_us = now_us();
            *shared.closed.entry(end.reason.clone()).or_default() += 1;
            shared.closed_ever += 1;
            self.open -= 1;
            self.stalled -= u32::from(self.slots[index].talk.stalled);
            shared.fewer_members(self.members());
        } else {
            self.connecting -= 1;
            *shared.refused.entry(end.reason.clone()).or_default() += 1;
        }
        if !known && end.retry_ms.is_none() && tries >= TRIES {
            self.undecided -= 1;
            *self.failed.entry(end.reason.clone()).or_default() += 1;
            return;
        }
        let pause_us = match end.retry_ms {
            // Not before the server said, and spread behind it.
            Some(ms) => ms * 1000 + fastrand::u64(..=ms * 500),
            None => {
                let longest = (PAUSE_MS << tries.min(6)).min(LONGEST_PAUSE_MS) * 1000;
                fastrand::u64(longest / 2..=longest)
            }
        };
        self.timers.push(Reverse((now_us() + pause_us, index)));
    }

    /// So many, evenly spread, stop reading.
    pub(super) fn stall(&mut self, count: u32, shared: &mut Shared) {
        let len = self.slots.len();
        for nth in 0..(count as usize).min(len) {
            let talk = &mut self.slots[nth * len / count as usize].talk;
            self.stalled += u32::from(!talk.stalled && talk.phase == Phase::Open);
            talk.stalled = true;
            talk.was_stalled = true;
        }
        shared.fewer_members(self.members());
    }

    /// The stalled ones read again.
    pub(super) fn wake(&mut self, shared: &mut Shared) {
        for index in 0..self.slots.len() {
            if self.slots[index].talk.stalled {
                self.slots[index].talk.stalled = false;
                self.stalled -= u32::from(self.slots[index].talk.phase == Phase::Open);
                // What came meanwhile is no edge any more, nor is an end.
                self.event(index, true, true, shared);
            }
        }
        shared.members = self.members();
    }

    /// The topics that a socket is a member of.
    fn topics_of(slot: &Slot) -> impl Iterator<Item = Topic> {
        let user = slot.talk.user;
        [Topic::ALL, Topic::user(user)]
            .into_iter()
            .chain(groups(user))
            .chain(slot.talk.topics.iter().map(|topic| Topic::explicit(*topic)))
    }

    /// Whether all that can come has come.
    pub(super) fn complete(&self, truth: &Truth) -> bool {
        self.slots.iter().all(|slot| {
            if slot.talk.was_stalled {
                return truth.keys == 0 || Self::newest(slot, truth);
            }
            slot.talk.phase == Phase::Open
                && !slot.talk.record.resuming()
                && Self::topics_of(slot).all(|topic| {
                    let (sent, failed) = truth.of(topic);
                    match slot.talk.record.sequence(topic) {
                        Some(sequence) => sequence.complete(sent, failed),
                        None => sent as usize <= failed.len(),
                    }
                })
        })
    }

    /// Whether a socket that was stalled has the newest message: with keys, the newest of each.
    fn newest(slot: &Slot, truth: &Truth) -> bool {
        Self::topics_of(slot).all(|topic| {
            let (sent, _) = truth.of(topic);
            let Some(sequence) = slot.talk.record.sequence(topic) else {
                return sent == 0;
            };
            (sent.saturating_sub(truth.keys) + 1..=sent).all(|number| sequence.has(number))
        })
    }

    /// Holds what came against what was sent.
    pub(super) fn settled(&self, truth: &Truth) -> Settled {
        let mut settled = Settled::default();
        for slot in &self.slots {
            let talk = &slot.talk;
            if talk.was_stalled {
                settled.stalled += 1;
                settled.stalled_newest += u32::from(truth.keys > 0 && Self::newest(slot, truth));
                continue;
            }
            settled.not_open += u32::from(talk.phase != Phase::Open);
            settled.checked += 1;
            let mut faulty = false;
            for topic in Self::topics_of(slot) {
                let (sent, failed) = truth.of(topic);
                settled.expected += u64::from(sent).saturating_sub(failed.len() as u64);
                let faults = match talk.record.sequence(topic) {
                    Some(sequence) => sequence.faults(sent, failed),
                    None => crate::check::Sequence::default().faults(sent, failed),
                };
                settled.faults.add(faults);
                if faults.any() {
                    faulty = true;
                    if settled.examples.len() < EXAMPLES {
                        let sequence = talk.record.sequence(topic);
                        let holes = sequence.map_or_else(String::new, |its| its.holes(sent));
                        settled.examples.push(format!(
                            "user u{}, topic {}: {sent} sent, {} lost ({holes}), {} doubled, {} reordered",
                            talk.user,
                            topic.label(),
                            faults.lost,
                            faults.doubled,
                            faults.reordered
                        ));
                    }
                }
            }
            for topic in talk.record.topics() {
                if !Self::topics_of(slot).any(|own| own == topic) {
                    faulty = true;
                    settled.faults.doubled += 1;
                    settled.examples.push(format!(
                        "user u{} got messages of {}, which is not one of its topics",
                        talk.user,
                        topic.label()
                    ));
                }
            }
            settled.faulty += u32::from(faulty);
        }
        settled.examples.truncate(EXAMPLES);
        settled
    }
}

/// What was sent, by topic.
#[derive(Debug, Default)]
pub(super) struct Truth {
    sent: HashMap<Topic, u32>,
    failed: HashMap<Topic, Vec<u32>>,
    keys: u32,
}

impl Truth {
    pub(super) fn new(settle: &Settle) -> Self {
        let mut failed: HashMap<Topic, Vec<u32>> = HashMap::new();
        for (topic, number) in &settle.failed {
            failed.entry(*topic).or_default().push(*number);
        }
        Self {
            sent: settle.sent.iter().copied().collect(),
            failed,
            keys: settle.keys,
        }
    }

    fn of(&self, topic: Topic) -> (u32, &[u32]) {
        let sent = self.sent.get(&topic).copied().unwrap_or(0);
        (sent, self.failed.get(&topic).map_or(&[], Vec::as_slice))
    }
}
