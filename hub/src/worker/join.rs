//! Sessions come and go, and with them the topics of this worker.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use common::{
    protocol::{Close, Dialect, ServerFrame},
    token::{KeyId, TokenError},
    topic::TopicKey,
};

use super::{
    Control, NewSession, SessionId, Worker,
    index::Waiter,
    places::Pending,
    reader,
    session::{Phase, Rare, Session, Who},
    wheel::Due,
};
use crate::{
    interest::{Joined, Wish},
    ws,
};

/// Before a token ends, its session is told so many seconds ahead.
const EXPIRING_AHEAD: i64 = 60;

impl Worker {
    /// Takes a connection. It is welcomed when the bus has confirmed all of its topics.
    pub(super) fn connect(&mut self, new: NewSession) {
        let NewSession {
            stream,
            who,
            dialect,
            wire,
            early,
            seat,
        } = new;
        if self.draining {
            // It came through the door while it closed; the client tries another node. A new socket takes a few bytes.
            drop(stream.try_write(&ws::encode_close(Close::Restart.code(), Close::Restart.text())));
            return;
        }
        let commands = stream.take_commands();
        let stream = Arc::new(stream);
        self.generation = self.generation.wrapping_add(1);
        let id = SessionId {
            slot: self.sessions.vacant_key() as u32,
            generation: self.generation,
        };
        let reader = reader::spawn(id, Arc::clone(&stream), Arc::clone(&who), wire, early, &self.feed);
        self.sessions.insert(Session {
            generation: self.generation,
            phase: Phase::Joining(0),
            dialect,
            wire,
            unanswered: 0,
            heard: self.wheel.now(),
            expiry_watched: false,
            pending: Pending::default(),
            topics: Vec::with_capacity(who.reader.keys.len()),
            stream,
            who,
            outbound: None,
            rare: Some(commands)
                .filter(|commands| !commands.is_empty())
                .map(|early| {
                    Box::new(Rare {
                        early,
                        ..Rare::default()
                    })
                }),
            reader,
            seat: Box::new(seat),
        });
        self.shared.metrics.connections.inc();
        self.wheel.beat(id);
        self.watch_expiry(id);
        self.watch_key(id);
        self.join_implicit(id);
    }

    /// Sees to it that a session ends with the API key that opened it. The watch ends with what the session is by now: with
    /// the session, or when a refresh makes it another's.
    pub(super) fn watch_key(&mut self, id: SessionId) {
        let Some(session) = self.session_ref(id) else {
            return;
        };
        let Some(key) = KeyId::of_user(session.who.reader.user.as_str()) else {
            return;
        };
        let who = Arc::downgrade(&session.who);
        let (shared, controls) = (Arc::clone(&self.shared), self.controls.clone());
        tokio::spawn(async move {
            let ended = shared.credentials.key_ended(key, || who.strong_count() > 0).await;
            if let Some(error) = ended {
                // A worker that has ended has no sessions.
                drop(controls.send(Control::KeyEnded(id, who, error)).await);
            }
        });
    }

    /// The API key of a session is no longer good.
    pub(super) fn key_ended(&mut self, id: SessionId, who: &Weak<Who>, error: TokenError) {
        let is_same = |session: &Session| std::ptr::eq(Arc::as_ptr(&session.who), who.as_ptr());
        if !self.session_ref(id).is_some_and(is_same) {
            return;
        }
        let close = match error {
            TokenError::KeyExpired => Close::TokenExpired,
            TokenError::KeyRevoked => Close::TokenInvalid,
            // Nothing could be learnt of the key for too long.
            _ => Close::Unavailable,
        };
        self.close(id, close);
    }

    /// Sets when the session is told that its token ends, and when it is closed for it; only when that is near, so that
    /// sessions that have gone leave nothing behind until tokens of a year expire. Each heartbeat looks again.
    pub(super) fn watch_expiry(&mut self, id: SessionId) {
        let near = i64::try_from(self.shared.config.heartbeat.0.as_secs()).unwrap_or(i64::MAX / 4) * 2
            + EXPIRING_AHEAD;
        let Some(session) = self.session(id).filter(|session| !session.expiry_watched) else {
            return;
        };
        let left = session
            .who
            .expires_at
            .saturating_sub(jiff::Timestamp::now().as_second());
        if left > near {
            return;
        }
        session.expiry_watched = true;
        let seconds = |left: i64| u32::try_from(left.max(0)).unwrap_or(u32::MAX);
        self.wheel
            .after(seconds(left - EXPIRING_AHEAD), Due::Expiring(id));
        self.wheel.after(seconds(left), Due::Expired(id));
    }

    /// Makes the session a member of its implicit topics, or waits for those that are not confirmed.
    fn join_implicit(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let keys = Arc::clone(&session.who.reader.keys);
        let mut wanted = Vec::new();
        let mut waiting = 0;
        for key in keys.iter() {
            if self.wait_for(
                key,
                Waiter {
                    session: id,
                    explicit: false,
                },
                &mut wanted,
            ) {
                waiting += 1;
            }
        }
        let Some(session) = self.session(id) else { return };
        session.phase = Phase::Joining(waiting);
        if waiting == 0 {
            self.welcome(id);
        }
        self.wish(wanted);
    }

    /// Whether the topic is not confirmed, so that the waiter has to wait; what nobody asked for yet is added to
    /// `wanted`.
    pub(super) fn wait_for(&mut self, key: &TopicKey, waiter: Waiter, wanted: &mut Vec<TopicKey>) -> bool {
        let is_new = self.index.find(key).is_none();
        let number = self.index.find_or_insert(key);
        let Some(topic) = self.index.get_mut(number) else {
            return false;
        };
        if topic.progress.position().is_some() {
            return false;
        }
        topic.waiters.push(waiter);
        if is_new {
            wanted.push(key.clone());
        }
        true
    }

    /// Asks for topics on the bus.
    pub(super) fn wish(&mut self, keys: Vec<TopicKey>) {
        if !keys.is_empty() {
            self.wishes.push_back(Wish::Join {
                worker: self.number,
                keys,
            });
            self.send_wishes();
        }
    }

    /// Hands wishes on as far as there is room. A worker never waits here: the interest task may be waiting for it.
    pub(super) fn send_wishes(&mut self) {
        while let Some(wish) = self.wishes.pop_front() {
            if let Err(full) = self.shared.wishes.try_send(wish) {
                // The interest task ends only with its workers.
                self.wishes.push_front(full.into_inner());
                return;
            }
        }
    }

    fn welcome(&mut self, id: SessionId) {
        let now = self.wheel.now();
        let Some(session) = self.session(id) else { return };
        let keys = Arc::clone(&session.who.reader.keys);
        if keys.iter().any(|key| self.confirmed(key).is_none()) {
            // A topic went while the session waited for another.
            self.join_implicit(id);
            return;
        }
        let mut positions = BTreeMap::new();
        for key in keys.iter() {
            let Some(number) = self.confirmed(key) else {
                continue;
            };
            let Some(membership) = self.index.join(number, id.slot, now) else {
                continue;
            };
            if let Some(position) = self.begins_at(number) {
                positions.insert(key.public_name(), position.to_string());
            }
            if let Some(session) = self.session(id) {
                session.topics.push(membership);
                let who = Arc::clone(&session.who);
                self.entered(&who, number);
            }
        }
        let Some(session) = self.session(id) else { return };
        session.phase = Phase::Live;
        session.topics.shrink_to_fit();
        let dialect = session.dialect;
        let who = Arc::clone(&session.who);
        self.shared.metrics.opened.inc();
        super::trace::session(&self.shared, "connected", &who.reader, None);
        if dialect == Dialect::CarillonV1 {
            let heartbeat_ms = u64::try_from(self.shared.config.heartbeat.0.as_millis()).unwrap_or(u64::MAX);
            let frame = ServerFrame::Welcome {
                session: &who.reader.session,
                node: self.shared.node.as_str(),
                heartbeat_ms,
                positions,
            };
            self.send_json(id, frame.to_json());
        }
        for key in keys.iter() {
            if let Some(number) = self.confirmed(key) {
                self.hand_over(id, number, key);
            }
        }
        self.carry_out_early(id);
    }

    /// The number of a topic that the bus has confirmed.
    pub(super) fn confirmed(&self, key: &TopicKey) -> Option<u32> {
        let number = self.index.find(key)?;
        self.index.get(number)?.progress.position().map(|_| number)
    }

    /// The bus answered.
    pub(super) fn joined(&mut self, joined: Joined) {
        let refused = joined.heads.iter().filter(|head| head.is_none()).count();
        if refused > 0 {
            tracing::warn!(topics = refused, "the bus did not confirm topics");
        }
        for (key, head) in joined.keys.iter().zip(joined.heads) {
            let Some(head) = head else {
                let waiters = self
                    .index
                    .remove(key)
                    .map(|mut topic| topic.waiters.take())
                    .unwrap_or_default();
                for waiter in waiters {
                    self.refused_for(waiter, key);
                }
                continue;
            };
            let Some(number) = self.index.find(key) else {
                continue;
            };
            let Some(topic) = self.index.get_mut(number) else {
                continue;
            };
            let held = topic.progress.confirm(head);
            let waiters = topic.waiters.take();
            self.hand_on(number, key, held);
            for waiter in &waiters {
                self.confirmed_for(*waiter, key);
            }
            self.linger(number);
        }
    }

    fn confirmed_for(&mut self, waiter: Waiter, key: &TopicKey) {
        let Some(session) = self.session(waiter.session) else {
            return;
        };
        if waiter.explicit {
            self.subscribed(waiter.session, key);
            return;
        }
        if let Phase::Joining(left) = &mut session.phase {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.welcome(waiter.session);
            }
        }
    }

    fn refused_for(&mut self, waiter: Waiter, key: &TopicKey) {
        if waiter.explicit {
            let message = format!("`{}` cannot be confirmed now; subscribe again", key.public_name());
            let json = ServerFrame::error("unavailable", message, Some(std::time::Duration::from_secs(2)));
            self.send_json(waiter.session, json);
            self.end_joining(waiter.session, key);
            self.resume_ends_without(waiter.session, key);
        } else {
            self.close(waiter.session, Close::Unavailable);
        }
    }

    /// Takes the session out of all of its topics.
    pub(super) fn leave_all(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let topics = std::mem::take(&mut session.topics);
        let who = Arc::clone(&session.who);
        for membership in topics {
            self.left(&who, membership.topic);
            self.leave(membership);
        }
    }

    pub(super) fn leave(&mut self, membership: super::index::Membership) {
        if let Some((moved, place)) = self.index.leave(membership)
            && let Some(session) = self.sessions.get_mut(moved.session as usize)
            && let Some(its) = session
                .topics
                .iter_mut()
                .find(|its| its.topic == membership.topic)
        {
            its.place = place;
        }
        self.linger(membership.topic);
    }

    /// A topic without members stays for a while: who comes back soon finds it confirmed.
    fn linger(&mut self, number: u32) {
        if self.index.get(number).is_some_and(super::index::Topic::is_unused) {
            let seconds = u32::try_from(self.shared.config.topic_linger.0.as_secs()).unwrap_or(u32::MAX);
            self.wheel.after(seconds, Due::Linger(number));
        }
    }

    /// The while has passed.
    pub(super) fn end_linger(&mut self, number: u32) {
        if let Some(key) = self.index.remove_unused(number) {
            self.wishes.push_back(Wish::Leave {
                worker: self.number,
                key,
            });
            self.send_wishes();
        }
    }
}
