//! Several results side by side.

use std::fmt::Write;

use super::{Report, html, known, names, text::number};

/// A table as text, and the page.
pub(crate) fn compare(reports: &[Report]) -> (String, String) {
    (table(reports), html::page(reports))
}

fn table(reports: &[Report]) -> String {
    let mut rows: Vec<Vec<String>> = vec![
        std::iter::once(String::new())
            .chain(reports.iter().map(|report| report.name.clone()))
            .collect(),
    ];
    let mut row = |label: String, values: Vec<Option<f64>>| {
        let values = values
            .into_iter()
            .map(|value| value.map_or_else(|| "-".to_owned(), number));
        rows.push(std::iter::once(label).chain(values).collect());
    };
    for (name, label, unit) in known(names(reports.iter().map(|report| &report.figures))) {
        let values = reports
            .iter()
            .map(|report| report.figures.get(name).copied())
            .collect();
        row(format!("{label} {unit}").trim_end().to_owned(), values);
    }
    for (name, label, _) in known(names(reports.iter().map(|report| &report.latencies))) {
        for (quantile, of) in [("p50", 0), ("p99", 1), ("max", 2)] {
            let values = reports
                .iter()
                .map(|report| {
                    let latency = report.latencies.get(name)?;
                    Some([latency.p50_ms, latency.p99_ms, latency.max_ms][of])
                })
                .collect();
            row(format!("{label}, {quantile} ms"), values);
        }
    }
    let failed = reports
        .iter()
        .map(|report| Some(report.checks.iter().filter(|check| !check.ok).count() as f64))
        .collect();
    row("checks that failed".to_owned(), failed);
    let widths: Vec<usize> = (0..=reports.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            if index == 0 {
                write!(out, "{cell:<width$}").ok();
            } else {
                write!(out, "  {cell:>width$}").ok();
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::times::{Latency, Times};

    fn report(name: &str, cpu: f64) -> Report {
        let mut times = Times::new().unwrap();
        (1..100).for_each(|us| times.add(us * 1000));
        let mut report = Report {
            name: name.to_owned(),
            scenario: "broadcast".to_owned(),
            ..Report::default()
        };
        report.figure("cpu_us_per_delivery", cpu);
        report.latency("delivery", times.latency());
        report
            .series
            .insert("rss_mib".to_owned(), vec![(0.0, 1.0), (1.0, 2.0)]);
        report.check("nothing is lost", true, "0 of 10");
        report
    }

    #[test]
    fn results_stand_beside_each_other() {
        let mut second = report("<bun>", 6.22);
        second.latencies.insert("answer".to_owned(), Latency::default());
        let (text, page) = compare(&[report("carillon", 5.5), second]);
        let line = text
            .lines()
            .find(|line| line.starts_with("server CPU a delivery"))
            .unwrap();
        assert!(
            line.ends_with("5.50  6.22") || line.contains("5.50") && line.contains("6.22"),
            "{line}"
        );
        assert!(text.contains("publish to answer, p99 ms"), "{text}");
        assert!(page.contains("&lt;bun&gt;") && !page.contains("<bun>"));
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(page.matches("<polyline").count() >= 4, "two lines in two charts");
        for foreign in ["http://", "https://", "<script", "src="] {
            assert!(
                !page.contains(foreign),
                "the page needs nothing from elsewhere: {foreign}"
            );
        }
    }

    #[test]
    fn a_result_survives_being_written_and_read() {
        let report = report("carillon", 5.5);
        let text = serde_json::to_string(&report).unwrap();
        let read: Report = serde_json::from_str(&text).unwrap();
        assert_eq!(read.to_string(), report.to_string());
        assert_eq!(read.series, report.series);
    }
}
