//! Figures, for people and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{check::Faults, wire::Done};

/// Percentiles of times, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    #[serde(rename = "p999_ms")]
    pub(crate) p99_9_ms: f64,
    pub(crate) max_ms: f64,
}

/// Collects times in microseconds.
#[derive(Debug)]
pub(crate) struct Clock(Histogram<u64>);

impl Clock {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 600_000_000, 3)?))
    }

    pub(crate) fn add(&mut self, us: u64) {
        self.add_many(us, 1);
    }

    pub(crate) fn add_many(&mut self, us: u64, count: u64) {
        self.0.saturating_record_n(us.max(1), count);
    }

    pub(crate) fn times(&self) -> Option<Times> {
        let ms = |us: u64| us as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Times {
            count: self.0.len(),
            p50_ms: ms(self.0.value_at_quantile(0.5)),
            p99_ms: ms(self.0.value_at_quantile(0.99)),
            p99_9_ms: ms(self.0.value_at_quantile(0.999)),
            max_ms: ms(self.0.max()),
        })
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            p50_ms,
            p99_ms,
            p99_9_ms,
            max_ms,
        } = self;
        write!(
            f,
            "p50 {p50_ms:.2}  p99 {p99_ms:.2}  p99.9 {p99_9_ms:.2}  max {max_ms:.2} ms  (of {count})"
        )
    }
}

/// Everything that a run found. Figures of the server are missing where its process is not known.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) sockets: u32,
    pub(crate) opened: u32,
    pub(crate) failed: BTreeMap<String, u32>,
    pub(crate) connect_seconds: f64,
    pub(crate) connects_per_second: f64,
    pub(crate) connect_cpu_us: Option<f64>,
    pub(crate) rss_before: Option<u64>,
    pub(crate) rss_idle: Option<u64>,
    pub(crate) rss_after: Option<u64>,
    pub(crate) bytes_per_idle_socket: Option<f64>,
    pub(crate) idle_cpu_ms_per_second: Option<f64>,
    pub(crate) published: u64,
    pub(crate) publish_errors: BTreeMap<String, u64>,
    pub(crate) received: u64,
    pub(crate) traffic_seconds: f64,
    pub(crate) deliveries_per_second: f64,
    pub(crate) delivery_cpu_us: Option<f64>,
    pub(crate) publish_answer: Option<Times>,
    pub(crate) latency: Option<Times>,
    pub(crate) first_to_last: Option<Times>,
    pub(crate) publish_to_last: Option<Times>,
    pub(crate) faults: Faults,
    pub(crate) faulty_sockets: u32,
    pub(crate) closed: BTreeMap<String, u32>,
}

impl Report {
    /// Takes the reports of the client processes.
    pub(crate) fn add(&mut self, done: &[Done]) -> anyhow::Result<()> {
        let mut latency = Clock::new()?;
        for part in done {
            self.received += part.received;
            self.faults.add(part.faults);
            self.faulty_sockets += part.faulty;
            for (reason, count) in &part.closed {
                *self.closed.entry(reason.clone()).or_default() += count;
            }
            for (us, count) in &part.latency_us {
                latency.add_many(*us, *count);
            }
        }
        self.latency = latency.times();
        Ok(())
    }

    /// The processor time of the traffic, a delivery.
    pub(crate) fn traffic_cpu(&mut self, cpu: Option<Duration>) {
        self.delivery_cpu_us = cpu.map(|cpu| cpu.as_micros() as f64 / self.received.max(1) as f64);
        self.deliveries_per_second = self.received as f64 / self.traffic_seconds.max(1e-9);
    }

    /// Whether everything was as it has to be.
    pub(crate) fn good(&self) -> bool {
        !self.faults.any()
            && self.failed.is_empty()
            && self.publish_errors.is_empty()
            && self.closed.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: String| writeln!(f, "{name:<26}{value}");
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1048576.0);
        let unknown = || "not known (no --pid)".to_owned();
        line("scenario", self.scenario.clone())?;
        line("sockets", format!("{} of {}", self.opened, self.sockets))?;
        for (reason, count) in &self.failed {
            line("  failed", format!("{count} x {reason}"))?;
        }
        line(
            "connecting",
            format!(
                "{:.2} s, {:.0} a second",
                self.connect_seconds, self.connects_per_second
            ),
        )?;
        line(
            "server CPU a connect",
            self.connect_cpu_us
                .map_or_else(unknown, |us| format!("{us:.1} us")),
        )?;
        line("server RSS before", self.rss_before.map_or_else(unknown, mib))?;
        line("server RSS with sockets", self.rss_idle.map_or_else(unknown, mib))?;
        line(
            "server RSS after traffic",
            self.rss_after.map_or_else(unknown, mib),
        )?;
        line(
            "bytes an idle socket",
            self.bytes_per_idle_socket
                .map_or_else(unknown, |bytes| format!("{bytes:.0}")),
        )?;
        if let Some(ms) = self.idle_cpu_ms_per_second {
            line("server CPU idle", format!("{ms:.2} ms a second"))?;
        }
        line(
            "published",
            format!("{} in {:.2} s", self.published, self.traffic_seconds),
        )?;
        for (reason, count) in &self.publish_errors {
            line("  publish failed", format!("{count} x {reason}"))?;
        }
        line(
            "received",
            format!("{}, {:.0} a second", self.received, self.deliveries_per_second),
        )?;
        line(
            "server CPU a delivery",
            self.delivery_cpu_us
                .map_or_else(unknown, |us| format!("{us:.2} us")),
        )?;
        for (name, times) in [
            ("publish answer", self.publish_answer),
            ("publish to receive", self.latency),
            ("first to last socket", self.first_to_last),
            ("publish to last socket", self.publish_to_last),
        ] {
            if let Some(times) = times {
                line(name, times.to_string())?;
            }
        }
        let Faults {
            lost,
            doubled,
            reordered,
        } = self.faults;
        line("lost", lost.to_string())?;
        line("doubled", doubled.to_string())?;
        line("reordered", reordered.to_string())?;
        if self.faulty_sockets > 0 {
            line("sockets with faults", self.faulty_sockets.to_string())?;
        }
        for (reason, count) in &self.closed {
            line("  closed by the server", format!("{count} x {reason}"))?;
        }
        line(
            "result",
            if self.good() {
                "good".to_owned()
            } else {
                "NOT GOOD".to_owned()
            },
        )
    }
}
