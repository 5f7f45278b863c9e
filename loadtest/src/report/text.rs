//! A report as text, and what its figures are called.

use std::fmt;

use super::Report;
use crate::times::Latency;

/// A figure: its name in JSON, what people call it, its unit.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: &'static str,
}

macro_rules! known {
    ($($name:literal $label:literal $unit:literal,)*) => {
        /// In the order in which they are shown.
        const FIGURES: &[Known] = &[$(Known { name: $name, label: $label, unit: $unit },)*];
    };
}

known! {
    "sockets" "sockets open" "",
    "connect_seconds" "connecting took" "s",
    "connects_per_second" "handshakes a second" "/s",
    "connect_cpu_us" "server CPU a handshake" "µs",
    "rss_base_mib" "server memory, no sockets" "MiB",
    "rss_idle_mib" "server memory, idle sockets" "MiB",
    "rss_peak_mib" "server memory, highest" "MiB",
    "rss_end_mib" "server memory, at the end" "MiB",
    "rss_growth_mib" "server memory, growth" "MiB",
    "bytes_per_socket" "bytes an idle socket" "B",
    "bytes_per_socket_after_burst" "bytes an idle socket, after the burst" "B",
    "kernel_bytes_per_socket" "kernel memory a socket (slab, both ends)" "B",
    "kernel_buffer_mib" "kernel buffers of TCP, highest" "MiB",
    "idle_cpu_ms_per_second" "server CPU idle" "ms/s",
    "idle_cpu_us_per_socket" "server CPU idle, a socket" "µs/s",
    "idle_cpu_ms_per_second_after_burst" "server CPU idle, after the burst" "ms/s",
    "traffic_seconds" "traffic" "s",
    "published" "published" "",
    "publishes_per_second" "publishes a second" "/s",
    "received" "received" "",
    "deliveries_per_second" "deliveries a second" "/s",
    "cpu_us_per_delivery" "server CPU a delivery" "µs",
    "cpu_us_per_publish" "server CPU a publish" "µs",
    "server_cores" "server CPU" "cores",
    "bytes_per_delivery" "bytes a delivery on the wire" "B",
    "compressed" "messages that came compressed" "",
    "frames_per_read" "frames a read of the client" "",
    "due" "messages due at sockets" "",
    "lost" "lost" "",
    "doubled" "doubled" "",
    "reordered" "reordered" "",
    "told" "missed, and the server said so" "",
    "session_topics" "topics of all sessions" "",
    "acknowledged" "publishes acknowledged" "",
    "received_in_all" "messages delivered" "",
    "repeated" "publishes repeated with their key" "",
    "unclear" "of these, after a try of which nobody knew" "",
    "faults" "faults" "",
    "cuts" "sockets cut" "",
    "resumed" "sockets that came back" "",
    "recovered" "resumes answered" "",
    "resyncs" "topics told `resync`" "",
    "resync_session_topics" "topics of sessions told `resync`, each once" "",
    "resync_percent" "of these by faults of Redis, of all" "%",
    "gaps" "topics told `gap`" "",
    "evicted" "slow consumers evicted" "",
    "stalled" "sockets that did not read" "",
    "stalled_newest" "of them with the newest of each key" "",
    "not_ready_ms" "time not ready" "ms",
    "ready_red_ms" "readiness red after SIGTERM" "ms",
    "reconnect_peak_per_second" "reconnects a second, highest" "/s",
    "all_back_seconds" "all sockets back after" "s",
    "drain_seconds" "server ended after SIGTERM" "s",
    "quiet_alone_p99_ms" "quiet sockets' p99, alone" "ms",
    "quiet_beside_p99_ms" "quiet sockets' p99, beside the hot topic" "ms",
    "p99_without_ms" "p99 without stalled sockets" "ms",
    "p99_with_ms" "p99 with stalled sockets" "ms",
    "plateau_mib" "server memory, first plateau" "MiB",
    "plateau_end_mib" "server memory, last minutes" "MiB",
}

const LATENCIES: &[Known] = &[
    Known {
        name: "delivery",
        label: "publish to receive",
        unit: "ms",
    },
    Known {
        name: "answer",
        label: "publish to answer",
        unit: "ms",
    },
    Known {
        name: "whole",
        label: "publish to last socket",
        unit: "ms",
    },
    Known {
        name: "spread",
        label: "first to last socket",
        unit: "ms",
    },
    Known {
        name: "reopen",
        label: "cut to open again",
        unit: "ms",
    },
    Known {
        name: "quiet_alone",
        label: "quiet sockets, alone",
        unit: "ms",
    },
    Known {
        name: "quiet_beside",
        label: "quiet sockets, beside the hot topic",
        unit: "ms",
    },
    Known {
        name: "hot",
        label: "hot topic",
        unit: "ms",
    },
    Known {
        name: "without_stalled",
        label: "without stalled sockets",
        unit: "ms",
    },
    Known {
        name: "with_stalled",
        label: "others, with stalled sockets",
        unit: "ms",
    },
];

/// What these names are called, in the order in which they are shown; unknown ones last, as they are.
pub(crate) fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, &'a str, &'static str)> {
    let order = |name: &str| {
        let all = FIGURES.iter().chain(LATENCIES);
        all.clone().position(|known| known.name == name)
    };
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by_key(|name| (order(name).unwrap_or(usize::MAX), *name));
    names
        .into_iter()
        .map(
            |name| match FIGURES.iter().chain(LATENCIES).find(|known| known.name == name) {
                Some(known) => (name, known.label, known.unit),
                None => (name, name, ""),
            },
        )
        .collect()
}

/// A number with as many digits as it deserves.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        large if large >= 1000.0 || large.fract() == 0.0 => 0,
        middle if middle >= 100.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text
        .split_once('.')
        .map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match rest {
        Some(rest) => format!("{sign}{grouped}.{rest}"),
        None => format!("{sign}{grouped}"),
    }
}

fn times(latency: &Latency) -> String {
    format!(
        "p50 {}  p99 {}  p99.9 {}  max {} ms  (of {})",
        number(latency.p50_ms),
        number(latency.p99_ms),
        number(latency.p99_9_ms),
        number(latency.max_ms),
        number(latency.count as f64)
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} on {} ({})",
            self.scenario, self.target, self.target_version
        )?;
        for (name, label, unit) in known(self.figures.keys().map(String::as_str)) {
            let value = number(self.figures[name]);
            writeln!(f, "  {label:<42} {value:>14} {unit}")?;
        }
        for (name, label, _) in known(self.latencies.keys().map(String::as_str)) {
            writeln!(f, "  {label:<42} {}", times(&self.latencies[name]))?;
        }
        for (kind, reasons) in &self.counts {
            for (reason, count) in reasons {
                writeln!(f, "  {kind:<42} {count:>14} x {reason}")?;
            }
        }
        for check in &self.checks {
            let word = if check.ok { "ok  " } else { "FAIL" };
            writeln!(f, "{word} {}: {}", check.name, check.detail)?;
        }
        let word = if self.good() { "good" } else { "NOT GOOD" };
        writeln!(f, "result: {word}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (0.0, "0"),
            (5.678, "5.68"),
            (123.456, "123.5"),
            (1234567.8, "1,234,568"),
            (-1000.0, "-1,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_failed_check_is_said_clearly() {
        let mut report = Report::default();
        report.figure("lost", 3.0);
        report.figure("something_new", 1.0);
        report.check("nothing is lost", false, "3 of 10");
        let text = report.to_string();
        assert!(text.contains("FAIL nothing is lost: 3 of 10"), "{text}");
        assert!(text.ends_with("result: NOT GOOD\n"), "{text}");
        assert!(text.contains("something_new"), "{text}");
    }
}
