//! Sections `[channels.<name>.retry]`.

use std::collections::BTreeMap;

use common::config::{ConfigError, Span, number_or_text};
use serde::{Deserialize, Deserializer, de};

use super::millis;
use crate::model::Channel;

/// The name under which stands what holds for every channel without an entry of its own.
const EVERY: &str = "default";

/// Section `[channels]`: what holds for single channels, by their names; `default` for those without an entry.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ChannelsConfig(BTreeMap<String, ChannelConfig>);

/// Section `[channels.<name>]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelConfig {
    /// What follows a failed attempt.
    pub retry: RetryConfig,
}

/// Section `[channels.<name>.retry]`. What is left out comes from `[queue]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Pauses before the second, third … attempt; the last one repeats. Not beside `base`.
    pub pauses: Option<Vec<Span>>,
    /// Exponential back-off: the first pause.
    #[serde(alias = "base_delay")]
    pub base: Option<Span>,
    /// By which each further pause is longer, from 1 to 100. Default 2.
    #[serde(alias = "backoff_factor", deserialize_with = "float_or_text")]
    pub factor: Option<f64>,
    /// Longest pause. Default `1h`.
    #[serde(alias = "max_delay")]
    pub maximum: Option<Span>,
    /// How much of a pause is left to chance, from 0 to 1. Pauses of a list become longer by up to this part (default
    /// 0.2); those of a back-off shorter by up to this part (default 1, which is full jitter), yet never shorter than a
    /// tenth of `base`.
    #[serde(deserialize_with = "float_or_text")]
    pub jitter: Option<f64>,
    /// Attempts before a delivery is dead. Default `queue.max_attempts`.
    #[serde(deserialize_with = "number_or_text")]
    pub max_attempts: Option<u32>,
    /// No further attempt begins when the notification has been visible for so long: the delivery is dead with reason
    /// `too_old`. Default: none.
    pub max_age: Option<Span>,
    /// Longest pause that a provider can ask for (`Retry-After`). Default `24h`.
    pub retry_after_max: Option<Span>,
}

/// Reads an optional number with a point, which the environment gives as text.
fn float_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(f64),
        Text(String),
    }
    match Option::<Given>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Given::Number(number)) => Ok(Some(number)),
        Some(Given::Text(text)) => match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(de::Error::custom(format_args!("`{text}` is not a number"))),
        },
    }
}

impl ChannelsConfig {
    /// What holds for a channel.
    #[must_use]
    pub fn retry(&self, channel: Channel) -> RetryConfig {
        let own = self
            .0
            .iter()
            .find(|(name, _)| name.parse() == Ok(channel))
            .map(|(_, config)| config);
        own.or_else(|| self.0.get(EVERY))
            .map(|config| config.retry.clone())
            .unwrap_or_default()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let mut seen = Vec::new();
        for (name, config) in &self.0 {
            if name != EVERY {
                let key = format!("channels.{name}");
                match name.parse::<Channel>() {
                    Ok(channel) if !channel.is_external() => {
                        return Err(ConfigError::invalid(
                            &key,
                            "has no provider, and so no retries to set",
                        ));
                    }
                    Ok(channel) if seen.contains(&channel) => {
                        return Err(ConfigError::invalid(
                            &key,
                            "the same channel stands here by another name",
                        ));
                    }
                    Ok(channel) => seen.push(channel),
                    Err(error) => return Err(ConfigError::invalid(&key, error.to_string())),
                }
            }
            if let Some((field, problem)) = config.retry.problem() {
                return Err(ConfigError::invalid(
                    format!("channels.{name}.retry.{field}"),
                    problem,
                ));
            }
        }
        Ok(())
    }
}

impl RetryConfig {
    /// The field that cannot be as it is, and why.
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let zero = |span: Option<Span>| span.is_some_and(|span| millis(span) == 0);
        if self.pauses.as_ref().is_some_and(Vec::is_empty) {
            return Some(("pauses", "needs at least one pause"));
        }
        if self.pauses.is_some() && self.base.is_some() {
            return Some(("base", "either pauses or base"));
        }
        for (field, given) in [
            ("factor", self.factor.is_some()),
            ("maximum", self.maximum.is_some()),
        ] {
            if given && self.base.is_none() {
                return Some((field, "needs base"));
            }
        }
        for (field, is_zero) in [
            ("base", zero(self.base)),
            ("maximum", zero(self.maximum)),
            ("max_attempts", self.max_attempts == Some(0)),
            ("max_age", zero(self.max_age)),
            ("retry_after_max", zero(self.retry_after_max)),
        ] {
            if is_zero {
                return Some((field, "must be more than 0"));
            }
        }
        if self.factor.is_some_and(|factor| !(1.0..=100.0).contains(&factor)) {
            return Some(("factor", "must be between 1 and 100"));
        }
        if self.jitter.is_some_and(|jitter| !(0.0..=1.0).contains(&jitter)) {
            return Some(("jitter", "must be between 0 and 1"));
        }
        let maximum = self.maximum.unwrap_or(LONGEST);
        if self.base.is_some_and(|base| base > maximum) {
            return Some((
                "maximum",
                "must not be less than base; it is 1h where it is left out",
            ));
        }
        None
    }
}

/// Longest pause of a back-off that names none.
pub(crate) const LONGEST: Span = super::seconds(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> ChannelsConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn impossible_values_name_their_key() {
        for (retry, field) in [
            (r#"{"pauses":[]}"#, "pauses"),
            (r#"{"pauses":["1m"],"base":"1s"}"#, "base"),
            (r#"{"factor":2}"#, "factor"),
            (r#"{"maximum":"1h"}"#, "maximum"),
            (r#"{"base":"0s"}"#, "base"),
            (r#"{"base":"1s","factor":0.5}"#, "factor"),
            (r#"{"base":"1s","factor":1000}"#, "factor"),
            (r#"{"base":"2h"}"#, "maximum"),
            (r#"{"base":"2m","maximum":"1m"}"#, "maximum"),
            (r#"{"jitter":1.5}"#, "jitter"),
            (r#"{"jitter":-0.5}"#, "jitter"),
            (r#"{"max_attempts":0}"#, "max_attempts"),
            (r#"{"max_age":"0s"}"#, "max_age"),
            (r#"{"retry_after_max":"0s"}"#, "retry_after_max"),
        ] {
            let error = read(&format!(r#"{{"email":{{"retry":{retry}}}}}"#))
                .validate()
                .unwrap_err();
            let key = format!("channels.email.retry.{field}");
            assert!(error.to_string().contains(&key), "{retry}: {error}");
        }
        for (json, key) in [
            (r#"{"pigeon":{}}"#, "channels.pigeon"),
            (r#"{"in_app":{}}"#, "channels.in_app"),
            (r#"{"wecom":{},"wechat":{}}"#, "channels.we"),
        ] {
            let error = read(json).validate().unwrap_err().to_string();
            assert!(error.contains(key), "{json}: {error}");
        }
        assert!(serde_json::from_str::<ChannelsConfig>(r#"{"email":{"retry":{"bas":"1s"}}}"#).is_err());
    }

    #[test]
    fn a_channel_has_its_own_entry_or_that_for_all() {
        let config = read(r#"{"default":{"retry":{"max_attempts":7}},"wechat":{"retry":{"base":1}}}"#);
        config.validate().unwrap();
        assert_eq!(config.retry(Channel::Email).max_attempts, Some(7));
        assert_eq!(config.retry(Channel::Wecom).max_attempts, None);
        assert_eq!(config.retry(Channel::Wecom).base, Some(super::super::seconds(1)));
        assert_eq!(
            ChannelsConfig::default().retry(Channel::Email),
            RetryConfig::default()
        );
    }

    /// S4's document, `notification.retry`.
    #[test]
    fn s4_5_the_names_of_the_document_are_known() {
        let config = read(
            r#"{"default":{"retry":{"max_attempts":3,"base_delay":60,"max_delay":3600,"backoff_factor":2}}}"#,
        );
        config.validate().unwrap();
        let retry = config.retry(Channel::Wecom);
        assert_eq!(
            (retry.max_attempts, retry.base, retry.maximum, retry.factor),
            (Some(3), Some(super::super::seconds(60)), Some(LONGEST), Some(2.0))
        );
    }

    #[test]
    fn the_environments_texts_are_numbers() {
        let config =
            read(r#"{"email":{"retry":{"base":"1s","factor":"1.5","jitter":"0","max_attempts":"9"}}}"#);
        config.validate().unwrap();
        let retry = config.retry(Channel::Email);
        assert_eq!(
            (retry.factor, retry.jitter, retry.max_attempts),
            (Some(1.5), Some(0.0), Some(9))
        );
        assert!(serde_json::from_str::<RetryConfig>(r#"{"factor":"x"}"#).is_err());
    }
}
