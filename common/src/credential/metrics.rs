//! What is counted of callers.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Why something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Because {
    reason: &'static str,
}

/// Counts of callers.
#[derive(Debug, Clone, Default)]
pub struct CredentialMetrics {
    failures: Family<Because, Counter>,
    /// Not looked at, as the address has shown too much that was wrong.
    pub(super) refused: Counter,
    /// Times that keys were read.
    pub(super) reads: Counter,
    /// The same, in vain.
    pub(super) read_failures: Counter,
}

impl CredentialMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        let m = new.clone();
        registry.register(
            "auth_failures",
            "Tokens and API keys that were refused, by the code of the answer",
            m.failures,
        );
        registry.register(
            "auth_refused_unseen",
            "Tokens and API keys that were not looked at, as their address had shown too many wrong ones",
            m.refused,
        );
        registry.register("api_key_reads", "Times that API keys were looked up", m.reads);
        registry.register(
            "api_key_read_failures",
            "Times that API keys could not be looked up",
            m.read_failures,
        );
        new
    }

    pub(super) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&Because { reason }).inc();
    }
}
