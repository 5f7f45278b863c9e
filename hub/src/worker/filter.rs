//! Who of a topic's members gets a message: cheap set tests on numbers, with keys looked up once for all sessions.

use std::collections::HashSet;

use common::{ids::Name, message::Header, topic::TopicKey};
use smallvec::SmallVec;

use super::{
    index::{Index, Membership},
    session::Session,
};
use crate::receive::Outgoing;

/// A copy that came by a later member of `any_of` is held back only where the earlier one was held so long, in seconds.
const ANY_OF_SETTLED: u32 = 10;

/// What a message's header asks of a session, with keys looked up once for all sessions.
pub(super) struct Filter<'a> {
    header: &'a Header,
    /// Topics of `require`; none when one of them has no member here, so that nobody can fit.
    require: Option<SmallVec<[u32; 4]>>,
    /// Members of `any_of` before the one by which the message came; those that nobody here has are left out.
    earlier: Vec<SmallVec<[u32; 4]>>,
    /// The users who are left out, where there are several.
    excepted: HashSet<&'a str>,
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
            excepted: header.except.users.iter().map(Name::as_str).collect(),
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
        if self.leaves_out(reader.user.as_str(), &reader.session) {
            return false;
        }
        self.require
            .as_ref()
            .is_some_and(|require| require.iter().all(|topic| held(session, *topic).is_some()))
    }

    /// As [`Except::covers`](common::target::Except::covers), without walking the list for each session.
    fn leaves_out(&self, user: &str, session: &str) -> bool {
        let except = &self.header.except;
        except.user.as_ref().is_some_and(|name| name.as_str() == user)
            || (!self.excepted.is_empty() && self.excepted.contains(user))
            || except.session.as_deref() == Some(session)
    }
}

fn held(session: &Session, topic: u32) -> Option<&Membership> {
    session.topics.iter().find(|membership| membership.topic == topic)
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use bytes::Bytes;
    use common::{
        bus::Head,
        ids::{MessageId, Name, TenantId},
        message::{FrameKind, Message},
        protocol::Dialect,
        receipts::Reader,
        target::{Except, Target},
        token::Identity,
    };
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        ceilings::Ceilings,
        config::HubConfig,
        limits::Connections,
        worker::{places::Pending, session::Phase, session::Who},
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
        let config = HubConfig::for_tests();
        let connections = Arc::new(Connections::new(Arc::new(Ceilings::new(&config)), &config));
        let seat = connections
            .admit(
                &identity.tenant,
                &identity.keys()[0],
                IpAddr::from([127, 0, 0, 1]),
            )
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
            wire: crate::receive::Wire::Plain,
            unanswered: 0,
            heard: 0,
            expiry_watched: false,
            pending: Pending::default(),
            topics,
            stream: Arc::new(stream.into()),
            who: Arc::new(Who::new(identity, reader)),
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
