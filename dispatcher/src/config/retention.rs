//! How long history is kept.

use std::time::Duration;

use common::config::{ConfigError, Span};
use serde::Deserialize;

use super::InboxConfig;

/// Section `[retention]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// What is older is forgotten: rows of inboxes, notifications, deliveries with their attempts, receipts; `0s` keeps
    /// all. Default `90d`.
    pub after: Span,
    /// How long it is known which events were taken in: what a topic or an outbox brings again later is taken for new.
    /// Default `7d`.
    pub events: Span,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            after: Span(Duration::from_hours(90 * 24)),
            events: Span(Duration::from_hours(7 * 24)),
        }
    }
}

impl RetentionConfig {
    /// Refuses to forget what a user who comes for the first time is shown.
    pub(super) fn validate(&self, inbox: &InboxConfig) -> Result<(), ConfigError> {
        if self.after.0.is_zero() || self.after >= inbox.backfill {
            return Ok(());
        }
        Err(ConfigError::invalid(
            "retention.after",
            "must be at least inbox.backfill, or 0s to keep all",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_kept() {
        let inbox = InboxConfig::default();
        let after = |hours| RetentionConfig {
            after: Span(Duration::from_hours(hours)),
            ..RetentionConfig::default()
        };
        RetentionConfig::default().validate(&inbox).unwrap();
        after(0).validate(&inbox).unwrap();
        after(30 * 24).validate(&inbox).unwrap();
        let error = after(30 * 24 - 1).validate(&inbox).unwrap_err();
        assert!(error.to_string().contains("retention.after"), "{error}");
    }
}
