//! SIGTERM, with a second server to go to. The two share no bus, so a session that moves is told `resync`: what has to
//! hold is that it is told, that publishing works until the last session has gone, and that nobody is sent away at once
//! with everybody else.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    run::{Needs, Run, bar},
    watch::Watch,
};
use crate::{
    args::Drain,
    report::Report,
    server::{SECRET, Server},
    target::Target,
    wire::{Order, Pace, To},
};

/// Publishing goes to the old server until so many sockets have left it. Counts come once a second, and the rest may go
/// at any moment.
const LEFT: f64 = 0.8;

/// Longest drain.
const LIMIT: Duration = Duration::from_secs(90);

/// Readiness has to be red within this time of SIGTERM, milliseconds.
const RED_MS: u128 = 500;

pub(super) async fn run(args: &Drain) -> anyhow::Result<Report> {
    let common = &args.common;
    let secret: String = (0..48).map(|_| fastrand::alphanumeric()).collect();
    let environment = vec![(SECRET.to_owned(), secret)];
    let needs = Needs {
        environment: environment.clone(),
        resume: true,
        connecting: common.sockets,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "drain", needs).await?;
    let second = Server::new(common, &Target::carillon()?, &environment).await?;
    run.open_all(0, 0).await?;
    let users = To::Users {
        first: 0,
        count: common.sockets,
    };
    let job = run.job(1, users, Pace::PerSecond(args.rate), 4);
    run.start(0, job.clone()).await?;
    run.pass("before", 2.0).await?;

    let path = run
        .server
        .ready_path
        .clone()
        .unwrap_or_else(|| "/ready".to_owned());
    let watch = Watch::start(run.server.internal(), path);
    let mark = run.mark().await?;
    let moved = Order::Move {
        addresses: second.addresses.clone(),
        publishes: run.server.publishes.clone(),
    };
    run.fleet.order_all(&moved).await?;
    let told = Instant::now();
    run.server.terminate().await?;
    let peak = until_left(&mut run, common.sockets).await?;
    // From here on the old one may end at any moment.
    run.stop().await?;
    let part = run.since(&mark).await?;
    let mark = run.here();
    let errors: u64 = part
        .windows
        .iter()
        .flat_map(|window| window.errors.values())
        .sum();
    let published = part.published();
    let status = run.ended(LIMIT).await;
    let took = told.elapsed();
    let answers = watch.end().await?;

    // What is published on the new one has to reach everybody.
    let moved = Order::Move {
        addresses: second.addresses.clone(),
        publishes: second.publishes.clone(),
    };
    run.fleet.order_all(&moved).await?;
    run.calm().await?;
    run.start(0, job).await?;
    run.pass("after", 3.0).await?;
    let stopped = run.stop().await?;
    run.settle(stopped, 0).await?;
    let rest = run.since(&mark).await?;
    run.resumed(&part);
    run.resumed(&rest);
    run.traffic(&rest)?;

    let red = answers
        .iter()
        .find(|answer| answer.at >= told && answer.ready == Some(false))
        .map(|answer| (answer.at - told).as_millis());
    let report = &mut run.report;
    report.check(
        "readiness is red at once",
        red.is_some_and(|ms| ms <= RED_MS),
        red.map_or_else(|| "it never was".to_owned(), |ms| format!("after {ms} ms")),
    );
    if let Some(ms) = red {
        report.figure("ready_red_ms", ms as f64);
    }
    report.check(
        "no publish failed until nearly all had left",
        errors == 0,
        format!("{errors} of {} failed", published + errors),
    );
    report.figure("reconnect_peak_per_second", peak);
    report.check(
        "reconnects are spread",
        peak * 3.0 <= f64::from(common.sockets),
        format!("at most {peak:.0} of {} in one second", common.sockets),
    );
    report.figure("drain_seconds", took.as_secs_f64());
    report.check(
        "the old server ends with exit code 0",
        status.as_ref().is_ok_and(|good| *good),
        format!("after {:.1} s", took.as_secs_f64()),
    );
    let closed = report.counts.get("socket closed").cloned().unwrap_or_default();
    let other: u64 = closed
        .iter()
        .filter(|(reason, _)| !reason.starts_with("closed with 1012"))
        .map(|(_, count)| count)
        .sum();
    report.check(
        "every socket is closed with 1012",
        other == 0 && closed.values().sum::<u64>() == u64::from(common.sockets),
        format!("{closed:?}"),
    );
    let (resumed, recovered) = (
        report.figures.get("resumed").copied().unwrap_or(0.0),
        report.figures.get("recovered").copied().unwrap_or(0.0),
    );
    report.check(
        "every session that came back was answered: all, or `resync`",
        resumed == f64::from(common.sockets) && recovered >= resumed,
        format!("{resumed} came back, {recovered} resumes were answered"),
    );
    let ended = second.stop().await;
    run.report.check(
        "the new server ends as it should",
        ended.is_ok(),
        ended.map_or_else(|error| format!("{error:#}"), |()| "on SIGTERM".to_owned()),
    );
    run.end().await
}

/// Waits until nearly all have left the old server; the most reconnects of one second.
async fn until_left(run: &mut Run<'_>, sockets: u32) -> anyhow::Result<f64> {
    let wanted = run.fleet.closed_now() + (f64::from(sockets) * LEFT) as u64;
    let mut last = (Instant::now(), run.fleet.handshakes_now());
    let mut peak = 0.0_f64;
    let bar = bar(LIMIT.as_secs(), "draining");
    run.fleet
        .pass(LIMIT, &bar, |fleet| {
            let now = fleet.handshakes_now();
            let took = last.0.elapsed().as_secs_f64();
            if took >= 1.0 {
                let rate = (now - last.1) as f64 / took;
                peak = peak.max(rate);
                fleet.plot("reconnects_per_second", rate);
                last = (Instant::now(), now);
            }
            fleet.closed_now() >= wanted
        })
        .await?;
    bar.finish_and_clear();
    Ok(peak)
}
