//! Keys and verification. Each key is parsed once, with its algorithm beside it.

use std::{collections::HashSet, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret, SecretString};

use super::{
    Claims, Identity, LEEWAY_SECONDS, TokenError,
    cache::{Fingerprint, Verified},
    jwks::{self, Current, Jwks, Wanted},
};
use crate::{config::AuthConfig, ids::TenantId};

/// Longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Why keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Neither a secret nor a key is configured.
    #[error("auth.secret: set a secret (CARILLON_AUTH__SECRET) or a public key (auth.keys)")]
    None,
    /// A secret that could be guessed.
    #[error("auth.secret: has to have at least 32 bytes (HS256, RFC 7518 section 3.2)")]
    Short,
    /// An algorithm that is not supported.
    #[error("auth.keys[{index}].algorithm: `{algorithm}` is not one of RS256, ES256, EdDSA")]
    Algorithm {
        /// Which key.
        index: usize,
        /// What was written.
        algorithm: String,
    },
    /// A URL of keys that cannot be used.
    #[error("auth.jwks_url: {0}")]
    Url(String),
    /// An algorithm that keys at a URL cannot have.
    #[error("auth.jwks_algorithms: `{0}` is not one of RS256, ES256, EdDSA")]
    UrlAlgorithm(String),
    /// A key that cannot be read.
    #[error("auth.keys[{index}]: {reason}")]
    Key {
        /// Which key.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) id: Option<String>,
    pub(super) key: DecodingKey,
    validation: Validation,
    /// A previous secret is accepted until then, Unix seconds.
    until: Option<i64>,
}

/// Verifies tokens with the configured keys.
pub struct Verifier {
    keys: Vec<Key>,
    jwks: Option<Arc<Jwks>>,
    default_tenant: Option<TenantId>,
    verified: Verified,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let algorithms: Vec<_> = self.keys.iter().map(|key| key.algorithm).collect();
        f.debug_struct("Verifier")
            .field("algorithms", &algorithms)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// Loads the configured keys. `secret` is the configured one or the one that standalone made.
    ///
    /// # Errors
    /// [`KeyError`] names the configuration key.
    pub fn new(config: &AuthConfig, secret: Option<&SecretString>) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        if let Some(secret) = secret {
            keys.push(hmac(secret, None)?);
        }
        if let Some(previous) = &config.previous_secret {
            keys.push(hmac(
                previous,
                config.previous_secret_until.map(jiff::Timestamp::as_second),
            )?);
        }
        for (index, key) in config.keys.iter().enumerate() {
            let pem = key.pem.as_bytes();
            let (algorithm, decoding) = match key.algorithm.as_str() {
                "RS256" => (Algorithm::RS256, DecodingKey::from_rsa_pem(pem)),
                "ES256" => (Algorithm::ES256, DecodingKey::from_ec_pem(pem)),
                "EdDSA" => (Algorithm::EdDSA, DecodingKey::from_ed_pem(pem)),
                other => {
                    return Err(KeyError::Algorithm {
                        index,
                        algorithm: other.to_owned(),
                    });
                }
            };
            let decoding = decoding.map_err(|error| KeyError::Key {
                index,
                reason: error.to_string(),
            })?;
            keys.push(Key::new(algorithm, key.kid.clone(), decoding, config, None));
        }
        let jwks = config
            .jwks_url
            .as_deref()
            .map(|url| jwks(url, config))
            .transpose()?;
        if keys.is_empty() && jwks.is_none() {
            return Err(KeyError::None);
        }
        for key in &mut keys {
            key.validation = validation(key.algorithm, config);
        }
        Ok(Self {
            keys,
            jwks: jwks.map(Arc::new),
            default_tenant: config.default_tenant.clone(),
            verified: Verified::default(),
        })
    }

    /// Verifies a token and reads who it is for.
    ///
    /// # Errors
    /// [`TokenError`]; which of the keys refused is not told.
    pub fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let issuer = self.jwks.as_ref().map(|jwks| jwks.current());
        self.check(token, jiff::Timestamp::now().as_second(), issuer.as_deref())
            .map(|(identity, ..)| identity)
    }

    /// Who a token is for that [`Self::verify_again`] verified before and that is still good.
    #[must_use]
    pub fn remembered(&self, token: &str) -> Option<Arc<Identity>> {
        let now = jiff::Timestamp::now().as_second();
        self.known(&Verified::fingerprint(token), now)
    }

    fn known(&self, fingerprint: &Fingerprint, now: i64) -> Option<Arc<Identity>> {
        let of_issuer = || self.jwks.as_ref()?.current().verified.get(fingerprint, now);
        self.verified.get(fingerprint, now).or_else(of_issuer)
    }

    /// What is to be done for a token that was refused as invalid: the issuer may have the key by now that it names.
    pub(crate) fn wanted(&self, token: &str) -> Wanted {
        match (&self.jwks, decode_header(token)) {
            (Some(jwks), Ok(header)) if token.len() <= MAX_TOKEN => {
                jwks.wanted(header.alg, header.kid.as_deref())
            }
            _ => Wanted::No,
        }
    }

    /// Fetches the issuer's keys for a token, unless that was done a moment ago. Whether they are there.
    pub(crate) async fn fetch_keys(&self, token: &str) -> bool {
        match (&self.jwks, decode_header(token)) {
            (Some(jwks), Ok(header)) => jwks.fetch_for(header.kid.as_deref()).await,
            _ => true,
        }
    }

    /// Keeps the issuer's keys (`auth.jwks_url`) good, from now on and for as long as the process lives. Needs a runtime.
    pub fn keep_keys(&self, registry: &mut Registry) {
        if let Some(jwks) = &self.jwks {
            jwks.register(registry);
            let jwks = Arc::clone(jwks);
            tokio::spawn(async move { jwks.keep().await });
        }
    }

    /// [`Self::verify`] for tokens that come again: what was verified before is known by its hash, for as long as
    /// token and key live.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_again(&self, token: &str) -> Result<Arc<Identity>, TokenError> {
        let now = jiff::Timestamp::now().as_second();
        let fingerprint = Verified::fingerprint(token);
        if let Some(identity) = self.known(&fingerprint, now) {
            return Ok(identity);
        }
        let issuer = self.jwks.as_ref().map(|jwks| jwks.current());
        let (identity, until, of_issuer) = self.check(token, now, issuer.as_deref())?;
        let identity = identity.shared();
        // What the issuer's keys verified ends with them.
        let verified = match &issuer {
            Some(issuer) if of_issuer => &issuer.verified,
            _ => &self.verified,
        };
        verified.insert(fingerprint, Arc::clone(&identity), until, now);
        Ok(identity)
    }

    /// Who the token is for, the last Unix second at which it is good, and whether a key of the issuer's says so.
    fn check(
        &self,
        token: &str,
        now: i64,
        issuer: Option<&Current>,
    ) -> Result<(Identity, i64, bool), TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        if has_critical_extensions(token) {
            return Err(TokenError::Invalid);
        }
        let mut refusal = TokenError::Invalid;
        let own = self.keys.iter().filter(|key| {
            key.algorithm == header.alg
                && (key.id.is_none() || key.id == header.kid)
                && key.until.is_none_or(|until| now <= until)
        });
        let fitting = issuer.map(|issuer| issuer.set.fitting(header.alg, header.kid.as_deref()));
        let of_issuer = fitting.into_iter().flatten().map(|key| (key, true));
        for (key, of_issuer) in own.map(|key| (key, false)).chain(of_issuer) {
            match decode::<Claims>(token, &key.key, &key.validation) {
                Ok(data) => {
                    let identity = Identity::from_claims(data.claims, self.default_tenant.as_ref())?;
                    let end = identity.expires_at.saturating_add(LEEWAY_SECONDS);
                    let end = key.until.map_or(end, |until| until.min(end));
                    return Ok((identity, end, of_issuer));
                }
                Err(error) => match error.kind() {
                    // The signature was right, so no other key can fit better.
                    ErrorKind::ExpiredSignature => refusal = TokenError::Expired,
                    ErrorKind::ImmatureSignature => refusal = TokenError::NotYet,
                    _ => {}
                },
            }
        }
        Err(refusal)
    }
}

impl Key {
    pub(super) fn new(
        algorithm: Algorithm,
        id: Option<String>,
        key: DecodingKey,
        config: &AuthConfig,
        until: Option<i64>,
    ) -> Self {
        Self {
            algorithm,
            id,
            key,
            validation: validation(algorithm, config),
            until,
        }
    }
}

/// RFC 7515 section 4.1.11: what a `crit` header names has to be understood, and no extension is.
fn has_critical_extensions(token: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Extensions {
        crit: Option<serde::de::IgnoredAny>,
    }
    let header = token.split('.').next().unwrap_or_default();
    let Ok(json) = URL_SAFE_NO_PAD.decode(header) else {
        return true;
    };
    serde_json::from_slice::<Extensions>(&json).is_ok_and(|header| header.crit.is_some())
}

fn jwks(url: &str, config: &AuthConfig) -> Result<Jwks, KeyError> {
    let url = jwks::usable(url).map_err(KeyError::Url)?;
    let algorithms = config.jwks_algorithms.iter().map(|name| match name.as_str() {
        "RS256" => Ok(Algorithm::RS256),
        "ES256" => Ok(Algorithm::ES256),
        "EdDSA" => Ok(Algorithm::EdDSA),
        other => Err(KeyError::UrlAlgorithm(other.to_owned())),
    });
    Ok(Jwks::new(url, algorithms.collect::<Result<_, _>>()?, config))
}

fn hmac(secret: &SecretString, until: Option<i64>) -> Result<Key, KeyError> {
    let bytes = secret.expose_secret().as_bytes();
    if bytes.len() < 32 {
        return Err(KeyError::Short);
    }
    let key = DecodingKey::from_secret(bytes);
    Ok(Key {
        algorithm: Algorithm::HS256,
        id: None,
        key,
        validation: Validation::new(Algorithm::HS256),
        until,
    })
}

fn validation(algorithm: Algorithm, config: &AuthConfig) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_SECONDS.unsigned_abs();
    validation.validate_nbf = true;
    validation.required_spec_claims = HashSet::from(["exp".to_owned(), "sub".to_owned()]);
    match &config.audience {
        Some(audience) => {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        None => validation.validate_aud = false,
    }
    if let Some(issuer) = &config.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    validation
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
