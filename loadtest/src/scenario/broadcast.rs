//! One message to every socket.

use super::run::{Needs, Run};
use crate::{
    args::Broadcast,
    report::Report,
    wire::{Pace, To},
};

/// Messages on the way before the figures are taken, so that caches and queues are as they stay.
const WARM_UP_SECONDS: f64 = 1.0;

pub(super) async fn run(args: &Broadcast) -> anyhow::Result<Report> {
    let common = &args.common;
    let needs = Needs {
        rounds: true,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "broadcast", needs).await?;
    run.open_all(0, 0).await?;
    let (pace, lanes) = match args.rate {
        Some(rate) => (Pace::PerSecond(rate), 1),
        None => (Pace::Credits(args.in_flight), args.in_flight.min(16)),
    };
    // Broadcasts have one topic, and so one connection; several in flight are pipelined on it.
    let mut job = run.job(1, To::All, pace, 1);
    job.pipeline = lanes.max(4);
    run.start(0, job).await?;
    run.pass("warming up", WARM_UP_SECONDS).await?;
    let mark = run.mark().await?;
    run.pass("broadcasting", common.seconds as f64).await?;
    let part = run.since(&mark).await?;
    let rest = run.here();
    run.traffic(&part)?;
    let stopped = run.stop().await?;
    run.settle(stopped, 0).await?;
    run.since(&rest).await?;
    run.check_publishes();
    run.check_closed();
    run.end().await
}
