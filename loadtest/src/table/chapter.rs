//! What the document says about each workload: columns, and what decides.

use super::run::{Figures, Workload};

/// The server that the others are held against.
pub(super) const OURS: &str = "carillon";

/// A column of a table: what it is called, what it shows, and how.
pub(super) struct Column {
    pub(super) title: &'static str,
    pub(super) figure: fn(&Figures) -> Option<f64>,
    pub(super) show: fn(f64) -> String,
}

/// What decides about a workload, and whether less of it is better.
pub(super) struct Measure {
    pub(super) title: &'static str,
    pub(super) figure: fn(&Figures) -> Option<f64>,
    pub(super) show: fn(f64) -> String,
    pub(super) less: bool,
}

const CPU: Column = Column {
    title: "server CPU µs a delivery",
    figure: |figures| figures.cpu_us,
    show: two,
};
const BYTES: Column = Column {
    title: "bytes a delivery",
    figure: |figures| figures.bytes,
    show: one,
};
const DELIVERIES: Column = Column {
    title: "deliveries/s",
    figure: |figures| Some(figures.deliveries_per_second),
    show: thousands,
};
const PUBLISHED: Column = Column {
    title: "publishes/s",
    figure: |figures| Some(figures.published_per_second),
    show: thousands,
};
const P50: Column = Column {
    title: "delivery p50 ms",
    figure: |figures| figures.delivery_p50_ms,
    show: one,
};
const P99: Column = Column {
    title: "p99",
    figure: |figures| figures.delivery_p99_ms,
    show: one,
};
const MAX: Column = Column {
    title: "max",
    figure: |figures| figures.delivery_max_ms,
    show: one,
};
const WHOLE_P50: Column = Column {
    title: "to all p50 ms",
    figure: |figures| figures.whole_p50_ms,
    show: one,
};
const WHOLE_P99: Column = Column {
    title: "to all p99",
    figure: |figures| figures.whole_p99_ms,
    show: one,
};
const ANSWER: Column = Column {
    title: "answer p99 ms",
    figure: |figures| figures.answer_p99_ms,
    show: one,
};
const PEAK: Column = Column {
    title: "RSS peak MiB",
    figure: |figures| figures.rss_peak_mib,
    show: one,
};
const GROWTH: Column = Column {
    title: "RSS growth MiB",
    figure: |figures| figures.rss_growth_mib,
    show: one,
};
const WITHOUT: Column = Column {
    title: "p99 without them",
    figure: |figures| figures.p99_without_ms,
    show: one,
};
const FACTOR: Column = Column {
    title: "factor",
    figure: |figures| Some(figures.delivery_p99_ms? / figures.p99_without_ms?),
    show: two,
};

/// What a workload is about: heading, explanation, columns, and what decides.
pub(super) struct Chapter {
    pub(super) heading: &'static str,
    pub(super) about: &'static str,
    /// Whose figures are divided by those of the others.
    pub(super) subject: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) measures: &'static [Measure],
}

const BROADCAST: &[Column] = &[CPU, DELIVERIES, P50, P99, MAX, WHOLE_P50, WHOLE_P99, ANSWER, PEAK];
pub(super) const LEAST_CPU: Measure = Measure {
    title: "CPU a delivery",
    figure: CPU.figure,
    show: two,
    less: true,
};
const MOST_DELIVERIES: Measure = Measure {
    title: "deliveries/s",
    figure: DELIVERIES.figure,
    show: thousands,
    less: false,
};
const LEAST_P99: Measure = Measure {
    title: "p99 of delivery",
    figure: P99.figure,
    show: one,
    less: true,
};
const LEAST_ANSWER: Measure = Measure {
    title: "p99 of the answer",
    figure: ANSWER.figure,
    show: one,
    less: true,
};

/// What is said about a workload.
pub(super) fn chapter(workload: Workload) -> Chapter {
    match workload {
        Workload::K1 => Chapter {
            heading: "One broadcast at a time (H2)",
            about: "The next one when the last has arrived at every socket.",
            subject: OURS,
            columns: BROADCAST,
            measures: &[LEAST_CPU, LEAST_P99],
        },
        Workload::K4 => Chapter {
            heading: "Four broadcasts in flight (H3)",
            about: "Counted by deliveries: so many as to four broadcasts are on the way, however a server queues.",
            subject: OURS,
            columns: BROADCAST,
            measures: &[MOST_DELIVERIES],
        },
        Workload::K16 => Chapter {
            heading: "Sixteen broadcasts in flight (H4)",
            about: "",
            subject: OURS,
            columns: BROADCAST,
            measures: &[MOST_DELIVERIES],
        },
        Workload::Paced => Chapter {
            heading: "Ten broadcasts a second (H5)",
            about: "By the clock, whether or not the last has arrived; times count from when one was due.",
            subject: OURS,
            columns: BROADCAST,
            measures: &[LEAST_P99, LEAST_ANSWER],
        },
        Workload::Unicast => Chapter {
            heading: "To single users (H6)",
            about: "One POST a message, 32 connections that are kept, one request at a time on each.",
            subject: OURS,
            columns: &[PUBLISHED, CPU, P50, P99, MAX, ANSWER, PEAK],
            measures: &[
                Measure {
                    title: "publishes/s",
                    figure: PUBLISHED.figure,
                    show: thousands,
                    less: false,
                },
                LEAST_P99,
            ],
        },
        Workload::Deflate => Chapter {
            heading: "Compressed frames (H12)",
            about: "1 KB of JSON (orders of a shop, each different), one broadcast at a time; Carillon without compression, \
                    and with permessage-deflate agreed with every socket, where a message is compressed once and its \
                    frame shared. The client inflates a broadcast once, too, so that it keeps up. Bytes are those of \
                    WebSocket frames, envelope and header included.",
            subject: "carillon-deflate",
            columns: &[CPU, BYTES, DELIVERIES, P50, P99, WHOLE_P50, WHOLE_P99, PEAK],
            measures: &[
                LEAST_CPU,
                Measure {
                    title: "bytes a delivery",
                    figure: BYTES.figure,
                    show: one,
                    less: true,
                },
            ],
        },
        Workload::Slow => Chapter {
            heading: "Stalled readers (H8)",
            about: "4 KB, ten a second, send buffers of at most 128 KB; 1 % of the sockets never read, and times are those \
                    of the others. Growth of memory and closed sockets are what the stalled ones cost.",
            subject: OURS,
            columns: &[P50, P99, WITHOUT, FACTOR, MAX, CPU, PEAK, GROWTH],
            measures: &[
                LEAST_P99,
                Measure {
                    title: "growth of memory, MiB",
                    figure: GROWTH.figure,
                    show: one,
                    less: true,
                },
            ],
        },
    }
}

fn one(value: f64) -> String {
    format!("{value:.1}")
}

pub(super) fn two(value: f64) -> String {
    format!("{value:.2}")
}

/// A whole number with commas.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value <= -0.5 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(-1000.0), "-1,000");
    }
}
