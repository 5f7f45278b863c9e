//! Keys as callers write and see them.

use std::{collections::BTreeSet, time::Duration};

use common::{
    http::Problem,
    ids::TenantId,
    token::{Identity, KeyId, NewKey, Role, SCOPES},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{times, words::short},
    model::{ApiKey, Micros},
};

/// The farthest end of a key.
const LONGEST: Duration = Duration::from_hours(10 * 366 * 24);

/// For how long two secrets count, where nothing is said, and at the most.
const OVERLAP: u64 = 3600;
const MAX_OVERLAP: u64 = 30 * 24 * 3600;

/// A key to be made.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeyBody {
    /// What people call it, 1 to 256 bytes.
    #[schema(required)]
    name: Option<String>,
    /// Whose it is: another tenant's needs the scope `platform:admin`. Default: the caller's own.
    tenant: Option<String>,
    /// What it may do.
    scopes: Vec<String>,
    /// What it may do beside: `admin`, `operator`, `publisher` or `auditor`. A key has scopes or a role, or both.
    role: Option<String>,
    /// When it ends by itself, RFC 3339, within ten years. Default: when it is revoked.
    expires_at: Option<String>,
}

impl KeyBody {
    /// The key that is meant.
    pub(super) fn key(self, caller: &Identity, id: KeyId, now: Micros) -> Result<ApiKey, Problem> {
        let name = short("name", self.name)?.filter(|name| !name.trim().is_empty());
        let name = name.ok_or_else(|| {
            Problem::invalid("missing_field", "name", "say what people will know the key by")
        })?;
        let mut scopes = BTreeSet::new();
        for scope in self.scopes {
            if !SCOPES.contains(&scope.as_str()) {
                let detail = format!("one of {}", SCOPES.join(", "));
                return Err(Problem::invalid("unknown_scope", "scopes", detail));
            }
            scopes.insert(scope);
        }
        let role: Option<Role> = match self.role.as_deref().map(str::parse) {
            None => None,
            Some(Ok(role)) => Some(role),
            Some(Err(error)) => return Err(Problem::invalid("unknown_role", "role", format!("{error}"))),
        };
        if scopes.is_empty() && role.is_none() {
            let detail = "say what the key may do, by scopes or by a role";
            return Err(Problem::invalid("missing_field", "scopes", detail));
        }
        let expires_at = self
            .expires_at
            .as_deref()
            .map(|text| times::time("expires_at", text))
            .transpose()?;
        if expires_at.is_some_and(|end| end <= now || end > now.plus(LONGEST)) {
            let detail = "has to lie ahead, by ten years at the most";
            return Err(Problem::invalid("invalid_time", "expires_at", detail));
        }
        Ok(ApiKey {
            id,
            tenant: tenant(caller, self.tenant.as_deref())?,
            name,
            scopes,
            role,
            created_by: caller.user.as_str().to_owned(),
            created_at: now,
            expires_at,
            rotated_at: None,
            previous_until: None,
            revoked_at: None,
            last_used_at: None,
        })
    }
}

/// The tenant that is meant: the caller's own, or for platform administrators the one that is named.
pub(super) fn tenant(caller: &Identity, named: Option<&str>) -> Result<TenantId, Problem> {
    let Some(named) = named else {
        return Ok(caller.tenant.clone());
    };
    let tenant = TenantId::new(named)
        .map_err(|error| Problem::invalid("invalid_value", "tenant", error.to_string()))?;
    if tenant != caller.tenant && !caller.has_scope("platform:admin") {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "scope_missing",
            "keys of another tenant need a token with the scope `platform:admin`",
        )
        .field("tenant"));
    }
    Ok(tenant)
}

/// How a secret is replaced.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RotateBody {
    /// For how long the secret before counts too, 0 to 2,592,000 (30 days). Default: 3,600.
    overlap_seconds: Option<u64>,
}

impl RotateBody {
    pub(super) fn overlap(&self) -> Result<Duration, Problem> {
        let seconds = self.overlap_seconds.unwrap_or(OVERLAP);
        if seconds > MAX_OVERLAP {
            let detail = format!("0 to {MAX_OVERLAP} seconds");
            return Err(Problem::invalid("invalid_value", "overlap_seconds", detail));
        }
        Ok(Duration::from_secs(seconds))
    }
}

/// An API key, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KeyView {
    /// Its name in paths and in the audit log; the second part of its text.
    id: String,
    /// Whose it is.
    tenant: String,
    /// What people call it.
    name: String,
    /// What it may do.
    scopes: BTreeSet<String>,
    /// What it may do beside.
    role: Option<&'static str>,
    /// `active`, `expired` or `revoked`.
    state: &'static str,
    /// Who made it.
    created_by: String,
    /// When.
    created_at: String,
    /// When it ends by itself.
    expires_at: Option<String>,
    /// When it got its secret, where that is not the first.
    rotated_at: Option<String>,
    /// Until when the secret before counts too.
    previous_until: Option<String>,
    /// When it was taken back.
    revoked_at: Option<String>,
    /// When it was used last, to about a minute.
    last_used_at: Option<String>,
}

impl KeyView {
    pub(super) fn of(key: &ApiKey, now: Micros) -> Self {
        Self {
            id: key.id.to_string(),
            tenant: key.tenant.to_string(),
            name: key.name.clone(),
            scopes: key.scopes.clone(),
            role: key.role.map(Role::as_str),
            state: key.state(now).as_str(),
            created_by: key.created_by.clone(),
            created_at: key.created_at.rfc3339(),
            expires_at: key.expires_at.map(Micros::rfc3339),
            rotated_at: key.rotated_at.map(Micros::rfc3339),
            previous_until: key
                .previous_until
                .filter(|until| *until > now)
                .map(Micros::rfc3339),
            revoked_at: key.revoked_at.map(Micros::rfc3339),
            last_used_at: key.last_used_at.map(Micros::rfc3339),
        }
    }
}

/// An API key with its text, which is shown once.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyShown {
    #[serde(flatten)]
    view: KeyView,
    /// The whole key, for `Authorization: Bearer` or `X-API-Key`. It is not kept, and not shown again.
    key: String,
}

impl std::fmt::Debug for KeyShown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyShown")
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl KeyShown {
    pub(super) fn new(key: &ApiKey, secret: &NewKey, now: Micros) -> Self {
        Self {
            view: KeyView::of(key, now),
            key: secret.text().to_owned(),
        }
    }
}

/// Keys.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KeyList {
    /// In the order of their ids.
    pub(super) keys: Vec<KeyView>,
    /// The next page's `after`; none: this is the last one.
    pub(super) next: Option<String>,
}
