//! How much a channel may send in a minute: a token bucket that is looked at before claiming.

use std::time::Duration;

use tokio::time::Instant;

/// A true token bucket. What is saved up while nothing is sent is a second's worth, so that no minute sees much more than
/// its rate.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    most: f64,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(super) fn new(per_minute: u32, now: Instant) -> Self {
        let per_second = f64::from(per_minute) / 60.0;
        let most = per_second.max(1.0);
        Self {
            per_second,
            most,
            tokens: most,
            at: now,
        }
    }

    /// How many may be sent now.
    pub(super) fn available(&mut self, now: Instant) -> usize {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.most);
        self.at = now;
        // A hair less than a whole token is one: rounding must not make the bucket wait for ever.
        (self.tokens + 1e-9).floor() as usize
    }

    /// So many are sent.
    pub(super) fn take(&mut self, count: usize) {
        self.tokens = (self.tokens - count as f64).max(0.0);
    }

    /// When the next one may be sent; zero: now.
    pub(super) fn wait(&self) -> Duration {
        let lacking = 1.0 - self.tokens;
        if lacking <= 1e-9 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(lacking / self.per_second)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_come_back_with_time_and_are_not_hoarded() {
        let start = Instant::now();
        let mut bucket = Bucket::new(120, start);
        assert_eq!(bucket.available(start), 2);
        bucket.take(2);
        assert_eq!(bucket.available(start), 0);
        assert_eq!(bucket.wait(), Duration::from_millis(500));
        assert_eq!(bucket.available(start + Duration::from_millis(500)), 1);
        assert_eq!(bucket.available(start + Duration::from_secs(3600)), 2);
    }

    #[test]
    fn a_slow_rate_sends_one_at_a_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1, start);
        assert_eq!(bucket.available(start), 1);
        bucket.take(1);
        assert_eq!(bucket.available(start + Duration::from_secs(59)), 0);
        assert_eq!(bucket.available(start + Duration::from_mins(1)), 1);
    }

    proptest! {
        #[test]
        fn no_minute_sees_more_than_its_rate_and_a_second(per_minute in 1u32..6000, steps in proptest::collection::vec(1u64..5000, 1..200)) {
            let start = Instant::now();
            let mut bucket = Bucket::new(per_minute, start);
            let mut sent: Vec<(Instant, usize)> = Vec::new();
            let mut now = start;
            for step in steps {
                now += Duration::from_millis(step);
                let count = bucket.available(now);
                bucket.take(count);
                sent.push((now, count));
            }
            let bound = f64::from(per_minute) + (f64::from(per_minute) / 60.0).max(1.0) + 1.0;
            for (at, _) in &sent {
                let minute: usize = sent
                    .iter()
                    .filter(|(other, _)| other >= at && *other <= *at + Duration::from_mins(1))
                    .map(|(_, count)| count)
                    .sum();
                prop_assert!(minute as f64 <= bound, "{minute} > {bound}");
            }
        }
    }
}
