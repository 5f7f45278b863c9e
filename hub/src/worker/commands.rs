//! What clients ask for.

use std::{collections::BTreeMap, sync::Arc};

use common::{
    credential::Denied,
    ids::Name,
    message::Position,
    protocol::{Close, Command, CommandError, Dialect, ServerFrame},
    receipts::Receipt,
    token::Identity,
    topic::{TopicKey, TopicKind},
};

use super::{
    Control, Input, SessionId, Worker,
    index::{Membership, Waiter},
    session::{Phase, Session, Who},
    session_of,
};
use crate::ws;

/// Commands that may wait for the welcome.
const MAX_EARLY: usize = 32;

impl Worker {
    pub(super) fn input(&mut self, id: SessionId, input: Input) {
        let now = self.wheel.now();
        let Some(session) = self.session(id) else { return };
        session.unanswered = 0;
        session.heard = now;
        let closing = session.phase == Phase::Closing;
        match input {
            Input::Gone => self.remove(id, "gone"),
            // The other side answered our close, or both closed at once: all is said.
            Input::Close(_) if closing => self.remove(id, "closed"),
            Input::Close(code) => self.close_with(id, code, "", Close::Normal.label()),
            _ if closing => {}
            Input::Violation(close, reason) => self.close_with(id, close.code(), reason, close.label()),
            Input::Ping(payload) => self.send_control(id, ws::encode_pong(&payload)),
            Input::Pong(payload) => self.pong(id, &payload),
            Input::Command(command) => {
                self.shared.metrics.received.inc();
                match command {
                    Ok(command) => self.command(id, command),
                    Err(error) => self.refuse_command(id, &error),
                }
            }
        }
    }

    /// What a client said before it was welcomed.
    pub(super) fn carry_out_early(&mut self, id: SessionId) {
        let Some(rare) = self.session(id).and_then(|session| session.rare.as_mut()) else {
            return;
        };
        let early = std::mem::take(&mut rare.early);
        for command in early {
            self.command(id, command);
        }
        if let Some(session) = self.session(id) {
            session.forget_rare();
        }
    }

    fn refuse_command(&mut self, id: SessionId, error: &CommandError) {
        self.send_json(id, ServerFrame::error(error.code(), error.to_string(), None));
    }

    fn refuse(&mut self, id: SessionId, code: &str, message: impl Into<String>) {
        self.send_json(id, ServerFrame::error(code, message, None));
    }

    fn command(&mut self, id: SessionId, command: Command) {
        if command != Command::TextPing
            && let Some(session) = self.session(id)
            && matches!(session.phase, Phase::Joining(_))
        {
            // Clients may speak right after the handshake; what they say is carried out behind the welcome, so that
            // `subscribed` and `recovered` are told when they are true.
            let early = &mut session.rare().early;
            if early.len() < MAX_EARLY {
                early.push(command);
            } else {
                self.refuse(
                    id,
                    "not_welcomed",
                    "wait for `welcome` before sending so many commands",
                );
            }
            return;
        }
        match command {
            Command::TextPing => self.send_control(id, ws::encode_pong(b"")),
            Command::Ping => self.tell_positions(id),
            Command::Subscribe(name) => self.subscribe(id, &name),
            Command::Unsubscribe(name) => self.unsubscribe(id, &name),
            Command::Resume(positions) => self.resume(id, positions),
            Command::Refresh(token) => self.refresh(id, &token),
            // The reading side hands these to the dispatcher itself.
            Command::Ack(_) | Command::Read(_) => {}
        }
    }

    /// The pong carries positions that moved since the client was last told.
    pub(super) fn tell_positions(&mut self, id: SessionId) {
        let mut positions = BTreeMap::new();
        let Some(session) = session_of(&mut self.sessions, id) else {
            return;
        };
        let Session { topics, rare, .. } = session;
        let is_replaying = |topic| rare.as_ref().is_some_and(|rare| rare.is_replaying(topic));
        for membership in topics {
            let Some(topic) = self.index.get(membership.topic) else {
                continue;
            };
            let Some(position) = topic.progress.position() else {
                continue;
            };
            let low = position.offset as u32;
            if membership.told != low && !is_replaying(membership.topic) {
                membership.told = low;
                positions.insert(topic.key.public_name(), position.to_string());
            }
        }
        self.send_json(id, ServerFrame::Pong { positions }.to_json());
    }

    fn subscribe(&mut self, id: SessionId, name: &Name) {
        let Some(who) = self.may_subscribe(id, name) else {
            return;
        };
        let key = TopicKey::topic(&who.reader.tenant, name);
        if self.has(id, &key) {
            self.tell_subscribed(id, &key, false);
        } else {
            self.join_explicit(id, &key);
        }
    }

    /// Whether the session may have one more explicit topic; otherwise it is told why not.
    fn may_subscribe(&mut self, id: SessionId, name: &Name) -> Option<Arc<Who>> {
        let session = self.session(id).filter(|session| session.phase == Phase::Live)?;
        let who = Arc::clone(&session.who);
        if !who.may_subscribe(name.as_str(), &self.shared.public_topics) {
            let message = format!("the token's topics do not allow `{name}`");
            self.refuse(id, "forbidden_topic", message);
            return None;
        }
        let max = self.shared.ceilings.topics();
        let key = TopicKey::topic(&who.reader.tenant, name);
        let session = self.session_ref(id)?;
        let joining = session.rare.as_ref().map_or(&[][..], |rare| &rare.joining);
        let is_new = !joining.contains(&key) && !self.has(id, &key);
        if is_new && self.index.explicit(&session.topics) + joining.len() >= max {
            self.refuse(
                id,
                "too_many_topics",
                format!("a session has at most {max} topics; unsubscribe from one first"),
            );
            return None;
        }
        Some(who)
    }

    pub(super) fn has(&self, id: SessionId, key: &TopicKey) -> bool {
        let Some(number) = self.index.find(key) else {
            return false;
        };
        self.sessions
            .get(id.slot as usize)
            .is_some_and(|s| s.topics.iter().any(|its| its.topic == number))
    }

    fn join_explicit(&mut self, id: SessionId, key: &TopicKey) {
        let mut wanted = Vec::new();
        if !self.wait_for(
            key,
            Waiter {
                session: id,
                explicit: true,
            },
            &mut wanted,
        ) {
            self.subscribed(id, key);
        } else if let Some(session) = self.session(id) {
            let joining = &mut session.rare().joining;
            if !joining.contains(key) {
                joining.push(key.clone());
            }
        }
        self.wish(wanted);
    }

    /// The session waits for the topic no more.
    pub(super) fn end_joining(&mut self, id: SessionId, key: &TopicKey) {
        let Some(session) = self.session(id) else { return };
        if let Some(rare) = &mut session.rare {
            rare.joining.retain(|joining| joining != key);
            session.forget_rare();
        }
    }

    /// An explicit topic is confirmed.
    pub(super) fn subscribed(&mut self, id: SessionId, key: &TopicKey) {
        let now = self.wheel.now();
        let Some(number) = self.confirmed(key) else { return };
        if self
            .session(id)
            .is_none_or(|session| session.phase != Phase::Live)
        {
            return;
        }
        let is_new = !self.has(id, key);
        if is_new
            && let Some(membership) = self.index.join(number, id.slot, now)
            && let Some(session) = self.session(id)
        {
            session.topics.push(membership);
            let who = Arc::clone(&session.who);
            self.entered(&who, number);
        }
        self.end_joining(id, key);
        self.tell_subscribed(id, key, is_new);
        // It was asked for by a `resume`: now the replay can begin.
        let Some(session) = self.session(id) else { return };
        let waiting = session.rare.as_mut().and_then(|rare| {
            let mut waiting = rare.resume_after_join.iter();
            let at = waiting.position(|(waiting, _)| waiting == key)?;
            Some(rare.resume_after_join.swap_remove(at).1)
        });
        match waiting {
            Some(Some(from)) => self.begin_replay(id, number, key, from),
            Some(None) => {
                self.note_resync(id, key.public_name(), "no_position");
                self.tell_recovered(id);
                self.hand_over(id, number, key);
            }
            None if is_new => self.hand_over(id, number, key),
            None => {}
        }
    }

    fn tell_subscribed(&mut self, id: SessionId, key: &TopicKey, is_new: bool) {
        let topic = key.public_name();
        let Some(number) = self.confirmed(key) else { return };
        // Who has not been handed all values yet has to get the rest when it comes back.
        let begins = is_new
            || self
                .session_ref(id)
                .is_some_and(|session| session.is_replaying(number));
        let position = if begins {
            self.begins_at(number)
        } else {
            self.index.get(number).and_then(|topic| topic.progress.position())
        };
        let Some(position) = position else { return };
        self.send_json(
            id,
            ServerFrame::Subscribed {
                topic: &topic,
                position: position.to_string(),
            }
            .to_json(),
        );
    }

    fn unsubscribe(&mut self, id: SessionId, name: &Name) {
        let Some(session) = self.session(id) else { return };
        let key = TopicKey::topic(&session.who.reader.tenant, name);
        self.leave_explicit(id, &key);
        self.send_json(
            id,
            ServerFrame::Unsubscribed {
                topic: &key.public_name(),
            }
            .to_json(),
        );
    }

    pub(super) fn leave_explicit(&mut self, id: SessionId, key: &TopicKey) {
        let Some(number) = self.index.find(key) else {
            return;
        };
        if let Some(topic) = self.index.get_mut(number) {
            // It may not be confirmed yet.
            topic.waiters.forget(id);
        }
        let Some(session) = self.session(id) else { return };
        if let Some(at) = session.topics.iter().position(|its| its.topic == number) {
            let membership = session.topics.swap_remove(at);
            let who = Arc::clone(&session.who);
            self.left(&who, membership.topic);
            self.leave(membership);
        }
        self.end_joining(id, key);
        self.resume_ends_without(id, key);
    }

    fn resume(&mut self, id: SessionId, positions: Vec<(String, Option<Position>)>) {
        let Some(session) = self.session(id).filter(|session| session.phase == Phase::Live) else {
            return;
        };
        let who = Arc::clone(&session.who);
        // One that comes while another runs is answered together with it.
        session.rare().reading_resume = true;
        for (public, from) in positions {
            let key = TopicKey::from_public_name(&public, &who.reader.tenant, &who.reader.user).ok();
            match (key, from) {
                (Some(key), Some(from)) if self.has(id, &key) => {
                    if let Some(number) = self.confirmed(&key) {
                        self.begin_replay(id, number, &key, from);
                    }
                }
                (Some(key), from) if key.kind() == TopicKind::Topic && !self.has(id, &key) => {
                    let name = key.name().and_then(|name| Name::new(&name).ok());
                    let may = name.is_some_and(|name| self.may_subscribe(id, &name).is_some());
                    let Some(session) = self.session(id) else { return };
                    if may {
                        session.rare().resume_after_join.push((key.clone(), from));
                        self.join_explicit(id, &key);
                    } else {
                        self.note_resync(id, public, "not_allowed");
                    }
                }
                _ => self.note_resync(id, public, "no_position"),
            }
        }
        if let Some(session) = self.session(id) {
            session.rare().reading_resume = false;
            self.tell_recovered(id);
        }
    }

    /// A newer token of the same user keeps the session; its roles and stores count with the next connection.
    fn refresh(&mut self, id: SessionId, token: &str) {
        let Some(session) = self.session_ref(id) else {
            return;
        };
        let from = session.seat.address();
        if let Some(verified) = self.shared.credentials.known_once(token, from) {
            self.refreshed(id, verified);
            return;
        }
        let (shared, token) = (Arc::clone(&self.shared), token.to_owned());
        self.ask(async move { Control::Verified(id, shared.credentials.verify(&token, from).await) });
    }

    /// Takes the newer token, now that it is known whose it is.
    pub(super) fn refreshed(&mut self, id: SessionId, verified: Result<Arc<Identity>, Denied>) {
        let Some(session) = self.session(id) else { return };
        let who = Arc::clone(&session.who);
        let identity = match verified {
            Ok(identity) => Arc::unwrap_or_clone(identity),
            Err(error) => {
                self.refuse(id, error.code(), error.to_string());
                return;
            }
        };
        let outdated = self
            .session_ref(id)
            .and_then(|session| session.rare.as_ref()?.outdated.as_ref());
        if outdated.is_some_and(|outdated| outdated.is_of(&identity)) {
            let message = "the rights of this token have changed; bring a newer one";
            self.refuse(id, "token_outdated", message);
            return;
        }
        if identity.tenant != who.reader.tenant || identity.user != who.reader.user {
            self.close(id, Close::TokenInvalid);
            return;
        }
        if *identity.keys() != *who.reader.keys {
            // What it may see has changed: it comes back with the new token.
            self.close(id, Close::TokenExpired);
            return;
        }
        let reader = who.reader.clone();
        let mut memberships = Vec::new();
        if let Some(session) = self.session(id) {
            session.who = Arc::new(Who::new(identity, reader));
            session.expiry_watched = false;
            if let Some(rare) = &mut session.rare {
                rare.outdated = None;
            }
            session.forget_rare();
            memberships.clone_from(&session.topics);
        }
        self.watch_expiry(id);
        self.watch_key(id);
        for key in self.no_longer_allowed(id, &memberships) {
            self.leave_explicit(id, &key);
            self.send_json(
                id,
                ServerFrame::Unsubscribed {
                    topic: &key.public_name(),
                }
                .to_json(),
            );
        }
        self.tell_positions(id);
    }

    /// Explicit topics of the session that its token does not allow.
    fn no_longer_allowed(&self, id: SessionId, memberships: &[Membership]) -> Vec<TopicKey> {
        let Some(session) = self.session_ref(id) else {
            return Vec::new();
        };
        let allowed = |key: &TopicKey| {
            let name = key.name().unwrap_or_default();
            key.kind() != TopicKind::Topic || session.who.may_subscribe(&name, &self.shared.public_topics)
        };
        let keys = memberships
            .iter()
            .filter_map(|membership| self.index.get(membership.topic))
            .map(|topic| &topic.key);
        keys.filter(|key| !allowed(key)).cloned().collect()
    }

    fn pong(&mut self, id: SessionId, payload: &[u8]) {
        let serial = payload
            .strip_prefix(b"r")
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
        let Some(serial) = serial else { return };
        let Some(session) = self.session(id) else { return };
        if session.dialect == Dialect::CarillonV1 {
            return;
        }
        let reader = session.who.reader.clone();
        let rare = session.rare();
        let Some(at) = rare.pings.iter().position(|(sent, _)| *sent == serial) else {
            return;
        };
        // A later pong answers for the pings before it too (RFC 6455 section 5.5.3).
        let ids = rare.pings.drain(..=at).map(|(_, message)| message).collect();
        session.forget_rare();
        self.shared.receipts.hand_on(Receipt::Delivered { reader, ids });
    }
}
