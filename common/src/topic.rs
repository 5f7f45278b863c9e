//! Topic keys: what a node subscribes to on the bus, and under what an inbox row is filed.
//!
//! A key is `{tenant}:{kind}:{name}` with the name escaped, so that no name can forge another key: `%`, `:`, `{`, `}`,
//! `*` and control bytes are written `%XX`. Tenant ids hold none of these.

use std::fmt;

use arcstr::ArcStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{Name, NodeId, TenantId};

/// The key of a topic. Cheap to clone: one word, as a node keeps several for each session. Keys that share their text
/// are equal without a look at it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicKey(ArcStr);

/// How maps of topic keys hash: quick, and seeded anew in each process, as clients choose some of the names.
pub type TopicHasher = foldhash::quality::RandomState;

/// What kind of audience a key stands for, in the order in which `all_of` is routed: the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TopicKind {
    /// Every device of a user.
    User,
    /// Sessions whose token carries the store.
    Store,
    /// Sessions whose token carries the role.
    Role,
    /// Sessions that subscribed.
    Topic,
    /// Every session of a tenant.
    Tenant,
    /// Every session.
    Everyone,
    /// Nodes among themselves: no session is a member, and no client can name it.
    Nodes,
}

/// A text that is no topic key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a topic key")]
pub struct InvalidKey;

impl TopicKey {
    /// `{tenant}:u:{user}`
    #[must_use]
    pub fn user(tenant: &TenantId, user: &Name) -> Self {
        Self::named(tenant, 'u', user)
    }

    /// `{tenant}:r:{role}`
    #[must_use]
    pub fn role(tenant: &TenantId, role: &Name) -> Self {
        Self::named(tenant, 'r', role)
    }

    /// `{tenant}:s:{store}`
    #[must_use]
    pub fn store(tenant: &TenantId, store: &Name) -> Self {
        Self::named(tenant, 's', store)
    }

    /// `{tenant}:t:{name}`
    #[must_use]
    pub fn topic(tenant: &TenantId, name: &Name) -> Self {
        Self::named(tenant, 't', name)
    }

    /// `{tenant}:a`
    #[must_use]
    pub fn tenant(tenant: &TenantId) -> Self {
        Self(arcstr::format!("{tenant}:a"))
    }

    /// `:e`, the only key of sessions without a tenant.
    #[must_use]
    pub fn everyone() -> Self {
        Self(arcstr::literal!(":e"))
    }

    /// `:n`, by which nodes speak to all others.
    #[must_use]
    pub fn nodes() -> Self {
        Self(arcstr::literal!(":n"))
    }

    /// `:n:{node}`, by which nodes speak to one.
    #[must_use]
    pub fn node(node: &NodeId) -> Self {
        Self(arcstr::format!(":n:{node}"))
    }

    fn named(tenant: &TenantId, kind: char, name: &Name) -> Self {
        let mut key = String::with_capacity(tenant.as_str().len() + name.as_str().len() + 3);
        key.push_str(tenant.as_str());
        key.push(':');
        key.push(kind);
        key.push(':');
        escape_into(name.as_str(), &mut key);
        Self(key.into())
    }

    /// Reads a key back, for example from a database row.
    ///
    /// # Errors
    /// [`InvalidKey`] when no constructor of this type would have written it.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text == ":e" {
            return Ok(Self::everyone());
        }
        if text == ":n" {
            return Ok(Self::nodes());
        }
        if let Some(node) = text.strip_prefix(":n:") {
            return Ok(Self::node(&NodeId::new(node).map_err(|_| InvalidKey)?));
        }
        let (tenant, rest) = text.split_once(':').ok_or(InvalidKey)?;
        let tenant = TenantId::new(tenant).map_err(|_| InvalidKey)?;
        if rest == "a" {
            return Ok(Self::tenant(&tenant));
        }
        let (kind, escaped) = rest.split_once(':').ok_or(InvalidKey)?;
        if !matches!(kind, "u" | "r" | "s" | "t") {
            return Err(InvalidKey);
        }
        let name = Name::new(&unescape(escaped).ok_or(InvalidKey)?).map_err(|_| InvalidKey)?;
        let key = Self::named(&tenant, kind.chars().next().ok_or(InvalidKey)?, &name);
        // Only the canonical spelling is a key, else two spellings would name one audience.
        if key.as_str() == text {
            Ok(key)
        } else {
            Err(InvalidKey)
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant's id, none for everyone and for nodes.
    #[must_use]
    pub fn tenant_id(&self) -> Option<&str> {
        self.0
            .split_once(':')
            .map(|(tenant, _)| tenant)
            .filter(|tenant| !tenant.is_empty())
    }

    /// What the key stands for.
    #[must_use]
    pub fn kind(&self) -> TopicKind {
        let rest = self.0.split_once(':').map_or("", |(_, rest)| rest);
        match rest.as_bytes().first() {
            Some(b'u') => TopicKind::User,
            Some(b's') => TopicKind::Store,
            Some(b'r') => TopicKind::Role,
            Some(b't') => TopicKind::Topic,
            Some(b'e') => TopicKind::Everyone,
            Some(b'n') => TopicKind::Nodes,
            _ => TopicKind::Tenant,
        }
    }

    /// The unescaped name; none for a tenant's, everyone's and all nodes' key.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let mut parts = self.0.splitn(3, ':');
        unescape(parts.nth(2)?)
    }

    /// The tenant-free name that clients see: `user`, `role:manager`, `store:12`, `topic:name`, `tenant`, `everyone`.
    #[must_use]
    pub fn public_name(&self) -> String {
        let named = |prefix: &str| format!("{prefix}:{}", self.name().unwrap_or_default());
        match self.kind() {
            TopicKind::User => "user".to_owned(),
            TopicKind::Role => named("role"),
            TopicKind::Store => named("store"),
            TopicKind::Topic => named("topic"),
            TopicKind::Tenant => "tenant".to_owned(),
            TopicKind::Everyone => "everyone".to_owned(),
            TopicKind::Nodes => "nodes".to_owned(),
        }
    }

    /// The key that a client means by a tenant-free name, for the session of `user` in `tenant`.
    ///
    /// # Errors
    /// [`InvalidKey`] for a name of no known form.
    pub fn from_public_name(name: &str, tenant: &TenantId, user: &Name) -> Result<Self, InvalidKey> {
        match name {
            "user" => return Ok(Self::user(tenant, user)),
            "tenant" => return Ok(Self::tenant(tenant)),
            "everyone" => return Ok(Self::everyone()),
            _ => {}
        }
        let (kind, name) = name.split_once(':').ok_or(InvalidKey)?;
        let name = Name::new(name).map_err(|_| InvalidKey)?;
        match kind {
            "role" => Ok(Self::role(tenant, &name)),
            "store" => Ok(Self::store(tenant, &name)),
            "topic" => Ok(Self::topic(tenant, &name)),
            _ => Err(InvalidKey),
        }
    }
}

impl fmt::Display for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for TopicKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for TopicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TopicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

fn must_escape(c: char) -> bool {
    matches!(c, '%' | ':' | '{' | '}' | '*') || c.is_ascii_control()
}

fn escape_into(name: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for c in name.chars() {
        if must_escape(c) {
            // Every character that is escaped is ASCII, so it is one byte.
            let byte = c as u8;
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)] as char);
            out.push(HEX[usize::from(byte & 15)] as char);
        } else {
            out.push(c);
        }
    }
}

fn unescape(escaped: &str) -> Option<String> {
    let mut name = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('%') {
        name.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3)?;
        let byte = u8::from_str_radix(hex, 16).ok().filter(u8::is_ascii)?;
        name.push(char::from(byte));
        rest = &rest[at + 3..];
    }
    name.push_str(rest);
    Some(name)
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters, also an empty one.
#[must_use]
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut rest = rest;
    let mut middle: Vec<&str> = parts.collect();
    let Some(last) = middle.pop() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant() -> TenantId {
        TenantId::new("x").unwrap()
    }

    #[test]
    fn names_cannot_forge_keys() {
        for (name, key) in [
            ("x:r:admin", "x:u:x%3Ar%3Aadmin"),
            ("}", "x:u:%7D"),
            ("*", "x:u:%2A"),
            ("%3A", "x:u:%253A"),
            ("a\nb", "x:u:a%0Ab"),
            ("张三", "x:u:张三"),
        ] {
            let made = TopicKey::user(&tenant(), &Name::new(name).unwrap());
            assert_eq!(made.as_str(), key);
            assert_eq!(made.name().as_deref(), Some(name));
        }
    }

    #[test]
    fn only_canonical_keys_parse() {
        for good in [":e", ":n", ":n:0a", "t:a", "t:u:1", "t:t:a%3Ab"] {
            assert_eq!(TopicKey::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "", ":", ":n:", ":n:a:b", ":n:%41", "t:n", "t:n:a", "t", "t:", "t:x:1", "t:u:", "t:u:%41",
            "t:u:%3a", "t:u:a:b", "::e", "t:e", ":a", "t:u:%",
        ] {
            assert_eq!(TopicKey::parse(bad), Err(InvalidKey), "{bad}");
        }
    }

    #[test]
    fn clients_cannot_name_the_topics_of_nodes() {
        let user = Name::new("u").unwrap();
        for name in ["nodes", "n", ":n", "n:0a", ":n:0a", "node:0a", "nodes:0a"] {
            assert!(
                TopicKey::from_public_name(name, &tenant(), &user).is_err(),
                "{name}"
            );
        }
        let key = TopicKey::node(&NodeId::new("0a").unwrap());
        assert_eq!((key.kind(), key.tenant_id()), (TopicKind::Nodes, None));
    }

    #[test]
    fn patterns_match_runs() {
        for (pattern, name, matched) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a.*", "a.b", true),
            ("a.*", "b.a.", false),
            ("*.log", "x.log", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
            ("ab*ba", "aba", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), matched, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_differ(a in ".{1,40}", b in ".{1,40}") {
            let (Ok(name_a), Ok(name_b)) = (Name::new(&a), Name::new(&b)) else { return Ok(()) };
            let key = TopicKey::topic(&tenant(), &name_a);
            prop_assert_eq!(&TopicKey::parse(key.as_str()).unwrap(), &key);
            let name = key.name();
            prop_assert_eq!(name.as_deref(), Some(a.as_str()));
            prop_assert_eq!(key == TopicKey::topic(&tenant(), &name_b), a == b);
            let user = Name::new("u").unwrap();
            prop_assert_eq!(TopicKey::from_public_name(&key.public_name(), &tenant(), &user).unwrap(), key);
        }
    }
}
