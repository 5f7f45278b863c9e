//! What a token says, and what becomes of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{LEEWAY_SECONDS, Role, TokenError, api_key::KeyId};
use crate::{
    ids::{Name, TenantId},
    topic::{TopicKey, matches_pattern},
};

/// Roles, stores and topic patterns of one token at the most. It bounds what a session subscribes to.
const MAX_LIST: usize = 100;

/// The claims that Carillon reads. Others are ignored.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// The user, or the service.
    pub sub: String,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Roles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// One role, as some issuers write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Stores.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub store_ids: Vec<String>,
    /// One store, as some issuers write it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_id: Option<String>,
    /// Patterns of topics that may be subscribed; `*` matches any run of characters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Scopes, separated by spaces or as a list.
    #[serde(skip_serializing_if = "Scope::is_empty")]
    pub scope: Scope,
    /// A role of Carillon, whose scopes count beside `scope`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carillon_role: Option<String>,
    /// Who made it. The library checks it.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom it was made. The library checks it.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Until when, Unix seconds.
    #[serde(deserialize_with = "numeric_date")]
    pub exp: i64,
    /// From when, Unix seconds. The library checks it.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Issued, Unix seconds.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
}

/// RFC 7519 section 2: seconds, which may have a fraction.
fn numeric_date<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if seconds.is_finite() && (0.0..1e15).contains(&seconds) {
        Ok(seconds as i64)
    } else {
        Err(serde::de::Error::custom("not a date"))
    }
}

/// Scopes in either spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scope {
    /// `"a b"`
    Text(String),
    /// `["a","b"]`
    List(Vec<String>),
}

impl Default for Scope {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Scope {
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::List(list) => list.is_empty(),
        }
    }

    fn into_set(self) -> BTreeSet<String> {
        match self {
            Self::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            Self::List(list) => list.into_iter().collect(),
        }
    }
}

/// A caller whose token or API key was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The tenant.
    pub tenant: TenantId,
    /// The user or service (`sub`).
    pub user: Name,
    /// Roles.
    pub roles: Vec<Name>,
    /// Stores.
    pub stores: Vec<Name>,
    /// Patterns of topics that may be subscribed.
    pub topics: Vec<String>,
    /// Scopes.
    pub scopes: BTreeSet<String>,
    /// Until when, Unix seconds.
    pub expires_at: i64,
}

impl Identity {
    /// Checks what a verified token says.
    ///
    /// # Errors
    /// [`TokenError::NoTenant`] and [`TokenError::Claim`].
    pub(super) fn from_claims(claims: Claims, default_tenant: Option<&TenantId>) -> Result<Self, TokenError> {
        let tenant = match &claims.tenant_id {
            Some(id) => TenantId::new(id).map_err(|_| TokenError::Claim("tenant_id"))?,
            None => default_tenant.cloned().ok_or(TokenError::NoTenant)?,
        };
        let user = Name::new(&claims.sub).map_err(|_| TokenError::Claim("sub"))?;
        if KeyId::of_user(&claims.sub).is_some() {
            // That is what an API key is called; whoever signs tokens does not speak for keys.
            return Err(TokenError::Claim("sub"));
        }
        let roles = names("roles", claims.roles.into_iter().chain(claims.role))?;
        let stores = names("store_ids", claims.store_ids.into_iter().chain(claims.store_id))?;
        if claims.topics.len() > MAX_LIST || claims.topics.iter().any(|pattern| pattern.len() > 256) {
            return Err(TokenError::Claim("topics"));
        }
        let mut scopes = claims.scope.into_set();
        if let Some(role) = claims.carillon_role {
            let role: Role = role.parse().map_err(|_| TokenError::Claim("carillon_role"))?;
            scopes.extend(role.scopes().iter().map(|scope| (*scope).to_owned()));
        }
        Ok(Self {
            tenant,
            user,
            roles,
            stores,
            topics: claims.topics,
            scopes,
            expires_at: claims.exp,
        })
    }

    /// The API key that was shown; none where it was a token.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        KeyId::of_user(self.user.as_str())
    }

    /// Whether the token carries the scope. `platform:admin` carries every other.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.contains(scope) || self.scopes.contains("platform:admin")
    }

    /// Whether the caller counts as a service, with the limits of services.
    #[must_use]
    pub fn is_service(&self) -> bool {
        let scopes = ["service", "publish", "inbox:any"];
        scopes.iter().any(|scope| self.has_scope(scope)) || self.key().is_some()
    }

    /// The implicit topics: the user's own first, then stores, roles, the tenant and everyone.
    #[must_use]
    pub fn keys(&self) -> Vec<TopicKey> {
        let mut keys = Vec::with_capacity(3 + self.stores.len() + self.roles.len());
        keys.push(TopicKey::user(&self.tenant, &self.user));
        keys.extend(
            self.stores
                .iter()
                .map(|store| TopicKey::store(&self.tenant, store)),
        );
        keys.extend(self.roles.iter().map(|role| TopicKey::role(&self.tenant, role)));
        keys.push(TopicKey::tenant(&self.tenant));
        keys.push(TopicKey::everyone());
        keys
    }

    /// Whether the token, or one of the public patterns, allows to subscribe to the topic.
    #[must_use]
    pub fn may_subscribe(&self, topic: &str, public: &[String]) -> bool {
        self.topics
            .iter()
            .chain(public)
            .any(|pattern| matches_pattern(pattern, topic))
    }

    /// For how long the token is still good, clocks that differ allowed for.
    #[must_use]
    pub fn remaining(&self, now: jiff::Timestamp) -> Duration {
        let left = self.expires_at.saturating_add(LEEWAY_SECONDS) - now.as_second();
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    }

    /// Shares the identity between a session and what it hands on.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

fn names(claim: &'static str, texts: impl Iterator<Item = String>) -> Result<Vec<Name>, TokenError> {
    let mut names: Vec<Name> = Vec::new();
    for text in texts {
        let name = Name::new(&text).map_err(|_| TokenError::Claim(claim))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.len() > MAX_LIST {
        Err(TokenError::Claim(claim))
    } else {
        Ok(names)
    }
}
