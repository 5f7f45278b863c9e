//! Tokens and API keys: what callers show, and who they are by it. Algorithms are pinned to their keys by configuration, never
//! taken from a token's header.

mod api_key;
mod cache;
mod claims;
mod jwks;
mod keys;
mod mint;
mod roles;

pub(crate) use self::jwks::Wanted;
pub use self::{
    api_key::{InvalidKeyId, KEY_PREFIX, KeyHash, KeyId, NewKey, NoRandomness, ShownKey},
    claims::{Claims, Identity},
    keys::{KeyError, Verifier},
    mint::{MintError, NewToken, mint},
    roles::{Role, SCOPES, UnknownRole},
};

/// Seconds by which clocks may differ.
const LEEWAY_SECONDS: i64 = 5;

/// Why a token was refused. The text is for the caller and tells nothing about keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No token was given.
    #[error("a token is required: send `Authorization: Bearer <token or API key>`, or `X-API-Key: <key>`")]
    Missing,
    /// Not a token, wrongly signed, or of an algorithm that is not configured.
    #[error("the token is not valid")]
    Invalid,
    /// Its time has passed.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It names no tenant and there is no default one.
    #[error("the token names no tenant (claim tenant_id)")]
    NoTenant,
    /// A claim has an impossible value.
    #[error("the token's claim `{0}` has an impossible value")]
    Claim(&'static str),
    /// No API key, one that there is not, or with another's secret.
    #[error("the API key is not valid")]
    KeyInvalid,
    /// The time of the API key has passed.
    #[error("the API key has expired")]
    KeyExpired,
    /// The API key was taken back.
    #[error("the API key was revoked")]
    KeyRevoked,
}

impl TokenError {
    /// The stable code of problem+json and of metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Invalid => "token_invalid",
            Self::Expired => "token_expired",
            Self::NotYet => "token_not_yet_valid",
            Self::NoTenant => "token_without_tenant",
            Self::Claim(_) => "token_claim_invalid",
            Self::KeyInvalid => "key_invalid",
            Self::KeyExpired => "key_expired",
            Self::KeyRevoked => "key_revoked",
        }
    }
}
