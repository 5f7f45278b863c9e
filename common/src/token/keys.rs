//! Keys and verification. Each key is parsed once, with its algorithm beside it.

use std::{collections::HashSet, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};

use super::{Claims, Identity, LEEWAY_SECONDS, TokenError, cache::Verified};
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
    /// A key that cannot be read.
    #[error("auth.keys[{index}]: {reason}")]
    Key {
        /// Which key.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
}

struct Key {
    algorithm: Algorithm,
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
    /// A previous secret is accepted until then, Unix seconds.
    until: Option<i64>,
}

/// Verifies tokens with the configured keys.
pub struct Verifier {
    keys: Vec<Key>,
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
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        for key in &mut keys {
            key.validation = validation(key.algorithm, config);
        }
        Ok(Self {
            keys,
            default_tenant: config.default_tenant.clone(),
            verified: Verified::default(),
        })
    }

    /// Verifies a token and reads who it is for.
    ///
    /// # Errors
    /// [`TokenError`]; which of the keys refused is not told.
    pub fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        self.check(token, jiff::Timestamp::now().as_second())
            .map(|(identity, _)| identity)
    }

    /// [`Self::verify`] for tokens that come again: what was verified before is known by its hash, for as long as
    /// token and key live.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_again(&self, token: &str) -> Result<Arc<Identity>, TokenError> {
        let now = jiff::Timestamp::now().as_second();
        let fingerprint = Verified::fingerprint(token);
        if let Some(identity) = self.verified.get(&fingerprint, now) {
            return Ok(identity);
        }
        let (identity, until) = self.check(token, now)?;
        let identity = identity.shared();
        self.verified
            .insert(fingerprint, Arc::clone(&identity), until, now);
        Ok(identity)
    }

    /// Who the token is for, and the last Unix second at which it is good.
    fn check(&self, token: &str, now: i64) -> Result<(Identity, i64), TokenError> {
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
        for key in &self.keys {
            let fits = key.algorithm == header.alg
                && (key.id.is_none() || key.id == header.kid)
                && key.until.is_none_or(|until| now <= until);
            if !fits {
                continue;
            }
            match decode::<Claims>(token, &key.key, &key.validation) {
                Ok(data) => {
                    let identity = Identity::from_claims(data.claims, self.default_tenant.as_ref())?;
                    let end = identity.expires_at.saturating_add(LEEWAY_SECONDS);
                    return Ok((identity, key.until.map_or(end, |until| until.min(end))));
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
    fn new(
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
mod tests {
    use super::*;
    use crate::token::{NewToken, mint};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn verifier(config: &AuthConfig) -> Verifier {
        Verifier::new(config, Some(&secret(SECRET))).unwrap()
    }

    fn config() -> AuthConfig {
        AuthConfig {
            default_tenant: Some(TenantId::new("default").unwrap()),
            ..AuthConfig::default()
        }
    }

    fn token(change: impl FnOnce(&mut NewToken)) -> String {
        let mut new = NewToken {
            user: "u1".to_owned(),
            ..NewToken::default()
        };
        change(&mut new);
        mint(&new, &secret(SECRET)).unwrap()
    }

    #[test]
    fn a_minted_token_verifies() {
        let token = token(|new| {
            new.tenant = Some("t1".to_owned());
            new.roles = vec!["manager".to_owned()];
            new.stores = vec!["12".to_owned()];
            new.scopes = vec!["publish metrics".to_owned()];
        });
        let identity = verifier(&config()).verify(&token).unwrap();
        assert_eq!(identity.tenant.as_str(), "t1");
        assert!(
            identity.has_scope("publish") && identity.has_scope("metrics") && !identity.has_scope("control")
        );
        let keys: Vec<_> = identity
            .keys()
            .iter()
            .map(|key| key.as_str().to_owned())
            .collect();
        assert_eq!(keys, ["t1:u:u1", "t1:s:12", "t1:r:manager", "t1:a", ":e"]);
    }

    #[test]
    fn what_was_verified_is_known_again_until_it_ends() {
        let now = jiff::Timestamp::now().as_second();
        let new_secret = secret(&SECRET.replace('0', "n"));
        let previous = |until: i64| {
            let config = AuthConfig {
                previous_secret: Some(secret(SECRET)),
                previous_secret_until: Some(jiff::Timestamp::from_second(until).unwrap()),
                ..config()
            };
            Verifier::new(&config, Some(&new_secret)).unwrap()
        };
        let good = token(|_| {});
        let first = previous(now + 60);
        let identity = first.verify_again(&good).unwrap();
        assert!(Arc::ptr_eq(&identity, &first.verify_again(&good).unwrap()));
        assert_eq!(*identity, first.verify(&good).unwrap());
        // The entry ends with the key, before the token does.
        assert_eq!(first.check(&good, now).unwrap().1, now + 60);
        let second = verifier(&config());
        assert_eq!(
            second.check(&good, now).unwrap().1,
            identity.expires_at + LEEWAY_SECONDS
        );
        // Another verifier, as after a change of keys, knows nothing of it.
        assert_eq!(
            previous(now - 60).verify_again(&good).unwrap_err(),
            TokenError::Invalid
        );
        // What is refused is refused each time.
        for _ in 0..2 {
            assert_eq!(first.verify_again("x.y.z").unwrap_err(), TokenError::Invalid);
            let expired = token(|new| new.ttl_seconds = -60);
            assert_eq!(first.verify_again(&expired).unwrap_err(), TokenError::Expired);
        }
    }

    #[test]
    fn bad_tokens_are_told_apart() {
        let verifier = verifier(&config());
        let foreign = mint(
            &NewToken {
                user: "u".into(),
                ..NewToken::default()
            },
            &secret(&SECRET.replace('0', "x")),
        )
        .unwrap();
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSIsImV4cCI6OTk5OTk5OTk5OX0.";
        let good = token(|_| {});
        // A letter inside the signature: the last one has bits that mean nothing.
        let (head, tail) = good.split_at(good.len() - 10);
        let tampered = format!(
            "{head}{}{}",
            if tail.starts_with('A') { 'B' } else { 'A' },
            &tail[1..]
        );
        for (token, error) in [
            (String::new(), TokenError::Missing),
            ("x.y.z".to_owned(), TokenError::Invalid),
            (none.to_owned(), TokenError::Invalid),
            (foreign, TokenError::Invalid),
            (tampered, TokenError::Invalid),
            (token(|new| new.ttl_seconds = -60), TokenError::Expired),
            (token(|new| new.user = "u".repeat(257)), TokenError::Claim("sub")),
            (
                token(|new| new.tenant = Some("a:b".to_owned())),
                TokenError::Claim("tenant_id"),
            ),
        ] {
            assert_eq!(verifier.verify(&token).unwrap_err(), error, "{token}");
        }
    }

    #[test]
    fn critical_extensions_are_refused_and_dates_may_have_fractions() {
        use jsonwebtoken::{EncodingKey, Header, encode};
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let exp = jiff::Timestamp::now().as_second() as f64 + 60.5;
        let claims = serde_json::json!({ "sub": "u", "exp": exp });
        let plain = encode(&Header::default(), &claims, &key).unwrap();
        assert!(verifier(&config()).verify(&plain).is_ok());

        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT","crit":["x"],"x":1}"#);
        let body = plain.split('.').nth(1).unwrap();
        let signed = format!("{header}.{body}");
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
        let refused = verifier(&config()).verify(&format!("{signed}.{signature}"));
        assert_eq!(refused.unwrap_err(), TokenError::Invalid);
    }

    #[test]
    fn without_a_default_the_tenant_is_needed() {
        let verifier = verifier(&AuthConfig::default());
        assert_eq!(verifier.verify(&token(|_| {})).unwrap_err(), TokenError::NoTenant);
    }

    #[test]
    fn a_previous_secret_ends_on_its_date() {
        let now = jiff::Timestamp::now().as_second();
        let new_secret = secret(&SECRET.replace('0', "n"));
        for (until, accepted) in [(now + 60, true), (now - 60, false)] {
            let config = AuthConfig {
                previous_secret: Some(secret(SECRET)),
                previous_secret_until: Some(jiff::Timestamp::from_second(until).unwrap()),
                ..config()
            };
            let verifier = Verifier::new(&config, Some(&new_secret)).unwrap();
            assert_eq!(verifier.verify(&token(|_| {})).is_ok(), accepted);
        }
    }

    #[test]
    fn every_algorithm_verifies_with_its_own_key_and_no_other() {
        use jsonwebtoken::{EncodingKey, Header, encode};
        let pairs = [
            (
                Algorithm::RS256,
                "RS256",
                include_str!("testdata/rs256.pub.pem"),
                EncodingKey::from_rsa_pem(include_bytes!("testdata/rs256.pem")).unwrap(),
            ),
            (
                Algorithm::ES256,
                "ES256",
                include_str!("testdata/es256.pub.pem"),
                EncodingKey::from_ec_pem(include_bytes!("testdata/es256.pem")).unwrap(),
            ),
            (
                Algorithm::EdDSA,
                "EdDSA",
                include_str!("testdata/eddsa.pub.pem"),
                EncodingKey::from_ed_pem(include_bytes!("testdata/eddsa.pem")).unwrap(),
            ),
        ];
        let verifiers = pairs.each_ref().map(|(_, name, public, _)| {
            let key = crate::config::AuthKey {
                algorithm: (*name).to_owned(),
                kid: Some((*name).to_owned()),
                pem: (*public).to_owned(),
            };
            Verifier::new(
                &AuthConfig {
                    keys: vec![key],
                    ..config()
                },
                None,
            )
            .unwrap()
        });
        let claims = serde_json::json!({ "sub": "u", "exp": jiff::Timestamp::now().as_second() + 60 });
        for (signer, (algorithm, name, _, private)) in pairs.iter().enumerate() {
            let token = |kid: Option<&str>| {
                let header = Header {
                    kid: kid.map(str::to_owned),
                    ..Header::new(*algorithm)
                };
                encode(&header, &claims, private).unwrap()
            };
            for (number, verifier) in verifiers.iter().enumerate() {
                assert_eq!(
                    verifier.verify(&token(Some(name))).is_ok(),
                    number == signer,
                    "{name} {number}"
                );
            }
            assert_eq!(
                verifiers[signer].verify(&token(None)).unwrap_err(),
                TokenError::Invalid
            );
            assert_eq!(
                verifiers[signer].verify(&token(Some("x"))).unwrap_err(),
                TokenError::Invalid
            );
        }
    }

    #[test]
    fn a_public_key_is_no_hmac_secret() {
        // The classic confusion: sign with HS256 and the public key's text as the secret.
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let key = crate::config::AuthKey {
            algorithm: "EdDSA".into(),
            kid: None,
            pem: pem.into(),
        };
        let verifier = Verifier::new(
            &AuthConfig {
                keys: vec![key],
                ..config()
            },
            None,
        )
        .unwrap();
        let forged = mint(
            &NewToken {
                user: "u".into(),
                ..NewToken::default()
            },
            &secret(pem),
        )
        .unwrap();
        assert_eq!(verifier.verify(&forged).unwrap_err(), TokenError::Invalid);
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert!(matches!(
            Verifier::new(&config(), Some(&secret("short"))),
            Err(KeyError::Short)
        ));
        assert!(matches!(Verifier::new(&config(), None), Err(KeyError::None)));
    }
}
