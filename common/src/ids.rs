//! Typed identifiers. Ids are UUIDv7 where they name stored things: identity, never order.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// Why a tenant id or a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Tenant ids match `[A-Za-z0-9._-]{1,64}`.
    #[error("a tenant id has 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Tenant,
    /// Names of users, roles, stores and topics have 1 to 256 bytes and no U+0000.
    #[error("a name has 1 to 256 bytes, and no U+0000 among them")]
    Name,
    /// Not a UUID.
    #[error("not an id of this server")]
    Uuid,
    /// Ids of nodes match `[A-Za-z0-9._-]{1,64}`.
    #[error("a node's id has 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Node,
}

/// A tenant: `[A-Za-z0-9._-]{1,64}`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// Checks and takes a tenant id.
    ///
    /// # Errors
    /// [`InvalidId::Tenant`] when it is empty, longer than 64 or holds another character.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        if is_narrow(id) {
            Ok(Self(id.into()))
        } else {
            Err(InvalidId::Tenant)
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TenantId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// Whether a text is `[A-Za-z0-9._-]{1,64}`: it holds nothing that separates parts of a key.
fn is_narrow(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The name of a user, role, store or topic: 1 to 256 bytes of any text without U+0000, which PostgreSQL cannot store.
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidId::Name`] when it is empty, longer than 256 bytes or holds U+0000.
    pub fn new(name: &str) -> Result<Self, InvalidId> {
        if (1..=256).contains(&name.len()) && !name.contains('\0') {
            Ok(Self(name.into()))
        } else {
            Err(InvalidId::Name)
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new UUIDv7.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId::Uuid)
            }
        }
    };
}

uuid_id! {
    /// A notification: what is said once, however many it reaches.
    NotificationId
}
uuid_id! {
    /// One recipient of a notification by one channel. The same in all its attempts.
    DeliveryId
}
uuid_id! {
    /// A message on the bus. A notification's message carries the notification's id.
    MessageId
}

impl MessageId {
    /// The id that every try of a publish with this idempotency key gets: derived from tenant, credential and key.
    #[must_use]
    pub fn derived(tenant: &TenantId, credential: &str, key: &str) -> Self {
        let seed = format!("{tenant}\u{0}{credential}\u{0}{key}");
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, seed.as_bytes()))
    }

    /// The check of a position: the last 32 bits of the id, which are random in every version in use.
    #[must_use]
    pub fn check(self) -> u32 {
        self.0.as_u128() as u32
    }
}

impl From<NotificationId> for MessageId {
    fn from(id: NotificationId) -> Self {
        Self(id.0)
    }
}

/// One running process of a hub: a short random text, new at each start.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// Checks and takes the id of a node.
    ///
    /// # Errors
    /// [`InvalidId::Node`] when it is empty, longer than 64 or holds another character than tenant ids may.
    pub fn new(id: &str) -> Result<Self, InvalidId> {
        if is_narrow(id) {
            Ok(Self(id.into()))
        } else {
            Err(InvalidId::Node)
        }
    }

    /// A new random node id.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("{:08x}", fastrand::u32(..)).into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_ids_are_narrow() {
        for good in ["t1", "a.b_c-D", &"x".repeat(64)] {
            assert!(TenantId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a:b", "ä", "{t}", "*", &"x".repeat(65)] {
            assert_eq!(TenantId::new(bad), Err(InvalidId::Tenant), "{bad}");
        }
    }

    #[test]
    fn names_are_of_any_text_that_can_be_stored() {
        for good in ["a", ":*{}%", "张三", "\u{1}", &"x".repeat(256)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "\0", "a\0b", &"x".repeat(257)] {
            assert_eq!(Name::new(bad), Err(InvalidId::Name), "{bad:?}");
        }
    }

    #[test]
    fn derived_ids_depend_on_every_part() {
        let tenant = TenantId::new("t").unwrap();
        let id = MessageId::derived(&tenant, "c", "k");
        assert_eq!(id, MessageId::derived(&tenant, "c", "k"));
        assert_ne!(id, MessageId::derived(&tenant, "c", "k2"));
        assert_ne!(id, MessageId::derived(&tenant, "c2", "k"));
        assert_ne!(id, MessageId::derived(&TenantId::new("t2").unwrap(), "c", "k"));
    }
}
