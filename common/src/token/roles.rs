//! Roles: names for sets of scopes that keys and tokens may carry.
//!
//! They are Carillon's own. The claim `roles` holds the business roles of a tenant, which address people and give no scope.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Every scope that there is.
pub const SCOPES: [&str; 15] = [
    "notifications:write",
    "notifications:broadcast",
    "notifications:admin",
    "templates:write",
    "channels:write",
    "contacts:write",
    "rules:write",
    "keys:write",
    "inbox:any",
    "publish",
    "control",
    "metrics",
    "audit:read",
    "service",
    "platform:admin",
];

/// A set of scopes by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything within a tenant.
    Admin,
    /// Sees to what is under way: queue, channels, sessions.
    Operator,
    /// A service that notifies and publishes.
    Publisher,
    /// Reads what was changed by whom.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Publisher, Self::Auditor];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Publisher => "publisher",
            Self::Auditor => "auditor",
        }
    }

    /// The scopes that it stands for.
    #[must_use]
    pub fn scopes(self) -> &'static [&'static str] {
        match self {
            // All but the last, which reaches other tenants.
            Self::Admin => SCOPES.split_last().map_or(&[], |(_, own)| own),
            Self::Operator => &["notifications:admin", "channels:write", "control", "metrics"],
            Self::Publisher => &[
                "notifications:write",
                "notifications:broadcast",
                "publish",
                "service",
            ],
            Self::Auditor => &["audit:read"],
        }
    }
}

/// A name that is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of admin, operator, publisher, auditor")]
pub struct UnknownRole;

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(UnknownRole)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_reaches_other_tenants_and_all_name_scopes_that_there_are() {
        for role in Role::ALL {
            assert!(!role.scopes().contains(&"platform:admin"), "{role}");
            assert!(role.scopes().iter().all(|scope| SCOPES.contains(scope)), "{role}");
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!(Role::Admin.scopes().len(), SCOPES.len() - 1);
        assert_eq!("root".parse::<Role>(), Err(UnknownRole));
    }
}
