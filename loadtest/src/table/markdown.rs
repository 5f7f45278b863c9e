//! The document, from the figures.

use std::fmt::Write;

use super::{
    Pass,
    chapter::{Chapter, LEAST_CPU, Measure, OURS, chapter, thousands},
    run::{Ratio, Series, Workload, ratio, series},
};

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
         side, too: some 40 % of what is shown as the server's. Carillon checks a signed token for each socket and each \
         publish, gives every session its six topics, and keeps history, which the others are not asked for."
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
                .filter(|series| !series.server.starts_with(OURS))
                .filter_map(|series| Some((series.median(measure.figure)?, series.server)))
                .filter(|(value, _)| if measure.less { *value < own } else { *value > own })
                // What cannot be told apart as it is shown is no loss.
                .filter(|(value, _)| (measure.show)(*value) != (measure.show)(own))
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
        subject,
        columns,
        measures,
    } = chapter(workload);
    let first = columns.first().map_or(LEAST_CPU.figure, |column| column.figure);
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
            .filter(|_| series.runs.len() > 1)
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
    for measure in measures {
        ratios(&all, subject, measure, out);
    }
    if !measures.iter().any(|measure| measure.title == LEAST_CPU.title) {
        ratios(&all, subject, &LEAST_CPU, out);
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
        (
            series.total(|figures| figures.errors),
            "publishes failed or not taken in time",
        ),
        (series.total(|figures| figures.closed), "sockets closed"),
    ] {
        if count > 0 {
            remarks.push(format!("{} {what}", thousands(count as f64)));
        }
    }
    remarks.join(", ")
}

/// One server against each other, by the ratio within each round.
fn ratios(all: &[Series<'_>], subject: &str, measure: &Measure, out: &mut String) {
    let Some(own) = all.iter().find(|series| series.server == subject) else {
        return;
    };
    let against: Vec<String> = all
        .iter()
        .filter(|series| series.server != subject)
        .filter_map(|series| {
            let Ratio {
                pairs,
                median,
                least,
                most,
            } = ratio(own, series, measure.figure)?;
            Some(format!(
                "{} {median:.2} ({least:.2} to {most:.2}, {pairs})",
                series.server
            ))
        })
        .collect();
    if !against.is_empty() {
        line!(
            out,
            "{}'s {} by that of the others within a round, median (least to most, pairs): {}.",
            if subject == OURS { "Carillon" } else { subject },
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

#[cfg(test)]
mod tests {
    use super::{
        super::run::{Figures, Run},
        *,
    };

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
    fn compression_is_held_against_its_absence() {
        let mut pass = pass(&[
            ("carillon", Workload::Deflate, 1, 1.0, 4.0),
            ("carillon-deflate", Workload::Deflate, 1, 1.0, 3.0),
        ]);
        for (run, bytes) in pass.runs.iter_mut().zip([1000.0, 450.0]) {
            run.figures.bytes = Some(bytes);
        }
        let text = document(&pass);
        assert!(
            text.contains("carillon-deflate's CPU a delivery by that of the others within a round, median (least to most, pairs): carillon 0.75 (0.75 to 0.75, 1)."),
            "{text}"
        );
        assert!(
            text.contains("carillon-deflate's bytes a delivery") && text.contains("carillon 0.45"),
            "{text}"
        );
        assert!(
            text.contains("Nowhere in these runs."),
            "no loss to itself: {text}"
        );
    }

    #[test]
    fn stalled_readers_are_held_against_the_time_before_them() {
        let text = document(&pass(&[("ws", Workload::Slow, 1, 1.0, 2.0)]));
        assert!(
            text.contains("| ws | - | 20.0 | 5.0 | 4.00 | - | 2.00 |"),
            "{text}"
        );
    }
}
