//! A day's pattern, with churn: memory has to stay where it was.

use super::run::{Needs, Run};
use crate::{
    args::Mixed,
    day::Day,
    report::Report,
    wire::{Open, Order, Pace, To},
};

/// Explicit topics, and how many of them a socket has.
const TOPICS: u32 = 100;
const TOPICS_EACH: u32 = 1;

/// How often the pattern is looked at, seconds.
const STEP: f64 = 1.0;

/// Memory at the end may differ from the first plateau by this part.
const ALLOWED: f64 = 0.05;

pub(super) async fn run(args: &Mixed) -> anyhow::Result<Report> {
    let common = &args.common;
    let needs = Needs {
        // History is full, and memory has come to rest, when messages begin to leave it: within the first minutes, rather
        // than after the ten minutes that the server keeps them by default.
        environment: vec![("CARILLON_BUS__HISTORY_AGE".to_owned(), "30s".to_owned())],
        resume: true,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "mixed", needs).await?;
    run.open_all(TOPICS, TOPICS_EACH).await?;
    let users = To::Users {
        first: 0,
        count: common.sockets,
    };
    let topics = To::Topics {
        first: 0,
        count: TOPICS,
    };
    let still = Pace::PerSecond(0.0);
    for (id, to, lanes) in [
        (1, users, 8),
        (2, To::Roles { count: 10 }, 1),
        (3, To::Stores { count: 100 }, 2),
        (4, topics, 2),
        (5, To::All, 1),
    ] {
        let job = run.job(id, to, still, lanes);
        run.start(0, job).await?;
    }
    let day = Day::new(common.seed, args.day_seconds, common.sockets, args.strength);
    let mark = run.mark().await?;
    let began = run.fleet.elapsed();
    let total = common.seconds as f64;
    while run.fleet.elapsed() - began < total {
        let rates = day.at(run.fleet.elapsed() - began);
        for (job, per_second) in [
            (1, rates.users),
            (2, rates.roles),
            (3, rates.stores),
            (4, rates.topics),
            (5, rates.tenant),
        ] {
            run.fleet.order(0, &Order::Pace { job, per_second }).await?;
        }
        let processes = run.fleet.len() as f64;
        run.fleet
            .order_all(&Order::Cut {
                per_second: rates.cuts / processes,
                away_ms: 1_000,
            })
            .await?;
        run.pass("mixed", STEP).await?;
    }
    run.calm().await?;
    let part = run.since(&mark).await?;
    run.traffic(&part)?;
    run.resumed(&part);
    let stopped = run.stop().await?;
    run.settle(stopped, 0).await?;
    plateau(&mut run.report, run.fleet.series.get("rss_mib"), began, total);
    run.check_publishes();
    run.check_closed();
    run.end().await
}

/// The median of the first minutes, once everything has been used, against that of the last.
fn plateau(report: &mut Report, rss: Option<&Vec<(f64, f64)>>, began: f64, total: f64) {
    let Some(rss) = rss else { return };
    let median = |from: f64, to: f64| {
        let mut values: Vec<f64> = rss
            .iter()
            .filter(|(at, _)| (from..to).contains(&((at - began) / total)))
            .map(|(_, mib)| *mib)
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let (Some(first), Some(last)) = (median(0.05, 0.20), median(0.85, 1.0)) else {
        return;
    };
    report.figure("plateau_mib", first);
    report.figure("plateau_end_mib", last);
    let rise = last / first - 1.0;
    report.check(
        "memory at the end is within 5 % of the first plateau",
        rise <= ALLOWED,
        format!("{first:.1} MiB, then {last:.1} MiB ({:+.1} %)", rise * 100.0),
    );
}

/// Sockets without explicit topics, for those who begin elsewhere.
pub(super) fn plain(first: u32, count: u32) -> Open {
    Open {
        first,
        count,
        as_users: false,
        first_topic: 0,
        topics: 0,
        topics_each: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(rss: impl Fn(f64) -> f64) -> bool {
        let series: Vec<(f64, f64)> = (0..200).map(|at| (f64::from(at), rss(f64::from(at)))).collect();
        let mut report = Report::default();
        plateau(&mut report, Some(&series), 0.0, 200.0);
        assert_eq!(report.checks.len(), 1);
        report.good()
    }

    #[test]
    fn a_leak_is_seen_and_a_spike_is_none() {
        assert!(checked(|_| 100.0));
        assert!(checked(|at| if at == 190.0 { 300.0 } else { 100.0 }), "a spike");
        assert!(
            !checked(|at| 100.0 + at / 10.0),
            "a leak of a tenth of a MiB a second"
        );
    }
}
