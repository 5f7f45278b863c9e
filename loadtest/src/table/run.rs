//! Results of runs, as far as the table needs them.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::report::Report;

/// What was done in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// One broadcast in flight.
    K1,
    /// Four.
    K4,
    /// Sixteen.
    K16,
    /// Ten a second.
    Paced,
    /// Single POSTs to single users.
    Unicast,
    /// One broadcast of 1 KB in flight, with compression and without.
    Deflate,
    /// 4 KB, ten a second; with 1 % of the sockets stalled, and before that without.
    Slow,
}

impl Workload {
    pub(crate) const ALL: [Self; 7] = [
        Self::K1,
        Self::K4,
        Self::K16,
        Self::Paced,
        Self::Unicast,
        Self::Deflate,
        Self::Slow,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::K1 => "k1",
            Self::K4 => "k4",
            Self::K16 => "k16",
            Self::Paced => "paced",
            Self::Unicast => "unicast",
            Self::Deflate => "deflate",
            Self::Slow => "slow",
        }
    }
}

/// The figures of a run; what could not be measured is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) deliveries_per_second: f64,
    pub(crate) published_per_second: f64,
    /// User and system time of the server, by deliveries.
    pub(crate) cpu_us: Option<f64>,
    /// What a socket reads for a message.
    #[serde(default)]
    pub(crate) bytes: Option<f64>,
    pub(crate) delivery_p50_ms: Option<f64>,
    pub(crate) delivery_p99_ms: Option<f64>,
    pub(crate) delivery_max_ms: Option<f64>,
    /// The same before any socket was stalled.
    pub(crate) p99_without_ms: Option<f64>,
    /// From publishing to the last socket.
    pub(crate) whole_p50_ms: Option<f64>,
    pub(crate) whole_p99_ms: Option<f64>,
    pub(crate) answer_p99_ms: Option<f64>,
    pub(crate) rss_peak_mib: Option<f64>,
    /// Resident memory that stalled sockets brought on top.
    pub(crate) rss_growth_mib: Option<f64>,
    /// Lost, doubled or reordered.
    pub(crate) faults: u64,
    /// Failed publishes.
    pub(crate) errors: u64,
    /// Sockets that the server closed.
    pub(crate) closed: u64,
}

impl Figures {
    /// Those of a report that the table shows.
    pub(crate) fn of(report: &Report) -> Self {
        let figure = |name: &str| report.figures.get(name).copied();
        let count = |name: &str| figure(name).unwrap_or(0.0) as u64;
        let sum = |kind: &str| {
            report
                .counts
                .get(kind)
                .map_or(0, |reasons| reasons.values().sum())
        };
        // Where sockets were stalled, what counts is how the others fare.
        let delivery = report
            .latencies
            .get("with_stalled")
            .or_else(|| report.latencies.get("delivery"));
        let whole = report.latencies.get("whole");
        Self {
            deliveries_per_second: figure("deliveries_per_second").unwrap_or(0.0),
            published_per_second: figure("publishes_per_second").unwrap_or(0.0),
            cpu_us: figure("cpu_us_per_delivery"),
            bytes: figure("bytes_per_delivery"),
            delivery_p50_ms: delivery.map(|latency| latency.p50_ms),
            delivery_p99_ms: delivery.map(|latency| latency.p99_ms),
            delivery_max_ms: delivery.map(|latency| latency.max_ms),
            p99_without_ms: figure("p99_without_ms"),
            whole_p50_ms: whole.map(|latency| latency.p50_ms),
            whole_p99_ms: whole.map(|latency| latency.p99_ms),
            answer_p99_ms: report.latencies.get("answer").map(|latency| latency.p99_ms),
            rss_peak_mib: figure("rss_peak_mib"),
            rss_growth_mib: figure("rss_growth_mib"),
            faults: count("lost") + count("doubled") + count("reordered"),
            errors: sum("publish failed"),
            closed: sum("socket closed"),
        }
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) server: String,
    pub(crate) workload: Workload,
    /// Which of its repetitions; runs of one round lie beside each other in time.
    pub(crate) round: u32,
    #[serde(flatten)]
    pub(crate) figures: Figures,
}

/// Server, workload and round of a result, from its file's name: `{round}.{workload}.{server}.json`.
pub(crate) fn label(path: &Path) -> anyhow::Result<(String, Workload, u32)> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let mut parts = name.splitn(3, '.');
    let (Some(round), Some(workload), Some(server)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("{name} is not called round.workload.server.json");
    };
    let round = round
        .parse()
        .with_context(|| format!("{name} does not begin with a round"))?;
    let workload = Workload::ALL
        .into_iter()
        .find(|known| known.name() == workload)
        .with_context(|| format!("{name}: there is no workload {workload}"))?;
    let server = server.strip_suffix(".json").unwrap_or(server).to_owned();
    Ok((server, workload, round))
}

/// The middle one; of an even number, the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[middle - 1], upper))
}

/// Runs of one server and workload.
#[derive(Debug, Clone)]
pub(crate) struct Series<'a> {
    pub(crate) server: &'a str,
    pub(crate) runs: Vec<&'a Run>,
}

impl Series<'_> {
    /// The median of a figure.
    pub(crate) fn median(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        median(self.runs.iter().filter_map(|run| figure(&run.figures)).collect())
    }

    /// Largest less smallest, as a part of the median.
    pub(crate) fn spread(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.runs.iter().filter_map(|run| figure(&run.figures)).collect();
        let most = values.iter().copied().reduce(f64::max)?;
        let least = values.iter().copied().reduce(f64::min)?;
        Some((most - least) / median(values)?)
    }

    /// The sum of a count over all runs.
    pub(crate) fn total(&self, count: impl Fn(&Figures) -> u64) -> u64 {
        self.runs.iter().map(|run| count(&run.figures)).sum()
    }
}

/// All series of a workload, by the names of their servers.
pub(crate) fn series(runs: &[Run], workload: Workload) -> Vec<Series<'_>> {
    let mut by_server: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.workload == workload) {
        by_server.entry(&run.server).or_default().push(run);
    }
    by_server
        .into_iter()
        .map(|(server, runs)| Series { server, runs })
        .collect()
}

/// How one server compares with another by a figure: the median, least and most of the ratios within a round.
pub(crate) fn ratio(
    one: &Series<'_>,
    other: &Series<'_>,
    figure: impl Fn(&Figures) -> Option<f64>,
) -> Option<Ratio> {
    let mut ratios = Vec::new();
    for run in &one.runs {
        let beside = other.runs.iter().find(|beside| beside.round == run.round);
        if let (Some(value), Some(against)) = (
            figure(&run.figures),
            beside.and_then(|beside| figure(&beside.figures)),
        ) && against > 0.0
        {
            ratios.push(value / against);
        }
    }
    Some(Ratio {
        pairs: ratios.len(),
        least: ratios.iter().copied().reduce(f64::min)?,
        most: ratios.iter().copied().reduce(f64::max)?,
        median: median(ratios)?,
    })
}

/// Ratios of pairs of runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) pairs: usize,
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(server: &str, round: u32, cpu_us: f64) -> Run {
        Run {
            server: server.to_owned(),
            workload: Workload::K1,
            round,
            figures: Figures {
                cpu_us: Some(cpu_us),
                ..Figures::default()
            },
        }
    }

    #[test]
    fn names_of_files_say_what_was_run() {
        let (server, workload, round) = label(Path::new("a/3.k16.floor-uring.json")).unwrap();
        assert_eq!(
            (server.as_str(), workload, round),
            ("floor-uring", Workload::K16, 3)
        );
        for bad in ["k1.bun.json", "1.k2.bun.json", "1.k1"] {
            assert!(label(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        // The second round was twice as slow for both, which a ratio of medians would not see through.
        let runs = [
            run("a", 1, 5.0),
            run("a", 2, 12.0),
            run("a", 3, 5.5),
            run("b", 1, 5.0),
            run("b", 2, 10.0),
            run("c", 9, 1.0),
        ];
        let all = series(&runs, Workload::K1);
        let cpu = |figures: &Figures| figures.cpu_us;
        let found = ratio(&all[0], &all[1], cpu).unwrap();
        assert_eq!((found.pairs, found.least, found.most), (2, 1.0, 1.2));
        assert!((found.median - 1.1).abs() < 1e-9);
        assert_eq!(ratio(&all[0], &all[2], cpu), None);
        assert!((all[0].spread(cpu).unwrap() - 7.0 / 5.5).abs() < 1e-9);
    }
}
