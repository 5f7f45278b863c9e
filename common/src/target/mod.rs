//! Targets: whom a notification or a publish is for, and the topic keys that it is routed by.

mod body;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{InvalidId, Name, TenantId},
    topic::{TopicKey, TopicKind},
};

/// Members of an expression (those of its `all_of` counted), users, and users who are left out, at the most.
pub const MAX_MEMBERS: usize = 1000;

/// Whom something is for, as the caller wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every device of a user.
    User(Name),
    /// Every device of each of these users.
    Users(Vec<Name>),
    /// Whoever carries the role.
    Role(Name),
    /// Whoever carries the store.
    Store(Name),
    /// Sessions that subscribed.
    Topic(Name),
    /// Everyone of the caller's tenant.
    Tenant,
    /// Everyone of every tenant: platform administrators only.
    Everyone,
    /// Whoever fits every member. Members are simple targets.
    AllOf(Vec<Self>),
    /// Whoever fits one of the members. Members are simple targets or `all_of`.
    AnyOf(Vec<Self>),
}

/// A target and who is left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "body::TargetBody", into = "body::TargetBody")]
pub struct Audience {
    /// Whom it is for.
    pub target: Target,
    /// Who does not get it all the same.
    pub except: Except,
}

/// Users and sessions that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Except {
    /// A user who is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// Users who are left out, at most [`MAX_MEMBERS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "body::bounded_names")]
    pub users: Vec<Name>,
    /// A session that is left out, by the id of its `welcome`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

impl Except {
    /// Whether nobody is left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.user.is_none() && self.users.is_empty() && self.session.is_none()
    }

    /// Whether the session of this user is left out.
    #[must_use]
    pub fn covers(&self, user: &str, session: &str) -> bool {
        self.user.as_ref().is_some_and(|name| name.as_str() == user)
            || self.users.iter().any(|name| name.as_str() == user)
            || self.session.as_deref() == Some(session)
    }
}

/// One member of an expression: a session fits when it has every key.
pub type Member = Vec<TopicKey>;

/// How one publish travels: the topic it goes by, and what a hub still has to filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The topic.
    pub key: TopicKey,
    /// The other keys of an `all_of`; a session needs them all.
    pub require: Vec<TopicKey>,
}

/// Why a target was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// None or several of the target's fields are present.
    #[error("name exactly one of user, users, role, store, topic, tenant, everyone, all_of, any_of")]
    NotOne,
    /// `tenant` or `everyone` is not `true`.
    #[error("`{0}` can only be true")]
    NotTrue(&'static str),
    /// An empty list.
    #[error("`{0}` names nobody")]
    Empty(&'static str),
    /// More than [`MAX_MEMBERS`] members, those of the members counted.
    #[error("`{0}` has more than 1000 members in all")]
    TooMany(&'static str),
    /// `all_of` holds simple targets; `any_of` holds simple targets or `all_of`.
    #[error("`{0}` cannot stand inside an expression there")]
    Nested(&'static str),
    /// A name is empty or too long.
    #[error("{0}")]
    Name(#[from] InvalidId),
}

impl From<Target> for Audience {
    fn from(target: Target) -> Self {
        Self {
            target,
            except: Except::default(),
        }
    }
}

impl Target {
    /// Whether everyone of every tenant is meant, also as a member of an expression.
    #[must_use]
    pub fn reaches_everyone(&self) -> bool {
        match self {
            Self::Everyone => true,
            Self::AllOf(members) | Self::AnyOf(members) => members.iter().any(Self::reaches_everyone),
            _ => false,
        }
    }

    /// The single user who is meant, if it is one.
    #[must_use]
    pub fn single_user(&self) -> Option<&Name> {
        match self {
            Self::User(name) => Some(name),
            Self::Users(names) if names.len() == 1 => names.first(),
            _ => None,
        }
    }

    /// The publishes that reach the target: one, or one for each user or member of `any_of`.
    #[must_use]
    pub fn routes(&self, tenant: &TenantId) -> Vec<Route> {
        match self {
            Self::Users(names) => names
                .iter()
                .map(|name| Route {
                    key: TopicKey::user(tenant, name),
                    require: Vec::new(),
                })
                .collect(),
            Self::AnyOf(members) => {
                let mut routes: Vec<Route> = Vec::with_capacity(members.len());
                for route in members.iter().filter_map(|member| route(member.keys(tenant))) {
                    if !routes.contains(&route) {
                        routes.push(route);
                    }
                }
                routes
            }
            simple => route(simple.keys(tenant)).into_iter().collect(),
        }
    }

    /// The members of `any_of` as key lists, in the caller's order; empty for any other target.
    #[must_use]
    pub fn any_members(&self, tenant: &TenantId) -> Vec<Member> {
        match self {
            Self::AnyOf(_) => self
                .routes(tenant)
                .into_iter()
                .map(|route| std::iter::once(route.key).chain(route.require).collect())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn keys(&self, tenant: &TenantId) -> Vec<TopicKey> {
        match self {
            Self::User(name) => vec![TopicKey::user(tenant, name)],
            Self::Role(name) => vec![TopicKey::role(tenant, name)],
            Self::Store(name) => vec![TopicKey::store(tenant, name)],
            Self::Topic(name) => vec![TopicKey::topic(tenant, name)],
            Self::Tenant => vec![TopicKey::tenant(tenant)],
            Self::Everyone => vec![TopicKey::everyone()],
            Self::AllOf(members) => members.iter().flat_map(|member| member.keys(tenant)).collect(),
            // Both stand only at the top, where `routes` takes them apart.
            Self::Users(_) | Self::AnyOf(_) => Vec::new(),
        }
    }
}

/// Routes a set of keys by the narrowest of them; the rest is filtered.
fn route(mut keys: Vec<TopicKey>) -> Option<Route> {
    keys.sort_by(|a, b| (order(a.kind()), a).cmp(&(order(b.kind()), b)));
    keys.dedup();
    let mut keys = keys.into_iter();
    Some(Route {
        key: keys.next()?,
        require: keys.collect(),
    })
}

fn order(kind: TopicKind) -> u8 {
    match kind {
        TopicKind::User => 0,
        TopicKind::Store => 1,
        TopicKind::Role => 2,
        TopicKind::Topic => 3,
        TopicKind::Tenant => 4,
        TopicKind::Everyone => 5,
        // No target names it.
        TopicKind::Nodes => 6,
    }
}
