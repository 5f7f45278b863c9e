//! One page for one or several results, with everything it needs in it.

use super::{
    Mark, Report,
    chart::{Across, Chart, colour, escape},
    known, names,
    text::number,
};

const STYLE: &str = "
:root{color-scheme:light;font:15px/1.45 system-ui,sans-serif;color:#1a1a1a}
body{max-width:1360px;margin:0 auto;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}h3{font-size:14px;margin:0 0 4px}
.sub{color:#555;margin:0 0 16px}code{background:#f2f2f2;padding:1px 4px;border-radius:3px;word-break:break-all}
table{border-collapse:collapse}td,th{padding:4px 12px 4px 0;text-align:left;border-bottom:1px solid #e4e4e4;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:20px}
figure{margin:0;border:1px solid #e4e4e4;border-radius:6px;padding:12px}
svg{width:100%;height:auto}.grid{stroke:#ececec}.band{fill:#d55e00;opacity:.13}.tick{font-size:11px;fill:#555}.axis{font-size:11px;fill:#555}
.legend{font-size:12px;display:flex;flex-wrap:wrap;gap:4px 14px}.legend i{display:inline-block;width:14px;height:3px;margin:0 5px 3px 0}
.ok,.bad{font-weight:600}.ok{color:#00694a}.bad{color:#b3261e}.wide{overflow-x:auto}
";

/// Series in the order of their charts: name, title, unit.
const SERIES: &[(&str, &str, &str)] = &[
    ("received_per_second", "Deliveries a second", "/s"),
    ("published_per_second", "Publishes a second", "/s"),
    ("p99_ms", "p99 of each second", "ms"),
    ("rss_mib", "Server memory", "MiB"),
    ("server_cores", "Server CPU", "cores"),
    ("open", "Open sockets", "sockets"),
    ("resyncs_per_second", "Topics of sessions told `resync`", "/s"),
    ("ready", "Ready (1) or not (0)", ""),
    ("reconnects_per_second", "Reconnects a second", "/s"),
];

/// The page.
pub(super) fn page(reports: &[Report]) -> String {
    let title = match reports {
        [one] => format!("{} on {}", one.scenario, one.target),
        many => format!("Comparison of {} results", many.len()),
    };
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escape(&title)
    );
    if let [one] = reports {
        let verdict = if one.good() {
            "<span class=ok>good</span>"
        } else {
            "<span class=bad>not good</span>"
        };
        out.push_str(&format!(
            "<p class=sub>{} · result: {verdict}<br><code>{}</code></p>",
            escape(&one.target_version),
            escape(&one.command)
        ));
    }
    checks(reports, &mut out);
    figures(reports, &mut out);
    charts(reports, &mut out);
    latencies(reports, &mut out);
    counts(reports, &mut out);
    runs(reports, &mut out);
    out.push_str("</html>\n");
    out
}

fn checks(reports: &[Report], out: &mut String) {
    out.push_str("<h2>What has to hold</h2><div class=wide><table>");
    for report in reports {
        for check in &report.checks {
            let (class, word) = if check.ok { ("ok", "ok") } else { ("bad", "FAIL") };
            let name = if reports.len() > 1 {
                format!("<td>{}</td>", escape(&report.name))
            } else {
                String::new()
            };
            out.push_str(&format!(
                "<tr>{name}<td class={class}>{word}</td><td>{}</td><td>{}</td></tr>",
                escape(&check.name),
                escape(&check.detail)
            ));
        }
    }
    out.push_str("</table></div>");
}

fn heads(reports: &[Report]) -> String {
    reports
        .iter()
        .map(|report| format!("<th class=n>{}</th>", escape(&report.name)))
        .collect()
}

fn figures(reports: &[Report], out: &mut String) {
    out.push_str(&format!(
        "<h2>Figures</h2><div class=wide><table><tr><th></th>{}<th></th></tr>",
        heads(reports)
    ));
    for (name, label, unit) in known(names(reports.iter().map(|report| &report.figures))) {
        let cells: String = reports
            .iter()
            .map(|report| {
                let value = report
                    .figures
                    .get(name)
                    .map_or_else(String::new, |value| number(*value));
                format!("<td class=n>{value}</td>")
            })
            .collect();
        out.push_str(&format!(
            "<tr><td>{}</td>{cells}<td>{}</td></tr>",
            escape(label),
            escape(unit)
        ));
    }
    out.push_str("</table></div>");
}

fn charts(reports: &[Report], out: &mut String) {
    out.push_str("<h2>Charts</h2><div class=charts>");
    if let [one] = reports {
        let all = known(one.latencies.keys().map(String::as_str));
        let lines: Vec<_> = all
            .iter()
            .map(|(name, label, _)| (*label, one.latencies[*name].curve.as_slice()))
            .collect();
        figure(
            "Latency by percentile",
            Across::Percentiles,
            "ms",
            lines,
            &[],
            out,
        );
    } else {
        for (name, label, _) in known(names(reports.iter().map(|report| &report.latencies))) {
            let lines = reports
                .iter()
                .filter_map(|report| {
                    Some((report.name.as_str(), report.latencies.get(name)?.curve.as_slice()))
                })
                .collect();
            figure(
                &format!("{label}, by percentile"),
                Across::Percentiles,
                "ms",
                lines,
                &[],
                out,
            );
        }
    }
    // Of several results each would need its own.
    let marks = match reports {
        [one] => one.marks.as_slice(),
        _ => &[],
    };
    for (name, title, unit) in SERIES {
        let lines = reports
            .iter()
            .filter_map(|report| Some((report.name.as_str(), report.series.get(*name)?.as_slice())))
            .collect();
        figure(title, Across::Time, unit, lines, marks, out);
    }
    if let [one] = reports {
        let nodes = one
            .series
            .iter()
            .filter_map(|(name, points)| Some((name.strip_prefix("ready: ")?, points.as_slice())));
        figure(
            "Ready (1) or not (0)",
            Across::Time,
            "",
            nodes.collect(),
            marks,
            out,
        );
    }
    out.push_str("</div>");
    timeline(marks, out);
}

/// What happened, in order; the charts show it as bands.
fn timeline(marks: &[Mark], out: &mut String) {
    if marks.is_empty() {
        return;
    }
    out.push_str("<h2>What happened</h2><div class=wide><table><tr><th class=n>from, s</th><th class=n>to, s</th><th></th></tr>");
    for mark in marks {
        out.push_str(&format!(
            "<tr><td class=n>{:.1}</td><td class=n>{:.1}</td><td>{}</td></tr>",
            mark.from,
            mark.to,
            escape(&mark.name)
        ));
    }
    out.push_str("</table></div>");
}

fn figure(
    title: &str,
    across: Across,
    unit: &str,
    lines: Vec<(&str, &[(f64, f64)])>,
    marks: &[Mark],
    out: &mut String,
) {
    let chart = Chart {
        across,
        unit,
        lines,
        marks,
    };
    let Some(svg) = chart.svg() else { return };
    let legend: String = chart
        .lines
        .iter()
        .enumerate()
        .map(|(index, (name, _))| {
            format!(
                "<span><i style=\"background:{}\"></i>{}</span>",
                colour(index),
                escape(name)
            )
        })
        .collect();
    out.push_str(&format!(
        "<figure><h3>{}</h3>{svg}<div class=legend>{legend}</div></figure>",
        escape(title)
    ));
}

fn latencies(reports: &[Report], out: &mut String) {
    out.push_str(
        "<h2>Latencies, ms</h2><div class=wide><table><tr><th></th><th></th><th class=n>count</th><th class=n>mean</th><th class=n>p50</th><th class=n>p90</th><th class=n>p99</th><th class=n>p99.9</th><th class=n>max</th></tr>",
    );
    for (name, label, _) in known(names(reports.iter().map(|report| &report.latencies))) {
        for report in reports {
            let Some(latency) = report.latencies.get(name) else {
                continue;
            };
            let cells: String = [
                latency.count as f64,
                latency.mean_ms,
                latency.p50_ms,
                latency.p90_ms,
                latency.p99_ms,
                latency.p99_9_ms,
                latency.max_ms,
            ]
            .into_iter()
            .map(|value| format!("<td class=n>{}</td>", number(value)))
            .collect();
            out.push_str(&format!(
                "<tr><td>{}</td><td>{}</td>{cells}</tr>",
                escape(label),
                escape(&report.name)
            ));
        }
    }
    out.push_str("</table></div>");
}

fn counts(reports: &[Report], out: &mut String) {
    if reports.iter().all(|report| report.counts.is_empty()) {
        return;
    }
    out.push_str("<h2>Refused, closed, failed</h2><div class=wide><table>");
    for report in reports {
        for (kind, reasons) in &report.counts {
            for (reason, count) in reasons {
                out.push_str(&format!(
                    "<tr><td>{}</td><td>{}</td><td class=n>{count}</td><td>{}</td></tr>",
                    escape(&report.name),
                    escape(kind),
                    escape(reason)
                ));
            }
        }
    }
    out.push_str("</table></div>");
}

fn runs(reports: &[Report], out: &mut String) {
    out.push_str("<h2>Runs</h2><div class=wide><table>");
    for report in reports {
        let machine: Vec<String> = report
            .machine
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        out.push_str(&format!(
            "<tr><td>{}</td><td>{}</td><td><code>{}</code><br>{}</td></tr>",
            escape(&report.name),
            escape(&report.target_version),
            escape(&report.command),
            escape(&machine.join(" · "))
        ));
    }
    out.push_str("</table></div>");
}
