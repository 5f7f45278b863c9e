//! What a run does: open, settle, traffic, report.

mod broadcast;
mod unicast;

use std::time::Duration;

use anyhow::Context;
use common::token::{NewToken, mint};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::SecretString;
use tokio::time::{Instant, sleep};

use crate::{
    args::{Args, Scenario},
    fleet::Fleet,
    report::Report,
    server::{Server, Usage},
    wire::{Expected, Open},
};

/// Broadcasts that the scenario `sockets` ends with.
const PROOF_ROUNDS: u64 = 10;

/// What the traffic of a scenario needs.
#[derive(Debug)]
struct Traffic<'a> {
    args: &'a Args,
    server: &'a Server,
    run: &'a str,
    token: String,
    fleet: &'a mut Fleet,
}

/// Runs the scenario against the server.
pub(crate) async fn run(args: &Args, server: &Server) -> anyhow::Result<Report> {
    // A tenant of its own keeps the run's topics apart from all others, and from those of earlier runs.
    let run = format!("load-{:016x}", fastrand::u64(..));
    let budget = args.connect_seconds + args.seconds + args.grace_seconds + 120;
    let secret = SecretString::from(server.secret.clone());
    let publisher = NewToken {
        user: "loadtest".to_owned(),
        tenant: Some(run.clone()),
        scopes: vec!["publish".to_owned()],
        ttl_seconds: i64::try_from(budget)?,
        ..NewToken::default()
    };
    let token = mint(&publisher, &secret)?;
    let open = Open {
        target: server.target,
        secret: server.secret.clone(),
        tenant: run.clone(),
        first: 0,
        count: args.sockets,
        sources: args.sources,
        connecting: args.connecting,
        // Long enough that no session is told to refresh.
        ttl_seconds: i64::try_from(budget + 3600)?,
    };
    let mut report = Report {
        scenario: format!("{:?}", args.scenario).to_lowercase(),
        sockets: args.sockets,
        ..Report::default()
    };

    let before = server.settled().await;
    report.rss_before = before.map(|usage| usage.rss);
    let mut fleet = Fleet::start(&open, args.workers).await?;
    connect(args, server, &mut fleet, before, &mut report).await?;
    if args.scenario == Scenario::Sockets {
        idle(args.seconds, server, &mut report).await;
    }

    let mut traffic = Traffic {
        args,
        server,
        run: &run,
        token,
        fleet: &mut fleet,
    };
    let before = server.usage();
    let expected = match args.scenario {
        Scenario::Sockets => broadcast::one_at_a_time(&mut traffic, Some(PROOF_ROUNDS), &mut report).await?,
        Scenario::Broadcast if args.rate == 0 => {
            broadcast::one_at_a_time(&mut traffic, None, &mut report).await?
        }
        Scenario::Broadcast => broadcast::paced(&mut traffic, &mut report).await?,
        Scenario::Unicast | Scenario::Client => unicast::run(&mut traffic, &mut report).await?,
    };
    if let Expected::Each(_) = expected {
        let done = fleet
            .finish(
                &expected,
                Duration::from_secs(args.grace_seconds),
                &mut crate::fleet::Rounds::default(),
                |_| {},
            )
            .await?;
        report.add(&done)?;
    }
    let cpu = before.and_then(|before| Some(server.usage()?.cpu.saturating_sub(before.cpu)));
    report.traffic_cpu(cpu);
    report.rss_after = server.usage().map(|usage| usage.rss);
    Ok(report)
}

async fn connect(
    args: &Args,
    server: &Server,
    fleet: &mut Fleet,
    before: Option<Usage>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let bar = bar(u64::from(args.sockets), "connecting");
    let deadline = Instant::now() + Duration::from_secs(args.connect_seconds);
    let opened = fleet.opened(deadline, &bar).await;
    bar.finish_and_clear();
    let opened = opened?;
    report.opened = opened.opened;
    report.failed = opened.failed;
    report.connect_seconds = opened.took.as_secs_f64();
    report.connects_per_second = f64::from(opened.opened) / opened.took.as_secs_f64();
    let connected = server.usage();
    let idle = server.settled().await;
    let sockets = f64::from(opened.opened.max(1));
    if let (Some(before), Some(connected), Some(idle)) = (before, connected, idle) {
        report.connect_cpu_us = Some(connected.cpu.saturating_sub(before.cpu).as_micros() as f64 / sockets);
        report.rss_idle = Some(idle.rss);
        report.bytes_per_idle_socket = Some((idle.rss as f64 - before.rss as f64) / sockets);
    }
    Ok(())
}

async fn idle(seconds: u64, server: &Server, report: &mut Report) {
    let bar = bar(seconds, "idling");
    let before = server.usage();
    for _ in 0..seconds {
        sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let (Some(before), Some(after)) = (before, server.usage()) {
        report.idle_cpu_ms_per_second = Some((after.cpu - before.cpu).as_millis() as f64 / seconds as f64);
    }
}

fn bar(len: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:12} [{bar:40}] {pos}/{len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(len).with_style(style).with_message(what)
}

/// Writes the report where it was asked for.
pub(crate) fn write(report: &Report, args: &Args) -> anyhow::Result<()> {
    if let Some(path) = &args.json {
        let json = serde_json::to_vec_pretty(report)?;
        std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
