//! `[[topics]]`: what holds for topics by their names.

use std::time::Duration;

use serde::Deserialize;

use super::{Bytes, ConfigError, Span};
use crate::{
    ids::TenantId,
    policy::{HistoryBounds, HistoryPolicy, Policies, Rule, SlowPolicy, is_topic_pattern},
};

/// One entry. The first whose pattern matches a topic counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicRule {
    /// Over the tenant-free name, in which `*` is any run of characters: `user:*`, `role:*`, `store:12`,
    /// `topic:prices.*`, `tenant`, `everyone`.
    pub pattern: String,
    /// Only topics of this tenant.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// `none`, `last_value` or `window`.
    #[serde(default)]
    pub history: HistoryPolicy,
    /// Instead of `bus.history_count`; in a last-value topic, keys.
    #[serde(default)]
    pub history_count: Option<usize>,
    /// Instead of `bus.history_bytes`.
    #[serde(default)]
    pub history_bytes: Option<Bytes>,
    /// Instead of `bus.history_age`. Values of a last-value topic grow old only where this is set.
    #[serde(default)]
    pub history_age: Option<Span>,
    /// `evict`, `drop_oldest` or `latest`.
    #[serde(default)]
    pub slow: SlowPolicy,
    /// Whether sessions that come and go are told to the topic.
    #[serde(default)]
    pub presence: bool,
}

impl TopicRule {
    /// Refuses what cannot work. `meta_age` is how long the bus keeps offsets.
    fn validate(&self, at: &str, meta_age: Duration) -> Result<(), ConfigError> {
        let refuse = |key: &str, reason: &str| Err(ConfigError::invalid(format!("{at}.{key}"), reason));
        if !is_topic_pattern(&self.pattern) {
            return refuse(
                "pattern",
                "matches no topic: names are user:…, role:…, store:…, topic:…, tenant and everyone",
            );
        }
        if self.pattern == "everyone" && self.tenant.is_some() {
            return refuse("tenant", "the topic `everyone` belongs to no tenant");
        }
        if self.history == HistoryPolicy::None {
            let bounds = [
                ("history_count", self.history_count.is_some()),
                ("history_bytes", self.history_bytes.is_some()),
                ("history_age", self.history_age.is_some()),
            ];
            if let Some((key, _)) = bounds.into_iter().find(|(_, set)| *set) {
                return refuse(key, "has no effect with history = \"none\"");
            }
        }
        if self.history_count == Some(0) {
            return refuse(
                "history_count",
                "has to be at least 1; history = \"none\" keeps nothing",
            );
        }
        if self.history_bytes == Some(Bytes(0)) {
            return refuse(
                "history_bytes",
                "has to be at least 1; history = \"none\" keeps nothing",
            );
        }
        match self.history_age {
            Some(Span(Duration::ZERO)) => refuse("history_age", "has to be longer than nothing"),
            Some(Span(age)) if age > meta_age => refuse("history_age", "can be no longer than bus.meta_age"),
            _ => Ok(()),
        }
    }

    fn rule(&self) -> Rule {
        Rule {
            pattern: self.pattern.clone(),
            tenant: self.tenant.clone(),
            history: self.history,
            bounds: HistoryBounds {
                count: self.history_count,
                bytes: self.history_bytes.map(|bytes| bytes.0),
                age: self.history_age.map(|age| age.0),
            },
            slow: self.slow,
            presence: self.presence,
        }
    }
}

/// Checks the entries and makes the policies of them. `meta_age` is `bus.meta_age`.
///
/// # Errors
/// [`ConfigError`] names the key, such as `topics[2].pattern`.
pub fn topic_policies(rules: &[TopicRule], meta_age: Duration) -> Result<Policies, ConfigError> {
    if rules.len() > Policies::MAX_RULES {
        return Err(ConfigError::invalid(
            "topics",
            format!("has at most {} entries", Policies::MAX_RULES),
        ));
    }
    for (number, rule) in rules.iter().enumerate() {
        rule.validate(&format!("topics[{number}]"), meta_age)?;
    }
    Ok(Policies::new(rules.iter().map(TopicRule::rule).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Loader, ids::Name, topic::TopicKey};

    #[derive(Debug, Deserialize)]
    struct Config {
        topics: Vec<TopicRule>,
    }

    fn load(entries: &str) -> Result<Policies, ConfigError> {
        let config: Config = Loader::with_defaults(entries).unwrap().build()?;
        topic_policies(&config.topics, Duration::from_secs(3600))
    }

    #[test]
    fn entries_become_policies() {
        let policies = load(
            "[[topics]]\npattern = \"topic:prices.*\"\nhistory = \"last_value\"\nhistory_count = 5000\nslow = \"latest\"\n\
             [[topics]]\npattern = \"topic:*\"\ntenant = \"t\"\nhistory_bytes = \"1MiB\"\nhistory_age = \"5m\"\npresence = true\n",
        )
        .unwrap();
        let of = |name: &str| {
            let key = TopicKey::topic(&TenantId::new("t").unwrap(), &Name::new(name).unwrap());
            let policy = policies.of(&key);
            (policy, policies.bounds(policy))
        };
        let (prices, bounds) = of("prices.eur");
        assert_eq!(
            (prices.history, prices.slow, prices.presence),
            (HistoryPolicy::LastValue, SlowPolicy::Latest, false)
        );
        assert_eq!((bounds.count, bounds.bytes, bounds.age), (Some(5000), None, None));
        let (other, bounds) = of("news");
        assert_eq!(
            (other.history, other.slow, other.presence),
            (HistoryPolicy::Window, SlowPolicy::Evict, true)
        );
        assert_eq!(bounds.bytes, Some(1024 * 1024));
        assert_eq!(bounds.age, Some(Duration::from_secs(300)));
    }

    #[test]
    fn refusals_name_the_entry_and_the_key() {
        for (entry, key) in [
            ("pattern = \"prices.*\"", "topics[1].pattern"),
            ("pattern = \"everyone\"\ntenant = \"t\"", "topics[1].tenant"),
            ("pattern = \"*\"\ntenant = \"a b\"", "topics[1].tenant"),
            ("pattern = \"*\"\nhistory = \"some\"", "topics[1].history"),
            ("pattern = \"*\"\nslow = \"never\"", "topics[1].slow"),
            ("pattern = \"*\"\nhistory_count = 0", "topics[1].history_count"),
            ("pattern = \"*\"\nhistory_bytes = 0", "topics[1].history_bytes"),
            ("pattern = \"*\"\nhistory_age = \"0s\"", "topics[1].history_age"),
            ("pattern = \"*\"\nhistory_age = \"2h\"", "topics[1].history_age"),
            (
                "pattern = \"*\"\nhistory = \"none\"\nhistory_count = 5",
                "topics[1].history_count",
            ),
            ("pattern = \"*\"\nslo = \"evict\"", "topics[1].slo"),
        ] {
            let text = format!("[[topics]]\npattern = \"tenant\"\n[[topics]]\n{entry}\n");
            let error = load(&text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}:")), "{entry}: {error}");
        }
        let missing = load("[[topics]]\nslow = \"latest\"\n").unwrap_err().to_string();
        assert!(
            missing.contains("topics[0]") && missing.contains("pattern"),
            "{missing}"
        );
        let many = "[[topics]]\npattern = \"*\"\n".repeat(256);
        assert!(load(&many).unwrap_err().to_string().starts_with("topics:"));
    }
}
