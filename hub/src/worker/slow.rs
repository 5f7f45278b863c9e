//! Readers that are too slow: what their topics' policies do about it, and what is counted.

use std::sync::Arc;

use bytes::Bytes;
use common::{
    message::Position,
    policy::SlowPolicy,
    protocol::{Close, Dialect},
    receipts::Reader,
    topic::TopicKey,
};

use super::{
    SessionId, Shared, Worker,
    index::Index,
    outbound::{Outbound, Relief, Terms, effective},
    session::{Phase, Session},
    session_of,
};
use crate::{receive::Outgoing, ws};

/// What a worker last told the node's gauges of its blocked sessions.
#[derive(Debug, Default)]
pub(super) struct Blocked {
    sessions: i64,
    bytes: i64,
}

/// What the kernel did not take of a message, on its way into a session's queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused<'a> {
    pub(super) outgoing: &'a Arc<Outgoing>,
    /// The message's frame as it goes to the session.
    pub(super) frame: &'a Bytes,
    /// Bytes of it that the kernel took.
    pub(super) written: usize,
}

impl Refused<'_> {
    /// Puts it behind what waits. A frame of which a part was taken has to be written whole; where its policy would let it go,
    /// its age is no reason to evict.
    pub(super) fn queue(
        self,
        outbound: &mut Outbound,
        index: &Index,
        shared: &Shared,
        reader: &Reader,
        now: u32,
    ) {
        let Self {
            outgoing,
            frame,
            written,
        } = self;
        // Asked only for what a socket refused, so that a look-up costs the delivery path nothing.
        let policy = index
            .find(&outgoing.message.key)
            .map_or_else(SlowPolicy::default, |number| index.policy(number).slow);
        shared.metrics.queued.inc();
        super::trace::message(shared, "queued", reader, outgoing);
        if written > 0 {
            let ages = effective(outgoing, policy) == SlowPolicy::Evict;
            outbound.push_torn(frame.clone(), written, ages, now);
        } else if outbound.push_message(outgoing, frame, policy, now) {
            shared.metrics.conflated.inc();
            super::trace::message(shared, "conflated", reader, outgoing);
        }
    }
}

/// The topics of a session's `resume` that is not answered.
fn resuming(session: &Session, index: &Index) -> Vec<TopicKey> {
    let Some(rare) = &session.rare else {
        return Vec::new();
    };
    let topics = rare.named.iter().filter_map(|number| index.get(*number));
    topics.map(|topic| topic.key.clone()).collect()
}

impl Worker {
    /// Something was queued: where it is too much, policies say what goes.
    pub(super) fn relieve(&mut self, id: SessionId) {
        let bounds = self.bounds;
        let Some(session) =
            session_of(&mut self.sessions, id).filter(|session| session.phase != Phase::Closing)
        else {
            return;
        };
        let resuming = resuming(session, &self.index);
        let terms = Terms {
            takes_gaps: session.dialect == Dialect::CarillonV1,
            resuming: &resuming,
        };
        let Some(outbound) = &mut session.outbound else {
            return;
        };
        let relief = outbound.relieve(&bounds, terms);
        self.relieved(id, relief);
    }

    /// Each second: what has waited for too long.
    pub(super) fn look_at_blocked(&mut self) {
        let now = self.wheel.now();
        let bounds = self.bounds;
        let mut seen = Blocked::default();
        for id in std::mem::take(&mut self.blocked) {
            let expired = &self.shared.metrics.expired;
            let Some(session) = session_of(&mut self.sessions, id) else {
                continue;
            };
            let resuming = resuming(session, &self.index);
            let terms = Terms {
                takes_gaps: session.dialect == Dialect::CarillonV1,
                resuming: &resuming,
            };
            let closing = session.phase == Phase::Closing;
            let Some(outbound) = &mut session.outbound else {
                continue;
            };
            if !closing {
                expired.inc_by(outbound.expire(unix_ms));
                let relief = outbound.relieve_aged(&bounds, terms, now);
                self.relieved(id, relief);
            }
            if let Some(outbound) = self.session_ref(id).and_then(|session| session.outbound.as_ref()) {
                seen.sessions += 1;
                seen.bytes += i64::try_from(outbound.bytes()).unwrap_or(i64::MAX);
                self.blocked.insert(id);
            }
        }
        let metrics = &self.shared.metrics;
        metrics
            .blocked_sessions
            .inc_by(seen.sessions - self.told_blocked.sessions);
        metrics.waiting_bytes.inc_by(seen.bytes - self.told_blocked.bytes);
        self.told_blocked = seen;
    }

    fn relieved(&mut self, id: SessionId, relief: Relief) {
        let metrics = &self.shared.metrics;
        metrics.dropped_oldest.inc_by(relief.dropped);
        metrics.gaps_told.inc_by(relief.gaps);
        if relief.dropped > 0
            && let Some(session) = self.session_ref(id)
        {
            super::trace::session(&self.shared, "dropped", &session.who.reader, Some("drop_oldest"));
        }
        for (key, newest) in relief.lost {
            self.has_to_be_replayed(id, &key, newest);
        }
        if let Some(excess) = relief.evict {
            self.shared.metrics.evicted(excess.label());
            self.evict(id);
        }
    }

    /// Messages up to this one were dropped: a `resume` gives them again, though they came while the session was there.
    fn has_to_be_replayed(&mut self, id: SessionId, key: &TopicKey, newest: Position) {
        let Some(number) = self.index.find(key) else {
            return;
        };
        let epoch = self
            .index
            .get(number)
            .and_then(|topic| topic.progress.position())
            .map(|at| at.epoch);
        if epoch != Some(newest.epoch) {
            // Positions of an epoch that ended are refused anyway.
            return;
        }
        let Some(session) = self.session(id) else { return };
        if let Some(its) = session.topics.iter_mut().find(|its| its.topic == number) {
            let ahead = (newest.offset as u32).wrapping_sub(its.joined);
            // Low bits of offsets less than two thousand million apart.
            if ahead <= u32::MAX / 2 {
                its.joined = newest.offset as u32;
            }
        }
    }

    /// A slow consumer: what waits is dropped, the client is told 4008 if it ever reads again, and may resume.
    fn evict(&mut self, id: SessionId) {
        let close = ws::encode_close(Close::SlowConsumer.code(), Close::SlowConsumer.text());
        let Some(session) = self.session(id).filter(|session| session.phase != Phase::Closing) else {
            return;
        };
        if let Some(outbound) = &mut session.outbound {
            outbound.end_with(close);
        }
        self.begin_closing(id, Close::SlowConsumer.label());
    }
}

/// The time by which messages expire.
pub(super) fn unix_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
