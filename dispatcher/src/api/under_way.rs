//! Keys of requests that are at work in this process.

use std::{borrow::Cow, sync::Arc, time::Duration};

use common::{http::Problem, ids::TenantId};
use dashmap::DashSet;
use http::StatusCode;

use crate::model::IdempotencyKey;

/// When it is worth asking again for what is at work.
const RETRY: Duration = Duration::from_secs(1);

type Key = (TenantId, String, Cow<'static, str>, String);

/// A repeat that comes while the first is at work is told so, and holds no place in a queue for it. Repeats at other
/// processes wait for the first one's commit in the store, and get its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnderWay(Arc<DashSet<Key>>);

/// A key that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    all: UnderWay,
    key: Key,
}

impl UnderWay {
    /// Holds a key.
    pub(super) fn begin(&self, tenant: &TenantId, key: &IdempotencyKey) -> Result<Held, Problem> {
        let key = (
            tenant.clone(),
            key.credential.clone(),
            key.route.clone(),
            key.key.clone(),
        );
        if !self.0.insert(key.clone()) {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "idempotency_in_progress",
                "the first request with this key is still at work; ask again for its answer",
            )
            .field("Idempotency-Key")
            .retry_after(RETRY));
        }
        Ok(Held {
            all: self.clone(),
            key,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.0.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(credential: &str, key: &str) -> IdempotencyKey {
        IdempotencyKey {
            credential: credential.to_owned(),
            route: "notifications".into(),
            key: key.to_owned(),
            request_hash: Vec::new(),
            status: 201,
            response: String::new(),
        }
    }

    #[test]
    fn a_key_is_held_until_its_request_has_ended() {
        let under_way = UnderWay::default();
        let tenant = |name| TenantId::new(name).unwrap();
        let held = under_way.begin(&tenant("t1"), &key("a", "k")).unwrap();
        let refused = under_way.begin(&tenant("t1"), &key("a", "k")).unwrap_err();
        assert_eq!(
            (refused.status, refused.code, refused.retry_after),
            (StatusCode::CONFLICT, "idempotency_in_progress", Some(RETRY))
        );
        for (name, credential, number) in [("t2", "a", "k"), ("t1", "b", "k"), ("t1", "a", "l")] {
            drop(under_way.begin(&tenant(name), &key(credential, number)).unwrap());
        }
        drop(held);
        drop(under_way.begin(&tenant("t1"), &key("a", "k")).unwrap());
        assert!(under_way.0.is_empty());
    }
}
