//! All sockets are cut at once and come back.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::{
    run::{Needs, Run, bar, mib},
    watch::{Watch, not_ready},
};
use crate::{
    args::Storm,
    report::Report,
    wire::{Order, Pace, To},
};

/// What an idle session may take, bytes; and its queue, by Carillon's default.
const SESSION_BYTES: u64 = 3_000;
const QUEUE_BYTES: u64 = 1_048_576;

/// What the harness asks of the server where nothing else is said: Carillon's default.
const USUAL_HANDSHAKES: u32 = 2_000;

pub(super) async fn run(args: &Storm) -> anyhow::Result<Report> {
    let common = &args.common;
    let handshakes = if args.handshakes == 0 {
        USUAL_HANDSHAKES
    } else {
        args.handshakes
    };
    let needs = Needs {
        environment: vec![(
            "CARILLON_HUB__HANDSHAKES_PER_SECOND".to_owned(),
            handshakes.to_string(),
        )],
        resume: true,
        connecting: common.sockets,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "storm", needs).await?;
    run.open_all(0, 0).await?;
    let users = To::Users {
        first: 0,
        count: common.sockets,
    };
    let job = run.job(1, users, Pace::PerSecond(args.rate), 8);
    run.start(0, job).await?;
    run.pass("before", 2.0).await?;
    let path = run
        .server
        .ready_path
        .clone()
        .context("the server has no readiness to watch")?;
    let watch = Watch::start(run.server.internal(), path);
    let mark = run.mark().await?;
    let mut slowest = 0.0_f64;
    for _ in 0..args.storms {
        slowest = slowest.max(storm(&mut run).await?);
        run.pass("between", 1.0).await?;
    }
    run.calm().await?;
    let part = run.since(&mark).await?;
    let answers = watch.end().await?;
    run.traffic(&part)?;
    run.resumed(&part);
    let stopped = run.stop().await?;
    run.settle(stopped, 0).await?;

    let peak = run
        .fleet
        .series
        .get("rss_mib")
        .map(|rss| rss.iter().map(|(_, mib)| *mib).fold(0.0, f64::max));
    let report = &mut run.report;
    report.figure("all_back_seconds", slowest);
    let red = not_ready(&answers);
    report.figure("not_ready_ms", red.as_millis() as f64);
    report.check(
        "the server stays ready",
        red.is_zero(),
        format!(
            "not ready for {} ms in {} answers",
            red.as_millis(),
            answers.len()
        ),
    );
    let resumed = report.figures.get("resumed").copied().unwrap_or(0.0);
    report.check(
        "all sockets come back after each storm",
        resumed >= f64::from(common.sockets * args.storms),
        format!("{resumed} came back; the slowest storm took {slowest:.1} s"),
    );
    let resyncs = report.figures.get("resyncs").copied().unwrap_or(0.0);
    report.check(
        "everything missed is sent again",
        resyncs == 0.0,
        format!("{resyncs} topics were told `resync`"),
    );
    if let (Some(peak), Some(base)) = (peak, report.figures.get("rss_base_mib").copied()) {
        let bound = base + mib(u64::from(common.sockets) * (SESSION_BYTES + QUEUE_BYTES));
        report.check(
            "memory stays within base + sockets x (3 KB + queue)",
            peak <= bound,
            format!(
                "at most {peak:.1} MiB: {:.0} bytes a socket over base",
                (peak - base) * 1_048_576.0 / f64::from(common.sockets)
            ),
        );
    }
    run.check_publishes();
    run.check_closed();
    run.end().await
}

/// One storm; the seconds until all are back.
async fn storm(run: &mut Run<'_>) -> anyhow::Result<f64> {
    let wanted = run.fleet.handshakes_now() + u64::from(run.common.sockets);
    let limit = Duration::from_secs(run.common.connect_seconds);
    run.fleet.order_all(&Order::CutAll).await?;
    let began = Instant::now();
    let bar = bar(limit.as_secs(), "storm");
    let sockets = run.common.sockets;
    let mut last = (Instant::now(), run.fleet.handshakes_now());
    run.fleet
        .pass(limit, &bar, |fleet| {
            let now = fleet.handshakes_now();
            if now != last.1 {
                let rate = (now - last.1) as f64 / last.0.elapsed().as_secs_f64().max(0.1);
                last = (Instant::now(), now);
                fleet.plot("reconnects_per_second", rate);
            }
            fleet.open_now() == sockets && now >= wanted
        })
        .await?;
    bar.finish_and_clear();
    Ok(began.elapsed().as_secs_f64())
}
