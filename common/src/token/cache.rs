//! Tokens that were verified before. A caller of the API shows one token again and again; its signature needs to be
//! checked once.
//!
//! Tokens are known by their SHA-256, so no token is kept, and no other text can pass for one. An entry ends with the
//! token, or with the key that verified it. The cache belongs to the verifier: other keys are another verifier, which
//! begins without any.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};

use super::Identity;

/// Parts of the cache, each with a lock of its own.
const SHARDS: usize = 16;

/// Tokens that a part remembers at the most.
const PER_SHARD: usize = 256;

/// What a token is known by.
pub(super) type Fingerprint = [u8; 32];

/// Bounded; only tokens that were verified get in, so nobody without one can drive others out.
#[derive(Default)]
pub(super) struct Verified {
    shards: [Mutex<HashMap<Fingerprint, Entry>>; SHARDS],
}

struct Entry {
    identity: Arc<Identity>,
    /// Unix seconds; the last at which it counts.
    until: i64,
}

impl Verified {
    pub(super) fn fingerprint(token: &str) -> Fingerprint {
        Sha256::digest(token).into()
    }

    pub(super) fn get(&self, fingerprint: &Fingerprint, now: i64) -> Option<Arc<Identity>> {
        let shard = self.shard(fingerprint);
        let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard
            .get(fingerprint)
            .filter(|entry| now <= entry.until)
            .map(|entry| Arc::clone(&entry.identity))
    }

    pub(super) fn insert(&self, fingerprint: Fingerprint, identity: Arc<Identity>, until: i64, now: i64) {
        let shard = self.shard(&fingerprint);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= PER_SHARD {
            shard.retain(|_, entry| now <= entry.until);
        }
        if shard.len() >= PER_SHARD
            // The map's order is random, so this is any of them.
            && let Some(any) = shard.keys().next().copied()
        {
            shard.remove(&any);
        }
        shard.insert(fingerprint, Entry { identity, until });
    }

    fn shard(&self, fingerprint: &Fingerprint) -> &Mutex<HashMap<Fingerprint, Entry>> {
        &self.shards[usize::from(fingerprint[0]) % SHARDS]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Claims;

    fn identity() -> Arc<Identity> {
        let claims = Claims {
            sub: "u".to_owned(),
            tenant_id: Some("t".to_owned()),
            ..Claims::default()
        };
        Identity::from_claims(claims, None).unwrap().shared()
    }

    #[test]
    fn an_entry_ends_with_its_time() {
        let cache = Verified::default();
        let fingerprint = Verified::fingerprint("token");
        cache.insert(fingerprint, identity(), 100, 50);
        assert!(cache.get(&fingerprint, 100).is_some());
        assert!(cache.get(&fingerprint, 101).is_none());
        assert!(cache.get(&Verified::fingerprint("token "), 60).is_none());
    }

    #[test]
    fn the_cache_is_bounded_and_forgets_what_ended_first() {
        let cache = Verified::default();
        let who = identity();
        let print = |number: usize| Verified::fingerprint(&number.to_string());
        for number in 0..SHARDS * PER_SHARD * 2 {
            cache.insert(print(number), Arc::clone(&who), 100, 50);
        }
        let full = cache.len();
        assert!(full <= SHARDS * PER_SHARD, "{full}");
        // All of those have ended; each shard that gets one more makes room for it by dropping them.
        for number in 0..SHARDS * 64 {
            cache.insert(print(1_000_000 + number), Arc::clone(&who), 200, 150);
        }
        assert_eq!(cache.len(), SHARDS * 64);
        assert!((0..SHARDS * 64).all(|number| cache.get(&print(1_000_000 + number), 150).is_some()));
    }
}
