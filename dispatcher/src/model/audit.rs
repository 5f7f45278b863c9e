//! Looking for what was changed.

use common::ids::TenantId;
use uuid::Uuid;

use super::Micros;

/// Which entries of the audit log are meant. Everything that is named has to fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Whose; none: every tenant's and the platform's.
    pub tenant: Option<TenantId>,
    /// What was done: an action, `template.create`, or its noun, `template`.
    pub action: Option<String>,
    /// By whom: a credential's id, or a user.
    pub who: Option<String>,
    /// With what kind of thing.
    pub object_kind: Option<String>,
    /// With which.
    pub object_id: Option<String>,
    /// At this time or later.
    pub from: Option<Micros>,
    /// Before this time.
    pub to: Option<Micros>,
}

/// A place in the audit log, which has the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPlace {
    /// When the last entry of the page was written.
    pub at: Micros,
    /// Its id.
    pub id: Uuid,
}
