//! The document, from the figures.

use std::fmt::Write;

use super::{
    Pass,
    run::{Figures, Ratio, Series, Workload, ratio, series},
};

/// The server that the others are held against.
const OURS: &str = "carillon";

/// A column of a table: what it is called, what it shows, and how.
struct Column {
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    show: fn(f64) -> String,
}

/// What decides about a workload, and whether less of it is better.
struct Measure {
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    show: fn(f64) -> String,
    less: bool,
}

const CPU: Column = Column {
    title: "server CPU µs a delivery",
    figure: |figures| figures.cpu_us,
    show: two,
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
struct Chapter {
    heading: &'static str,
    about: &'static str,
    columns: &'static [Column],
    measures: &'static [Measure],
}

const BROADCAST: &[Column] = &[CPU, DELIVERIES, P50, P99, MAX, WHOLE_P50, WHOLE_P99, ANSWER, PEAK];
const LEAST_CPU: Measure = Measure {
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

fn chapter(workload: Workload) -> Chapter {
    match workload {
        Workload::K1 => Chapter {
            heading: "One broadcast at a time (H2)",
            about: "The next one when the last has arrived at every socket.",
            columns: BROADCAST,
            measures: &[LEAST_CPU, LEAST_P99],
        },
        Workload::K4 => Chapter {
            heading: "Four broadcasts in flight (H3)",
            about: "Counted by deliveries: so many as to four broadcasts are on the way, however a server queues.",
            columns: BROADCAST,
            measures: &[MOST_DELIVERIES],
        },
        Workload::K16 => Chapter {
            heading: "Sixteen broadcasts in flight (H4)",
            about: "",
            columns: BROADCAST,
            measures: &[MOST_DELIVERIES],
        },
        Workload::Paced => Chapter {
            heading: "Ten broadcasts a second (H5)",
            about: "By the clock, whether or not the last has arrived; times count from when one was due.",
            columns: BROADCAST,
            measures: &[LEAST_P99, LEAST_ANSWER],
        },
        Workload::Unicast => Chapter {
            heading: "To single users (H6)",
            about: "One POST a message, 32 connections that are kept, one request at a time on each.",
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
        Workload::Slow => Chapter {
            heading: "Stalled readers (H8)",
            about: "4 KB, ten a second, send buffers of at most 128 KB; 1 % of the sockets never read, and times are those \
                    of the others. Growth of memory and closed sockets are what the stalled ones cost.",
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

/// The whole document.
pub(super) fn document(pass: &Pass) -> String {
    let mut out = String::new();
    head(pass, &mut out);
    losses(pass, &mut out);
    for workload in Workload::ALL {
        tables(pass, workload, &mut out);
    }
    foot(&mut out);
    out
}

/// Writing to a string cannot fail, so results are dropped here and nowhere else.
macro_rules! line {
    ($out:expr) => { $out.push('\n') };
    ($out:expr, $($text:tt)*) => {{ writeln!($out, $($text)*).ok(); }};
}

fn head(pass: &Pass, out: &mut String) {
    let settings = &pass.settings;
    let machine = &pass.machine;
    line!(out, "# Benchmarks");
    line!(out);
    line!(
        out,
        "Carillon beside other push servers and beside the floor: a program of ours that only writes one ready frame to \
         each socket (`floor`: by `send`, `floor-uring`: by io_uring), which is what the kernel alone costs. Written by \
         `make bench-peers`; the data are in `docs/benchmarks/results.json`. How the peers are set up: \
         `loadtest/peers/README.md`."
    );
    line!(out);
    line!(out, "| | |");
    line!(out, "| --- | --- |");
    line!(out, "| began | {} |", settings.began);
    line!(out, "| commit | {} |", settings.commit);
    line!(
        out,
        "| machine | {}, {} cores, {} GB, {}, Linux {} |",
        machine.processor,
        machine.cores,
        machine.memory_gb,
        machine.system,
        machine.kernel
    );
    line!(out, "| network | {} |", settings.network);
    line!(
        out,
        "| runs | {} sockets, {} s each ({} s with stalled readers); each figure is the median of the runs |",
        thousands(f64::from(settings.sockets)),
        settings.seconds,
        settings.slow_seconds
    );
    line!(
        out,
        "| cores | server on core 0, client on core 1, which polls without sleeping |"
    );
    for (server, version) in &pass.versions {
        line!(out, "| {server} | {} |", version.trim().replace('\n', ", "));
    }
    line!(out);
    line!(
        out,
        "Figures of one machine drift by 20 % from hour to hour; what counts is how servers compare within a round, \
         where they run one after the other. Everything goes over the loopback, where the sender pays for the receiving \
         side, too: some 40 % of what is shown as the server's."
    );
    line!(out);
    if !pass.missing.is_empty() {
        line!(out, "Not measured:");
        line!(out);
        for (name, reason) in &pass.missing {
            line!(out, "- {name}: {reason}");
        }
        line!(out);
    }
}

/// Where another server is better, in so many words.
fn losses(pass: &Pass, out: &mut String) {
    line!(out, "## Where Carillon is not first");
    line!(out);
    let mut none = true;
    for workload in Workload::ALL {
        let all = series(&pass.runs, workload);
        let Some(ours) = all.iter().find(|series| series.server == OURS) else {
            continue;
        };
        for measure in chapter(workload).measures {
            let Some(own) = ours.median(measure.figure) else {
                continue;
            };
            let mut better: Vec<(f64, &str)> = all
                .iter()
                .filter(|series| series.server != OURS)
                .filter_map(|series| Some((series.median(measure.figure)?, series.server)))
                .filter(|(value, _)| if measure.less { *value < own } else { *value > own })
                .collect();
            if better.is_empty() {
                continue;
            }
            none = false;
            better.sort_by(|one, other| one.0.total_cmp(&other.0));
            if !measure.less {
                better.reverse();
            }
            let better: Vec<String> = better
                .into_iter()
                .map(|(value, server)| format!("{server} {}", (measure.show)(value)))
                .collect();
            line!(
                out,
                "- {}, {}: Carillon {}; {}",
                chapter(workload).heading,
                measure.title,
                (measure.show)(own),
                better.join(", ")
            );
        }
    }
    if none {
        line!(out, "Nowhere in these runs.");
    }
    line!(out);
}

fn tables(pass: &Pass, workload: Workload, out: &mut String) {
    let mut all = series(&pass.runs, workload);
    if all.is_empty() {
        return;
    }
    let Chapter {
        heading,
        about,
        columns,
        measures,
    } = chapter(workload);
    let first = columns.first().map_or(CPU.figure, |column| column.figure);
    let (order, less) = measures
        .first()
        .map_or((first, true), |measure| (measure.figure, measure.less));
    all.sort_by(|one, other| {
        let key = |series: &Series<'_>| series.median(order).unwrap_or(f64::MAX);
        let ascending = key(one).total_cmp(&key(other));
        if less { ascending } else { ascending.reverse() }
    });
    line!(out, "## {heading}");
    line!(out);
    if !about.is_empty() {
        line!(out, "{about}");
        line!(out);
    }
    if let Some(command) = pass.settings.commands.get(workload.name()) {
        line!(out, "`{command}`");
        line!(out);
    }
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    line!(
        out,
        "| server | {} | runs, spread | remarks |",
        titles.join(" | ")
    );
    line!(out, "| --- |{} --- | --- |", " ---: |".repeat(columns.len()));
    for series in &all {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| {
                series
                    .median(column.figure)
                    .map_or_else(|| "-".to_owned(), column.show)
            })
            .collect();
        let spread = series
            .spread(order)
            .map_or_else(String::new, |part| format!(", {:.0} %", part * 100.0));
        let name = if series.server == OURS {
            "**carillon**"
        } else {
            series.server
        };
        line!(
            out,
            "| {name} | {} | {}{spread} | {} |",
            cells.join(" | "),
            series.runs.len(),
            remarks(series)
        );
    }
    line!(out);
    if let Some(measure) = measures.first() {
        ratios(&all, measure, out);
    }
}

/// What went wrong in the runs of a server.
fn remarks(series: &Series<'_>) -> String {
    let mut remarks = Vec::new();
    for (count, what) in [
        (
            series.total(|figures| figures.faults),
            "lost, doubled or reordered",
        ),
        (series.total(|figures| figures.errors), "publishes failed"),
        (series.total(|figures| figures.closed), "sockets closed"),
    ] {
        if count > 0 {
            remarks.push(format!("{} {what}", thousands(count as f64)));
        }
    }
    remarks.join(", ")
}

/// Carillon against each other server, by the ratio within each round.
fn ratios(all: &[Series<'_>], measure: &Measure, out: &mut String) {
    let Some(ours) = all.iter().find(|series| series.server == OURS) else {
        return;
    };
    let against: Vec<String> = all
        .iter()
        .filter(|series| series.server != OURS)
        .filter_map(|series| {
            let Ratio {
                pairs,
                median,
                least,
                most,
            } = ratio(ours, series, measure.figure)?;
            Some(format!(
                "{} {median:.2} ({least:.2} to {most:.2}, {pairs})",
                series.server
            ))
        })
        .collect();
    if !against.is_empty() {
        line!(
            out,
            "Carillon's {} by that of the others within a round, median (least to most, pairs): {}.",
            measure.title,
            against.join("; ")
        );
        line!(out);
    }
}

fn foot(out: &mut String) {
    line!(out, "## Again");
    line!(out);
    line!(out, "```sh");
    line!(out, "make bench-peers");
    line!(
        out,
        "make bench-peers PEERS=\"carillon floor bun\" WORKLOADS=\"k1 k4\" RUNS=1"
    );
    line!(out, "```");
}

fn one(value: f64) -> String {
    format!("{value:.1}")
}

fn two(value: f64) -> String {
    format!("{value:.2}")
}

/// A whole number with commas.
fn thousands(value: f64) -> String {
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
    use super::{super::run::Run, *};

    fn pass(runs: &[(&str, Workload, u32, f64, f64)]) -> Pass {
        Pass {
            runs: runs
                .iter()
                .map(|(server, workload, round, deliveries, cpu)| Run {
                    server: (*server).to_owned(),
                    workload: *workload,
                    round: *round,
                    figures: Figures {
                        deliveries_per_second: *deliveries,
                        cpu_us: Some(*cpu),
                        delivery_p99_ms: Some(*cpu * 10.0),
                        p99_without_ms: Some(5.0),
                        ..Figures::default()
                    },
                })
                .collect(),
            missing: vec![("sockudo".to_owned(), "no protoc".to_owned())],
            ..Pass::default()
        }
    }

    #[test]
    fn a_loss_is_named_and_a_win_is_not() {
        let text = document(&pass(&[
            ("carillon", Workload::K4, 1, 500_000.0, 2.0),
            ("bun", Workload::K4, 1, 515_000.0, 1.9),
            ("ws", Workload::K4, 1, 127_000.0, 7.8),
        ]));
        assert!(
            text.contains("Four broadcasts in flight (H3), deliveries/s: Carillon 500,000; bun 515,000\n"),
            "{text}"
        );
        assert!(text.contains("- sockudo: no protoc"), "{text}");
        let row = |name: &str| text.find(&format!("| {name} |")).unwrap();
        assert!(
            row("bun") < row("**carillon**") && row("**carillon**") < row("ws"),
            "the best first"
        );
        assert!(text.contains("bun 0.97 (0.97 to 0.97, 1); ws 3.94"), "{text}");
    }

    #[test]
    fn being_first_everywhere_is_said_so() {
        let text = document(&pass(&[
            ("carillon", Workload::K1, 1, 1.0, 5.0),
            ("bun", Workload::K1, 1, 1.0, 6.0),
        ]));
        assert!(text.contains("Nowhere in these runs."), "{text}");
    }

    #[test]
    fn stalled_readers_are_held_against_the_time_before_them() {
        let text = document(&pass(&[("ws", Workload::Slow, 1, 1.0, 2.0)]));
        assert!(
            text.contains("| ws | - | 20.0 | 5.0 | 4.00 | - | 2.00 |"),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(-1000.0), "-1,000");
    }
}
