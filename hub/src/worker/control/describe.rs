//! Sessions as operators see them.

use std::{borrow::Cow, sync::Arc};

use common::{
    ids::NodeId,
    protocol::Dialect,
    topic::{TopicKey, TopicKind},
};
use serde::{Deserialize, Serialize};

use super::super::{SessionId, Transport, Worker, session::Session};
use super::listing::sooner;

/// Bytes of text after which a page ends early: sessions may have many long names.
const PAGE_BYTES: usize = 1024 * 1024;

/// One session.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct SessionInfo {
    /// Its id, as in its `welcome`.
    #[schema(value_type = String)]
    pub(crate) session: Arc<str>,
    /// The node that has it.
    #[schema(value_type = String)]
    node: NodeId,
    /// Its tenant.
    tenant: String,
    /// Its user.
    user: String,
    /// Roles of its token.
    roles: Vec<String>,
    /// Stores of its token.
    stores: Vec<String>,
    /// Topics that it subscribed to.
    topics: Vec<String>,
    /// When it connected (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    since: Option<jiff::Timestamp>,
    /// When the client was last heard of, to the second (RFC 3339).
    #[schema(value_type = String)]
    heard: jiff::Timestamp,
    /// Heartbeats since then that were not answered; 2 end the session.
    unanswered: u8,
    /// When its token ends (RFC 3339).
    #[schema(value_type = String)]
    expires_at: jiff::Timestamp,
    /// By what it is connected: `websocket`, or `http` for event streams and long polls.
    #[schema(value_type = String)]
    transport: Cow<'static, str>,
    /// `carillon.v1` or `seeds`.
    #[schema(value_type = String)]
    dialect: Cow<'static, str>,
    /// The client's address.
    address: String,
    /// Bytes in its outbound queue: what the kernel does not take because the client reads too slowly.
    queued_bytes: usize,
}

/// A part of a page: of a worker, of a node, of all nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Described {
    /// In the order of their ids.
    pub(crate) sessions: Vec<SessionInfo>,
    /// More lies behind this id; none where these are all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Arc<str>>,
}

impl SessionInfo {
    /// About as many bytes as its description has.
    fn size(&self) -> usize {
        let texts = self.roles.iter().chain(&self.stores).chain(&self.topics);
        self.user.len() + texts.map(String::len).sum::<usize>() + 256
    }
}

impl Described {
    /// One page of several. It ends where one of them has more, as what follows there may come before what the others have.
    pub(crate) fn merged(parts: impl IntoIterator<Item = Self>, limit: usize) -> Self {
        let mut merged = Self::default();
        for part in parts {
            merged.sessions.extend(part.sessions);
            merged.until = sooner(merged.until, part.until);
        }
        merged.sessions.sort_unstable_by(|a, b| a.session.cmp(&b.session));
        if let Some(until) = &merged.until {
            merged.sessions.retain(|info| info.session <= *until);
        }
        merged.cut(limit, usize::MAX);
        merged
    }

    /// Ends the page after so many sessions, or about so many bytes.
    pub(crate) fn cut(&mut self, limit: usize, bytes: usize) {
        let mut size = 0;
        let keep = self.sessions.iter().take(limit).take_while(|info| {
            size += info.size();
            size <= bytes
        });
        // The first one always: a page that does not go on would be asked for again and again.
        let keep = keep.count().max(1);
        if keep < self.sessions.len() {
            self.sessions.truncate(keep);
            self.until = self.sessions.last().map(|info| Arc::clone(&info.session));
        }
    }
}

/// A page that is being described.
#[derive(Debug)]
pub(crate) struct Page {
    described: Described,
    bytes: usize,
}

impl Page {
    /// A page with more behind `until`.
    pub(super) fn new(until: Option<Arc<str>>) -> Self {
        Self {
            described: Described {
                sessions: Vec::new(),
                until,
            },
            bytes: 0,
        }
    }

    pub(super) fn into_described(self) -> Described {
        self.described
    }
}

impl Worker {
    pub(super) fn describe(&self, id: SessionId, page: &mut Page) {
        let Some(session) = self.session_ref(id) else {
            return;
        };
        let described = &mut page.described;
        if page.bytes > PAGE_BYTES {
            if let Some(last) = described.sessions.last() {
                described.until = Some(Arc::clone(&last.session));
            }
            return;
        }
        let info = self.info(session);
        page.bytes += info.size();
        described.sessions.push(info);
    }

    fn info(&self, session: &Session) -> SessionInfo {
        let who = &session.who;
        let named =
            |kind: TopicKind| move |key: &TopicKey| (key.kind() == kind).then(|| key.name()).flatten();
        let claimed = |kind| who.reader.keys.iter().filter_map(named(kind)).collect();
        let held = session.topics.iter().filter_map(|its| self.index.get(its.topic));
        let mut topics: Vec<String> = held
            .map(|topic| &topic.key)
            .filter_map(named(TopicKind::Topic))
            .collect();
        topics.sort_unstable();
        let quiet = i64::from(self.wheel.now().saturating_sub(session.heard));
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        SessionInfo {
            session: Arc::clone(&who.reader.session),
            node: self.shared.node.clone(),
            tenant: who.reader.tenant.to_string(),
            user: who.reader.user.to_string(),
            roles: claimed(TopicKind::Role),
            stores: claimed(TopicKind::Store),
            topics,
            since: began(&who.reader.session),
            heard: now
                .checked_sub(jiff::SignedDuration::from_secs(quiet))
                .unwrap_or(now),
            unanswered: session.unanswered,
            expires_at: ends(who.expires_at),
            transport: match &*session.stream {
                Transport::Socket(_) => "websocket",
                Transport::Pipe(_) => "http",
            }
            .into(),
            dialect: match session.dialect {
                Dialect::CarillonV1 => common::protocol::SUBPROTOCOL,
                Dialect::Seeds { .. } => "seeds",
            }
            .into(),
            address: session.seat.address().to_string(),
            queued_bytes: session.outbound.as_ref().map_or(0, |outbound| outbound.bytes()),
        }
    }
}

/// When a session began. Its id is a UUIDv7 and knows.
fn began(session: &str) -> Option<jiff::Timestamp> {
    let (seconds, nanos) = uuid::Uuid::try_parse(session).ok()?.get_timestamp()?.to_unix();
    let ms = i64::try_from(seconds).ok()?.checked_mul(1000)? + i64::from(nanos / 1_000_000);
    jiff::Timestamp::from_millisecond(ms).ok()
}

/// When a token ends, from Unix seconds; one that ends behind all dates ends with the last of them.
fn ends(expires_at: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(expires_at).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_knows_when_it_began() {
        let now = jiff::Timestamp::now().as_millisecond();
        let id = uuid::Uuid::now_v7().simple().to_string();
        let since = began(&id).unwrap().as_millisecond();
        assert!((now..now + 60_000).contains(&since), "{since} {now}");
        assert_eq!(began("s"), None);
    }

    #[test]
    fn a_token_s_end_is_a_date() {
        assert_eq!(ends(1_800_000_000).to_string(), "2027-01-15T08:00:00Z");
        assert_eq!(ends(i64::MAX), jiff::Timestamp::MAX);
    }
}
