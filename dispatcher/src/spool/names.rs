//! How things of the spool are called in Redis: `{prefix}:{spool}:{kind}`. The tag in braces puts all of them into one slot
//! of a cluster, so that one script may touch them together.

use common::ids::TenantId;
use sha2::{Digest, Sha256};

use crate::model::IdempotencyKey;

/// The names under one prefix.
#[derive(Debug)]
pub(super) struct Names {
    head: String,
    /// The stream: what is accepted and not stored.
    pub(super) entries: String,
    /// How much is in it.
    pub(super) state: String,
    /// Nodes that may store directly, by when that ends.
    pub(super) permits: String,
    /// The fence token of the drainer, for as long as its lease holds.
    pub(super) drainer: String,
    /// The last fence token.
    pub(super) fence: String,
    /// There while the drainer takes out the last ones.
    pub(super) closing: String,
    /// What became of frames whose deliveries are not stored.
    pub(super) outcomes: String,
    /// Entries that the database refuses for good, kept for people.
    pub(super) aside: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let head = format!("{prefix}:{{spool}}:");
        let name = |kind: &str| format!("{head}{kind}");
        Self {
            entries: name("entries"),
            state: name("state"),
            permits: name("permits"),
            drainer: name("drainer"),
            fence: name("fence"),
            closing: name("closing"),
            outcomes: name("outcomes"),
            aside: name("aside"),
            head,
        }
    }

    /// Where the answer of an idempotency key is kept.
    pub(super) fn key(&self, tenant: &TenantId, key: &IdempotencyKey) -> String {
        let mut hash = Sha256::new();
        for part in [tenant.as_str(), &key.credential, &key.route, &key.key] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        format!("{}k:{}", self.head, hex(&hash.finalize()))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            write!(text, "{byte:02x}").unwrap_or_default();
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        let names = Names::new("c");
        let name = |credential: &str, key: &str| {
            names.key(
                &TenantId::new("t").unwrap(),
                &IdempotencyKey {
                    credential: credential.to_owned(),
                    route: "r".into(),
                    key: key.to_owned(),
                    request_hash: Vec::new(),
                    status: 201,
                    response: String::new(),
                },
            )
        };
        assert_ne!(name("a", "bc"), name("ab", "c"));
        assert_eq!(name("a", "b"), name("a", "b"));
        assert!(name("a", "b").starts_with("c:{spool}:k:"));
    }
}
