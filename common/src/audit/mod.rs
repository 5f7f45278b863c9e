//! Who changed what: whence a change came, and the entry that tells of it.
//!
//! Dispatchers write entries in the transaction of the change; hubs, which have no database, hand theirs over through the
//! stream of receipts.

mod mask;

use std::{borrow::Cow, net::IpAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use self::mask::masked;
use crate::{
    ids::{Name, TenantId},
    token::Identity,
};

/// What somebody showed to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A signed token; its id is its `sub`.
    Token,
    /// An API key, by its id.
    Key,
    /// The command line of the machine; its id is the system's user.
    Command,
}

impl CredentialKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Token, Self::Key, Self::Command];

    /// The name in documents and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Key => "key",
            Self::Command => "command",
        }
    }

    /// The kind of a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Who asked for something, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The caller's tenant.
    pub tenant: TenantId,
    /// What the caller showed.
    pub credential: CredentialKind,
    /// Which of them: a key's id or the token's `sub`.
    pub credential_id: String,
    /// In whose name.
    pub user: Name,
    /// Whence, where it came over a network.
    pub address: Option<IpAddr>,
    /// What the caller named its request (`X-Request-Id`).
    pub request: Option<String>,
}

impl Origin {
    /// The verified caller of a request.
    #[must_use]
    pub fn of(caller: &Identity, address: Option<IpAddr>, request: Option<String>) -> Self {
        let (credential, credential_id) = match caller.key() {
            Some(key) => (CredentialKind::Key, key.to_string()),
            None => (CredentialKind::Token, caller.user.as_str().to_owned()),
        };
        Self {
            tenant: caller.tenant.clone(),
            credential,
            credential_id,
            user: caller.user.clone(),
            address,
            request,
        }
    }

    /// An entry that this caller did something with an object of its tenant, now. Actions are named `noun.verb`.
    #[must_use]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "ids and texts are named alike, and most callers have theirs by value"
    )]
    pub fn did(&self, action: &'static str, object_kind: &'static str, object: impl ToString) -> AuditEntry {
        AuditEntry {
            id: Uuid::now_v7(),
            tenant: Some(self.tenant.clone()),
            origin: self.clone(),
            action: Cow::Borrowed(action),
            object_kind: Cow::Borrowed(object_kind),
            object_id: object.to_string(),
            before: None,
            after: None,
            at_us: jiff::Timestamp::now().as_microsecond(),
        }
    }
}

/// One thing that somebody changed. Nothing in it is secret, and nothing is a message's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The same in every repeat.
    pub id: Uuid,
    /// Whose thing was changed; none: the platform's.
    pub tenant: Option<TenantId>,
    /// By whom.
    pub origin: Origin,
    /// What was done: `template.create`, `notification.cancel` …
    pub action: Cow<'static, str>,
    /// With what kind of thing.
    pub object_kind: Cow<'static, str>,
    /// With which.
    pub object_id: String,
    /// What it was.
    pub before: Option<Value>,
    /// What it became.
    pub after: Option<Value>,
    /// When, in Unix microseconds.
    pub at_us: i64,
}

impl AuditEntry {
    /// Whose thing it was, where that is not the caller's tenant; none: the platform's.
    #[must_use]
    pub fn of(mut self, tenant: Option<TenantId>) -> Self {
        self.tenant = tenant;
        self
    }

    /// What it was; [`masked`].
    #[must_use]
    pub fn before(mut self, value: &impl Serialize) -> Self {
        self.before = Some(masked(value));
        self
    }

    /// What it became; [`masked`].
    #[must_use]
    pub fn after(mut self, value: &impl Serialize) -> Self {
        self.after = Some(masked(value));
        self
    }

    /// From what to what a value was changed that is no secret: it is shown as it is.
    #[must_use]
    pub fn plain(mut self, before: Option<Value>, after: Option<Value>) -> Self {
        (self.before, self.after) = (before, after);
        self
    }
}
