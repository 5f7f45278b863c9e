//! Fan-out: the messages that wait together become references on the sessions concerned; then each session is flushed
//! once. Nothing is serialised, copied or allocated for a recipient.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    message::{FrameKind, Header},
    receipts::Receipt,
    topic::TopicKey,
};
use smallvec::SmallVec;

use super::{
    SessionId, Worker,
    index::{Index, Membership},
    recovery::Arrival,
    session::{Phase, Session},
};
use crate::{receive::Outgoing, ws};

/// A fan-out yields after this much writing.
const SLICE: Duration = Duration::from_millis(1);

/// Sockets between two looks at the clock.
const STRIDE: usize = 32;

/// A copy that came by a later member of `any_of` is held back only where the earlier one was held so long, in seconds.
const ANY_OF_SETTLED: u32 = 10;

/// The batch that is being written.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    /// Its messages; sessions hold places in it.
    pub(super) batch: Vec<Arc<Outgoing>>,
    /// Sessions that have something pending, in order of their first message.
    dirty: Vec<SessionId>,
    /// How many of them were flushed.
    flushed: usize,
}

impl Fanout {
    pub(super) fn is_active(&self) -> bool {
        !self.batch.is_empty()
    }
}

/// What a message's header asks of a session, with keys looked up once for all sessions.
pub(super) struct Filter<'a> {
    header: &'a Header,
    /// Topics of `require`; none when one of them has no member here, so that nobody can fit.
    require: Option<SmallVec<[u32; 4]>>,
    /// Members of `any_of` before the one by which the message came; those that nobody here has are left out.
    earlier: Vec<SmallVec<[u32; 4]>>,
    open: bool,
}

impl<'a> Filter<'a> {
    pub(super) fn new(outgoing: &'a Outgoing, index: &Index) -> Self {
        let header = &outgoing.message.header;
        let open = header.require.is_empty() && header.any.is_empty() && header.except.is_empty();
        let numbers = |keys: &[TopicKey]| {
            keys.iter()
                .map(|key| index.find(key))
                .collect::<Option<SmallVec<[u32; 4]>>>()
        };
        let is_this = |member: &&Vec<TopicKey>| {
            member.len() == header.require.len() + 1
                && member.contains(&outgoing.message.key)
                && header.require.iter().all(|key| member.contains(key))
        };
        let before = header.any.iter().take_while(|member| !is_this(member));
        Self {
            header,
            require: numbers(&header.require),
            earlier: before.filter_map(|m| numbers(m)).collect(),
            open,
        }
    }

    /// Whether the session gets the message that came live by a topic it has.
    pub(super) fn passes(&self, session: &Session, now: u32) -> bool {
        // It got its copy by an earlier member, if it had that member for long enough to be sure.
        let settled = |held: &Membership| now.saturating_sub(held.since) >= ANY_OF_SETTLED;
        let got = |member: &SmallVec<[u32; 4]>| {
            member
                .iter()
                .all(|topic| held(session, *topic).is_some_and(settled))
        };
        self.fits(session) && !self.earlier.iter().any(got)
    }

    /// Whether the session gets the message that is replayed by a topic it has. A copy is held back only where the same
    /// `resume` replays the topic by which the earlier member's copy went.
    pub(super) fn passes_replay(&self, session: &Session) -> bool {
        let named = |topic: &u32| {
            session
                .rare
                .as_ref()
                .is_some_and(|rare| rare.named.contains(topic))
        };
        let got = |member: &SmallVec<[u32; 4]>| {
            member.first().is_some_and(named) && member.iter().all(|topic| held(session, *topic).is_some())
        };
        self.fits(session) && !self.earlier.iter().any(got)
    }

    fn fits(&self, session: &Session) -> bool {
        if !session.dialect.takes(self.header.kind) {
            return false;
        }
        if self.open {
            return true;
        }
        let reader = &session.who.reader;
        if self.header.except.covers(reader.user.as_str(), &reader.session) {
            return false;
        }
        self.require
            .as_ref()
            .is_some_and(|require| require.iter().all(|topic| held(session, *topic).is_some()))
    }
}

fn held(session: &Session, topic: u32) -> Option<&Membership> {
    session.topics.iter().find(|membership| membership.topic == topic)
}

impl Worker {
    /// Takes messages that waited together. All of them are put before their sessions at once, so that the order
    /// between a batch and what comes after it is kept whatever happens between slices.
    pub(super) fn begin_fanout(&mut self, waiting: &mut Vec<Arc<Outgoing>>) {
        for outgoing in waiting.drain(..) {
            let Some(number) = self.index.find(&outgoing.message.key) else {
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
                    self.resync(number);
                    self.put_before(number, &outgoing);
                }
            }
        }
    }

    /// Marks a message on every session of its topic that gets it.
    pub(super) fn put_before(&mut self, number: u32, outgoing: &Arc<Outgoing>) {
        if self.fanout.batch.len() == usize::from(u8::MAX) {
            self.flush_all();
        }
        let now = self.wheel.now();
        let unix_ms = jiff::Timestamp::now().as_millisecond();
        if outgoing
            .message
            .header
            .expires_at
            .is_some_and(|until| until <= unix_ms)
        {
            return;
        }
        let place = self.fanout.batch.len() as u8;
        self.fanout.batch.push(Arc::clone(outgoing));
        let filter = Filter::new(outgoing, &self.index);
        let mut reached = 0;
        let mut full: SmallVec<[SessionId; 4]> = SmallVec::new();
        let mut pings: SmallVec<[SessionId; 4]> = SmallVec::new();
        let Some(topic) = self.index.get(number) else {
            return;
        };
        for member in &topic.members {
            let Some(session) = self.sessions.get_mut(member.session as usize) else {
                continue;
            };
            if session.phase != Phase::Live || !filter.passes(session, now) {
                continue;
            }
            if outgoing.message.position.is_some() && session.rare.is_some() && is_replaying(session, number)
            {
                continue;
            }
            reached += 1;
            let id = SessionId {
                slot: member.session,
                generation: session.generation,
            };
            let (first, no_room) = session.pending.push(place);
            if first {
                self.fanout.dirty.push(id);
            }
            if no_room {
                full.push(id);
            }
            if outgoing.message.header.receipt
                && !matches!(session.dialect, common::protocol::Dialect::CarillonV1)
            {
                pings.push(id);
            }
        }
        self.shared.metrics.deliveries.inc_by(reached);
        for id in full {
            self.flush_pending(id);
        }
        for id in pings {
            self.ping_for_receipt(id, outgoing.message.header.id);
        }
        if reached > 0
            && outgoing.message.header.report
            && outgoing.message.header.kind == FrameKind::Notification
        {
            let key = outgoing.message.key.clone();
            self.report(Receipt::Written {
                key,
                id: outgoing.message.header.id,
            });
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

    /// Flushes sessions for at most a slice of time.
    pub(super) fn flush_slice(&mut self) {
        let began = Instant::now();
        while self.fanout.flushed < self.fanout.dirty.len() {
            let end = (self.fanout.flushed + STRIDE).min(self.fanout.dirty.len());
            for at in self.fanout.flushed..end {
                self.flush_pending(self.fanout.dirty[at]);
            }
            self.fanout.flushed = end;
            if began.elapsed() >= SLICE {
                return;
            }
        }
        self.end_fanout();
    }

    fn flush_all(&mut self) {
        for at in self.fanout.flushed..self.fanout.dirty.len() {
            self.flush_pending(self.fanout.dirty[at]);
        }
        self.end_fanout();
    }

    fn end_fanout(&mut self) {
        self.fanout.batch.clear();
        self.fanout.dirty.clear();
        self.fanout.flushed = 0;
        // What a broadcast needed is not kept for ever.
        self.fanout.dirty.shrink_to(1024);
    }

    /// Hands a receipt to the dispatcher without waiting here.
    pub(super) fn report(&self, receipt: Receipt) {
        let receipts = self.shared.receipts.clone();
        if receipts.try_send(receipt.clone()) {
            return;
        }
        match Arc::clone(&self.shared.waiting_receipts).try_acquire_owned() {
            Ok(permit) => drop(tokio::spawn(async move {
                receipts.send(receipt).await;
                drop(permit);
            })),
            // The dispatcher has been away for long; what it does not hear of is tried again by its own rules.
            Err(_) => drop(self.shared.metrics.receipts_dropped.inc()),
        }
    }
}

fn is_replaying(session: &Session, topic: u32) -> bool {
    session
        .topics
        .iter()
        .any(|membership| membership.topic == topic && membership.replaying)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bytes::Bytes;
    use common::{
        bus::Head,
        ids::{MessageId, Name, TenantId},
        message::Message,
        protocol::Dialect,
        receipts::Reader,
        target::{Except, Target},
        token::Identity,
    };
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        config::HubConfig,
        limits::Connections,
        worker::session::{Pending, Who},
    };

    fn tenant() -> TenantId {
        TenantId::new("t").unwrap()
    }

    fn role(name: &str) -> Target {
        Target::Role(Name::new(name).unwrap())
    }

    fn key(role: &str) -> TopicKey {
        TopicKey::role(&tenant(), &Name::new(role).unwrap())
    }

    /// A session that joined the topics of these roles at these seconds.
    async fn session(index: &mut Index, roles: &[(&str, u32)]) -> Session {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let identity = Identity {
            tenant: tenant(),
            user: Name::new("u").unwrap(),
            roles: vec![],
            stores: vec![],
            topics: vec![],
            scopes: std::collections::BTreeSet::new(),
            expires_at: 0,
        };
        let connections = Arc::new(Connections::new(&HubConfig::for_tests()));
        let seat = connections
            .admit(&identity, IpAddr::from([127, 0, 0, 1]))
            .unwrap();
        let reader = Reader {
            tenant: tenant(),
            user: identity.user.clone(),
            session: "s".into(),
            keys: identity.keys().into(),
        };
        let mut topics = Vec::new();
        for (role, since) in roles {
            let number = index.insert_confirmed(
                &key(role),
                Head {
                    epoch: 1,
                    offset: 0,
                    id: None,
                },
            );
            topics.push(index.join(number, 0, *since).unwrap());
        }
        Session {
            generation: 1,
            phase: Phase::Live,
            dialect: Dialect::CarillonV1,
            unanswered: 0,
            expiry_watched: false,
            pending: Pending::default(),
            topics,
            stream: Arc::new(stream.into()),
            who: Arc::new(Who { identity, reader }),
            outbound: None,
            rare: None,
            reader: tokio::spawn(std::future::pending::<()>()).abort_handle(),
            seat: Box::new(seat),
        }
    }

    /// The copies of a publish, one for each route of its target.
    fn copies(target: &Target, except: &Except) -> Vec<Outgoing> {
        let mut header = Header::new(MessageId::generate(), FrameKind::Message);
        header.any = target.any_members(&tenant());
        header.except = except.clone();
        let copy = |route: common::target::Route| {
            let header = Header {
                require: route.require,
                ..header.clone()
            };
            Outgoing::new(Arc::new(Message {
                key: route.key,
                position: None,
                header,
                payload: Bytes::from_static(b"{}"),
            }))
        };
        target.routes(&tenant()).into_iter().map(copy).collect()
    }

    #[tokio::test]
    async fn a_later_member_s_copy_is_held_back_once_the_earlier_is_settled() {
        let mut index = Index::default();
        let session = session(&mut index, &[("a", 100), ("b", 100), ("c", 0)]).await;
        let both = Target::AnyOf(vec![role("a"), role("b")]);
        let passes = |target: &Target, now: u32| -> Vec<bool> {
            let copies = copies(target, &Except::default());
            copies
                .iter()
                .map(|copy| Filter::new(copy, &index).passes(&session, now))
                .collect()
        };
        assert_eq!(passes(&both, 109), [true, true], "too early to be sure");
        assert_eq!(passes(&both, 110), [true, false]);
        // A member that the session, or nobody here, has holds nothing back.
        assert_eq!(
            passes(&Target::AnyOf(vec![role("nobody"), role("b")]), 1000)[1..],
            [true]
        );
        // A member of several keys counts when the session has had all of them for long enough.
        let narrow = Target::AnyOf(vec![Target::AllOf(vec![role("c"), role("a")]), role("b")]);
        assert_eq!(passes(&narrow, 109), [true, true]);
        assert_eq!(passes(&narrow, 110), [true, false]);
        let other = Target::AnyOf(vec![Target::AllOf(vec![role("c"), role("nobody")]), role("b")]);
        assert_eq!(passes(&other, 1000), [false, true]);
    }

    #[tokio::test]
    async fn a_replayed_copy_is_held_back_only_by_a_topic_that_is_replayed_too() {
        let mut index = Index::default();
        let mut session = session(&mut index, &[("a", 0), ("b", 0)]).await;
        let copies = copies(&Target::AnyOf(vec![role("a"), role("b")]), &Except::default());
        assert!(
            Filter::new(&copies[1], &index).passes_replay(&session),
            "however long it has had the earlier one"
        );
        session.rare().named.push(index.find(&key("a")).unwrap());
        assert!(Filter::new(&copies[0], &index).passes_replay(&session));
        assert!(!Filter::new(&copies[1], &index).passes_replay(&session));
    }

    #[tokio::test]
    async fn whoever_is_excepted_gets_no_copy() {
        let mut index = Index::default();
        let session = session(&mut index, &[("a", 0)]).await;
        for (except, passes) in [
            (Except::default(), true),
            (
                Except {
                    user: Some(Name::new("u").unwrap()),
                    ..Except::default()
                },
                false,
            ),
            (
                Except {
                    users: vec![Name::new("x").unwrap(), Name::new("u").unwrap()],
                    ..Except::default()
                },
                false,
            ),
            (
                Except {
                    session: Some("s".to_owned()),
                    ..Except::default()
                },
                false,
            ),
            (
                Except {
                    session: Some("x".to_owned()),
                    ..Except::default()
                },
                true,
            ),
        ] {
            let copies = copies(&role("a"), &except);
            assert_eq!(
                Filter::new(&copies[0], &index).passes(&session, 0),
                passes,
                "{except:?}"
            );
        }
    }
}
