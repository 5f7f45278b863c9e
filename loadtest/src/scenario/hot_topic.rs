//! One topic with very many members, beside a few quiet sockets.

use super::{
    mixed::plain,
    run::{Needs, Run},
};
use crate::{
    args::HotTopic,
    fleet::PER_PROCESS,
    report::Report,
    times::merged,
    wire::{Open, Pace, To},
};

pub(super) async fn run(args: &HotTopic) -> anyhow::Result<Report> {
    let common = &args.common;
    let hot_processes = common.sockets.div_ceil(PER_PROCESS) as usize;
    let needs = Needs {
        processes: hot_processes + 1,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "hot-topic", needs).await?;
    let quiet = run.fleet.len() - 1;
    // The quiet ones alone first, in a process of their own.
    run.open(&[(quiet, plain(common.sockets, args.quiet))]).await?;
    let users = To::Users {
        first: common.sockets,
        count: args.quiet,
    };
    let job = run.job(1, users, Pace::PerSecond(args.rate), 8);
    run.start(quiet, job).await?;
    run.pass("warming up", 1.0).await?;
    let mark = run.mark().await?;
    run.pass("quiet alone", common.seconds as f64).await?;
    let alone = run.since(&mark).await?;
    let alone = merged(std::iter::once(&alone.windows[quiet].delivery))?;

    let mut first = 0;
    let mut opens = Vec::new();
    for index in 0..quiet {
        let count = (common.sockets - first).div_ceil((quiet - index) as u32);
        opens.push((
            index,
            Open {
                first_topic: 0,
                topics: 1,
                topics_each: 1,
                ..plain(first, count)
            },
        ));
        first += count;
    }
    run.open(&opens).await?;
    let hot = To::Topics { first: 0, count: 1 };
    let job = run.job(2, hot, Pace::PerSecond(args.hot_rate), 1);
    run.start(0, job).await?;
    run.pass("warming up", 1.0).await?;
    let mark = run.mark().await?;
    run.pass("beside the hot", common.seconds as f64).await?;
    let part = run.since(&mark).await?;
    run.traffic(&part)?;
    let beside = merged(std::iter::once(&part.windows[quiet].delivery))?;
    let hot = merged(part.windows[..quiet].iter().map(|window| &window.delivery))?;
    let stopped = run.stop().await?;
    run.settle(stopped, 0).await?;
    if let (Some(alone), Some(beside)) = (&alone, &beside) {
        run.report.figure("quiet_alone_p99_ms", alone.p99_ms);
        run.report.figure("quiet_beside_p99_ms", beside.p99_ms);
        run.report.check(
            "the quiet ones hardly suffer",
            beside.p99_ms <= alone.p99_ms + args.allowed_ms,
            format!(
                "p99 {:.2} ms alone, {:.2} ms beside the hot topic; allowed {} ms more",
                alone.p99_ms, beside.p99_ms, args.allowed_ms
            ),
        );
    } else {
        run.report
            .check("the quiet ones got messages", false, "none came");
    }
    run.report.latency("quiet_alone", alone);
    run.report.latency("quiet_beside", beside);
    run.report.latency("hot", hot);
    run.check_publishes();
    run.check_closed();
    run.end().await
}
