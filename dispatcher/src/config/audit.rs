//! How long the audit log is kept.

use std::time::Duration;

use common::config::Span;
use serde::Deserialize;

/// Section `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Entries that are older are forgotten; `0s` keeps all. Default `400d`.
    pub retention: Span,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            retention: Span(Duration::from_hours(400 * 24)),
        }
    }
}
