//! Sockets that nobody writes to.

use super::run::{Needs, Run, mib};
use crate::{
    args::Idle,
    report::Report,
    wire::{Pace, To},
};

pub(super) async fn run(args: &Idle) -> anyhow::Result<Report> {
    let common = &args.common;
    let needs = Needs {
        rounds: true,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "idle", needs).await?;
    run.open_all(0, 0).await?;
    let sockets = f64::from(common.sockets);
    let base = run.report.figures.get("rss_base_mib").copied();
    let mark = run.mark().await?;
    run.pass("idle", common.seconds as f64).await?;
    let quiet = run.since(&mark).await?;
    if let Some(cpu) = quiet.cpu {
        let ms = cpu.as_secs_f64() * 1000.0 / quiet.seconds;
        run.report.figure("idle_cpu_ms_per_second", ms);
        run.report.figure("idle_cpu_us_per_socket", ms * 1000.0 / sockets);
    }
    if args.burst > 0 {
        let mark = run.mark().await?;
        let mut job = run.job(1, To::All, Pace::Credits(4), 1);
        job.limit = u64::from(args.burst);
        run.start(0, job).await?;
        for _ in 0..60 {
            run.pass("burst", 0.5).await?;
            let seen = run.fleet.published();
            if seen >= u64::from(args.burst) {
                break;
            }
        }
        let stopped = run.stop().await?;
        run.settle(stopped, 0).await?;
        let burst = run.since(&mark).await?;
        run.traffic(&burst)?;
        if let (Some(usage), Some(base)) = (run.server.settled().await, base) {
            let bytes = (mib(usage.rss) - base) * 1_048_576.0 / sockets;
            run.report.figure("bytes_per_socket_after_burst", bytes);
        }
        let mark = run.mark().await?;
        run.pass("idle again", common.seconds as f64).await?;
        let quiet = run.since(&mark).await?;
        if let Some(cpu) = quiet.cpu {
            let ms = cpu.as_secs_f64() * 1000.0 / quiet.seconds;
            run.report.figure("idle_cpu_ms_per_second_after_burst", ms);
        }
    }
    run.check_publishes();
    run.check_closed();
    run.end().await
}
