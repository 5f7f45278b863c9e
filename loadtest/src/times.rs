//! Times: the clock that all processes of a run share, and histograms of what they measured on it.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970. All processes are on one machine, so they share this clock.
pub(crate) fn now_us() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Times in microseconds, kept to three digits; ten minutes at the most.
#[derive(Debug, Clone)]
pub(crate) struct Times(Histogram<u64>);

/// A histogram between processes: microseconds, and how often.
pub(crate) type Counts = Vec<(u64, u64)>;

/// Percentiles, in milliseconds, and the curve they lie on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    #[serde(rename = "p999_ms")]
    pub(crate) p99_9_ms: f64,
    pub(crate) max_ms: f64,
    /// Part of all that is not above (0 to 1), and milliseconds.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Times {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 600_000_000, 3)?))
    }

    pub(crate) fn add(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    pub(crate) fn merge(&mut self, counts: &Counts) {
        for (us, count) in counts {
            self.0.saturating_record_n((*us).max(1), *count);
        }
    }

    /// All in it, leaving it empty.
    pub(crate) fn drain(&mut self) -> Counts {
        let counts = self
            .0
            .iter_recorded()
            .map(|at| (at.value_iterated_to(), at.count_at_value()))
            .collect();
        self.0.reset();
        counts
    }

    /// The median, the 99th percentile and the largest, in milliseconds.
    pub(crate) fn brief(&self) -> [f64; 3] {
        [
            ms(self.0.value_at_quantile(0.5)),
            ms(self.0.value_at_quantile(0.99)),
            ms(self.0.max()),
        ]
    }

    pub(crate) fn latency(&self) -> Option<Latency> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile| ms(self.0.value_at_quantile(quantile));
        // Denser towards the end, where it matters: 0, 0.5, 0.75, … each step halves what is left, in four parts.
        let mut curve = vec![(0.0, ms(self.0.min()))];
        let mut rest = 1.0;
        while rest * self.0.len() as f64 >= 1.0 && curve.len() < 100 {
            for part in 1..=4 {
                let quantile = 1.0 - rest * (1.0 - f64::from(part) / 8.0);
                curve.push((quantile, at(quantile)));
            }
            rest /= 2.0;
        }
        curve.push((1.0, ms(self.0.max())));
        Some(Latency {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: ms(self.0.max()),
            curve,
        })
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// One latency of several histograms.
pub(crate) fn merged<'a>(parts: impl Iterator<Item = &'a Counts>) -> anyhow::Result<Option<Latency>> {
    let mut all = Times::new()?;
    for part in parts {
        all.merge(part);
    }
    Ok(all.latency())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_merge_into_the_whole() {
        let mut whole = Times::new().unwrap();
        let mut parts = [Times::new().unwrap(), Times::new().unwrap()];
        for us in 1..=10_000_u64 {
            whole.add(us * 10);
            parts[(us % 2) as usize].add(us * 10);
        }
        let counts = parts.each_mut().map(Times::drain);
        let merged = merged(counts.iter()).unwrap().unwrap();
        assert_eq!(merged, whole.latency().unwrap());
        assert_eq!(merged.count, 10_000);
        assert!((merged.p99_ms - 99.0).abs() < 0.2, "{}", merged.p99_ms);
        assert!(parts[0].latency().is_none(), "drained");
    }

    #[test]
    fn the_curve_rises_and_ends_at_the_largest() {
        let mut times = Times::new().unwrap();
        (1..=1000).for_each(|us| times.add(us * us));
        let latency = times.latency().unwrap();
        assert!(
            latency
                .curve
                .windows(2)
                .all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1),
            "{:?}",
            latency.curve
        );
        assert_eq!(latency.curve.last(), Some(&(1.0, latency.max_ms)));
    }
}
