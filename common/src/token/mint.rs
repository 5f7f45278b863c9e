//! Making tokens: `carillon token`, and tests.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::{ExposeSecret, SecretString};

use super::claims::{Claims, Scope};

/// What a new token says.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// `sub`.
    pub user: String,
    /// `tenant_id`.
    pub tenant: Option<String>,
    /// `roles`.
    pub roles: Vec<String>,
    /// `store_ids`.
    pub stores: Vec<String>,
    /// `topics`.
    pub topics: Vec<String>,
    /// Scopes; each may hold several, separated by spaces.
    pub scopes: Vec<String>,
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
    /// How long it is valid, in seconds.
    pub ttl_seconds: i64,
}

impl Default for NewToken {
    fn default() -> Self {
        Self {
            user: String::new(),
            tenant: None,
            roles: Vec::new(),
            stores: Vec::new(),
            topics: Vec::new(),
            scopes: Vec::new(),
            issuer: None,
            audience: None,
            ttl_seconds: 3600,
        }
    }
}

/// The token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the token cannot be signed: {0}")]
pub struct MintError(#[from] jsonwebtoken::errors::Error);

/// Signs a token with HS256.
///
/// # Errors
/// [`MintError`] when the library refuses the secret.
pub fn mint(new: &NewToken, secret: &SecretString) -> Result<String, MintError> {
    let now = jiff::Timestamp::now().as_second();
    let claims = Claims {
        sub: new.user.clone(),
        tenant_id: new.tenant.clone(),
        roles: new.roles.clone(),
        store_ids: new.stores.clone(),
        topics: new.topics.clone(),
        scope: Scope::Text(new.scopes.join(" ")),
        iss: new.issuer.clone(),
        aud: new.audience.clone(),
        exp: now.saturating_add(new.ttl_seconds),
        iat: Some(now),
        ..Claims::default()
    };
    let key = EncodingKey::from_secret(secret.expose_secret().as_bytes());
    Ok(encode(&Header::new(Algorithm::HS256), &claims, &key)?)
}
