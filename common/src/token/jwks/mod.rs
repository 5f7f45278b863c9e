//! Public keys that an issuer shows at a URL: fetched in the background for as long as they are good, and once more where a token
//! names a key that is not among them. While the issuer is away, the last set goes on.

mod fetch;
mod set;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::Algorithm;
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::time::{Instant, sleep};
use url::Url;

pub(super) use self::{fetch::usable, set::KeySet};
use super::{cache::Verified, keys::Key};
use crate::{backoff::Backoff, config::AuthConfig};

/// A key that was looked for in vain is not looked for again for so long.
const NEGATIVE: Duration = Duration::from_mins(1);

/// Such keys that are remembered.
const MAX_NEGATIVE: usize = 1024;

/// The longest name of a key that is looked for.
const MAX_KID: usize = 256;

/// When a set is fetched again that could not be.
const AGAIN: Backoff = Backoff {
    base: Duration::from_secs(1),
    factor: 2.0,
    max: Duration::from_mins(5),
};

/// The issuer's keys.
pub(super) struct Jwks {
    url: Url,
    algorithms: Vec<Algorithm>,
    config: AuthConfig,
    /// Between two fetches for keys that are not known.
    cool_down: Duration,
    current: RwLock<Arc<Current>>,
    /// Held while it is fetched, so that one fetches for all.
    fetching: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    fetches: Counter,
    failures: Counter,
}

/// A set, and the tokens that its keys verified. Both end together.
#[derive(Default)]
pub(super) struct Current {
    pub(super) set: KeySet,
    pub(super) verified: Verified,
    text: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// When it was asked for last, whatever came of it.
    asked: Option<Instant>,
    is_there: bool,
    due: Option<Instant>,
    failed: u32,
    /// Keys that are not in the set, and until when nobody asks for them.
    negative: HashMap<String, Instant>,
}

/// What a token's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One that cannot be had, as far as is known.
    No,
    /// One that the issuer may have by now: to be fetched.
    Fetch,
    /// Nothing is known: the issuer's keys were never to be had.
    Away,
}

impl Jwks {
    /// The keys at this URL; none are there yet.
    pub(super) fn new(url: Url, algorithms: Vec<Algorithm>, config: &AuthConfig) -> Self {
        Self {
            url,
            algorithms,
            cool_down: config.jwks_cool_down.0,
            config: config.clone(),
            current: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            fetches: Counter::default(),
            failures: Counter::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "jwks_fetches",
            "Times that the issuer's keys were asked for",
            self.fetches.clone(),
        );
        registry.register("jwks_failures", "The same, in vain", self.failures.clone());
    }

    /// The set as it is now.
    pub(super) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is to be done for a token that no key verifies.
    pub(super) fn wanted(&self, algorithm: Algorithm, kid: Option<&str>) -> Wanted {
        if !self.algorithms.contains(&algorithm) || kid.is_some_and(|kid| kid.len() > MAX_KID) {
            return Wanted::No;
        }
        let now = Instant::now();
        let state = self.state();
        let is_cool = state.asked.is_none_or(|asked| now >= asked + self.cool_down);
        if !state.is_there {
            // The first fetch may be under way; who waits for it is told what came of it.
            let is_busy = self.fetching.try_lock().is_err();
            return if is_cool || is_busy {
                Wanted::Fetch
            } else {
                Wanted::Away
            };
        }
        let Some(kid) = kid else { return Wanted::No };
        if !self.current().set.fitting(algorithm, Some(kid)).is_empty() {
            // The key is there, so the signature was wrong.
            return Wanted::No;
        }
        let is_negative = state.negative.get(kid).is_some_and(|until| now < *until);
        if is_cool && !is_negative {
            Wanted::Fetch
        } else {
            Wanted::No
        }
    }

    /// Fetches the set because of this key, unless that was done a moment ago. Whether a set is there.
    pub(super) async fn fetch_for(&self, kid: Option<&str>) -> bool {
        let began = Instant::now();
        let fetching = self.fetching.lock().await;
        let is_due = {
            let state = self.state();
            // Somebody else did while this one waited.
            state
                .asked
                .is_none_or(|asked| asked < began && began >= asked + self.cool_down)
        };
        if is_due {
            self.fetch().await;
        }
        drop(fetching);
        if let Some(kid) = kid
            && !self
                .current()
                .set
                .keys
                .iter()
                .any(|key| key.id.as_deref() == Some(kid))
        {
            self.remember_negative(kid);
        }
        self.state().is_there
    }

    /// Keeps the set good, for ever.
    pub(super) async fn keep(&self) {
        loop {
            let due = self.state().due;
            if let Some(due) = due
                && Instant::now() < due
            {
                sleep(due - Instant::now()).await;
                continue;
            }
            let _fetching = self.fetching.lock().await;
            // Somebody may have fetched it for a key.
            if self.state().due == due {
                self.fetch().await;
            }
        }
    }

    /// One fetch. To be called by who holds `fetching`.
    async fn fetch(&self) {
        self.state().asked = Some(Instant::now());
        self.fetches.inc();
        let fetched = match fetch::fetch(&self.url).await {
            Ok(fetched) => fetched,
            Err(error) => return self.failed(&error.to_string()),
        };
        let make = |algorithm, id, key| Key::new(algorithm, id, key, &self.config, None);
        let Some(set) = KeySet::read(&fetched.text, &self.algorithms, make) else {
            return self.failed("the answer is no set of keys (RFC 7517)");
        };
        if set.keys.is_empty() {
            return self.failed("the set has no key for signatures by one of auth.jwks_algorithms");
        }
        {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            if current.text != *fetched.text {
                tracing::info!(keys = set.keys.len(), "the issuer's keys are read");
                *current = Arc::new(Current {
                    set,
                    verified: Verified::default(),
                    text: fetched.text.to_vec(),
                });
            }
        }
        let mut state = self.state();
        state.is_there = true;
        state.failed = 0;
        state.due = Some(Instant::now() + fetched.age);
    }

    fn failed(&self, reason: &str) {
        self.failures.inc();
        let mut state = self.state();
        if state.failed == 0 {
            let goes_on = state.is_there;
            tracing::warn!(
                reason,
                goes_on,
                "the issuer's keys (auth.jwks_url) cannot be read"
            );
        }
        state.failed = state.failed.saturating_add(1);
        state.due = Some(Instant::now() + AGAIN.delay(state.failed, fastrand::f64()));
    }

    fn remember_negative(&self, kid: &str) {
        let now = Instant::now();
        let mut state = self.state();
        if state.negative.len() >= MAX_NEGATIVE {
            state.negative.retain(|_, until| now < *until);
        }
        if state.negative.len() < MAX_NEGATIVE {
            state.negative.insert(kid.to_owned(), now + NEGATIVE);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
