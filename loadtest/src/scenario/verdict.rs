//! What a run is judged by: its figures, and what has to hold in most scenarios.

use std::collections::BTreeMap;

use super::run::{Part, Run};
use crate::{
    check::Faults,
    stamp::Topic,
    times::{Counts, merged},
    wire::{Settle, Stopped, Window},
};

impl Run<'_> {
    /// The usual figures of traffic.
    pub(super) fn traffic(&mut self, part: &Part) -> anyhow::Result<()> {
        let (received, published) = (part.received(), part.published());
        let sum = |of: fn(&Window) -> u64| -> u64 { part.windows.iter().map(of).sum() };
        let reads = sum(|window| window.reads);
        let report = &mut self.report;
        report.figure("traffic_seconds", part.seconds);
        report.figure("published", published as f64);
        report.figure("received", received as f64);
        report.figure("publishes_per_second", published as f64 / part.seconds);
        report.figure("deliveries_per_second", received as f64 / part.seconds);
        if reads > 0 {
            report.figure("frames_per_read", received as f64 / reads as f64);
        }
        if received > 0 {
            let bytes = sum(|window| window.bytes);
            report.figure("bytes_per_delivery", bytes as f64 / received as f64);
        }
        if self.common.deflate {
            report.figure("compressed", sum(|window| window.compressed) as f64);
        }
        if let Some(cpu) = part.cpu {
            let us = cpu.as_micros() as f64;
            report.figure("server_cores", cpu.as_secs_f64() / part.seconds);
            if received > 0 {
                report.figure("cpu_us_per_delivery", us / received as f64);
            }
            if published > 0 {
                report.figure("cpu_us_per_publish", us / published as f64);
            }
        }
        let of = |pick: fn(&Window) -> &Counts| merged(part.windows.iter().map(pick));
        report.latency("delivery", of(|window| &window.delivery)?);
        report.latency("answer", of(|window| &window.answer)?);
        report.latency("whole", of(|window| &window.whole)?);
        report.latency("spread", of(|window| &window.spread)?);
        report.latency("reopen", of(|window| &window.reopen)?);
        Ok(())
    }

    /// Counts of what resuming brought, added up over parts.
    pub(super) fn resumed(&mut self, part: &Part) {
        for (name, of) in [
            ("resumed", (|window| window.resumed) as fn(&Window) -> u64),
            ("recovered", |window| window.recovered),
            ("resyncs", |window| window.resyncs),
            ("gaps", |window| window.gaps),
        ] {
            let sum: u64 = part.windows.iter().map(of).sum();
            let before = self.report.figures.get(name).copied().unwrap_or(0.0);
            self.report.figure(name, before + sum as f64);
        }
    }

    /// Waits for what is on the way, and checks that all sockets have what they should have.
    pub(super) async fn settle(&mut self, stopped: Stopped, keys: u32) -> anyhow::Result<()> {
        let sent: BTreeMap<Topic, u32> = stopped.sent.iter().copied().collect();
        let settle = Settle {
            sent: stopped.sent,
            failed: stopped.failed,
            grace_ms: self.common.grace_seconds * 1000,
            keys,
        };
        let all = self.fleet.settle(&settle).await?;
        let mut faults = Faults::default();
        let (mut checked, mut faulty, mut not_open, mut expected) = (0, 0, 0, 0);
        let (mut stalled, mut newest) = (0, 0);
        let mut examples = Vec::new();
        for settled in all {
            faults.add(settled.faults);
            checked += settled.checked;
            faulty += settled.faulty;
            not_open += settled.not_open;
            expected += settled.expected;
            stalled += settled.stalled;
            newest += settled.stalled_newest;
            examples.extend(settled.examples);
        }
        let report = &mut self.report;
        for (name, value) in [
            ("due", expected),
            ("lost", faults.lost),
            ("doubled", faults.doubled),
            ("reordered", faults.reordered),
            ("told", faults.told),
        ] {
            report.figure(name, value as f64);
        }
        if stalled > 0 {
            report.figure("stalled", f64::from(stalled));
            report.figure("stalled_newest", f64::from(newest));
        }
        examples.truncate(5);
        let mut detail = format!(
            "of {expected} messages for {checked} sockets ({} topics): {} lost, {} doubled, {} reordered, on {faulty} sockets",
            sent.len(),
            faults.lost,
            faults.doubled,
            faults.reordered
        );
        for example in examples {
            detail.push_str("; ");
            detail.push_str(&example);
        }
        report.check(
            "each socket got each of its messages once, in order",
            !faults.any(),
            detail,
        );
        report.check(
            "every socket is open at the end",
            not_open == 0,
            format!("{not_open} are not"),
        );
        Ok(())
    }

    /// No publish failed, so far.
    pub(super) fn check_publishes(&mut self) {
        let errors = self.errors;
        self.report
            .check("no publish failed", errors == 0, format!("{errors} failed"));
    }

    /// The server closed no socket, so far.
    pub(super) fn check_closed(&mut self) {
        let closed: u64 = self
            .report
            .counts
            .get("socket closed")
            .map_or(0, |reasons| reasons.values().sum());
        self.report.check(
            "the server closed no socket",
            closed == 0,
            format!("{closed} were closed"),
        );
    }
}
