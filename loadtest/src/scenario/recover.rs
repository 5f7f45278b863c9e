//! Random cuts with resume: received equals published, in order, once.

use super::run::{Needs, Run};
use crate::{
    args::Recover,
    report::Report,
    wire::{Order, Pace, To},
};

pub(super) async fn run(args: &Recover) -> anyhow::Result<Report> {
    let common = &args.common;
    let set = |name: &str, value: String| (name.to_owned(), value);
    // A message with its frame is below a KiB beside its payload.
    let bytes = u64::from(args.history) * u64::from(common.size + 1_024);
    let needs = Needs {
        environment: vec![
            set("CARILLON_BUS__HISTORY_COUNT", args.history.to_string()),
            set("CARILLON_BUS__HISTORY_BYTES", bytes.max(65_536).to_string()),
        ],
        resume: true,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "recover", needs).await?;
    run.open_all(args.topics, args.topics_each).await?;
    let topics = To::Topics {
        first: 0,
        count: args.topics,
    };
    let job = run.job(1, topics, Pace::PerSecond(args.rate), 8.min(args.topics));
    run.start(0, job).await?;
    let mark = run.mark().await?;
    let processes = run.fleet.len() as f64;
    run.fleet
        .order_all(&Order::Cut {
            per_second: args.cuts / processes,
            away_ms: args.away_ms,
        })
        .await?;
    run.pass("cutting", common.seconds as f64).await?;
    run.calm().await?;
    let part = run.since(&mark).await?;
    run.traffic(&part)?;
    run.resumed(&part);
    let stopped = run.stop().await?;
    run.settle(stopped, 0).await?;
    verdict(args, &mut run.report);
    run.check_publishes();
    run.check_closed();
    run.end().await
}

/// Whether history had room for what a socket misses while it is away decides what has to be seen.
fn verdict(args: &Recover, report: &mut Report) {
    let of = |name: &str| report.figures.get(name).copied().unwrap_or(0.0);
    let (resyncs, resumed, told) = (of("resyncs"), of("resumed"), of("told"));
    let missed = args.rate / f64::from(args.topics) * args.away_ms as f64 / 1000.0;
    report.check(
        "sockets were cut and came back",
        resumed > 0.0,
        format!("{resumed} times"),
    );
    if f64::from(args.history) >= missed * 10.0 {
        report.check(
            "history had everything: no `resync`",
            resyncs == 0.0 && told == 0.0,
            format!("{resyncs} topics were told `resync`, {told} messages were missed so"),
        );
    } else if f64::from(args.history) < missed {
        report.check(
            "history was too short: `resync` is told",
            resyncs > 0.0 && told > 0.0,
            format!("{resyncs} topics were told `resync`, {told} messages were missed so"),
        );
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn good(history: &str, resyncs: f64) -> bool {
        let Command::Recover(args) = Cli::parse_from(["loadtest", "recover", "--history", history]).command
        else {
            unreachable!("the command line says so")
        };
        let mut report = Report::default();
        report.figure("resumed", 9.0);
        report.figure("resyncs", resyncs);
        report.figure("told", resyncs * 3.0);
        verdict(&args, &mut report);
        report.good()
    }

    #[test]
    fn a_long_history_leaves_no_excuse_and_a_short_one_no_silence() {
        assert!(good("1000", 0.0) && !good("1000", 1.0));
        assert!(good("2", 5.0) && !good("2", 0.0));
    }
}
