//! Targets: whom a notification or a publish is for, and the topic keys that it is routed by.

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    ids::{InvalidId, Name, TenantId},
    topic::{TopicKey, TopicKind},
};

/// Members of an expression, and users of one request, at the most.
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
#[serde(try_from = "TargetBody", into = "TargetBody")]
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
    /// Users who are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    /// More than [`MAX_MEMBERS`] members.
    #[error("`{0}` has more than 1000 members")]
    TooMany(&'static str),
    /// `all_of` holds simple targets; `any_of` holds simple targets or `all_of`.
    #[error("`{0}` cannot stand inside an expression there")]
    Nested(&'static str),
    /// A name is empty or too long.
    #[error("{0}")]
    Name(#[from] InvalidId),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    everyone: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all_of: Option<Vec<TargetBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    any_of: Option<Vec<TargetBody>>,
    #[serde(skip_serializing_if = "Except::is_empty")]
    #[serde(deserialize_with = "object")]
    except: Except,
}

/// A target's JSON object.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct TargetBody {
    #[serde(deserialize_with = "object")]
    fields: Fields,
}

/// Reads an object into a struct. Derived structs also read arrays, field by field, which no caller means.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(std::marker::PhantomData))
}

impl TryFrom<TargetBody> for Audience {
    type Error = InvalidTarget;

    fn try_from(mut body: TargetBody) -> Result<Self, InvalidTarget> {
        let except = std::mem::take(&mut body.fields.except);
        Ok(Self {
            target: body.fields.into_target(Place::Top)?,
            except,
        })
    }
}

impl From<Audience> for TargetBody {
    fn from(audience: Audience) -> Self {
        Self {
            fields: Fields {
                except: audience.except,
                ..Fields::from_target(audience.target)
            },
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Top,
    InAnyOf,
    InAllOf,
}

impl Fields {
    fn into_target(self, place: Place) -> Result<Target, InvalidTarget> {
        if place != Place::Top && !self.except.is_empty() {
            return Err(InvalidTarget::Nested("except"));
        }
        let mut found = Vec::with_capacity(1);
        if let Some(user) = self.user {
            found.push(Target::User(Name::new(&user)?));
        }
        if let Some(users) = self.users {
            if place != Place::Top {
                return Err(InvalidTarget::Nested("users"));
            }
            bounded("users", users.len())?;
            found.push(Target::Users(names(&users)?));
        }
        if let Some(role) = self.role {
            found.push(Target::Role(Name::new(&role)?));
        }
        if let Some(store) = self.store {
            found.push(Target::Store(Name::new(&store)?));
        }
        if let Some(topic) = self.topic {
            found.push(Target::Topic(Name::new(&topic)?));
        }
        if let Some(flag) = self.tenant {
            found.push(if flag {
                Target::Tenant
            } else {
                return Err(InvalidTarget::NotTrue("tenant"));
            });
        }
        if let Some(flag) = self.everyone {
            found.push(if flag {
                Target::Everyone
            } else {
                return Err(InvalidTarget::NotTrue("everyone"));
            });
        }
        if let Some(members) = self.all_of {
            if place == Place::InAllOf {
                return Err(InvalidTarget::Nested("all_of"));
            }
            found.push(Target::AllOf(expression("all_of", members, Place::InAllOf)?));
        }
        if let Some(members) = self.any_of {
            if place != Place::Top {
                return Err(InvalidTarget::Nested("any_of"));
            }
            found.push(Target::AnyOf(expression("any_of", members, Place::InAnyOf)?));
        }
        match found.len() {
            1 => found.pop().ok_or(InvalidTarget::NotOne),
            _ => Err(InvalidTarget::NotOne),
        }
    }

    fn from_target(target: Target) -> Self {
        let text = |name: Name| Some(name.as_str().to_owned());
        let bodies = |members: Vec<Target>| {
            Some(
                members
                    .into_iter()
                    .map(|member| TargetBody {
                        fields: Self::from_target(member),
                    })
                    .collect(),
            )
        };
        match target {
            Target::User(name) => Self {
                user: text(name),
                ..Self::default()
            },
            Target::Users(names) => Self {
                users: Some(names.iter().map(|name| name.as_str().to_owned()).collect()),
                ..Self::default()
            },
            Target::Role(name) => Self {
                role: text(name),
                ..Self::default()
            },
            Target::Store(name) => Self {
                store: text(name),
                ..Self::default()
            },
            Target::Topic(name) => Self {
                topic: text(name),
                ..Self::default()
            },
            Target::Tenant => Self {
                tenant: Some(true),
                ..Self::default()
            },
            Target::Everyone => Self {
                everyone: Some(true),
                ..Self::default()
            },
            Target::AllOf(members) => Self {
                all_of: bodies(members),
                ..Self::default()
            },
            Target::AnyOf(members) => Self {
                any_of: bodies(members),
                ..Self::default()
            },
        }
    }
}

fn bounded(field: &'static str, members: usize) -> Result<(), InvalidTarget> {
    match members {
        0 => Err(InvalidTarget::Empty(field)),
        1..=MAX_MEMBERS => Ok(()),
        _ => Err(InvalidTarget::TooMany(field)),
    }
}

fn names(texts: &[String]) -> Result<Vec<Name>, InvalidTarget> {
    let mut names = Vec::with_capacity(texts.len());
    for text in texts {
        names.push(Name::new(text)?);
    }
    // One row and one frame for each user, however often the caller names them.
    let mut seen = std::collections::HashSet::with_capacity(names.len());
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

fn expression(
    field: &'static str,
    members: Vec<TargetBody>,
    place: Place,
) -> Result<Vec<Target>, InvalidTarget> {
    bounded(field, members.len())?;
    members
        .into_iter()
        .map(|member| member.fields.into_target(place))
        .collect()
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Audience, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn keys(json: &str) -> Vec<(String, Vec<String>)> {
        let tenant = TenantId::new("t").unwrap();
        let routes = parse(json).unwrap().target.routes(&tenant);
        let text = |key: &TopicKey| key.as_str().to_owned();
        routes
            .iter()
            .map(|route| (text(&route.key), route.require.iter().map(text).collect()))
            .collect()
    }

    #[test]
    fn simple_targets_are_one_topic() {
        for (json, key) in [
            (r#"{"user":"u1"}"#, "t:u:u1"),
            (r#"{"role":"r:x"}"#, "t:r:r%3Ax"),
            (r#"{"store":"s"}"#, "t:s:s"),
            (r#"{"topic":"n"}"#, "t:t:n"),
            (r#"{"tenant":true}"#, "t:a"),
            (r#"{"everyone":true}"#, ":e"),
        ] {
            assert_eq!(keys(json), [(key.to_owned(), vec![])]);
        }
        assert_eq!(keys(r#"{"users":["a","b","a"]}"#).len(), 2);
    }

    #[test]
    fn all_of_is_routed_by_the_narrowest() {
        let json = r#"{"all_of":[{"tenant":true},{"role":"manager"},{"store":"12"}]}"#;
        assert_eq!(
            keys(json),
            [(
                "t:s:12".to_owned(),
                vec!["t:r:manager".to_owned(), "t:a".to_owned()]
            )]
        );
    }

    #[test]
    fn any_of_is_one_publish_for_each_member() {
        let json = r#"{"any_of":[{"role":"a"},{"all_of":[{"role":"b"},{"store":"1"}]},{"role":"a"}],"except":{"user":"u"}}"#;
        assert_eq!(
            keys(json),
            [
                ("t:r:a".to_owned(), vec![]),
                ("t:s:1".to_owned(), vec!["t:r:b".to_owned()])
            ]
        );
        assert!(parse(json).unwrap().except.covers("u", "s"));
        assert_eq!(
            parse(json)
                .unwrap()
                .target
                .any_members(&TenantId::new("t").unwrap())
                .len(),
            2
        );
    }

    #[test]
    fn bad_targets_say_why() {
        for (json, why) in [
            ("{}", "exactly one"),
            (r#"{"user":"a","role":"b"}"#, "exactly one"),
            (r#"{"user":""}"#, "256 bytes"),
            (r#"{"tenant":false}"#, "only be true"),
            (r#"{"users":[]}"#, "nobody"),
            (
                r#"{"all_of":[{"any_of":[{"user":"a"}]}]}"#,
                "inside an expression",
            ),
            (r#"{"all_of":[{"users":["a"]}]}"#, "inside an expression"),
            (
                r#"{"any_of":[{"user":"a","except":{"user":"b"}}]}"#,
                "inside an expression",
            ),
            (r#"{"usr":"a"}"#, "unknown field"),
            (r#"["a"]"#, "an object"),
            (r#"{"all_of":[["a"]]}"#, "an object"),
            (r#"{"user":"a","except":["b"]}"#, "an object"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }

    #[test]
    fn everyone_inside_an_expression_is_seen() {
        let json = r#"{"any_of":[{"role":"a"},{"all_of":[{"everyone":true}]}]}"#;
        assert!(parse(json).unwrap().target.reaches_everyone());
        assert!(!parse(r#"{"tenant":true}"#).unwrap().target.reaches_everyone());
    }

    #[test]
    fn bodies_round_trip() {
        for json in [
            r#"{"users":["a","b"]}"#,
            r#"{"all_of":[{"role":"m"},{"store":"1"}],"except":{"session":"s1"}}"#,
            r#"{"tenant":true}"#,
        ] {
            assert_eq!(serde_json::to_string(&parse(json).unwrap()).unwrap(), json);
        }
    }
}
