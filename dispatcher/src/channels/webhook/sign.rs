//! Signatures: Standard Webhooks `v1`, and that of S3's format.

use std::fmt::Write;

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::SecretString;

use crate::config::{WebhookFormat, webhook_key};

/// The keys of a receiver, in the order of the settings. Its `Debug` shows none.
pub(super) struct Keys(Vec<hmac::Key>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// The keys of these secrets.
    pub(super) fn new(secrets: &[SecretString], format: WebhookFormat) -> Result<Self, &'static str> {
        let key = |secret| webhook_key(secret, format).map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key));
        Ok(Self(secrets.iter().map(key).collect::<Result<_, _>>()?))
    }

    /// Whether there is one to sign with.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The header `webhook-signature`: one signature for each key, so that receivers may have the old or the new one.
    /// `timestamp` is Unix seconds of this attempt.
    pub(super) fn standard(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut header = String::with_capacity(self.0.len() * 48);
        for key in &self.0 {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str("v1,");
            header.push_str(&BASE64_STANDARD.encode(context.sign()));
        }
        header
    }

    /// HMAC-SHA256 by the first key, as hexadecimal digits.
    pub(super) fn hex(&self, message: &[u8]) -> String {
        let Some(key) = self.0.first() else {
            return String::new();
        };
        let tag = hmac::sign(key, message);
        tag.as_ref()
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                // Writing to a string does not fail.
                write!(text, "{byte:02x}").ok();
                text
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[&str]) -> Keys {
        let secrets: Vec<_> = secrets.iter().map(|text| SecretString::from(*text)).collect();
        Keys::new(&secrets, WebhookFormat::Standard).unwrap()
    }

    /// The reference library's `test_sign` and Svix's documentation.
    #[test]
    fn the_published_vectors_come_out() {
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let signed = keys(&["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]).standard(
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            body,
        );
        assert_eq!(signed, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        let signed = keys(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).standard(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_key_signs() {
        let (old, new) = (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        );
        let both = keys(&[new, old]).standard("id", 1, b"{}");
        let single = |secret| keys(&[secret]).standard("id", 1, b"{}");
        assert_eq!(both, format!("{} {}", single(new), single(old)));
    }

    /// RFC 4231, test case 2.
    #[test]
    fn the_hexadecimal_form_is_hmac_sha256() {
        let key = Keys(vec![hmac::Key::new(hmac::HMAC_SHA256, b"Jefe")]);
        assert_eq!(
            key.hex(b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert!(!format!("{key:?}").contains("Jefe"));
    }
}
