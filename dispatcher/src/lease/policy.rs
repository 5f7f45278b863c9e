//! How long to wait between attempts, how often, and until when: a channel's policy. Pure.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::{
    config::{ChannelsConfig, LONGEST, QueueConfig, RetryConfig},
    model::Channel,
    settings::{Effective, Settings},
};

/// Part by which pauses of a list become longer, so that what failed together does not come back together.
const LIST_JITTER: f64 = 0.2;

/// The factor of a back-off that names none.
const FACTOR: f64 = 2.0;

/// Full jitter leaves at least this part of the first pause.
const LEAST: f64 = 0.1;

/// Longest wish of a provider that is heard, where the settings name none.
const LONGEST_WISH: Duration = Duration::from_hours(24);

/// Pauses between attempts.
#[derive(Debug, Clone, PartialEq)]
enum Pauses {
    /// One after the other; the last one repeats.
    List(Vec<Duration>),
    /// Exponential back-off.
    Backoff {
        base: Duration,
        factor: f64,
        maximum: Duration,
    },
}

/// What follows a failed attempt by a channel.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RetryPolicy {
    pauses: Pauses,
    jitter: f64,
    max_attempts: u32,
    max_age: Option<Duration>,
    longest_wish: Duration,
}

impl RetryPolicy {
    /// Pauses of a list, with no bound of their number.
    pub(crate) fn list(pauses: Vec<Duration>) -> Self {
        Self {
            pauses: Pauses::List(pauses),
            jitter: LIST_JITTER,
            max_attempts: u32::MAX,
            max_age: None,
            longest_wish: LONGEST_WISH,
        }
    }

    /// The policy of a channel's settings; what they leave out is the queue's.
    pub(crate) fn new(config: &RetryConfig, queue: &QueueConfig) -> Self {
        let (pauses, jitter) = match config.base {
            Some(base) => {
                let backoff = Pauses::Backoff {
                    base: base.0,
                    factor: config.factor.unwrap_or(FACTOR),
                    maximum: config.maximum.unwrap_or(LONGEST).0,
                };
                (backoff, 1.0)
            }
            None => {
                let list = config.pauses.as_ref().unwrap_or(&queue.retry);
                (
                    Pauses::List(list.iter().map(|pause| pause.0).collect()),
                    LIST_JITTER,
                )
            }
        };
        Self {
            pauses,
            jitter: config.jitter.unwrap_or(jitter).clamp(0.0, 1.0),
            max_attempts: config.max_attempts.unwrap_or(queue.max_attempts),
            max_age: config.max_age.map(|age| age.0),
            longest_wish: config.retry_after_max.map_or(LONGEST_WISH, |longest| longest.0),
        }
    }

    /// Attempts before a delivery is dead.
    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// Age at which nothing is tried again.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Longest pause that a provider can ask for.
    pub(crate) fn longest_wish(&self) -> Duration {
        self.longest_wish
    }

    /// The pause after attempt `number`, from 1; `random` from 0 to 1. A list's pauses become longer, never shorter than
    /// promised; a back-off's become shorter, never longer than its maximum.
    pub(crate) fn pause(&self, number: u32, random: f64) -> Duration {
        let random = random.clamp(0.0, 1.0);
        let before = number.saturating_sub(1);
        match &self.pauses {
            Pauses::List(list) => {
                let step = usize::try_from(before).unwrap_or(usize::MAX);
                let pause = list
                    .get(step)
                    .or_else(|| list.last())
                    .copied()
                    .unwrap_or_default();
                longer(pause, 1.0 + self.jitter * random)
            }
            Pauses::Backoff {
                base,
                factor,
                maximum,
            } => {
                // Grows beyond every bound, up to infinity; then it is the maximum.
                let factor = factor.powf(f64::from(before));
                let full = Duration::try_from_secs_f64(base.as_secs_f64() * factor)
                    .unwrap_or(*maximum)
                    .clamp(*base, *maximum);
                let least = base.mul_f64(LEAST).min(full);
                full.mul_f64(1.0 - self.jitter * random).clamp(least, full)
            }
        }
    }
}

/// The pause times a factor from 1 to 2, or the longest there is.
fn longer(pause: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(pause.as_secs_f64() * factor)
        .unwrap_or(Duration::MAX)
        .max(pause)
}

/// The policies of all channels.
#[derive(Debug)]
struct Policies {
    channels: HashMap<Channel, Arc<RetryPolicy>>,
    others: Arc<RetryPolicy>,
}

impl Policies {
    fn new(queue: &QueueConfig, channels: &ChannelsConfig) -> Self {
        let policy = |config: &RetryConfig| Arc::new(RetryPolicy::new(config, queue));
        Self {
            channels: Channel::ALL
                .into_iter()
                .map(|channel| (channel, policy(&channels.retry(channel))))
                .collect(),
            others: policy(&RetryConfig::default()),
        }
    }

    fn of(&self, channel: Channel) -> Arc<RetryPolicy> {
        Arc::clone(self.channels.get(&channel).unwrap_or(&self.others))
    }
}

/// The policies of all channels, as they are set now. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Retries {
    settings: Settings,
    /// Made of these settings.
    made: Arc<RwLock<(Arc<Effective>, Policies)>>,
}

impl Retries {
    pub(crate) fn new(settings: Settings) -> Self {
        let made = Self::make(settings.current());
        Self {
            settings,
            made: Arc::new(RwLock::new(made)),
        }
    }

    fn make(settings: Arc<Effective>) -> (Arc<Effective>, Policies) {
        let policies = Policies::new(&settings.config.queue, &settings.config.channels);
        (settings, policies)
    }

    /// The policy of a channel.
    pub(crate) fn of(&self, channel: Channel) -> Arc<RetryPolicy> {
        let now = self.settings.current();
        {
            let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&made.0, &now) {
                return made.1.of(channel);
            }
        }
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        *made = Self::make(now);
        made.1.of(channel)
    }
}

#[cfg(test)]
mod tests {
    use common::config::Span;
    use proptest::prelude::*;

    use super::*;

    fn backoff(base_ms: u64, factor: f64, maximum_ms: u64, jitter: f64) -> RetryPolicy {
        let ms = |ms| Some(Span(Duration::from_millis(ms)));
        let config = RetryConfig {
            base: ms(base_ms),
            factor: Some(factor),
            maximum: ms(maximum_ms),
            jitter: Some(jitter),
            ..RetryConfig::default()
        };
        RetryPolicy::new(&config, &QueueConfig::default())
    }

    #[test]
    fn the_default_is_1_5_15_minutes_and_four_attempts() {
        let retries = Policies::new(&QueueConfig::default(), &ChannelsConfig::default());
        let policy = retries.of(Channel::Email);
        let pauses: Vec<u64> = (1..=5)
            .map(|number| policy.pause(number, 0.0).as_secs())
            .collect();
        assert_eq!(pauses, [60, 300, 900, 900, 900]);
        assert_eq!((policy.max_attempts(), policy.max_age()), (4, None));
    }

    /// S4's document: base 60 s, factor 2, maximum 3600 s, three attempts.
    #[test]
    fn s4_5_a_back_off_doubles_up_to_its_maximum() {
        let policy = backoff(60_000, 2.0, 3_600_000, 0.0);
        let pauses: Vec<u64> = (1..=9)
            .map(|number| policy.pause(number, 0.9).as_secs())
            .collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
    }

    #[test]
    fn full_jitter_leaves_a_tenth_of_the_first_pause() {
        let policy = backoff(1000, 2.0, 60_000, 1.0);
        assert_eq!(policy.pause(3, 0.0), Duration::from_secs(4));
        assert_eq!(policy.pause(3, 0.5), Duration::from_secs(2));
        assert_eq!(policy.pause(3, 1.0), Duration::from_millis(100));
    }

    #[test]
    fn settings_of_one_channel_leave_the_others_alone() {
        let channels =
            r#"{"webhook":{"retry":{"pauses":["1s"],"max_attempts":9,"max_age":"1h","jitter":0}}}"#;
        let channels = serde_json::from_str(channels).unwrap();
        let retries = Policies::new(&QueueConfig::default(), &channels);
        let webhook = retries.of(Channel::Webhook);
        assert_eq!(webhook.pause(7, 1.0), Duration::from_secs(1));
        assert_eq!(webhook.max_age(), Some(Duration::from_hours(1)));
        assert_eq!(
            (webhook.max_attempts(), retries.of(Channel::Email).max_attempts()),
            (9, 4)
        );
    }

    proptest! {
        #[test]
        fn back_offs_grow_and_stay_within_their_bounds(
            base in 1u64..100_000_000,
            more in 0u64..1_000_000_000_000,
            factor in 1.0f64..100.0,
            jitter in 0.0f64..=1.0,
            number in 1u32..,
            random in 0.0f64..=1.0,
        ) {
            let maximum = base + more;
            let plain = backoff(base, factor, maximum, 0.0);
            let full = plain.pause(number, random);
            prop_assert!(full >= Duration::from_millis(base) && full <= Duration::from_millis(maximum));
            prop_assert!(plain.pause(number.saturating_add(1), random) >= full);
            prop_assert_eq!(plain.pause(1, random), Duration::from_millis(base));
            let pause = backoff(base, factor, maximum, jitter).pause(number, random);
            let least = full.mul_f64(1.0 - jitter).max(Duration::from_millis(base).mul_f64(LEAST));
            prop_assert!(pause <= full && pause + Duration::from_millis(1) >= least, "{pause:?} {least:?}");
        }

        #[test]
        fn lists_become_longer_within_their_bounds(
            // Up to a hundred years, and what no number can hold.
            list in prop::collection::vec(prop_oneof![0u64..3_200_000_000, Just(u64::MAX)], 1..6),
            number in 1u32..,
            random in -1.0f64..2.0,
        ) {
            let list: Vec<_> = list.into_iter().map(Duration::from_secs).collect();
            let step = usize::try_from(number - 1).unwrap().min(list.len() - 1);
            let (pause, given) = (RetryPolicy::list(list.clone()).pause(number, random), list[step]);
            prop_assert!(pause >= given);
            let longest = given.as_secs_f64() * 1.2;
            prop_assert!(pause.as_secs_f64() <= longest * (1.0 + 1e-9) + 1e-6, "{pause:?} {longest}");
        }
    }
}
