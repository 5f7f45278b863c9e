//! Gaps of the worker, and sessions that resume: both read history and go on where nothing is missing.

use std::sync::Arc;

use common::{
    bus::{BusError, Head, History, Replay, resume},
    message::Position,
    protocol::ServerFrame,
    topic::TopicKey,
};

use super::{
    Control, SessionId, Worker,
    fanout::Filter,
    recovery::{Arrival, Healed},
    session::Phase,
};
use crate::receive::Outgoing;

/// Messages that one read of history asks for.
const READ: usize = 1024;

/// Topics of one comparison with the bus.
const COMPARE: usize = 1000;

impl Worker {
    /// Reads what is missing after an offset.
    pub(super) fn read_missing(&self, key: &TopicKey, after: u64) {
        let bus = self.shared.bus.clone();
        let key = key.clone();
        self.ask(async move {
            let history = bus.history(&key, after, READ).await;
            Control::Healed(key, history)
        });
    }

    /// What was missing has been read.
    pub(super) fn healed(&mut self, key: &TopicKey, history: Result<History, BusError>) {
        let Some(number) = self.index.find(key) else { return };
        let Some(topic) = self.index.get_mut(number) else { return };
        match history {
            Ok(history) => {
                let healed = topic.progress.heal(&history);
                self.shared.metrics.healed.inc();
                self.hand_on(number, key, healed);
            }
            Err(error) => {
                tracing::warn!(%error, topic = %key, "a gap cannot be read now");
                topic.progress.give_up();
            }
        }
    }

    /// Hands on what a healing or a confirmation brought.
    pub(super) fn hand_on(&mut self, number: u32, key: &TopicKey, healed: Healed) {
        if healed.resync {
            self.resync(number);
        }
        for outgoing in healed.deliver {
            self.put_before(number, outgoing);
        }
        if let Some(after) = healed.again {
            self.read_missing(key, after);
        }
    }

    /// Tells all members of a topic that messages may have been lost.
    pub(super) fn resync(&mut self, number: u32) {
        let Some(topic) = self.index.get(number) else { return };
        self.shared.metrics.resyncs.inc();
        let frame = ServerFrame::Resync { topics: vec![topic.key.public_name()] }.to_json();
        let members: Vec<u32> = topic.members.iter().map(|member| member.session).collect();
        for slot in members {
            let Some(session) = self.sessions.get(slot as usize) else { continue };
            if session.phase == Phase::Live && session.dialect == common::protocol::Dialect::CarillonV1 {
                self.send_json(SessionId { slot, generation: session.generation }, frame.clone());
            }
        }
    }

    /// Compares a share of the topics with the bus.
    pub(super) fn compare_heads(&self, part: usize, parts: usize) {
        let keys = self.index.confirmed_share(part, parts);
        for keys in keys.chunks(COMPARE).map(<[TopicKey]>::to_vec) {
            let bus = self.shared.bus.clone();
            self.ask(async move {
                // A bus that cannot be reached is noticed elsewhere; the next comparison comes.
                let heads = bus.heads(&keys).await.unwrap_or_default();
                Control::Heads(keys, heads)
            });
        }
    }

    pub(super) fn compared(&mut self, keys: &[TopicKey], heads: &[Head]) {
        for (key, head) in keys.iter().zip(heads) {
            let Some(number) = self.index.find(key) else { continue };
            let Some(topic) = self.index.get_mut(number) else { continue };
            match topic.progress.compare(*head) {
                Arrival::Heal(after) => self.read_missing(key, after),
                Arrival::Resync => self.resync(number),
                Arrival::Deliver | Arrival::Nothing => {}
            }
        }
    }

    /// A session resumes a topic that it has: live messages wait in history until the replay has caught up.
    pub(super) fn begin_replay(&mut self, id: SessionId, number: u32, key: &TopicKey, from: Position) {
        let Some(session) = self.session(id) else { return };
        let Some(membership) = session.topics.iter_mut().find(|its| its.topic == number) else { return };
        if membership.replaying {
            return;
        }
        membership.replaying = true;
        session.rare().replaying += 1;
        self.read_replay(id, key.clone(), from);
    }

    fn read_replay(&self, id: SessionId, key: TopicKey, from: Position) {
        let bus = self.shared.bus.clone();
        self.ask(async move {
            // From one before, so that the message at the position itself can be compared.
            let history = bus.history(&key, from.offset.saturating_sub(1), READ).await;
            Control::Replayed(id, key, from, history)
        });
    }

    /// History after a session's position was read.
    pub(super) fn replayed(&mut self, id: SessionId, key: &TopicKey, from: Position, history: Result<History, BusError>) {
        let Some(number) = self.index.find(key) else { return };
        let Some(live) = self.index.get(number).and_then(|topic| topic.progress.position()) else { return };
        if self.session(id).is_none_or(|session| session.phase != Phase::Live) {
            return;
        }
        let replay = match &history {
            // A read that was limited is whole up to where it came.
            Ok(history) => resume(from, &limited(history)),
            Err(_) => Replay::Resync,
        };
        let (Replay::Missed(missed), Ok(history)) = (replay, history) else {
            self.end_replay(id, number, key, None);
            return;
        };
        if history.head.epoch != live.epoch {
            self.end_replay(id, number, key, None);
            return;
        }
        // What lies behind the worker's own place comes to it, and to this session, as live messages.
        let mut reached = from;
        for message in missed {
            let Some(at) = message.position.filter(|at| at.offset <= live.offset) else { break };
            reached = at;
            self.replay_one(id, number, Outgoing::new(message));
        }
        if reached.offset < live.offset {
            if reached == from {
                self.end_replay(id, number, key, None);
            } else {
                self.read_replay(id, key.clone(), reached);
            }
            return;
        }
        self.end_replay(id, number, key, Some(live));
    }

    fn replay_one(&mut self, id: SessionId, number: u32, outgoing: Outgoing) {
        let now = self.wheel.now();
        let filter = Filter::new(&outgoing, &self.index);
        // Copies held back by an earlier member of `any_of` are not: that member is being replayed as well.
        let Some(session) = self.sessions.get(id.slot as usize).filter(|s| s.generation == id.generation) else { return };
        debug_assert!(session.topics.iter().any(|its| its.topic == number));
        if filter.passes(session, now) {
            if let Some(session) = self.session(id) {
                session.rare().replayed += 1;
            }
            self.shared.metrics.replayed.inc();
            self.shared.metrics.deliveries.inc();
            self.send(id, outgoing.frame);
        }
    }

    /// A topic's replay is done, or refused where `at` is none; with the last one the client is told.
    fn end_replay(&mut self, id: SessionId, number: u32, key: &TopicKey, at: Option<Position>) {
        let Some(session) = self.session(id) else { return };
        if let Some(membership) = session.topics.iter_mut().find(|its| its.topic == number) {
            membership.replaying = false;
        }
        let rare = session.rare();
        rare.replaying = rare.replaying.saturating_sub(1);
        match at {
            Some(at) => drop(rare.recovered.insert(key.public_name(), at.to_string())),
            None => rare.resync.push(key.public_name()),
        }
        self.tell_recovered(id);
    }

    /// Tells a session how its `resume` ended, when all of its topics are done.
    pub(super) fn tell_recovered(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let rare = session.rare();
        if rare.replaying > 0 || !rare.resume_after_join.is_empty() {
            return;
        }
        let positions = std::mem::take(&mut rare.recovered);
        let topics = std::mem::take(&mut rare.resync);
        let count = std::mem::take(&mut rare.replayed);
        session.forget_rare();
        if !topics.is_empty() {
            self.shared.metrics.resyncs.inc();
            self.send_json(id, ServerFrame::Resync { topics }.to_json());
        }
        self.send_json(id, ServerFrame::Recovered { positions, count }.to_json());
    }
}

/// A history whose head is its last message, where the read stopped at its limit.
fn limited(history: &History) -> History {
    let mut whole = History { head: history.head, messages: history.messages.iter().map(Arc::clone).collect() };
    if history.messages.len() == READ
        && let Some(last) = history.messages.last()
        && let Some(at) = last.position
    {
        whole.head = Head { epoch: at.epoch, offset: at.offset, id: Some(last.header.id) };
    }
    whole
}
