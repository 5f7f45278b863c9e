//! What a worker tells traces. Each hook asks [`Traces::on`](crate::trace::Traces::on) first: without a trace it is one
//! relaxed load.

use common::{receipts::Reader, topic::TopicKey};

use super::{
    Shared, Worker,
    filter::Filter,
    session::{Phase, Session},
};
use crate::{
    receive::Outgoing,
    trace::{Line, Trace, Why},
};

/// Sessions of a message that a trace of a topic names one by one; the rest is in the sums.
const NAMED: usize = 100;

/// Something became of a message on its way to a session: `queued`, `conflated`, `replayed`.
pub(super) fn message(shared: &Shared, event: &'static str, reader: &Reader, outgoing: &Outgoing) {
    if shared.traces.on() {
        shared.traces.message(event, &outgoing.message, reader);
    }
}

/// A session began, or ended for this reason.
pub(super) fn session(shared: &Shared, event: &'static str, reader: &Reader, reason: Option<&'static str>) {
    if shared.traces.on() {
        shared.traces.session(event, reader, reason);
    }
}

/// Sessions of a topic are told that messages may have been lost.
pub(super) fn resync(shared: &Shared, key: &TopicKey) {
    if shared.traces.on() {
        for trace in shared.traces.running().iter() {
            let watched = trace.subject.topic.as_ref().or(trace.subject.user.as_ref());
            if watched == Some(key) {
                trace.put(&Line::topic("resync", key));
            }
        }
    }
}

impl Worker {
    /// A message is about to be put before the members of a topic.
    pub(super) fn trace_fanout(&self, number: u32, outgoing: &Outgoing) {
        if self.shared.traces.on() {
            for trace in self.shared.traces.running().iter() {
                self.trace_for(trace, number, outgoing);
            }
        }
    }

    /// A message came that nobody here has the topic of: a user's is handed to the user's worker, present or not.
    pub(super) fn trace_unknown(&self, outgoing: &Outgoing) {
        if self.shared.traces.on() {
            let message = &outgoing.message;
            for trace in self.shared.traces.running().iter() {
                let subject = &trace.subject;
                if !trace.for_another
                    && subject.topic.is_none()
                    && subject.user.as_ref() == Some(&message.key)
                {
                    trace.put(&Line::nobody(message, Why::NotConnected));
                }
            }
        }
    }

    /// Goes over the sessions once more, beside the delivery path, with the same filter.
    fn trace_for(&self, trace: &Trace, number: u32, outgoing: &Outgoing) {
        let message = &outgoing.message;
        let filter = Filter::new(outgoing, &self.index);
        let why = |session: &Session| self.why_not(session, number, outgoing, &filter);
        let Some(user) = &trace.subject.user else {
            if !trace.is_on(&message.key) {
                return;
            }
            let (mut sent, mut filtered) = (0, 0);
            for session in self.live_members(number) {
                let why = why(session);
                *if why.is_none() { &mut sent } else { &mut filtered } += 1;
                if sent + filtered <= NAMED {
                    trace.put(&Line::outcome(message, why).of(&session.who.reader));
                }
            }
            trace.put(&Line::fanout(message, sent, filtered));
            return;
        };
        if trace.subject.worker != self.number || !trace.is_on(&message.key) {
            return;
        }
        let own = self.index.find(user);
        let sessions = || own.into_iter().flat_map(|own| self.live_members(own));
        let by_topic = trace.subject.topic.is_some();
        if !by_topic && message.key != *user {
            if !sessions().any(|session| has(session, number)) {
                return;
            }
            // Only the user's own topic is watched where messages arrive.
            trace.put_published(message);
        }
        if !trace.for_another && sessions().next().is_none() {
            trace.put(&Line::nobody(message, Why::NotConnected));
        }
        for session in sessions() {
            if by_topic || has(session, number) {
                trace.put(&Line::outcome(message, why(session)).of(&session.who.reader));
            }
        }
    }

    fn live_members(&self, number: u32) -> impl Iterator<Item = &Session> {
        let members = self.index.get(number).map_or(&[][..], |topic| &topic.members[..]);
        members
            .iter()
            .filter_map(|member| self.sessions.get(member.session as usize))
            .filter(|session| session.phase == Phase::Live)
    }

    /// Why the session does not get the message; the filter has the say, this only names its reason.
    fn why_not(
        &self,
        session: &Session,
        number: u32,
        outgoing: &Outgoing,
        filter: &Filter<'_>,
    ) -> Option<Why> {
        let header = &outgoing.message.header;
        let reader = &session.who.reader;
        if outgoing.has_expired() {
            return Some(Why::Expired);
        }
        if !has(session, number) {
            return Some(Why::NotSubscribed);
        }
        if filter.passes(session, self.wheel.now()) {
            let waits = outgoing.message.position.is_some() && session.is_replaying(number);
            return waits.then_some(Why::Replay);
        }
        let required = |key: &TopicKey| self.index.find(key).is_some_and(|topic| has(session, topic));
        Some(if !session.dialect.takes(header.kind) {
            Why::Dialect
        } else if header.except.covers(reader.user.as_str(), &reader.session) {
            Why::Except
        } else if !header.require.iter().all(required) {
            Why::Expression
        } else {
            Why::OtherMember
        })
    }
}

fn has(session: &Session, topic: u32) -> bool {
    session.topics.iter().any(|its| its.topic == topic)
}
