//! API keys as people see to them.

use std::collections::BTreeSet;

use common::{
    ids::TenantId,
    token::{KeyHash, KeyId, Role},
};
use serde::Serialize;

use super::Micros;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Which key.
    pub id: KeyId,
    /// Whose.
    pub tenant: TenantId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<String>,
    /// What it may do beside.
    pub role: Option<Role>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Micros,
    /// When it ends by itself.
    pub expires_at: Option<Micros>,
    /// When it got its secret, where that is not the first.
    pub rotated_at: Option<Micros>,
    /// Until when the secret before counts.
    pub previous_until: Option<Micros>,
    /// When it was taken back.
    pub revoked_at: Option<Micros>,
    /// When it was used last, to about a minute.
    pub last_used_at: Option<Micros>,
}

/// What has become of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It counts.
    Active,
    /// Its time has passed.
    Expired,
    /// It was taken back.
    Revoked,
}

impl KeyState {
    /// The name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Expired, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

impl ApiKey {
    /// What has become of it by now.
    #[must_use]
    pub fn state(&self, now: Micros) -> KeyState {
        if self.revoked_at.is_some() {
            KeyState::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            KeyState::Expired
        } else {
            KeyState::Active
        }
    }

    /// All that it may do, by its role too.
    #[must_use]
    pub fn all_scopes(&self) -> BTreeSet<String> {
        let of_role = self.role.map_or(&[][..], Role::scopes);
        let of_role = of_role.iter().map(|scope| (*scope).to_owned());
        self.scopes.iter().cloned().chain(of_role).collect()
    }

    /// What the audit log shows of it: all of it, as nothing here is secret.
    #[must_use]
    pub fn shown(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Shown<'a> {
            name: &'a str,
            scopes: &'a BTreeSet<String>,
            role: Option<Role>,
            expires_at: Option<String>,
            previous_until: Option<String>,
            revoked_at: Option<String>,
        }
        serde_json::to_value(Shown {
            name: &self.name,
            scopes: &self.scopes,
            role: self.role,
            expires_at: self.expires_at.map(Micros::rfc3339),
            previous_until: self.previous_until.map(Micros::rfc3339),
            revoked_at: self.revoked_at.map(Micros::rfc3339),
        })
        // Texts can be written as JSON.
        .unwrap_or_default()
    }
}

/// A key that is made.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// What it is.
    pub key: ApiKey,
    /// Of its secret.
    pub hash: KeyHash,
    /// Keys that its tenant may have which have not ended.
    pub most: u32,
}

/// What became of a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMade {
    /// False: the tenant has as many as it may have.
    pub made: bool,
    /// Keys that had ended long ago and were forgotten.
    pub forgotten: Vec<KeyId>,
}

/// What became of a key that was to get another secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRotated {
    /// It has it.
    Done(Box<ApiKey>),
    /// It was taken back, or has expired.
    Ended(KeyState),
    /// There is none.
    None,
}

/// Which keys are listed. Everything that is named has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Whose; none: every tenant's.
    pub tenant: Option<TenantId>,
    /// What has become of them.
    pub state: Option<KeyState>,
}
