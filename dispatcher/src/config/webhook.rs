//! Section `[webhook]`.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_STANDARD};
use common::config::{ConfigError, Span};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{HostOrNetwork, HostPattern, UnknownPolicy, millis, seconds};

/// What a webhook's body and signature look like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookFormat {
    /// Standard Webhooks: `{"type", "timestamp", "data"}`, signed in `webhook-signature`.
    #[default]
    Standard,
    /// Flat: `event_type`, `notification_id`, `title`, `content`, `user_id`, `tenant_id`, `timestamp`, `signature`, and
    /// the signature again in `X-Signature`.
    Voiceassistant,
}

/// Section `[webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Secrets that sign, for hosts without an entry in `endpoints`: each gives a signature, so that a receiver may know
    /// the old or the new one. With none here and none in `endpoints` the channel is not configured.
    pub secrets: Vec<SecretString>,
    /// Hosts with settings of their own.
    pub endpoints: Vec<WebhookEndpoint>,
    /// Body and signature. Default `standard`.
    pub format: WebhookFormat,
    /// Bound of a call, from the look-up of the name to the head of the answer. Default `10s`.
    pub timeout: Span,
    /// Bound of look-up, connection and TLS together. Default `5s`.
    pub connect_timeout: Span,
    /// Calls at once. Default 64.
    pub concurrency: usize,
    /// Calls of one URL within any minute, counted by each dispatcher. Default 100.
    pub per_minute: usize,
    /// The only hosts that are called; `*.example.com` means all below it. Default none: every public host.
    pub hosts: Vec<HostPattern>,
    /// Networks and hosts that are called although they are not public. Default none.
    pub allow_private: Vec<HostOrNetwork>,
    /// The only ports that are called; none: every one. Default 80 and 443.
    pub ports: Vec<u16>,
    /// Whether `http://` is called too. Default false.
    pub allow_http: bool,
    /// PEM file with certificates that are believed beside those of the operating system. Default: none.
    pub ca_file: Option<PathBuf>,
    /// What to do with a call of which nobody can tell whether the receiver took it: `resend` (with the same
    /// `webhook-id`), or `hold` as dead with reason `unknown`. Default `resend`.
    pub on_unknown: UnknownPolicy,
}

/// A host with settings of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookEndpoint {
    /// Its name; `*.example.com` means all below it. The first entry that fits holds.
    pub host: HostPattern,
    /// In place of `webhook.secrets`; without any, those.
    #[serde(default)]
    pub secrets: Vec<SecretString>,
    /// In place of `webhook.format`.
    #[serde(default)]
    pub format: Option<WebhookFormat>,
    /// In place of `webhook.per_minute`.
    #[serde(default)]
    pub per_minute: Option<usize>,
}

impl WebhookEndpoint {
    /// What its calls are signed with.
    pub(crate) fn secrets<'a>(&'a self, config: &'a WebhookConfig) -> &'a [SecretString] {
        if self.secrets.is_empty() {
            &config.secrets
        } else {
            &self.secrets
        }
    }
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            endpoints: Vec::new(),
            format: WebhookFormat::default(),
            timeout: seconds(10),
            connect_timeout: seconds(5),
            concurrency: 64,
            per_minute: 100,
            hosts: Vec::new(),
            allow_private: Vec::new(),
            ports: vec![80, 443],
            allow_http: false,
            ca_file: None,
            on_unknown: UnknownPolicy::default(),
        }
    }
}

/// The most calls of one URL in a minute that are counted one by one.
const MOST_PER_MINUTE: usize = 1_000_000;

impl WebhookConfig {
    /// Whether anything can be sent: nothing goes out unsigned.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.secrets.is_empty() || !self.endpoints.is_empty()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key: &str, problem: &str| Err(ConfigError::invalid(key, problem));
        if millis(self.timeout) == 0 {
            return refuse("webhook.timeout", "must be more than 0");
        }
        if millis(self.connect_timeout) == 0 || self.connect_timeout > self.timeout {
            return refuse(
                "webhook.connect_timeout",
                "must be more than 0 and no longer than webhook.timeout",
            );
        }
        if self.concurrency == 0 {
            return refuse("webhook.concurrency", "must be more than 0");
        }
        let counted = |per_minute: usize| (1..=MOST_PER_MINUTE).contains(&per_minute);
        if !counted(self.per_minute) {
            return refuse("webhook.per_minute", "must be between 1 and 1000000");
        }
        for secret in &self.secrets {
            webhook_key(secret, self.format)
                .map_err(|problem| ConfigError::invalid("webhook.secrets", problem))?;
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let key = |name: &str| format!("webhook.endpoints[{index}].{name}");
            let secrets = endpoint.secrets(self);
            if secrets.is_empty() {
                return refuse(&key("secrets"), "needs at least one: nothing goes out unsigned");
            }
            for secret in secrets {
                webhook_key(secret, endpoint.format.unwrap_or(self.format))
                    .map_err(|problem| ConfigError::invalid(key("secrets"), problem))?;
            }
            if endpoint.per_minute.is_some_and(|per_minute| !counted(per_minute)) {
                return refuse(&key("per_minute"), "must be between 1 and 1000000");
            }
        }
        Ok(())
    }
}

/// The key that a secret stands for: `whsec_` and base64 of 24 to 64 bytes (Standard Webhooks), or, in the format
/// `voiceassistant`, also any text of at least 16 bytes as it is.
///
/// # Errors
/// What is wrong with it; nothing of the secret is in that.
pub fn webhook_key(secret: &SecretString, format: WebhookFormat) -> Result<Vec<u8>, &'static str> {
    let text = secret.expose_secret();
    match text.strip_prefix("whsec_") {
        Some(encoded) => BASE64_STANDARD
            .decode(encoded)
            .ok()
            .filter(|key| (24..=64).contains(&key.len()))
            .ok_or("a secret is `whsec_` and base64 of 24 to 64 bytes"),
        None if format == WebhookFormat::Standard => Err(
            "a secret of the format standard is `whsec_` and base64 of 24 to 64 bytes; make one with \
             `echo whsec_$(openssl rand -base64 32)`",
        ),
        None if text.len() < 16 => Err("a secret that is no `whsec_…` needs at least 16 bytes"),
        None => Ok(text.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_values_name_their_key_and_no_secret() {
        let good = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        for (json, key) in [
            (r#"{"timeout":"0s"}"#.to_owned(), "webhook.timeout"),
            (r#"{"timeout":"2s"}"#.to_owned(), "webhook.connect_timeout"),
            (r#"{"concurrency":0}"#.to_owned(), "webhook.concurrency"),
            (r#"{"per_minute":0}"#.to_owned(), "webhook.per_minute"),
            (
                r#"{"secrets":["plain text, long enough"]}"#.to_owned(),
                "webhook.secrets",
            ),
            (r#"{"secrets":["whsec_c2hvcnQ="]}"#.to_owned(), "webhook.secrets"),
            (
                r#"{"format":"voiceassistant","secrets":["tooshort"]}"#.to_owned(),
                "webhook.secrets",
            ),
            (
                r#"{"endpoints":[{"host":"a.example","secrets":[]}]}"#.to_owned(),
                "webhook.endpoints[0].secrets",
            ),
            (
                format!(r#"{{"endpoints":[{{"host":"a.example","secrets":["{good}"],"per_minute":0}}]}}"#),
                "webhook.endpoints[0].per_minute",
            ),
        ] {
            let config: WebhookConfig = serde_json::from_str(&json).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{json}: {error}");
            assert!(
                !error.contains("tooshort") && !error.contains("plain text"),
                "{error}"
            );
        }
        let config: WebhookConfig = serde_json::from_str(&format!(r#"{{"secrets":["{good}"]}}"#)).unwrap();
        config.validate().unwrap();
        assert!(config.is_configured() && !WebhookConfig::default().is_configured());
        assert!(!format!("{config:?}").contains("MfKQ9"));
        // A host with a rate of its own is signed for as all others are.
        let json = format!(r#"{{"secrets":["{good}"],"endpoints":[{{"host":"a.example","per_minute":9}}]}}"#);
        let config: WebhookConfig = serde_json::from_str(&json).unwrap();
        config.validate().unwrap();
        assert_eq!(config.endpoints[0].secrets(&config).len(), 1);
    }

    #[test]
    fn the_own_format_takes_a_plain_secret_too() {
        let key = |text: &str| webhook_key(&SecretString::from(text), WebhookFormat::Voiceassistant);
        assert_eq!(key("0123456789abcdef").unwrap(), b"0123456789abcdef");
        assert_eq!(key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap().len(), 24);
    }
}
