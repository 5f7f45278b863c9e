//! Which sessions an operator means, and in what order a worker looks at them.

use common::{
    ids::TenantId,
    target::{Audience, Except, Route, Target},
    topic::{TopicKey, TopicKind},
};
use smallvec::SmallVec;

use super::super::{
    index::Index,
    session::{Phase, Session},
};

/// An operator's target, resolved to keys.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Only sessions of this tenant; none is everyone, which the caller may name only as a platform administrator.
    tenant: Option<TenantId>,
    routes: Vec<Route>,
    except: Except,
    /// Only this session of the target.
    session: Option<String>,
}

impl Selection {
    /// What `audience` means in `tenant`.
    pub(crate) fn new(audience: Audience, tenant: &TenantId, session: Option<String>) -> Self {
        let only_everyone = matches!(audience.target, Target::Everyone);
        let routes = audience.target.routes(tenant);
        // Beside another key, everyone is narrowed by that key's tenant; in `any_of` it stands for itself.
        let all = only_everyone || routes.iter().any(|route| route.key == TopicKey::everyone());
        Self {
            tenant: (!all).then(|| tenant.clone()),
            routes,
            except: audience.except,
            session,
        }
    }

    /// Whether sessions are meant whatever their tenant.
    pub(crate) fn is_of_all_tenants(&self) -> bool {
        self.tenant.is_none()
    }

    /// The topic that every session that is meant is a member of, where there is one.
    pub(crate) fn only_key(&self) -> Option<&TopicKey> {
        match &self.routes[..] {
            [route] => Some(&route.key),
            _ => None,
        }
    }

    /// What fits no session.
    pub(super) fn nobody() -> Self {
        Self {
            tenant: None,
            routes: Vec::new(),
            except: Except::default(),
            session: None,
        }
    }

    /// The users whose sessions are all that can be meant; none where any session may be.
    pub(super) fn users(&self) -> Option<Vec<TopicKey>> {
        let mut users = Vec::with_capacity(self.routes.len());
        for route in &self.routes {
            if route.key.kind() != TopicKind::User {
                return None;
            }
            users.push(route.key.clone());
        }
        users.sort_unstable();
        users.dedup();
        Some(users)
    }

    /// Looks the keys up once for many sessions. What it gives holds until a topic is forgotten, which happens with a tick:
    /// it must not outlive a step.
    pub(super) fn matcher(&self, index: &Index) -> Matcher<'_> {
        let members = self.routes.iter().filter_map(|route| {
            std::iter::once(&route.key)
                .chain(&route.require)
                .map(|key| index.find(key))
                .collect()
        });
        Matcher {
            selection: self,
            members: members.collect(),
        }
    }
}

/// A selection with the numbers of its topics on one worker.
pub(super) struct Matcher<'a> {
    selection: &'a Selection,
    /// A session fits when it has all topics of one member. Members with a topic that nobody here has are left out.
    members: Vec<SmallVec<[u32; 4]>>,
}

impl Matcher<'_> {
    pub(super) fn fits(&self, session: &Session) -> bool {
        let reader = &session.who.reader;
        let has = |topic: &u32| session.topics.iter().any(|its| its.topic == *topic);
        session.phase == Phase::Live
            && self
                .selection
                .tenant
                .as_ref()
                .is_none_or(|tenant| *tenant == reader.tenant)
            && self
                .selection
                .session
                .as_deref()
                .is_none_or(|only| only == &*reader.session)
            && self.members.iter().any(|member| member.iter().all(has))
            && !self
                .selection
                .except
                .covers(reader.user.as_str(), &reader.session)
    }
}

/// The order in which sessions are looked at: by their numbers, which stand still while sessions come and go, so that each
/// that is there throughout is seen once.
#[derive(Debug)]
pub(super) enum Walk {
    /// All of the worker's.
    Numbers { next: u32, end: u32 },
    /// Those of these users.
    Users(std::vec::IntoIter<TopicKey>),
    /// What was given has been taken.
    Done,
}

/// Numbers that a walk gives at a time.
const STRIDE: u32 = 64;

impl Walk {
    /// Puts the next numbers into `found`; false at the end.
    pub(super) fn next(&mut self, index: &Index, found: &mut Vec<u32>) -> bool {
        match self {
            Self::Numbers { next, end } => {
                let to = next.saturating_add(STRIDE).min(*end);
                found.extend(*next..to);
                let more = *next < to;
                *next = to;
                more
            }
            Self::Users(users) => {
                let Some(user) = users.next() else { return false };
                let topic = index.find(&user).and_then(|number| index.get(number));
                found.extend(
                    topic
                        .into_iter()
                        .flat_map(|topic| topic.members.iter().map(|member| member.session)),
                );
                true
            }
            Self::Done => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{bus::Head, ids::Name};

    use super::*;

    fn tenant() -> TenantId {
        TenantId::new("t").unwrap()
    }

    fn selection(json: &str) -> Selection {
        Selection::new(serde_json::from_str(json).unwrap(), &tenant(), None)
    }

    #[test]
    fn users_are_walked_by_their_own_topics() {
        let users = |json: &str| {
            let keys = selection(json).users()?;
            Some(keys.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        for (json, expected) in [
            (r#"{"user":"b"}"#, Some(vec!["t:u:b"])),
            (r#"{"users":["b","a"]}"#, Some(vec!["t:u:a", "t:u:b"])),
            (r#"{"all_of":[{"role":"r"},{"user":"a"}]}"#, Some(vec!["t:u:a"])),
            (
                r#"{"any_of":[{"user":"a"},{"all_of":[{"user":"a"},{"role":"r"}]}]}"#,
                Some(vec!["t:u:a"]),
            ),
            (r#"{"any_of":[{"user":"a"},{"role":"r"}]}"#, None),
            (r#"{"tenant":true}"#, None),
        ] {
            let expected = expected.map(|keys| keys.into_iter().map(str::to_owned).collect());
            assert_eq!(users(json), expected, "{json}");
        }
    }

    #[test]
    fn only_everyone_leaves_the_tenant() {
        for (json, bound) in [
            (r#"{"everyone":true}"#, false),
            (r#"{"any_of":[{"role":"r"},{"everyone":true}]}"#, false),
            (r#"{"all_of":[{"role":"r"},{"everyone":true}]}"#, true),
            (r#"{"tenant":true}"#, true),
            (r#"{"user":"u"}"#, true),
        ] {
            assert_eq!(selection(json).tenant.is_some(), bound, "{json}");
        }
    }

    #[test]
    fn a_walk_gives_each_number_once_and_ends() {
        let index = Index::default();
        let mut walk = Walk::Numbers { next: 0, end: 150 };
        let mut found = Vec::new();
        while walk.next(&index, &mut found) {}
        assert!(found.into_iter().eq(0..150));

        let mut index = Index::default();
        let key = TopicKey::user(&tenant(), &Name::new("a").unwrap());
        let head = Head {
            epoch: 1,
            offset: 0,
            id: None,
        };
        let number = index.insert_confirmed(&key, head);
        index.join(number, 7, 0);
        let nobody = TopicKey::user(&tenant(), &Name::new("nobody").unwrap());
        let mut walk = Walk::Users(vec![nobody, key].into_iter());
        let mut found = Vec::new();
        while walk.next(&index, &mut found) {}
        assert_eq!(found, [7]);
    }
}
