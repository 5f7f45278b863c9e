//! Settings that were changed while processes run.

use serde_json::Value;

use super::Micros;

/// One version of one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingVersion {
    /// Which, as in the configuration: `limits.queued_max`.
    pub key: String,
    /// From 1.
    pub version: i64,
    /// What holds; none: what the file says, as before it was ever changed.
    pub value: Option<Value>,
    /// By whom: a credential's id.
    pub changed_by: String,
    /// When.
    pub changed_at: Micros,
}

/// What becomes of a setting.
#[derive(Debug, Clone, PartialEq)]
pub struct SettingChange {
    /// Which.
    pub key: String,
    /// What holds from now on; none: what the file says.
    pub value: Option<Value>,
    /// Only where this is its version now; 0: it was never changed.
    pub expected: Option<i64>,
}
