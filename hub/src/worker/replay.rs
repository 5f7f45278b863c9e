//! Sessions that resume, or are new to a last-value topic: history is replayed to them while live messages wait in it.

use std::sync::Arc;

use common::{
    bus::{BusError, Head, History, Replay, resume},
    message::{Message, Position},
    policy::HistoryPolicy,
    protocol::{Dialect, ServerFrame},
    topic::TopicKey,
};

use super::{
    Control, SessionId, Worker,
    filter::Filter,
    patience::patiently,
    session::{Phase, Replaying, Session},
};
use crate::receive::Outgoing;

/// Messages that one read of history asks for.
pub(super) const READ: usize = 1024;

impl Worker {
    /// A session resumes a topic that it has: live messages wait in history until the replay has caught up.
    pub(super) fn begin_replay(&mut self, id: SessionId, number: u32, key: &TopicKey, from: Position) {
        let Some(session) = self.session(id) else { return };
        if session.is_replaying(number) {
            // What is being handed over gives way to what was asked for.
            let replays = &mut session.rare().replays;
            let Some(at) = replays
                .iter()
                .position(|replay| replay.topic == number && replay.unasked)
            else {
                return;
            };
            let given_up = replays.swap_remove(at);
            if let Some(membership) = session.topics.iter_mut().find(|its| its.topic == number) {
                membership.joined = given_up.joined as u32;
            }
        }
        session.rare().named.push(number);
        self.start_replay(id, number, key, from, false);
    }

    /// Where a new member of a topic stands. In a last-value topic that is before all of its values: they come next, and who
    /// is cut off before them has to get them when it comes back.
    pub(super) fn begins_at(&self, number: u32) -> Option<Position> {
        let live = self.index.get(number)?.progress.position()?;
        Some(if self.index.policy(number).history == HistoryPolicy::LastValue {
            before_all(live)
        } else {
            live
        })
    }

    /// A new member of a last-value topic is handed the newest value of each key; live messages wait until it has them.
    pub(super) fn hand_over(&mut self, id: SessionId, number: u32, key: &TopicKey) {
        let Some(topic) = self.index.get(number) else {
            return;
        };
        let Some(live) = topic.progress.position() else {
            return;
        };
        if self.index.policy(number).history != HistoryPolicy::LastValue || live.offset == 0 {
            return;
        }
        self.start_replay(id, number, key, before_all(live), true);
    }

    fn start_replay(&mut self, id: SessionId, number: u32, key: &TopicKey, from: Position, unasked: bool) {
        let Some(live) = self.index.get(number).and_then(|topic| topic.progress.position()) else {
            return;
        };
        let Some(session) = self.session(id) else { return };
        let Some(membership) = session.topics.iter_mut().find(|its| its.topic == number) else {
            return;
        };
        // The low bits say how far the topic has come since the session joined.
        let since = u64::from((live.offset as u32).wrapping_sub(membership.joined));
        let joined = live.offset.saturating_sub(since);
        if unasked {
            membership.hand_over(live.offset);
            // So that a pong behind the values says where the topic stands, also where the last one is for others.
            membership.told = 0;
        }
        let rare = session.rare();
        let serial = rare.next_replay;
        rare.next_replay = serial.wrapping_add(1);
        let replaying = Replaying {
            serial,
            topic: number,
            key: key.clone(),
            from,
            unasked,
            joined,
            began: live.offset,
            asked: live.offset,
            parked: false,
        };
        self.read_replay(id, replaying);
    }

    fn read_replay(&mut self, id: SessionId, replaying: Replaying) {
        let Some(session) = self.session(id) else { return };
        let (serial, key) = (replaying.serial, replaying.key.clone());
        // From one before, so that the message at the position itself can be compared.
        let after = replaying.from.offset.saturating_sub(1);
        session.rare().replays.push(replaying);
        let bus = self.shared.bus.clone();
        self.ask(async move {
            // Whoever comes back while the bus is away for a moment has lost nothing by that.
            let history = patiently(|| bus.history(&key, after, READ)).await;
            Control::Replayed(id, serial, history)
        });
    }

    /// History after a session's position was read.
    pub(super) fn replayed(&mut self, id: SessionId, serial: u32, history: Result<History, BusError>) {
        let Some(session) = self.session(id).filter(|session| session.phase == Phase::Live) else {
            return;
        };
        let Some(rare) = &mut session.rare else { return };
        let Some(place) = rare.replays.iter().position(|replay| replay.serial == serial) else {
            return;
        };
        let mut replay = rare.replays.swap_remove(place);
        let Some(live) = self
            .index
            .get(replay.topic)
            .and_then(|topic| topic.progress.position())
        else {
            return;
        };
        let history = match history {
            Ok(history) if history.head.epoch == live.epoch => history,
            Ok(_) => return self.end_replay(id, &replay, Err("new_epoch")),
            Err(_) => return self.end_replay(id, &replay, Err("bus_away")),
        };
        let head = history.head;
        // A read that was limited is whole up to where it came.
        let read = limited(history);
        let missed = if replay.unasked {
            // Whoever is new has missed nothing: what there is, is all.
            let behind =
                |message: &&Arc<Message>| message.position.is_some_and(|at| at.offset > replay.from.offset);
            Replay::Missed(read.messages.iter().filter(behind).cloned().collect())
        } else {
            resume(replay.from, &read)
        };
        let Replay::Missed(missed) = missed else {
            return self.end_replay(id, &replay, Err("not_in_history"));
        };
        let began_at = replay.from;
        // What lies behind the worker's own place comes to it, and to this session, as live messages.
        for message in missed {
            let Some(at) = message.position.filter(|at| at.offset <= live.offset) else {
                break;
            };
            if self.session_ref(id).is_some_and(Session::is_blocked) {
                self.park(id, replay);
                return;
            }
            replay.from = at;
            if at.offset <= replay.joined || at.offset > replay.began {
                self.replay_one(id, &Outgoing::new(message), !replay.unasked);
            }
        }
        if read.superseded_after.is_some() && replay.from.offset <= live.offset {
            // Values of a last-value topic that have gone have newer ones: the read is whole up to its head, whatever
            // stands there.
            let head = read.head.position();
            replay.from = if head.offset < live.offset { head } else { live };
        }
        if replay.from.offset > live.offset {
            // The client was further on another node than this worker is: what it has must not come to it again as live
            // messages. They are on their way, or were lost; so the worker is healed, and the replay waits for it.
            self.catch_up(replay.topic, head);
            replay.asked = live.offset;
            self.read_replay(id, replay);
        } else if replay.from.offset == live.offset {
            self.end_replay(id, &replay, Ok(live));
        } else if replay.from == began_at && replay.from.offset < replay.asked {
            // The read should have come at least as far as the worker had when it was asked.
            self.end_replay(id, &replay, Err("not_in_history"));
        } else {
            replay.asked = live.offset;
            self.read_replay(id, replay);
        }
    }

    fn park(&mut self, id: SessionId, mut replay: Replaying) {
        replay.parked = true;
        if let Some(session) = self.session(id) {
            session.rare().replays.push(replay);
        }
    }

    /// All that waited for the session's socket has gone out: replays go on where they stopped.
    pub(super) fn unpark(&mut self, id: SessionId) {
        let Some(rare) = self.session(id).and_then(|session| session.rare.as_mut()) else {
            return;
        };
        let parked: Vec<Replaying> = rare.replays.extract_if(.., |replay| replay.parked).collect();
        for mut replay in parked {
            replay.parked = false;
            self.read_replay(id, replay);
        }
    }

    fn replay_one(&mut self, id: SessionId, outgoing: &Outgoing, asked: bool) {
        if outgoing.has_expired() {
            return;
        }
        let filter = Filter::new(outgoing, &self.index);
        let Some(session) = self
            .session_ref(id)
            .filter(|session| session.phase == Phase::Live)
        else {
            return;
        };
        if filter.passes_replay(session) {
            super::trace::message(&self.shared, "replayed", &session.who.reader, outgoing);
            if let Some(session) = self.session(id).filter(|_| asked) {
                session.rare().replayed += 1;
            }
            self.shared.metrics.replayed.inc();
            self.shared.metrics.deliveries.inc();
            self.send_replayed(id, outgoing);
        }
    }

    /// A topic's replay is done, or refused for a reason; with the last one the client is told.
    fn end_replay(&mut self, id: SessionId, replay: &Replaying, at: Result<Position, &'static str>) {
        let Some(session) = self.session(id).filter(|session| session.phase == Phase::Live) else {
            return;
        };
        if replay.unasked {
            session.forget_rare();
            if at.is_err() {
                self.values_cannot_be_told(id, replay);
            }
            return;
        }
        let handed_over = session
            .topics
            .iter()
            .any(|its| its.topic == replay.topic && its.was_handed_over());
        match at {
            Ok(at) => drop(
                session
                    .rare()
                    .recovered
                    .insert(replay.key.public_name(), at.to_string()),
            ),
            Err(reason) => self.note_resync(id, replay.key.public_name(), reason),
        }
        self.tell_recovered(id);
        if at.is_err() && !handed_over {
            // What was missed cannot be told, but how things are now can.
            self.hand_over(id, replay.topic, &replay.key);
        }
    }

    /// One topic of a session's `resume` cannot be told; the client is, with the others.
    pub(super) fn note_resync(&mut self, id: SessionId, topic: String, reason: &'static str) {
        let Some(session) = self.session(id) else { return };
        let reader = session.who.reader.session.clone();
        tracing::debug!(session = %reader, %topic, reason, "a session is told to resync");
        session.rare().resync.push(topic);
        self.shared.metrics.resynced(reason);
    }

    /// The bus did not answer, or the topic began anew meanwhile.
    fn values_cannot_be_told(&mut self, id: SessionId, replay: &Replaying) {
        let Some(session) = self.session(id) else { return };
        if session.dialect == Dialect::CarillonV1 {
            self.shared.metrics.resynced("new_epoch");
            let topics = vec![replay.key.public_name()];
            self.send_json(id, ServerFrame::Resync { topics }.to_json());
        }
    }

    /// The session left a topic, or could not get it: its `resume` goes on without.
    pub(super) fn resume_ends_without(&mut self, id: SessionId, key: &TopicKey) {
        let Some(session) = self.session(id) else { return };
        let Some(rare) = &mut session.rare else { return };
        rare.replays
            .retain(|replay| !(replay.unasked && replay.key == *key));
        let before = rare.replays.len() + rare.resume_after_join.len();
        rare.replays.retain(|replay| replay.key != *key);
        rare.resume_after_join.retain(|(waiting, _)| waiting != key);
        if rare.replays.len() + rare.resume_after_join.len() < before {
            self.note_resync(id, key.public_name(), "left");
            self.tell_recovered(id);
        }
    }

    /// Tells a session how its `resume` ended, when all of its topics are done.
    pub(super) fn tell_recovered(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let answers = session.stream.answers();
        let rare = session.rare();
        if rare.is_resuming() {
            // Who reads an answer is told at once, so that every frame behind it has a position to come back with; a
            // socket's client keeps the old ones until all is answered.
            if !answers && !rare.resync.is_empty() {
                let topics = std::mem::take(&mut rare.resync);
                self.send_json(id, ServerFrame::Resync { topics }.to_json());
            }
            return;
        }
        let positions = std::mem::take(&mut rare.recovered);
        let topics = std::mem::take(&mut rare.resync);
        let count = std::mem::take(&mut rare.replayed);
        if !topics.is_empty() {
            self.send_json(id, ServerFrame::Resync { topics }.to_json());
        }
        self.send_json(id, ServerFrame::Recovered { positions, count }.to_json());
        let Some(session) = self.session(id) else { return };
        if let Some(outbound) = &mut session.outbound {
            outbound.count_on();
        }
        // Not before: what the answer speaks of must not be dropped in front of it.
        session.rare().named.clear();
        session.forget_rare();
    }
}

/// The position before the first message of an epoch.
fn before_all(at: Position) -> Position {
    Position {
        epoch: at.epoch,
        offset: 0,
        check: 0,
    }
}

/// A history whose head is its last message, where the read stopped at its limit.
fn limited(mut history: History) -> History {
    if history.messages.len() == READ
        && let Some(last) = history.messages.last()
        && let Some(at) = last.position
    {
        history.head = Head {
            epoch: at.epoch,
            offset: at.offset,
            id: Some(last.header.id),
        };
    }
    history
}
