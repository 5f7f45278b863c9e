//! From the request to the frame, stored in between: the scenario `unicast` against the dispatcher's API.

use clap::Parser;

use super::site::{Site, secret};
use crate::{
    args::{Cli, Dispatch, Kind},
    figure::{Bound, Figures},
    scenario,
};

/// How the dispatcher is asked.
const TARGET: &str = include_str!("../target/dispatcher.toml");
/// Notifications a second.
const RATE: &str = "1000";
/// The latency of `unicast` from when one was due to reading its frame, by its name in reports.
const LATENCY: &str = "delivery";

pub(super) async fn measure(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    if !args.wants("d4") {
        return Ok(());
    }
    let site = Site::start(args, kind, "")?;
    let folder = tempfile::tempdir()?;
    let (target, key) = (folder.path().join("target.toml"), folder.path().join("secret"));
    std::fs::write(&target, TARGET)?;
    std::fs::write(&key, secret())?;
    let (address, seconds) = (site.address().to_string(), args.seconds.to_string());
    let (target, key) = (target.display().to_string(), key.display().to_string());
    let command = Cli::try_parse_from([
        "loadtest",
        "unicast",
        "--rate",
        RATE,
        "--sockets",
        "1000",
        "--lanes",
        "32",
        "--seconds",
        &seconds,
        "--describe",
        &target,
        "--address",
        &address,
        "--publish",
        &address,
        "--secret-file",
        &key,
    ])?
    .command;
    let report = scenario::run(&command).await?;
    if let Some(check) = report.checks.iter().find(|check| !check.ok) {
        anyhow::bail!("{}: {}; {:?}", check.name, check.detail, report.counts);
    }
    let Some(latency) = report.latencies.get(LATENCY) else {
        anyhow::bail!("no frame came; there are {:?}", report.latencies.keys());
    };
    for (value, what, bound) in [
        (latency.p50_ms, "p50", Bound::Most(10.0, 3.0)),
        (latency.p99_ms, "p99", Bound::Most(50.0, 15.0)),
    ] {
        let what = format!("{}: request to frame, 1,000/s, {what}", kind.name());
        figures.add("D4", what, value, "ms", bound);
    }
    Ok(())
}
