//! A session: one authenticated connection, owned by its worker.

use std::{fmt, sync::Arc};

use common::{
    ids::MessageId,
    message::Position,
    protocol::{Command, Dialect},
    receipts::Reader,
    token::Identity,
    topic::{TopicKey, matches_pattern},
};
use tokio::task::AbortHandle;

use super::{Transport, index::Membership, outbound::Outbound, places::Pending};
use crate::{limits::Seat, receive::Wire};

/// A session's number on its worker. Numbers are used again, generations are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// Who a session is: shared between the worker and what reads for it.
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) reader: Reader,
    /// Until when its token holds, Unix seconds.
    pub(crate) expires_at: i64,
    /// Patterns of topics that its token lets it subscribe to.
    topics: Box<[Box<str>]>,
}

impl Who {
    /// Keeps of a token what a session is asked for later; its roles and stores stand in the keys.
    pub(crate) fn new(identity: Identity, reader: Reader) -> Self {
        Self {
            reader,
            expires_at: identity.expires_at,
            topics: identity.topics.into_iter().map(String::into_boxed_str).collect(),
        }
    }

    /// The same, until another time.
    pub(crate) fn until(&self, expires_at: i64) -> Self {
        Self {
            reader: self.reader.clone(),
            expires_at,
            topics: self.topics.clone(),
        }
    }

    /// Whether this was made of a token that says the same.
    pub(crate) fn is_of(&self, identity: &Identity) -> bool {
        self.expires_at == identity.expires_at
            && self.topics.iter().map(|pattern| &**pattern).eq(&identity.topics)
            && *self.reader.keys == *identity.keys()
    }

    /// Whether the token, or one of the public patterns, allows to subscribe to the topic.
    pub(crate) fn may_subscribe(&self, topic: &str, public: &[String]) -> bool {
        let own = self.topics.iter().map(|pattern| &**pattern);
        own.chain(public.iter().map(String::as_str))
            .any(|pattern| matches_pattern(pattern, topic))
    }
}

/// A connection that was upgraded and waits for its worker.
pub(crate) struct NewSession {
    pub(crate) stream: Transport,
    pub(crate) who: Arc<Who>,
    pub(crate) dialect: Dialect,
    pub(crate) wire: Wire,
    /// What the client sent right behind its handshake.
    pub(crate) early: Vec<u8>,
    pub(crate) seat: Seat,
}

impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSession")
            .field("session", &self.who.reader.session)
            .finish_non_exhaustive()
    }
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// So many of its implicit topics are not confirmed yet.
    Joining(u16),
    /// Welcomed.
    Live,
    /// A close frame is on its way or out; nothing else follows.
    Closing,
}

/// One topic of a `resume` whose replay is not done.
#[derive(Debug)]
pub(crate) struct Replaying {
    /// Tells the answers of its reads from those of a replay that was given up.
    pub(crate) serial: u32,
    /// The topic's number; it stands as long as the session is a member.
    pub(crate) topic: u32,
    pub(crate) key: TopicKey,
    /// Up to where the client has it.
    pub(crate) from: Position,
    /// It was not asked for: a new member of a last-value topic is handed its values.
    pub(crate) unasked: bool,
    /// Offsets behind `joined` and up to `began` came to the session live.
    pub(crate) joined: u64,
    pub(crate) began: u64,
    /// Where the worker stood when history was asked last.
    pub(crate) asked: u64,
    /// The socket takes no more now: it goes on when all that was sent has gone out, so that a long replay needs no more
    /// room than any other message.
    pub(crate) parked: bool,
}

/// What a session has only while it resumes or waits for receipts.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    /// Commands that came before the welcome.
    pub(crate) early: Vec<Command>,
    /// Explicit topics that the bus has not confirmed; they count as topics of the session.
    pub(crate) joining: Vec<TopicKey>,
    /// Replays that are not done.
    pub(crate) replays: Vec<Replaying>,
    pub(crate) next_replay: u32,
    /// A `resume` is being read: its answer waits until every topic has been looked at.
    pub(crate) reading_resume: bool,
    /// Numbers of the topics that the `resume` at hand named and that are replayed.
    pub(crate) named: Vec<u32>,
    /// Replayed messages.
    pub(crate) replayed: usize,
    /// Positions of topics whose replay is done.
    pub(crate) recovered: std::collections::BTreeMap<String, String>,
    /// Topics that could not be replayed.
    pub(crate) resync: Vec<String>,
    /// Positions of explicit topics of a `resume` that wait for their confirmation.
    pub(crate) resume_after_join: Vec<(TopicKey, Option<Position>)>,
    /// Seeds: serials of pings that were sent right behind a message that asks for a receipt.
    pub(crate) pings: std::collections::VecDeque<(u32, MessageId)>,
    pub(crate) next_ping: u32,
    /// The token that an operator declared outdated: it does not refresh the session.
    pub(crate) outdated: Option<Arc<Who>>,
}

impl Rare {
    /// Whether a `resume` has not been answered.
    pub(crate) fn is_resuming(&self) -> bool {
        self.reading_resume
            || self.replays.iter().any(|replay| !replay.unasked)
            || !self.resume_after_join.is_empty()
    }

    /// Whether history of the topic is being replayed: live messages with history wait in history.
    pub(crate) fn is_replaying(&self, topic: u32) -> bool {
        self.replays.iter().any(|replay| replay.topic == topic)
    }
}

/// One authenticated connection.
pub(crate) struct Session {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    pub(crate) dialect: Dialect,
    pub(crate) wire: Wire,
    /// Heartbeats without an answer.
    pub(crate) unanswered: u8,
    /// The worker's second in which the client was last heard of.
    pub(crate) heard: u32,
    /// The end of its token is near and on the wheel.
    pub(crate) expiry_watched: bool,
    /// Frames on their way to it.
    pub(crate) pending: Pending,
    pub(crate) topics: Vec<Membership>,
    pub(crate) stream: Arc<Transport>,
    pub(crate) who: Arc<Who>,
    pub(crate) outbound: Option<Box<Outbound>>,
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) reader: AbortHandle,
    pub(crate) seat: Box<Seat>,
}

impl Session {
    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }

    /// Gives back what is only needed while something unusual happens.
    pub(crate) fn forget_rare(&mut self) {
        let unused = |rare: &Rare| {
            !rare.is_resuming()
                && rare.replays.is_empty()
                && rare.early.is_empty()
                && rare.joining.is_empty()
                && rare.pings.is_empty()
                && rare.outdated.is_none()
        };
        if self.rare.as_deref().is_some_and(unused) {
            self.rare = None;
        }
    }

    pub(crate) fn is_replaying(&self, topic: u32) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.is_replaying(topic))
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.outbound.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 128, "{}", size_of::<Session>());
        // With its two counters it has a block of 112 bytes.
        assert!(size_of::<Who>() <= 96, "{}", size_of::<Who>());
        // What is boxed beside it; blocks are of 64 bytes.
        assert!(size_of::<Seat>() <= 64, "{}", size_of::<Seat>());
    }
}
