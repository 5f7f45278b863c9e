//! What a topic promises: its history, what happens to readers that are too slow, presence events. An ordered list of
//! rules; the first that matches a topic counts.

use std::{borrow::Cow, num::NonZeroU8, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    ids::TenantId,
    topic::{TopicKey, TopicKind, matches_pattern},
};

/// What a topic remembers for those who come later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryPolicy {
    /// Nothing: every publish is as one with `history: false`.
    None,
    /// The newest value of each `conflate` key; a publish without one counts as key `""`.
    LastValue,
    /// The newest messages.
    #[default]
    Window,
}

/// What happens to a message that waits for a reader who is too slow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlowPolicy {
    /// It waits; over the queue's bounds the session is closed with 4008.
    #[default]
    Evict,
    /// The oldest is dropped, and the session is told by `gap`.
    DropOldest,
    /// A newer message with the same `conflate` key takes its place; without a key as [`SlowPolicy::Evict`].
    Latest,
}

/// Bounds of a topic's history that differ from those of `[bus]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryBounds {
    /// Messages; in a last-value topic, keys.
    pub count: Option<usize>,
    /// Payload bytes.
    pub bytes: Option<usize>,
    /// Age of a message. Values of a last-value topic grow old only where this is set.
    pub age: Option<Duration>,
}

/// What holds for one topic. Small: every topic's entry keeps its own, so that patterns are matched once a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicPolicy {
    /// What is remembered.
    pub history: HistoryPolicy,
    /// What happens to slow readers.
    pub slow: SlowPolicy,
    /// Whether sessions that come and go are told to the topic.
    pub presence: bool,
    /// The rule's number from 1, where its bounds are looked up.
    rule: Option<NonZeroU8>,
}

/// Topics that a pattern matches, and what holds for them.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Over the tenant-free name, in which a user's topic carries the user's name: `user:*`, `role:*`, `store:12`,
    /// `topic:prices.*`, `tenant`, `everyone`.
    pub pattern: String,
    /// Only topics of this tenant.
    pub tenant: Option<TenantId>,
    /// What is remembered.
    pub history: HistoryPolicy,
    /// How much of it.
    pub bounds: HistoryBounds,
    /// What happens to slow readers.
    pub slow: SlowPolicy,
    /// Whether sessions that come and go are told to the topic.
    pub presence: bool,
}

/// All rules, in order. Cheap to clone; the default has none.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    rules: Arc<[Rule]>,
}

impl Policies {
    /// Rules that a list has at the most.
    pub const MAX_RULES: usize = u8::MAX as usize;

    /// Takes a list of rules; what is beyond [`Policies::MAX_RULES`] is left out.
    #[must_use]
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.truncate(Self::MAX_RULES);
        Self { rules: rules.into() }
    }

    /// Whether only defaults hold.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What holds for a topic. Free where there are no rules; with rules the answer is worth keeping.
    #[must_use]
    pub fn of(&self, key: &TopicKey) -> TopicPolicy {
        if self.rules.is_empty() || key.kind() == TopicKind::Nodes {
            return TopicPolicy::default();
        }
        let name = full_name(key);
        let matching = self.rules.iter().zip(1u8..=u8::MAX).find(|(rule, _)| {
            rule.tenant
                .as_ref()
                .is_none_or(|tenant| key.tenant_id() == Some(tenant.as_str()))
                && matches_pattern(&rule.pattern, &name)
        });
        matching.map_or_else(TopicPolicy::default, |(rule, number)| TopicPolicy {
            history: rule.history,
            slow: rule.slow,
            presence: rule.presence,
            rule: NonZeroU8::new(number),
        })
    }

    /// The history bounds that the policy's rule sets.
    #[must_use]
    pub fn bounds(&self, policy: TopicPolicy) -> HistoryBounds {
        policy
            .rule
            .and_then(|number| self.rules.get(usize::from(number.get()) - 1))
            .map_or_else(HistoryBounds::default, |rule| rule.bounds)
    }
}

/// Whether a pattern can match a topic's name at all.
#[must_use]
pub fn is_topic_pattern(pattern: &str) -> bool {
    const NAMED: [&str; 4] = ["user:", "role:", "store:", "topic:"];
    const WHOLE: [&str; 2] = ["tenant", "everyone"];
    match pattern.split_once('*') {
        Some((before, _)) => {
            NAMED
                .iter()
                .any(|kind| before.starts_with(kind) || kind.starts_with(before))
                || WHOLE.iter().any(|whole| whole.starts_with(before))
        }
        None => {
            WHOLE.contains(&pattern)
                || NAMED
                    .iter()
                    .any(|kind| pattern.len() > kind.len() && pattern.starts_with(kind))
        }
    }
}

/// The name that patterns are matched with: the public one, with the user's name.
fn full_name(key: &TopicKey) -> Cow<'static, str> {
    let kind = match key.kind() {
        TopicKind::Tenant => return Cow::Borrowed("tenant"),
        TopicKind::Everyone => return Cow::Borrowed("everyone"),
        TopicKind::Nodes => return Cow::Borrowed("nodes"),
        TopicKind::User => "user",
        TopicKind::Store => "store",
        TopicKind::Role => "role",
        TopicKind::Topic => "topic",
    };
    Cow::Owned(format!("{kind}:{}", key.name().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Name;

    fn tenant(id: &str) -> TenantId {
        TenantId::new(id).unwrap()
    }

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn rule(pattern: &str, slow: SlowPolicy) -> Rule {
        Rule {
            pattern: pattern.to_owned(),
            tenant: None,
            history: HistoryPolicy::Window,
            bounds: HistoryBounds::default(),
            slow,
            presence: false,
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let mut of_t2 = rule("topic:*", SlowPolicy::DropOldest);
        of_t2.tenant = Some(tenant("t2"));
        of_t2.bounds.count = Some(7);
        let policies = Policies::new(vec![
            of_t2,
            rule("topic:prices.*", SlowPolicy::Latest),
            rule("user:u1", SlowPolicy::Latest),
            rule("tenant", SlowPolicy::DropOldest),
            rule("*", SlowPolicy::Evict),
            rule("everyone", SlowPolicy::Latest),
        ]);
        let (t1, t2) = (tenant("t1"), tenant("t2"));
        for (key, slow) in [
            (TopicKey::topic(&t1, &name("prices.a")), SlowPolicy::Latest),
            (TopicKey::topic(&t2, &name("prices.a")), SlowPolicy::DropOldest),
            (TopicKey::topic(&t1, &name("prices")), SlowPolicy::Evict),
            (TopicKey::user(&t1, &name("u1")), SlowPolicy::Latest),
            (TopicKey::user(&t1, &name("u2")), SlowPolicy::Evict),
            (TopicKey::role(&t1, &name("prices.a")), SlowPolicy::Evict),
            (TopicKey::tenant(&t1), SlowPolicy::DropOldest),
            (TopicKey::everyone(), SlowPolicy::Evict),
        ] {
            assert_eq!(policies.of(&key).slow, slow, "{key}");
        }
        let found = policies.of(&TopicKey::topic(&t2, &name("x")));
        assert_eq!(policies.bounds(found).count, Some(7));
        let other = policies.of(&TopicKey::tenant(&t1));
        assert_eq!(policies.bounds(other), HistoryBounds::default());
    }

    #[test]
    fn names_are_matched_as_people_write_them() {
        let policies = Policies::new(vec![rule("topic:a:b%*", SlowPolicy::Latest)]);
        let escaped = TopicKey::topic(&tenant("t"), &name("a:b%c"));
        assert_eq!(policies.of(&escaped).slow, SlowPolicy::Latest);
        assert_eq!(
            Policies::default().of(&escaped),
            TopicPolicy::default(),
            "without rules the defaults hold"
        );
    }

    #[test]
    fn patterns_that_match_nothing_are_told() {
        for good in [
            "*",
            "user:*",
            "us*",
            "role:manager",
            "topic:prices.*",
            "tenant",
            "everyone",
            "t*",
        ] {
            assert!(is_topic_pattern(good), "{good}");
        }
        for bad in [
            "", "user", "user:", "prices.*", "tenant:a", "chan:*", "x*", "Tenant",
        ] {
            assert!(!is_topic_pattern(bad), "{bad}");
        }
    }

    #[test]
    fn a_topic_s_policy_is_small() {
        assert_eq!(size_of::<TopicPolicy>(), 4);
    }
}
