//! When those come back who were refused: a herd is told times that are apart, so that it fits the rate of handshakes
//! and is not refused again as a whole.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// The part of the rate that is promised to those who were refused; the rest is left for newcomers.
const PROMISED: f64 = 0.8;

/// Nobody is sent away for longer. A herd that does not fit in is spread over the second half of this.
const HORIZON: Duration = Duration::from_secs(60);

/// Times are stretched by up to this part, by chance: who was refused together is told different times.
const JITTER: f64 = 0.25;

/// The times that were promised. One word, as a storm asks from every thread.
#[derive(Debug)]
pub(crate) struct Comeback {
    began: Instant,
    /// Nanoseconds between two who come back.
    interval: u64,
    /// The first time that nobody was promised, in nanoseconds since it began.
    free: AtomicU64,
}

impl Comeback {
    pub(crate) fn new(handshakes_per_second: u32) -> Self {
        let per_second = f64::from(handshakes_per_second.max(1)) * PROMISED;
        Self {
            began: Instant::now(),
            interval: (1e9 / per_second) as u64,
            free: AtomicU64::new(0),
        }
    }

    /// Promises the next free time; how long it is until then.
    pub(crate) fn promise(&self) -> Duration {
        // A u64 of nanoseconds lasts for 584 years.
        let now = self.began.elapsed().as_nanos() as u64;
        self.promise_at(now).mul_f64(1.0 + fastrand::f64() * JITTER)
    }

    fn promise_at(&self, now: u64) -> Duration {
        let horizon = HORIZON.as_nanos() as u64;
        let next = |free: u64| free.max(now) + self.interval;
        let booked = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                let next = next(free);
                (next <= now + horizon).then_some(next)
            });
        booked.map_or_else(
            |_| HORIZON.mul_f64(0.5 + fastrand::f64() / 2.0),
            |free| Duration::from_nanos(next(free) - now),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many come back in which second, as `Retry-After` says it.
    fn by_second(waits: impl Iterator<Item = Duration>) -> Vec<usize> {
        let mut seconds = vec![0; 100];
        for wait in waits {
            seconds[wait.as_secs_f64().ceil() as usize] += 1;
        }
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn a_herd_fits_the_rate() {
        let comeback = Comeback::new(2000);
        let seconds = by_second((0..10_000).map(|_| comeback.promise()));
        assert_eq!(seconds[0], 0, "nobody comes back at once");
        assert!(seconds.iter().all(|count| *count <= 2000), "{seconds:?}");
        // 10,000 at 1,600 a second, and a quarter for chance.
        let last = seconds.iter().rposition(|count| *count > 0).unwrap();
        assert!((6..=8).contains(&last), "{seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_promised_passes() {
        let comeback = Comeback::new(10);
        for _ in 0..80 {
            comeback.promise();
        }
        assert!(comeback.promise() > Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(comeback.promise() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_sent_away_for_ever() {
        let comeback = Comeback::new(1);
        for _ in 0..1000 {
            assert!(comeback.promise() <= HORIZON.mul_f64(1.0 + JITTER));
        }
        let seconds = by_second((0..1000).map(|_| comeback.promise()));
        assert!(seconds.iter().all(|count| *count < 100), "spread: {seconds:?}");
    }
}
