//! Fan-out: messages become places on the sessions concerned; each session is then flushed once for all that it has
//! pending. Nothing is serialised, copied or allocated for a recipient.
//!
//! Several fan-outs run at once, in slices: those to few sessions go first, those to many take turns. What comes while a
//! large one is on its way joins it, so that under load one write takes several frames, and an idle worker writes at once.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{message::FrameKind, receipts::Receipt};
use smallvec::SmallVec;

use super::{
    SessionId, Worker,
    filter::Filter,
    places::Places,
    recovery::{Arrival, Lost},
    session::{Phase, Session},
    turns::{FEW, Turns},
};
use crate::{receive::Outgoing, ws};

/// A fan-out yields after this much writing.
const SLICE: Duration = Duration::from_millis(1);

/// Sockets between two looks at the clock.
const STRIDE: usize = 32;

/// For fewer sockets a ring is not worth its call.
#[cfg(target_os = "linux")]
const RING_FROM: usize = 8;

/// Fan-outs that are on their way.
#[derive(Debug)]
pub(super) struct Fanout {
    /// Their messages; sessions hold places in it.
    pub(super) places: Places,
    /// Who is flushed next.
    turns: Turns,
}

impl Fanout {
    pub(super) fn new(deflate_from: usize) -> Self {
        Self {
            places: Places::new(deflate_from),
            turns: Turns::default(),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        !self.turns.is_empty()
    }
}

impl Worker {
    /// Takes messages that waited together.
    pub(super) fn begin_fanout(&mut self, waiting: &mut Vec<Arc<Outgoing>>) {
        for outgoing in waiting.drain(..) {
            let Some(number) = self.index.find(&outgoing.message.key) else {
                self.trace_unknown(&outgoing);
                continue;
            };
            let Some(topic) = self.index.get_mut(number) else {
                continue;
            };
            match topic.progress.arrived(&outgoing) {
                Arrival::Deliver => self.put_before(number, &outgoing),
                Arrival::Nothing => {}
                Arrival::Heal(after) => self.read_missing(&outgoing.message.key, after),
                Arrival::Resync => {
                    self.resync(number, Lost::NewEpoch);
                    self.put_before(number, &outgoing);
                }
            }
        }
    }

    /// Whether so many messages can be put before the members of a topic without writing to many sockets at once.
    pub(super) fn has_room(&self, number: u32, messages: usize) -> bool {
        let is_small = |topic: &super::index::Topic| topic.members.len() <= FEW;
        messages <= self.fanout.places.free() || self.index.get(number).is_none_or(is_small)
    }

    /// Whether a topic has many members, so that what is put before them is bounded.
    pub(super) fn is_large(&self, number: u32) -> bool {
        self.index
            .get(number)
            .is_some_and(|topic| topic.members.len() > FEW)
    }

    /// Marks a message on every session of its topic that gets it. Where there is no place, each is written to at once,
    /// behind what it has pending; who puts many messages before a large topic asks for room first.
    pub(super) fn put_before(&mut self, number: u32, outgoing: &Arc<Outgoing>) {
        self.trace_fanout(number, outgoing);
        if outgoing.has_expired() {
            return;
        }
        let now = self.wheel.now();
        let filter = Filter::new(outgoing, &self.index);
        let Some(topic) = self.index.get(number) else {
            return;
        };
        let place = self.fanout.places.reserve();
        let few = topic.members.len() <= FEW;
        let list = self.fanout.turns.list(number, topic.members.len());
        let mut reached = 0;
        let mut at_once = Vec::new();
        let mut pings: SmallVec<[SessionId; 4]> = SmallVec::new();
        for member in &topic.members {
            let Some(session) = self.sessions.get_mut(member.session as usize) else {
                continue;
            };
            if !gets(session, &filter, outgoing, number, now) {
                continue;
            }
            reached += 1;
            let id = SessionId {
                slot: member.session,
                generation: session.generation,
            };
            match place {
                // What goes to few is not to wait for the turn of a larger fan-out that the session is in.
                Some(place) if session.pending.add(place) || few => list.push_back(id),
                Some(_) => {}
                None => at_once.push(id),
            }
            if asks_by_ping(session, outgoing) {
                pings.push(id);
            }
        }
        if let Some(place) = place.filter(|_| reached > 0) {
            self.fanout.places.put(place, Arc::clone(outgoing), reached);
        }
        for id in at_once {
            self.send_outgoing(id, outgoing);
        }
        self.after_put(outgoing, reached.into(), pings);
    }

    fn after_put(&mut self, outgoing: &Outgoing, reached: u64, pings: SmallVec<[SessionId; 4]>) {
        let header = &outgoing.message.header;
        self.shared.metrics.deliveries.inc_by(reached);
        for id in pings {
            self.ping_for_receipt(id, header.id);
        }
        if reached > 0 && header.report && header.kind == FrameKind::Notification {
            let key = outgoing.message.key.clone();
            self.shared
                .receipts
                .hand_on(Receipt::Written { key, id: header.id });
        }
    }

    /// A client of the seeds' dialect never acknowledges: it answers the ping right behind the message.
    fn ping_for_receipt(&mut self, id: SessionId, message: common::ids::MessageId) {
        // Pings that nobody answers must not pile up.
        const MAX_UNANSWERED: usize = 256;
        let Some(session) = self.session(id) else { return };
        let rare = session.rare();
        let serial = rare.next_ping;
        rare.next_ping = serial.wrapping_add(1);
        if rare.pings.len() == MAX_UNANSWERED {
            rare.pings.pop_front();
        }
        rare.pings.push_back((serial, message));
        // Behind the message, also where that waits: in the data lane.
        self.send(id, ws::encode_ping(format!("r{serial}").as_bytes()));
    }

    /// Flushes sessions for at most a slice of time: of topics with few members, or of the large one whose turn it is.
    pub(super) fn flush_slice(&mut self) {
        if let Some(mut turn) = self.fanout.turns.begin() {
            self.flush_some(&mut turn.sessions);
            self.fanout.turns.end(turn);
        }
    }

    fn flush_some(&mut self, sessions: &mut VecDeque<SessionId>) {
        #[cfg(target_os = "linux")]
        if sessions.len() >= RING_FROM && self.ring.is_some() {
            self.flush_by_ring(sessions);
            return;
        }
        let began = Instant::now();
        loop {
            for _ in 0..STRIDE {
                let Some(id) = sessions.pop_front() else { return };
                self.flush_pending(id);
            }
            if began.elapsed() >= SLICE {
                return;
            }
        }
    }
}

fn gets(session: &Session, filter: &Filter<'_>, outgoing: &Outgoing, topic: u32, now: u32) -> bool {
    session.phase == Phase::Live
        && filter.passes(session, now)
        // It comes with the replay.
        && !(session.is_replaying(topic) && outgoing.message.position.is_some())
}

fn asks_by_ping(session: &Session, outgoing: &Outgoing) -> bool {
    outgoing.message.header.receipt && session.dialect != common::protocol::Dialect::CarillonV1
}
