//! Faults by a plan, and the proof that the cluster delivers what it acknowledged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{cluster::Clustered, run::bar, watch::not_ready};
use crate::{
    args::Chaos,
    chaos::{Fault, Happening, Injector, Plan, Reasons},
    report::{Mark, Report},
    times::now_us,
    wire::{Order, Resynced},
};

/// How often it is looked what happened.
const LOOK: Duration = Duration::from_millis(200);

/// Longest wait behind the plan until its last fault has run its course.
const LAST_FAULT: Duration = Duration::from_secs(120);

/// A fault as it went.
#[derive(Debug)]
struct Past {
    fault: Fault,
    /// Unix microseconds.
    began_us: u64,
    /// Of the charts, seconds.
    from: f64,
    to: Option<f64>,
}

pub(super) async fn run(args: &Chaos) -> anyhow::Result<Report> {
    let plan = Plan::read(args.plan.as_deref())?;
    let common = &args.common;
    let schedule = plan.schedule(common.seconds as f64, common.seed);
    let mut on = Clustered::begin("chaos", &args.cluster, &args.traffic, common).await?;
    on.run.pass("before", 2.0).await?;
    on.gather().await?;
    let mark = on.run.here();

    let injector = Injector::start(
        Arc::clone(&on.stage),
        schedule,
        plan.options.clone(),
        plan.seed.unwrap_or(common.seed),
    );
    let mut past = Vec::new();
    let failed = follow(&mut on, args, &plan, injector, &mut past).await?;
    on.run.calm().await?;
    let stopped = on.run.stop().await?;
    on.run.settle(stopped, 0).await?;
    let part = on.run.since(&mark).await?;
    // `since` has counted errors, closes and refusals already.
    for window in &part.windows {
        on.total.add(window);
        on.run.report.count("publish repeated", &window.repeated);
    }
    on.run.traffic(&part)?;
    on.run.resumed(&part);
    let answers = on.unwatch().await?;
    let red: Vec<f64> = answers
        .iter()
        .map(|answers| not_ready(answers).as_secs_f64())
        .collect();

    let session_topics = on.session_topics(&args.traffic);
    let total = std::mem::take(&mut on.total);
    let (mut report, reasons) = on.end().await?;
    for one in &past {
        report.marks.push(Mark {
            name: one.fault.label().to_owned(),
            from: one.from,
            to: one.to.unwrap_or(one.from),
        });
    }
    for (number, seconds) in red.iter().enumerate() {
        report.figure(&format!("not_ready_seconds_hub_{number}"), *seconds);
    }
    report.figure("received_in_all", total.received as f64);
    report.figure("acknowledged", total.published as f64);
    report.figure("repeated", total.repeated as f64);
    report.figure("unclear", total.unclear as f64);
    report.figure("faults", past.len() as f64);
    report.check(
        "each fault ran its course, and Redis was whole again by itself",
        failed.is_empty(),
        if failed.is_empty() {
            let mut counts: BTreeMap<Fault, u64> = BTreeMap::new();
            for one in &past {
                *counts.entry(one.fault).or_default() += 1;
            }
            let counts: Vec<String> = counts
                .into_iter()
                .map(|(fault, count)| format!("{count} x {fault}"))
                .collect();
            counts.join(", ")
        } else {
            failed.join("; ")
        },
    );
    let failures: u64 = report
        .counts
        .get("publish failed")
        .map_or(0, |its| its.values().sum());
    report.check(
        "every publish was acknowledged in the end",
        failures == 0,
        format!(
            "{} of {}, {} were repeated, of these {} after a try of which nobody knew",
            total.published,
            total.published + failures,
            total.repeated,
            total.unclear
        ),
    );
    judge(
        &mut report,
        &past,
        &total.resynced,
        session_topics,
        args.allowed_percent,
    );
    explain(&mut report, &reasons, total.resyncs);
    Ok(report)
}

/// Until the plan is through; what went wrong with its faults.
async fn follow(
    on: &mut Clustered<'_>,
    args: &Chaos,
    plan: &Plan,
    mut injector: Injector,
    past: &mut Vec<Past>,
) -> anyhow::Result<Vec<String>> {
    let began = Instant::now();
    let planned = Duration::from_secs(args.common.seconds);
    let bar = bar(args.common.seconds, "chaos");
    let mut failed = Vec::new();
    let mut through = false;
    let mut cuts_end: Option<Instant> = None;
    while !(through && began.elapsed() >= planned && cuts_end.is_none()) {
        if began.elapsed() >= planned {
            injector.stop();
            if began.elapsed() > planned + LAST_FAULT {
                failed.push("the last fault did not end in time".to_owned());
                break;
            }
        }
        on.run.fleet.pass(LOOK, &bar, |_| false).await?;
        bar.set_position(began.elapsed().as_secs());
        if cuts_end.is_some_and(|end| Instant::now() >= end) {
            cuts_end = None;
            cut(on, 0.0, 0).await?;
        }
        loop {
            let happening = match injector.news.try_recv() {
                Ok(happening) => happening,
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => break,
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => {
                    through = true;
                    break;
                }
            };
            match happening {
                Happening::Began { fault, at } => {
                    let ago = at.elapsed();
                    past.push(Past {
                        fault,
                        began_us: now_us() - ago.as_micros() as u64,
                        from: on.elapsed() - ago.as_secs_f64(),
                        to: None,
                    });
                    bar.suspend(|| eprintln!("{:7.1} s  {fault}", on.elapsed() - ago.as_secs_f64()));
                }
                Happening::Cut => {
                    let options = &plan.options;
                    let seconds = options.cut_seconds.max(0.1);
                    let per_second = f64::from(args.common.sockets) * options.cut_share / seconds;
                    cut(on, per_second, options.cut_away_ms).await?;
                    cuts_end = Some(Instant::now() + Duration::from_secs_f64(seconds));
                }
                Happening::Ended { fault, at, what } => {
                    let to = on.elapsed() - at.elapsed().as_secs_f64();
                    if let Some(last) = past.last_mut() {
                        last.to = Some(to);
                    }
                    on.restarted();
                    bar.suspend(|| match &what {
                        Ok(what) => eprintln!("{to:7.1} s  {fault}: over; {what}"),
                        Err(error) => eprintln!("{to:7.1} s  {fault}: FAILED: {error:#}"),
                    });
                    if let Err(error) = what {
                        failed.push(format!("{fault}: {error:#}"));
                    }
                }
                Happening::Through => through = true,
            }
        }
    }
    bar.finish_and_clear();
    // It waits for its thread.
    tokio::task::spawn_blocking(move || drop(injector)).await?;
    Ok(failed)
}

async fn cut(on: &mut Clustered<'_>, per_second: f64, away_ms: u64) -> anyhow::Result<()> {
    let processes = on.run.fleet.len() as f64;
    let order = Order::Cut {
        per_second: per_second / processes,
        away_ms,
    };
    on.run.fleet.order_all(&order).await
}

/// Who was told `resync`, and because of what: the last fault that had begun by then.
fn judge(report: &mut Report, past: &[Past], told: &[Resynced], session_topics: u64, allowed_percent: f64) {
    let mut by_fault: BTreeMap<Option<Fault>, Vec<&Resynced>> = BTreeMap::new();
    for resynced in told {
        let before = past.iter().rev().find(|one| one.began_us <= resynced.at_us);
        by_fault
            .entry(before.map(|one| one.fault))
            .or_default()
            .push(resynced);
    }
    let pairs = |wanted: &dyn Fn(Option<Fault>) -> bool| {
        let those = by_fault.iter().filter(|(fault, _)| wanted(**fault));
        super::cluster::Total::pairs(those.flat_map(|(_, told)| told.iter().copied()))
    };
    let counts: BTreeMap<String, u64> = by_fault
        .iter()
        .map(|(fault, told)| {
            let name = fault.map_or("before any fault", Fault::label);
            let resuming = told.iter().filter(|its| its.resuming).count();
            (
                format!("{name} ({resuming} of them as the answer to a resume)"),
                told.len() as u64,
            )
        })
        .collect();
    report.count("session told `resync` behind", &counts);
    let unlucky = pairs(&|fault| fault.is_some_and(Fault::may_lose));
    let wrong = pairs(&|fault| !fault.is_some_and(Fault::may_lose));
    let percent = 100.0 * unlucky as f64 / (session_topics.max(1)) as f64;
    report.figure("session_topics", session_topics as f64);
    report.figure("resync_session_topics", (unlucky + wrong) as f64);
    report.figure("resync_percent", percent);
    report.check(
        "no `resync` for killed hubs, cut connections, reloads of nginx",
        wrong == 0,
        format!("{wrong} of {session_topics} session-topics"),
    );
    report.check(
        "few `resync` for faults of Redis",
        percent <= allowed_percent,
        format!(
            "{unlucky} of {session_topics} session-topics, {percent:.3} %, {allowed_percent} % are allowed"
        ),
    );
}

/// Each `resync` has its reason in a hub's log.
fn explain(report: &mut Report, reasons: &Reasons, resyncs: u64) {
    report.count("hubs say of `resync`", &reasons.counts);
    let unexplained = reasons.counts.get("none given").copied().unwrap_or(0);
    let said: u64 = reasons.counts.values().sum();
    report.check(
        "the hubs' logs say why",
        resyncs == 0 || (said > 0 && unexplained == 0),
        format!("{resyncs} were told to sessions, {said} records, {unexplained} of them without a reason"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Topic;

    fn past(fault: Fault, began_us: u64) -> Past {
        Past {
            fault,
            began_us,
            from: 0.0,
            to: None,
        }
    }

    fn told(at_us: u64, user: u32) -> Resynced {
        Resynced {
            at_us,
            user,
            topic: Topic::user(user),
            resuming: user > 5,
        }
    }

    fn oks(told: &[Resynced]) -> Vec<bool> {
        let past = [past(Fault::RedisKilled, 100), past(Fault::HubKilled, 200)];
        let mut report = Report::default();
        judge(&mut report, &past, told, 1000, 0.2);
        report.checks.iter().map(|check| check.ok).collect()
    }

    #[test]
    fn a_resync_is_the_last_faults() {
        assert_eq!(oks(&[]), [true, true]);
        assert_eq!(oks(&[told(150, 1), told(199, 2), told(150, 1)]), [true, true]);
        assert_eq!(
            oks(&[told(150, 1), told(199, 2), told(150, 3)]),
            [true, false],
            "0.3 %"
        );
        assert_eq!(oks(&[told(200, 1)]), [false, true]);
        assert_eq!(oks(&[told(50, 1)]), [false, true], "before any fault");
    }

    #[test]
    fn a_resync_without_a_reason_is_found() {
        let ok = |counts: &[(&str, u64)], resyncs| {
            let mut report = Report::default();
            let reasons = Reasons {
                counts: counts
                    .iter()
                    .map(|(name, count)| ((*name).to_owned(), *count))
                    .collect(),
                ..Reasons::default()
            };
            explain(&mut report, &reasons, resyncs);
            report.good()
        };
        assert!(ok(&[], 0) && ok(&[("epoch_changed", 1)], 30));
        assert!(!ok(&[], 1) && !ok(&[("none given", 1), ("epoch_changed", 1)], 30));
    }
}
