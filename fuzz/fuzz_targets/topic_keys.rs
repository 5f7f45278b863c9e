//! No name forges another key, every key can be read back in one spelling only, and patterns match as they should.
#![no_main]

use common::{
    ids::{Name, TenantId},
    topic::{TopicKey, TopicKind, matches_pattern},
};
use libfuzzer_sys::fuzz_target;

fn named_keys(tenant: &TenantId, name: &Name) -> [(TopicKind, TopicKey); 4] {
    [
        (TopicKind::User, TopicKey::user(tenant, name)),
        (TopicKind::Role, TopicKey::role(tenant, name)),
        (TopicKind::Store, TopicKey::store(tenant, name)),
        (TopicKind::Topic, TopicKey::topic(tenant, name)),
    ]
}

/// What `*` means, without any cleverness.
fn matches_slowly(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            name.char_indices()
                .map(|(at, _)| at)
                .chain([name.len()])
                .any(|at| matches_slowly(rest, &name[at..]))
        }
        Some(first) => name
            .strip_prefix(first)
            .is_some_and(|name| matches_slowly(&pattern[first.len_utf8()..], name)),
    }
}

fuzz_target!(|input: (&str, &str)| {
    let (a, b) = input;
    let (Ok(tenant), Ok(other)) = (TenantId::new("t"), TenantId::new("other")) else {
        unreachable!()
    };

    for text in [a, b] {
        if let Ok(key) = TopicKey::parse(text) {
            assert_eq!(key.as_str(), text);
            let unnamed = matches!(key.kind(), TopicKind::Tenant | TopicKind::Everyone);
            assert_eq!(key.name().is_none(), unnamed);
            assert_eq!(key.tenant_id().is_none(), key.kind() == TopicKind::Everyone);
        }
    }

    if let (Ok(name), Ok(second)) = (Name::new(a), Name::new(b)) {
        for (kind, key) in named_keys(&tenant, &name) {
            assert_eq!(key.kind(), kind);
            assert_eq!(key.tenant_id(), Some("t"));
            assert_eq!(key.name().as_deref(), Some(a));
            assert_eq!(TopicKey::parse(key.as_str()), Ok(key.clone()));
            assert_eq!(
                TopicKey::from_public_name(&key.public_name(), &tenant, &name),
                Ok(key.clone())
            );
            let escaped = &key.as_str()["t:u:".len()..];
            assert!(
                !escaped.contains([':', '{', '}', '*']) && !escaped.contains(|c: char| c.is_ascii_control())
            );
            // Only the same tenant, kind and name give the same key.
            for (second_kind, second_key) in named_keys(&tenant, &second) {
                assert_eq!(key == second_key, kind == second_kind && a == b);
            }
            assert!(
                named_keys(&other, &second)
                    .iter()
                    .all(|(_, foreign)| *foreign != key)
            );
        }
    }

    // The slow form takes exponential time in the number of stars.
    if a.len() <= 24 && b.len() <= 24 && a.matches('*').count() <= 4 {
        assert_eq!(matches_pattern(a, b), matches_slowly(a, b), "{a:?} {b:?}");
    }
});
