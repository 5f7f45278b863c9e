//! The text of an API key: `ck_<id>_<secret>`.
//!
//! The id names the key wherever it is spoken of; the secret is shown once, and only its SHA-256 is kept. The secret is drawn from
//! 256 bits, so there is nothing that a slow hash would protect.

use std::{fmt, str::FromStr};

use aws_lc_rs::rand;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::Name;

/// What every key begins with, so that people and scanners know one when they see it.
pub const KEY_PREFIX: &str = "ck_";

/// Characters of an id: 131 bits.
const ID: usize = 22;

/// Characters of a secret: 256 bits.
const SECRET: usize = 43;

/// What the user of a key's caller begins with.
const USER: &str = "key:";

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The name of a key: 22 of `A-Z a-z 0-9`. It is no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; ID]);

impl KeyId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Ids are made of ASCII letters and digits only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The user that the key's calls are made by: `key:<id>`. No token may name such a user.
    ///
    /// # Panics
    /// Never: 26 bytes without a NUL are a name.
    #[must_use]
    #[expect(clippy::expect_used, reason = "26 bytes without a NUL are a name")]
    pub fn user(&self) -> Name {
        Name::new(&format!("{USER}{self}")).expect("26 bytes without a NUL are a name")
    }

    /// The key behind a user of such a name.
    #[must_use]
    pub fn of_user(user: &str) -> Option<Self> {
        user.strip_prefix(USER)?.parse().ok()
    }
}

/// A text that names no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key's id has 22 characters of A-Z a-z 0-9")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let bytes: [u8; ID] = text.as_bytes().try_into().map_err(|_| InvalidKeyId)?;
        if bytes.iter().all(u8::is_ascii_alphanumeric) {
            Ok(Self(bytes))
        } else {
            Err(InvalidKeyId)
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// What is kept of a secret: its SHA-256. It is compared in constant time and never shown.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash as it is stored: 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
        self.0
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect()
    }

    /// Reads what [`Self::to_hex`] wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// Whether both are of the same secret, in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| de::Error::custom("not 64 hexadecimal digits"))
    }
}

/// A key as somebody showed it: its name, and the hash of its secret.
#[derive(Debug, Clone, Copy)]
pub struct ShownKey {
    /// Which key.
    pub id: KeyId,
    /// Of the secret that was shown.
    pub hash: KeyHash,
}

impl ShownKey {
    /// Whether this is meant to be a key, and no token.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with(KEY_PREFIX)
    }

    /// Reads a key. None where the text is no whole key.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
        let is_secret = secret.len() == SECRET && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Some(Self {
            id: id.parse().ok()?,
            hash: is_secret.then(|| KeyHash(Sha256::digest(secret).into()))?,
        })
    }
}

/// A key that was just made, or its next secret. Its text is shown once.
#[derive(Debug)]
pub struct NewKey {
    /// Which key.
    pub id: KeyId,
    /// What is kept of it.
    pub hash: KeyHash,
    text: SecretString,
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate() -> Result<Self, NoRandomness> {
        Self::next(KeyId(letters()?))
    }

    /// Makes another secret of a key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn next(id: KeyId) -> Result<Self, NoRandomness> {
        let secret: [u8; SECRET] = letters()?;
        let secret = std::str::from_utf8(&secret).unwrap_or_default();
        Ok(Self {
            id,
            hash: KeyHash(Sha256::digest(secret).into()),
            text: format!("{KEY_PREFIX}{id}_{secret}").into(),
        })
    }

    /// The whole key, for the one to whom it is given.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.expose_secret()
    }
}

/// The system gave no random numbers.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// Letters and digits, each drawn evenly: bytes over the largest multiple of 62 are drawn again.
fn letters<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut letters = [0; N];
    let mut filled = 0;
    while filled < N {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        let even = bytes.iter().filter(|byte| **byte < 248);
        for (letter, byte) in letters[filled..].iter_mut().zip(even) {
            *letter = ALPHABET[usize::from(byte % 62)];
            filled += 1;
        }
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn s4_10_a_key_is_read_as_it_was_made_and_says_nothing_of_its_secret() {
        let key = NewKey::generate().unwrap();
        let text = key.text();
        assert_eq!(text.len(), 3 + ID + 1 + SECRET);
        let shown = ShownKey::read(text).unwrap();
        assert_eq!(shown.id, key.id);
        assert!(shown.hash.is(&key.hash));
        let next = NewKey::next(key.id).unwrap();
        assert!(!next.hash.is(&key.hash) && next.id == key.id);
        let secret = text.rsplit('_').next().unwrap();
        assert!(!format!("{key:?} {shown:?}").contains(secret));
        assert!(!format!("{key:?}").contains(&key.hash.to_hex()));
        assert!(KeyHash::from_hex(&key.hash.to_hex()).unwrap().is(&key.hash));
        assert_eq!(KeyId::of_user(key.id.user().as_str()), Some(key.id));
    }

    #[test]
    fn what_is_no_whole_key_is_none() {
        let good = NewKey::generate().unwrap().text().to_owned();
        for bad in [
            "ck_",
            "ck__",
            &good[..good.len() - 1],
            &format!("{good}a"),
            &good.replace("ck_", "CK_"),
            &format!("{}-", &good[..good.len() - 1]),
            &good.replacen('_', "-", 2),
        ] {
            assert!(ShownKey::read(bad).is_none(), "{bad}");
        }
        assert!(KeyHash::from_hex("zz").is_none());
        assert!(KeyId::of_user("key:somebody").is_none());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(ck_)?[a-zA-Z0-9_é]{0,80}") {
            if let Some(shown) = ShownKey::read(&text) {
                prop_assert_eq!(shown.id.as_str(), &text[3..25]);
            }
        }
    }
}
