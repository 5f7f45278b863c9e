//! What an entry of the stream says: one JSON line a receipt, readable in `redis-cli`.
//!
//! Hubs and dispatchers of two versions run beside each other while a deployment rolls. So a line of an unknown kind, and an
//! entry of an unknown version, are passed over and counted; fields that are not known are not looked at.

use crate::{
    audit::AuditEntry,
    protocol::MAX_ITEMS,
    receipts::{Reader, Receipt},
    topic::{TopicKey, TopicKind},
};

/// The version of what is written here.
pub(super) const VERSION: &str = "1";

/// The fields of an entry: its version, its lines.
pub(super) const FIELDS: (&str, &str) = ("v", "r");

/// Receipts in one entry.
pub(super) const MAX_RECEIPTS: usize = 256;

/// Bytes of one entry, which one receipt alone may exceed.
const MAX_BYTES: usize = 16 * 1024;

/// The longest session name.
const MAX_SESSION: usize = 64;

/// The longest name in an entry of the audit log: that of a topic whose every byte is escaped.
const MAX_NAME: usize = 1024;

/// Entries that are being filled.
#[derive(Debug, Default)]
pub(super) struct Entries {
    texts: Vec<String>,
    /// Receipts in the last one.
    in_last: usize,
    receipts: usize,
}

impl Entries {
    /// Adds a receipt behind all others.
    pub(super) fn push(&mut self, receipt: &Receipt) {
        let line = match serde_json::to_string(receipt) {
            Ok(line) => line,
            Err(error) => {
                // Nothing in a receipt can fail to be written; were it so, the others would still count.
                tracing::error!(%error, "a receipt cannot be written as JSON");
                return;
            }
        };
        let fits = |last: &String| self.in_last < MAX_RECEIPTS && last.len() + 1 + line.len() <= MAX_BYTES;
        if let Some(last) = self.texts.last_mut().filter(|last| fits(last)) {
            last.push('\n');
            last.push_str(&line);
            self.in_last += 1;
        } else {
            self.texts.push(line);
            self.in_last = 1;
        }
        self.receipts += 1;
    }

    /// What the entries say.
    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Receipts in all of them.
    pub(super) fn receipts(&self) -> usize {
        self.receipts
    }
}

/// What was read of an entry.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Read {
    pub(super) receipts: Vec<Receipt>,
    /// Lines that could not be read.
    pub(super) poisoned: usize,
}

/// Reads an entry. An entry of another version is one line that cannot be read.
pub(super) fn read(version: &[u8], lines: &[u8]) -> Read {
    if version != VERSION.as_bytes() {
        return Read {
            poisoned: 1,
            ..Read::default()
        };
    }
    let mut read = Read::default();
    for line in lines.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line).ok().filter(is_valid) {
            Some(receipt) => read.receipts.push(receipt),
            None => read.poisoned += 1,
        }
    }
    read
}

/// Whether a hub can have written this: above all, no tenant's reader has another tenant's keys.
fn is_valid(receipt: &Receipt) -> bool {
    match receipt {
        Receipt::Written { key, .. } => key.kind() == TopicKind::User,
        // Who keeps the keys compares the tenant.
        Receipt::KeyUsed(_) => true,
        Receipt::Seen { reader } | Receipt::ReadAll { reader, .. } => is_valid_reader(reader),
        Receipt::Delivered { reader, ids } | Receipt::Read { reader, ids } => {
            ids.len() <= MAX_ITEMS && is_valid_reader(reader)
        }
        Receipt::Audit { entry } => is_valid_entry(entry),
    }
}

/// Hubs put on record what was done to sessions, and nothing else.
fn is_valid_entry(entry: &AuditEntry) -> bool {
    let origin = &entry.origin;
    let texts = [&*entry.object_kind, &entry.object_id, &origin.credential_id];
    entry.action.starts_with("session.")
        && texts.into_iter().all(|text| text.len() <= MAX_NAME)
        && origin.request.as_ref().is_none_or(|text| text.len() <= MAX_NAME)
}

fn is_valid_reader(reader: &Reader) -> bool {
    let Reader {
        tenant,
        user,
        session,
        keys,
    } = reader;
    let own = |key: &TopicKey| key.tenant_id().is_none_or(|of| of == tenant.as_str());
    let user = TopicKey::user(tenant, user);
    // A user is the only one that its keys name.
    let alone = |key: &TopicKey| key.kind() != TopicKind::User || *key == user;
    session.len() <= MAX_SESSION && keys.contains(&user) && keys.iter().all(|key| own(key) && alone(key))
}

/// A receipt of a session's beginning, for tests.
#[cfg(test)]
pub(super) fn example(user: &str) -> Receipt {
    use crate::ids::{Name, TenantId};

    let tenant = TenantId::new("t1").unwrap();
    let user = Name::new(user).unwrap();
    let keys: std::sync::Arc<[TopicKey]> = [
        TopicKey::user(&tenant, &user),
        TopicKey::role(&tenant, &Name::new("manager").unwrap()),
        TopicKey::tenant(&tenant),
        TopicKey::everyone(),
    ]
    .into();
    let session = "0198a0c5e8a47c319d5e0a1b2c3d4e5f".into();
    let reader = Reader {
        tenant,
        user,
        session,
        keys,
    };
    Receipt::Seen { reader }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        audit::{CredentialKind, Origin},
        ids::MessageId,
    };

    fn reader() -> Reader {
        let Receipt::Seen { reader } = example("u:1") else {
            unreachable!()
        };
        reader
    }

    fn read_text(text: &str) -> Read {
        read(VERSION.as_bytes(), text.as_bytes())
    }

    fn audit(action: &'static str) -> Receipt {
        let reader = reader();
        let origin = Origin {
            tenant: reader.tenant,
            credential: CredentialKind::Token,
            credential_id: "op".to_owned(),
            user: reader.user,
            address: Some("192.0.2.7".parse().unwrap()),
            request: None,
        };
        let entry = origin
            .did(action, "sessions", "user:u1")
            .after(&json!({ "code": 4003 }));
        Receipt::Audit {
            entry: Box::new(entry),
        }
    }

    #[test]
    fn a_hub_puts_on_record_what_was_done_to_sessions_alone() {
        for (action, read) in [("session.disconnect", 1), ("template.create", 0)] {
            let line = serde_json::to_string(&audit(action)).unwrap();
            assert_eq!(read_text(&line).receipts.len(), read, "{action}");
        }
    }

    #[test]
    fn every_receipt_is_read_as_it_was_written() {
        let ids = || vec![MessageId::generate(), MessageId::generate()];
        let receipts = [
            example("u:1"),
            Receipt::Written {
                key: reader().keys[0].clone(),
                id: MessageId::generate(),
            },
            Receipt::Delivered {
                reader: reader(),
                ids: ids(),
            },
            Receipt::Read {
                reader: reader(),
                ids: ids(),
            },
            Receipt::read_all(reader()),
            audit("session.disconnect"),
            Receipt::KeyUsed(crate::credential::KeyUse {
                tenant: reader().tenant,
                id: "0123456789ABCDEFGHIJkl".parse().unwrap(),
                at: 7,
            }),
        ];
        let mut entries = Entries::default();
        receipts.iter().for_each(|receipt| entries.push(receipt));
        assert_eq!((entries.texts().len(), entries.receipts()), (1, 7));
        let read = read_text(&entries.texts()[0]);
        assert_eq!((read.receipts.as_slice(), read.poisoned), (&receipts[..], 0));
    }

    #[test]
    fn the_form_of_a_line_is_this() {
        let line: Value = serde_json::to_value(example("u:1")).unwrap();
        assert_eq!(
            line,
            json!({"is": "seen", "reader": {"tenant": "t1", "user": "u:1",
                "session": "0198a0c5e8a47c319d5e0a1b2c3d4e5f",
                "keys": ["t1:u:u%3A1", "t1:r:manager", "t1:a", ":e"]}})
        );
    }

    #[test]
    fn entries_are_bounded_in_receipts_and_bytes() {
        let mut entries = Entries::default();
        let small = Receipt::Written {
            key: reader().keys[0].clone(),
            id: MessageId::generate(),
        };
        (0..MAX_RECEIPTS + 1).for_each(|_| entries.push(&small));
        assert_eq!((entries.texts().len(), entries.receipts()), (2, MAX_RECEIPTS + 1));
        assert!(entries.texts().iter().all(|text| text.len() <= MAX_BYTES));

        let large = Receipt::Read {
            reader: reader(),
            ids: vec![MessageId::generate(); MAX_ITEMS],
        };
        entries.push(&large);
        entries.push(&small);
        assert_eq!(entries.texts().len(), 4);
        assert_eq!(read_text(&entries.texts()[2]).receipts, [large]);
        assert_eq!(read_text(&entries.texts()[3]).receipts, [small]);
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_the_rest_counts() {
        let good = serde_json::to_string(&example("u:1")).unwrap();
        let newer = r#"{"is":"danced","reader":{}}"#;
        let read = read_text(&format!("{newer}\n{good}\n{{\"is\":\"seen\"}}\nnot json\n{good}"));
        assert_eq!((read.receipts.len(), read.poisoned), (2, 3));
        assert_eq!(super::read(b"2", good.as_bytes()).poisoned, 1);
        assert_eq!(super::read(b"", b"").poisoned, 1);
        assert_eq!(super::read(b"1", b"\xff").poisoned, 1);
    }

    #[test]
    fn fields_of_a_newer_version_are_not_looked_at() {
        let mut line = serde_json::to_value(example("u:1")).unwrap();
        line["region"] = json!("eu");
        line["reader"]["device"] = json!(7);
        assert_eq!(read_text(&line.to_string()).receipts, [example("u:1")]);
    }

    #[test]
    fn nobody_reads_with_the_keys_of_others() {
        let forged = |change: fn(&mut Value)| {
            let mut line = serde_json::to_value(Receipt::read_all(reader())).unwrap();
            change(&mut line);
            let read = read_text(&line.to_string());
            (read.receipts.len(), read.poisoned)
        };
        assert_eq!(forged(|_| ()), (1, 0));
        assert_eq!(forged(|line| line["reader"]["tenant"] = json!("t2")), (0, 1));
        assert_eq!(forged(|line| line["reader"]["user"] = json!("u2")), (0, 1));
        assert_eq!(
            forged(|line| line["reader"]["keys"][1] = json!("t2:r:manager")),
            (0, 1)
        );
        assert_eq!(
            forged(|line| line["reader"]["keys"][1] = json!("t1:u:u2")),
            (0, 1)
        );
        assert_eq!(forged(|line| line["reader"]["keys"] = json!([":e"])), (0, 1));
        assert_eq!(
            forged(|line| line["reader"]["session"] = json!("x".repeat(65))),
            (0, 1)
        );
        let role = r#"{"is":"written","key":"t1:r:manager","id":"01980c5e-8a4e-7c31-9d5e-0a1b2c3d4e5f"}"#;
        assert_eq!(read_text(role).poisoned, 1);
    }
}
