//! All hubs are restarted, one after the other, as a deployment does it: SIGTERM, drain, start.

use std::time::Duration;

use tokio::{task::spawn_blocking, time::Instant};

use super::{cluster::Clustered, run::bar};
use crate::{
    args::Rolling,
    report::{Mark, Report},
};

/// Longest drain and longest start of a hub.
const LIMIT: Duration = Duration::from_secs(90);

/// Traffic between two hubs.
const BETWEEN: f64 = 3.0;

pub(super) async fn run(args: &Rolling) -> anyhow::Result<Report> {
    let common = &args.common;
    let mut on = Clustered::begin("rolling", &args.cluster, &args.traffic, common).await?;
    on.run.pass("before", BETWEEN).await?;
    on.gather().await?;
    let mark = on.run.here();
    let hubs = on.stage.hubs.len();
    let mut marks = Vec::new();
    let mut drains = Vec::new();
    let mut peak = 0.0_f64;
    let mut failed = Vec::new();
    for number in 0..hubs {
        let from = on.elapsed();
        let before = on.run.fleet.handshakes_now();
        let stage = std::sync::Arc::clone(&on.stage);
        let began = Instant::now();
        let restarting = spawn_blocking(move || {
            let hub = &stage.hubs[number];
            hub.terminate()?;
            let clean = hub.wait(LIMIT)?;
            let drained = began.elapsed();
            hub.restart()?;
            Ok::<_, rig::Error>((clean, drained))
        });
        let wait = bar(LIMIT.as_secs(), "restarting");
        let mut last = (Instant::now(), before);
        on.run
            .fleet
            .pass(LIMIT * 2, &wait, |fleet| {
                let now = fleet.handshakes_now();
                let took = last.0.elapsed().as_secs_f64();
                if took >= 1.0 {
                    let rate = now.saturating_sub(last.1) as f64 / took;
                    peak = peak.max(rate);
                    fleet.plot("reconnects_per_second", rate);
                    last = (Instant::now(), now);
                }
                restarting.is_finished()
            })
            .await?;
        wait.finish_and_clear();
        match restarting.await? {
            Ok((clean, drained)) => {
                drains.push(drained.as_secs_f64());
                if !clean {
                    failed.push(format!("hub {number} ended with an error"));
                }
            }
            Err(error) => failed.push(format!("hub {number}: {error}")),
        }
        on.restarted();
        marks.push(Mark {
            name: format!("hub {number} restarted"),
            from,
            to: on.elapsed(),
        });
        on.run.pass("between", BETWEEN).await?;
    }
    on.run.calm().await?;
    let stopped = on.run.stop().await?;
    on.run.settle(stopped, 0).await?;
    let part = on.run.since(&mark).await?;
    for window in &part.windows {
        on.total.add(window);
        on.run.report.count("publish repeated", &window.repeated);
    }
    on.run.traffic(&part)?;
    on.run.resumed(&part);
    on.unwatch().await?;
    let total = std::mem::take(&mut on.total);
    let (mut report, _) = on.end().await?;
    report.marks = marks;
    let longest = drains.iter().copied().fold(0.0, f64::max);
    report.figure("drain_seconds", longest);
    report.figure("reconnect_peak_per_second", peak);
    report.figure("repeated", total.repeated as f64);
    report.figure("unclear", total.unclear as f64);
    report.figure("acknowledged", total.published as f64);
    let moved = report.figures.get("resumed").copied().unwrap_or(0.0) as u64;
    judge(&mut report, hubs, moved, peak, &failed);
    Ok(report)
}

/// What has to hold beside that nothing is lost.
fn judge(report: &mut Report, hubs: usize, moved: u64, peak: f64, failed: &[String]) {
    report.check(
        "each hub drains, ends with exit code 0 and is ready again",
        failed.is_empty(),
        if failed.is_empty() {
            format!("{hubs} of {hubs}")
        } else {
            failed.join("; ")
        },
    );
    // A hub's share goes within its drain window. All at once would be a third of all in one second.
    let share = moved as f64 / hubs.max(1) as f64;
    report.check(
        "reconnects are spread over the drain window",
        moved > 0 && peak <= share / 3.0,
        format!("{moved} in all, {share:.0} a hub, at most {peak:.0} in one second"),
    );
    let resyncs = report.figures.get("resyncs").copied().unwrap_or(0.0);
    report.check(
        "nobody is told `resync`",
        resyncs == 0.0,
        format!("{resyncs} topics of sessions were"),
    );
    let of = |report: &Report, kind: &str| report.counts.get(kind).cloned().unwrap_or_default();
    let failures: u64 = of(report, "publish failed").values().sum();
    report.check(
        "every publish was acknowledged in the end",
        failures == 0,
        format!("{failures} were not"),
    );
    let closed = of(report, "socket closed");
    let other: u64 = closed
        .iter()
        .filter(|(reason, _)| !reason.starts_with("closed with 1012"))
        .map(|(_, count)| count)
        .sum();
    report.check(
        "sockets are closed with 1012 and in no other way",
        other == 0,
        format!("{closed:?}"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_all_at_once_or_none_at_all_are_found() {
        let good = |moved, peak| {
            let mut report = Report::default();
            judge(&mut report, 3, moved, peak, &[]);
            report.good()
        };
        assert!(good(3000, 120.0));
        assert!(!good(3000, 900.0) && !good(0, 0.0));
    }
}
