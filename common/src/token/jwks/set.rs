//! The keys of a set (RFC 7517), as far as they are for us. What is not understood is passed over.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::token::keys::Key;

/// Keys of a set that are looked at.
const MAX_KEYS: usize = 100;

/// The shortest modulus in bytes (RFC 7518 section 3.3).
const MIN_RSA: usize = 256;

/// A set of keys with their algorithms.
#[derive(Default)]
pub(in crate::token) struct KeySet {
    pub(in crate::token) keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

/// The members that count. Others, and private ones, are not looked at.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Reads a set; `make` gives a key what its algorithm is checked with. None where the text is no set.
    pub(super) fn read(
        text: &[u8],
        algorithms: &[Algorithm],
        make: impl Fn(Algorithm, Option<String>, DecodingKey) -> Key,
    ) -> Option<Self> {
        let document: Document = serde_json::from_slice(text).ok()?;
        let keys = document
            .keys
            .into_iter()
            .take(MAX_KEYS)
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(|jwk| {
                let (algorithm, key) = jwk.key()?;
                algorithms
                    .contains(&algorithm)
                    .then(|| make(algorithm, jwk.kid, key))
            });
        Some(Self { keys: keys.collect() })
    }

    /// The keys that may have signed a token of this header. One without `kid` is of the only key that fits.
    pub(in crate::token) fn fitting(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<&Key> {
        let fits =
            |key: &&Key| key.algorithm == algorithm && kid.is_none_or(|kid| key.id.as_deref() == Some(kid));
        let fitting: Vec<&Key> = self.keys.iter().filter(fits).collect();
        if kid.is_none() && fitting.len() > 1 {
            Vec::new()
        } else {
            fitting
        }
    }
}

impl Jwk {
    /// The key, where it is for signatures and its members agree.
    fn key(&self) -> Option<(Algorithm, DecodingKey)> {
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self
                .key_ops
                .as_deref()
                .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let (algorithm, name, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => {
                let modulus = bytes(self.n.as_deref()?)?;
                let length = modulus.iter().skip_while(|byte| **byte == 0).count();
                let key = DecodingKey::from_rsa_components(self.n.as_deref()?, self.e.as_deref()?).ok();
                (Algorithm::RS256, "RS256", key.filter(|_| length >= MIN_RSA)?)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (self.x.as_deref()?, self.y.as_deref()?);
                (bytes(x)?.len() == 32 && bytes(y)?.len() == 32).then_some(())?;
                (
                    Algorithm::ES256,
                    "ES256",
                    DecodingKey::from_ec_components(x, y).ok()?,
                )
            }
            ("OKP", Some("Ed25519")) => {
                let x = self.x.as_deref()?;
                (bytes(x)?.len() == 32).then_some(())?;
                (
                    Algorithm::EdDSA,
                    "EdDSA",
                    DecodingKey::from_ed_components(x).ok()?,
                )
            }
            _ => return None,
        };
        let agrees = self.alg.as_deref().is_none_or(|alg| alg == name);
        (signs && agrees).then_some((algorithm, key))
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
