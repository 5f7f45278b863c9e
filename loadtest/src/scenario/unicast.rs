//! Messages to single users, over several publishing connections.

use super::run::{Needs, Run};
use crate::{
    args::Unicast,
    report::Report,
    wire::{Form, Pace, To},
};

const WARM_UP_SECONDS: f64 = 1.0;

pub(super) async fn run(args: &Unicast) -> anyhow::Result<Report> {
    let common = &args.common;
    let needs = Needs {
        as_users: true,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "unicast", needs).await?;
    run.open_all(0, 0).await?;
    let users = To::Users {
        first: 0,
        count: common.sockets,
    };
    let pace = args.rate.map_or(Pace::Answers, Pace::PerSecond);
    let mut job = run.job(1, users, pace, args.lanes.min(common.sockets));
    job.pipeline = args.pipeline;
    job.form = match (args.batch, args.lines) {
        (Some(count), _) => Form::Batch(count),
        (None, Some(count)) => Form::Lines(count),
        (None, None) => Form::Single,
    };
    run.start(0, job).await?;
    run.pass("warming up", WARM_UP_SECONDS).await?;
    let mark = run.mark().await?;
    run.pass("sending", common.seconds as f64).await?;
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
