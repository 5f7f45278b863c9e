//! Targets as JSON, and what is refused in them.

use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Audience, Except, InvalidTarget, MAX_MEMBERS, Target};
use crate::ids::Name;

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
pub(super) struct TargetBody {
    #[serde(deserialize_with = "object")]
    fields: Fields,
}

impl TargetBody {
    /// How many members it is: itself, or those of its `all_of`.
    fn members(&self) -> usize {
        // An empty one is refused for itself.
        self.fields
            .all_of
            .as_ref()
            .map_or(1, |members| members.len().max(1))
    }
}

/// Names of whom a hub looks for among many: at most [`MAX_MEMBERS`].
pub(super) fn bounded_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Name>, D::Error> {
    let names = Vec::deserialize(deserializer)?;
    if names.len() > MAX_MEMBERS {
        return Err(de::Error::custom(InvalidTarget::TooMany("users")));
    }
    Ok(names)
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
            bounded("any_of", members.iter().map(TargetBody::members).sum())?;
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
