//! What is known of an API key.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    ids::TenantId,
    token::{Identity, KeyHash, KeyId, Role, ShownKey, TokenError},
};

/// The end of a key that has none: the last second of the year 9999.
const FAR: i64 = 253_402_300_799;

/// A key as nodes need it. It holds no secret.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its name.
    pub id: KeyId,
    /// Which change made it so; grows with each.
    pub revision: i64,
    /// Whose it is.
    pub tenant: TenantId,
    /// Of its secret.
    pub hash: KeyHash,
    /// The secret before it, while both count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSecret>,
    /// What it may do.
    pub scopes: BTreeSet<String>,
    /// What it may do beside, by a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Until when it counts, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// It was taken back.
    #[serde(default)]
    pub revoked: bool,
}

/// A secret that was replaced.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PreviousSecret {
    /// Of the secret.
    pub hash: KeyHash,
    /// The last second at which it counts, Unix.
    pub until: i64,
}

impl KeyRecord {
    /// Whether what was shown is this key's secret, and counts.
    ///
    /// # Errors
    /// [`TokenError::KeyInvalid`]; only who has the secret is told more.
    pub(super) fn judge(&self, shown: &ShownKey, now: i64) -> Result<(), TokenError> {
        let was = self
            .previous
            .is_some_and(|previous| previous.hash.is(&shown.hash) && now <= previous.until);
        // Both are compared, so that nothing can be told from the time.
        if !(self.hash.is(&shown.hash) | was) {
            return Err(TokenError::KeyInvalid);
        }
        self.holds(now)
    }

    /// Whether the key counts.
    ///
    /// # Errors
    /// [`TokenError::KeyRevoked`], [`TokenError::KeyExpired`].
    pub(super) fn holds(&self, now: i64) -> Result<(), TokenError> {
        if self.revoked {
            Err(TokenError::KeyRevoked)
        } else if self.expires_at.is_some_and(|end| now >= end) {
            Err(TokenError::KeyExpired)
        } else {
            Ok(())
        }
    }

    /// All that the key may do.
    #[must_use]
    pub fn all_scopes(&self) -> BTreeSet<String> {
        let of_role = self.role.map_or(&[][..], Role::scopes);
        let of_role = of_role.iter().map(|scope| (*scope).to_owned());
        self.scopes.iter().cloned().chain(of_role).collect()
    }

    /// Who calls by this key.
    pub(super) fn identity(&self) -> Arc<Identity> {
        Identity {
            tenant: self.tenant.clone(),
            user: self.id.user(),
            roles: Vec::new(),
            stores: Vec::new(),
            topics: Vec::new(),
            scopes: self.all_scopes(),
            expires_at: self.expires_at.unwrap_or(FAR),
        }
        .shared()
    }
}

/// A key of tenant `t` with the scope `publish`, for tests.
#[cfg(test)]
pub(super) fn example(key: &crate::token::NewKey) -> KeyRecord {
    KeyRecord {
        id: key.id,
        revision: 1,
        tenant: TenantId::new("t").unwrap(),
        hash: key.hash,
        previous: None,
        scopes: BTreeSet::from(["publish".to_owned()]),
        role: None,
        expires_at: None,
        revoked: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::NewKey;

    #[test]
    fn s4_10_old_and_new_secret_overlap_and_only_who_has_one_is_told_more() {
        let old = NewKey::generate().unwrap();
        let new = NewKey::next(old.id).unwrap();
        let other = NewKey::next(old.id).unwrap();
        let shown = |key: &NewKey| ShownKey::read(key.text()).unwrap();
        let mut record = KeyRecord {
            previous: Some(PreviousSecret {
                hash: old.hash,
                until: 100,
            }),
            ..example(&new)
        };
        assert_eq!(record.judge(&shown(&old), 100), Ok(()));
        assert_eq!(record.judge(&shown(&old), 101), Err(TokenError::KeyInvalid));
        assert_eq!(record.judge(&shown(&new), 101), Ok(()));
        record.expires_at = Some(200);
        assert_eq!(record.judge(&shown(&new), 199), Ok(()));
        assert_eq!(record.judge(&shown(&new), 200), Err(TokenError::KeyExpired));
        record.revoked = true;
        assert_eq!(record.judge(&shown(&new), 100), Err(TokenError::KeyRevoked));
        assert_eq!(record.judge(&shown(&other), 100), Err(TokenError::KeyInvalid));
    }

    #[test]
    fn the_form_on_the_board_is_this_and_newer_fields_are_not_looked_at() {
        let key = NewKey::generate().unwrap();
        let mut text = serde_json::to_value(example(&key)).unwrap();
        text["region"] = "eu".into();
        let read: KeyRecord = serde_json::from_value(text).unwrap();
        assert!(read.id == key.id && read.hash.is(&key.hash) && read.previous.is_none());
        let who = read.identity();
        assert!(who.has_scope("publish") && !who.has_scope("control") && who.is_service());
        assert_eq!(who.key(), Some(key.id));
    }

    #[test]
    fn a_role_counts_beside_scopes() {
        let record = KeyRecord {
            role: Some(Role::Auditor),
            ..example(&NewKey::generate().unwrap())
        };
        assert_eq!(
            record.all_scopes(),
            ["audit:read", "publish"].map(str::to_owned).into()
        );
    }
}
