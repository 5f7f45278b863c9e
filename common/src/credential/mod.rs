//! Credentials: the one place that says who a caller is, by a token or an API key, and whether the caller's address may go on
//! trying.
//!
//! [`Credentials::known`] answers without waiting: tokens always, keys that are in use. Where it cannot, [`Credentials::verify`]
//! waits for what keeps the keys ([`KeySource`]). A record is believed for half a second, so that a revoked key stops
//! everywhere within a second though nobody announces it.

mod board;
mod cache;
mod guard;
#[cfg(feature = "test-util")]
mod memory;
mod metrics;
mod record;

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use self::cache::{AtHand, Unknown};
#[cfg(feature = "test-util")]
pub use self::memory::MemoryKeys;
pub use self::{
    board::{BoardError, KeyBoard},
    cache::{KeyUse, Keys},
    guard::Guard,
    metrics::CredentialMetrics,
    record::{KeyRecord, PreviousSecret},
};
use crate::token::{Identity, KeyId, ShownKey, TokenError, Verifier, Wanted};

/// When to come back where keys cannot be looked up.
const LATER: Duration = Duration::from_secs(1);

/// Where records of keys are read.
pub trait KeySource: std::fmt::Debug + Send + Sync + 'static {
    /// The records of these keys, in their order; none where there is no such key.
    fn read<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<KeyRecord>>, SourceError>>;
}

/// Records could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("API keys cannot be looked up: {0}")]
pub struct SourceError(pub String);

/// Why a caller does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// What was shown is not good.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// The address has shown too much that was wrong.
    #[error("too many wrong tokens and keys came from this address; wait as `Retry-After` says")]
    TooMany(Duration),
    /// What was shown is not known here, and what keeps keys is away.
    #[error("the keys that would tell whose this is cannot be had at the moment; try again")]
    Unavailable(Duration),
}

impl Denied {
    /// The stable code of problem+json and of metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Refused(error) => error.code(),
            Self::TooMany(_) => "too_many_failures",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Says who callers are.
#[derive(Debug)]
pub struct Credentials {
    verifier: Verifier,
    keys: Option<Keys>,
    guard: Guard,
    metrics: CredentialMetrics,
}

impl Credentials {
    /// Tokens alone, without a bound on wrong ones.
    #[must_use]
    pub fn tokens(verifier: Verifier) -> Self {
        Self {
            verifier,
            keys: None,
            guard: Guard::off(),
            metrics: CredentialMetrics::default(),
        }
    }

    /// With API keys.
    #[must_use]
    pub fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// With a bound on what an address may show that is wrong.
    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Counted.
    #[must_use]
    pub fn counted(mut self, metrics: CredentialMetrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// Who shows this token or key, where that can be said without waiting. None: [`Self::verify`] has to be asked.
    pub fn known(&self, shown: &str, from: IpAddr) -> Option<Result<Arc<Identity>, Denied>> {
        self.look(shown, from, true)
    }

    /// [`Self::known`] for what is shown once for a long time, as by sockets: a good token is not remembered.
    pub fn known_once(&self, shown: &str, from: IpAddr) -> Option<Result<Arc<Identity>, Denied>> {
        self.look(shown, from, false)
    }

    /// Who shows this token or key.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn verify(&self, shown: &str, from: IpAddr) -> Result<Arc<Identity>, Denied> {
        if let Some(answer) = self.known(shown, from) {
            return answer;
        }
        if !ShownKey::is_one(shown) {
            let is_there = self.verifier.fetch_keys(shown).await;
            return match self.verifier.verify_again(shown) {
                Err(TokenError::Invalid) if !is_there => Err(Denied::Unavailable(LATER)),
                verified => self.settle(verified.map_err(Denied::Refused), from),
            };
        }
        let answer = match (&self.keys, ShownKey::read(shown)) {
            (Some(keys), Some(key)) => keys.find(&key).await,
            _ => Err(Unknown::Refused(TokenError::KeyInvalid)),
        };
        self.settle(
            answer.map_err(|unknown| match unknown {
                Unknown::Refused(error) => Denied::Refused(error),
                Unknown::Unavailable => Denied::Unavailable(LATER),
            }),
            from,
        )
    }

    /// Returns as soon as a caller that was verified before is no longer good.
    pub async fn ended(&self, identity: &Identity) -> TokenError {
        match identity.key() {
            Some(id) => self
                .key_ended(id, || true)
                .await
                .unwrap_or(TokenError::KeyExpired),
            None => {
                tokio::time::sleep(identity.remaining(jiff::Timestamp::now())).await;
                TokenError::Expired
            }
        }
    }

    /// Returns as soon as a key that was verified before is no longer good; none when nobody needs to know any more.
    pub async fn key_ended(&self, id: KeyId, is_wanted: impl Fn() -> bool) -> Option<TokenError> {
        while is_wanted() {
            if let Some(keys) = &self.keys
                && let Err(error) = keys.holds(&id)
            {
                return Some(error);
            }
            tokio::time::sleep(cache::REFRESH).await;
        }
        None
    }

    fn look(&self, shown: &str, from: IpAddr, again: bool) -> Option<Result<Arc<Identity>, Denied>> {
        if ShownKey::is_one(shown) {
            return self.look_up(shown, from);
        }
        if shown.is_empty() {
            return Some(Err(TokenError::Missing.into()));
        }
        if again && let Some(identity) = self.verifier.remembered(shown) {
            return Some(Ok(identity));
        }
        if let Some(wait) = self.guard.refuses(from) {
            return Some(self.too_many(wait));
        }
        let verified = if again {
            self.verifier.verify_again(shown)
        } else {
            self.verifier.verify(shown).map(Identity::shared)
        };
        if verified == Err(TokenError::Invalid) {
            match self.verifier.wanted(shown) {
                Wanted::No => {}
                Wanted::Fetch => return None,
                Wanted::Away => return Some(Err(Denied::Unavailable(LATER))),
            }
        }
        Some(self.settle(verified.map_err(Denied::Refused), from))
    }

    fn look_up(&self, shown: &str, from: IpAddr) -> Option<Result<Arc<Identity>, Denied>> {
        let at_hand = match (&self.keys, ShownKey::read(shown)) {
            (Some(keys), Some(key)) => keys.at_hand(&key),
            _ => AtHand::No(TokenError::KeyInvalid),
        };
        match at_hand {
            AtHand::Yes(identity) => Some(Ok(identity)),
            // Its secret was right a moment ago, so nobody is trying anything.
            AtHand::Old => None,
            AtHand::No(error) => Some(match self.guard.refuses(from) {
                Some(wait) => self.too_many(wait),
                None => self.settle(Err(error.into()), from),
            }),
            AtHand::Unknown => self.guard.refuses(from).map(|wait| self.too_many(wait)),
        }
    }

    fn too_many<T>(&self, wait: Duration) -> Result<T, Denied> {
        self.metrics.refused.inc();
        Err(Denied::TooMany(wait))
    }

    /// Counts what became of something that was looked at anew.
    fn settle(&self, answer: Result<Arc<Identity>, Denied>, from: IpAddr) -> Result<Arc<Identity>, Denied> {
        match &answer {
            Ok(_) => self.guard.succeeded(from),
            Err(denied) => {
                self.metrics.failed(denied.code());
                // Who has an old token is somebody that we know; who guesses has none.
                if matches!(
                    denied,
                    Denied::Refused(TokenError::Invalid | TokenError::KeyInvalid)
                ) {
                    self.guard.failed(from);
                }
            }
        }
        answer
    }
}
