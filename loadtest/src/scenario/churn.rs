//! Sockets are cut by chance and come back at once.

use super::run::{Needs, Run};
use crate::{
    args::Churn,
    report::Report,
    wire::{Order, Pace, To},
};

pub(super) async fn run(args: &Churn) -> anyhow::Result<Report> {
    let common = &args.common;
    let needs = Needs {
        resume: true,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "churn", needs).await?;
    run.open_all(0, 0).await?;
    let users = To::Users {
        first: 0,
        count: common.sockets,
    };
    let job = run.job(1, users, Pace::PerSecond(args.rate), 8);
    run.start(0, job).await?;
    let roles = To::Roles { count: 10 };
    let job = run.job(2, roles, Pace::PerSecond((args.rate / 100.0).max(1.0)), 1);
    run.start(0, job).await?;
    let mark = run.mark().await?;
    let processes = run.fleet.len() as f64;
    run.fleet
        .order_all(&Order::Cut {
            per_second: args.cuts / processes,
            away_ms: 0,
        })
        .await?;
    run.pass("churning", common.seconds as f64).await?;
    run.calm().await?;
    let part = run.since(&mark).await?;
    run.traffic(&part)?;
    run.resumed(&part);
    let stopped = run.stop().await?;
    run.settle(stopped, 0).await?;
    let resyncs = run.report.figures.get("resyncs").copied().unwrap_or(0.0);
    run.report.check(
        "everything missed is sent again",
        resyncs == 0.0,
        format!("{resyncs} topics were told `resync`"),
    );
    run.check_publishes();
    run.check_closed();
    run.end().await
}
