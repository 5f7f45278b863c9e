//! Sockets that never read, beside others that do.

use super::run::{Needs, Run, mib};
use crate::{
    args::{Policy, Slow},
    ask,
    report::Report,
    times::merged,
    wire::{Order, Pace, To},
};

/// What memory may grow beside the queues of the stalled ones, MiB: allocators round up.
const SLACK_MIB: f64 = 16.0;

/// A kernel takes so much for a socket that nobody reads, at both ends together, before a queue begins, bytes.
const KERNEL_TAKES: u64 = 512 * 1024;

pub(super) async fn run(args: &Slow) -> anyhow::Result<Report> {
    let common = &args.common;
    let stalled = args.stalled.unwrap_or(common.sockets / 100).max(1);
    let set = |name: &str, value: String| (name.to_owned(), value);
    let mut environment = vec![set("CARILLON_HUB__OUTBOUND_BYTES", args.queue_bytes.to_string())];
    // On loopback the kernel's buffers would else grow to megabytes and hide who is slow.
    environment.push(set("CARILLON_HUB__SEND_BUFFER", "131072".to_owned()));
    let needs = Needs {
        environment,
        rounds: true,
        ..Needs::default()
    };
    let mut run = Run::begin(common, "slow", needs).await?;
    run.open_all(0, 0).await?;
    let mut job = run.job(1, To::All, Pace::PerSecond(args.rate), 1);
    job.pipeline = 16;
    if common.describe.is_none() {
        match args.policy {
            Policy::Evict => {}
            Policy::DropOldest => job.extra.push_str(",\"slow\":\"drop_oldest\""),
            Policy::Latest => {
                job.extra.push_str(",\"slow\":\"latest\"");
                job.keys = args.keys;
            }
        }
    }
    run.start(0, job).await?;
    run.pass("warming up", 2.0).await?;
    let mark = run.mark().await?;
    let before_seconds = args.before_seconds.unwrap_or(common.seconds);
    run.pass("all read", before_seconds as f64).await?;
    let without = run.since(&mark).await?;
    let without = merged(without.windows.iter().map(|window| &window.delivery))?;

    let before = run.server.usage();
    let evicted_before = evicted(&run).await;
    let processes = run.fleet.len() as u32;
    for index in 0..processes {
        let count = stalled / processes + u32::from(index < stalled % processes);
        run.fleet.order(index as usize, &Order::Stall { count }).await?;
    }
    let began = run.fleet.elapsed();
    let mark = run.mark().await?;
    run.pass("some do not", common.seconds as f64).await?;
    let part = run.since(&mark).await?;
    run.traffic(&part)?;
    run.check_closed();
    let with = merged(part.windows.iter().map(|window| &window.delivery))?;
    let evicted = evicted(&run).await - evicted_before;
    let peak = run.fleet.series.get("rss_mib").and_then(|rss| {
        let values = rss.iter().filter(|(at, _)| *at >= began).map(|(_, mib)| *mib);
        values.reduce(f64::max)
    });
    let stopped = run.stop().await?;
    // What the stalled ones find when they wake up.
    run.fleet.order_all(&Order::Wake).await?;
    let keys = if args.policy == Policy::Latest {
        args.keys
    } else {
        0
    };
    run.settle(stopped, keys).await?;
    let woken = run.here();
    run.since(&woken).await?;

    let report = &mut run.report;
    report.figure("stalled", f64::from(stalled));
    if let (Some(without), Some(with)) = (&without, &with) {
        report.figure("p99_without_ms", without.p99_ms);
        report.figure("p99_with_ms", with.p99_ms);
        report.check(
            "the others hardly suffer",
            with.p99_ms <= without.p99_ms * args.allowed,
            format!(
                "p99 {:.1} ms without, {:.1} ms with {stalled} stalled sockets; allowed {} times",
                without.p99_ms, with.p99_ms, args.allowed
            ),
        );
    }
    if let (Some(before), Some(peak)) = (before, peak) {
        let growth = peak - mib(before.rss);
        let bound = mib(u64::from(stalled) * args.queue_bytes) + SLACK_MIB;
        report.figure("rss_growth_mib", growth);
        report.check(
            "memory is bounded by the queues",
            growth <= bound,
            format!(
                "grew by {growth:.1} MiB; {stalled} queues of {} bytes",
                args.queue_bytes
            ),
        );
    }
    report.latency("without_stalled", without);
    report.latency("with_stalled", with);
    if common.describe.is_none() {
        verdict(args, stalled, evicted, report);
    }
    run.check_publishes();
    run.end().await
}

/// Sessions that the server has closed because they were slow.
async fn evicted(run: &Run<'_>) -> f64 {
    ask::sum(
        &run.counters().await,
        "hub_sessions_closed_total",
        "reason=\"slow_consumer\"",
    )
}

fn verdict(args: &Slow, stalled: u32, evicted: f64, report: &mut Report) {
    report.figure("evicted", evicted);
    let sent = args.rate * args.common.seconds as f64 * f64::from(args.common.size);
    let needed = (args.queue_bytes + KERNEL_TAKES) as f64;
    match args.policy {
        Policy::Evict if sent < needed => report.check(
            "the run is long enough to fill a queue",
            false,
            format!("{sent:.0} bytes were sent to each socket, {needed:.0} are needed: use more --seconds"),
        ),
        Policy::Evict => report.check(
            "every stalled socket is evicted",
            evicted == f64::from(stalled),
            format!("{evicted} of {stalled}"),
        ),
        Policy::DropOldest | Policy::Latest => {
            report.check("nobody is evicted", evicted == 0.0, format!("{evicted} are"));
            let newest = report.figures.get("stalled_newest").copied().unwrap_or(0.0);
            if args.policy == Policy::Latest {
                report.check(
                    "each stalled socket has the newest of each key once it reads again",
                    newest == f64::from(stalled),
                    format!("{newest} of {stalled}"),
                );
            }
        }
    }
}
