//! When to try again: exponential delay with jitter, pure in attempt and chance.

use std::time::Duration;

/// An exponential schedule with an upper bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub base: Duration,
    /// By what each further one grows.
    pub factor: f64,
    /// No delay is longer.
    pub max: Duration,
}

impl Backoff {
    /// The delay before try `attempt` (from 1), spread over its upper half by `chance` in `0.0..1.0`, so that many who
    /// failed together do not return together.
    #[must_use]
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let growth = self
            .factor
            .max(1.0)
            .powi(i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX));
        let full = (self.base.as_secs_f64() * growth).min(self.max.as_secs_f64());
        Duration::from_secs_f64(full * (0.5 + 0.5 * chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_stay_between_half_and_full(attempt in 0u32..10_000, chance in 0.0f64..1.0) {
            let backoff = Backoff { base: Duration::from_millis(100), factor: 2.0, max: Duration::from_secs(30) };
            let delay = backoff.delay(attempt, chance);
            prop_assert!(delay >= Duration::from_millis(50));
            prop_assert!(delay <= backoff.max);
            prop_assert!(backoff.delay(attempt + 1, chance) >= delay);
        }
    }
}
