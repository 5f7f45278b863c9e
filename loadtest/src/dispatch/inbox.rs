//! Reading where much is stored, and a server that has nothing to do.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, sleep};

use super::{
    accept::many,
    client::get,
    drive::{closed, finite, paced},
    site::{Site, reader},
};
use crate::{
    args::{Dispatch, Kind},
    figure::{Bound, Figures},
    process::usage,
};

/// Requests a second.
const RATE: f64 = 500.0;
/// Connections of readers.
const CONNECTIONS: u32 = 32;
/// Notifications of a bulk request.
const BULK: u64 = 1_000;
/// How long nothing is asked before that is measured, and while.
const QUIET: Duration = Duration::from_secs(10);

pub(super) async fn measure(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    let idle = kind == Kind::Sqlite && args.wants("d10");
    if !args.wants("d8") && !idle {
        return Ok(());
    }
    let site = Site::start(args, kind, "")?;
    let make = many(args.users, r#""in_app""#, String::new())?;
    let filled = finite(site.address(), 4, args.rows.div_ceil(BULK), make).await?;
    let what = format!("{}: accepted while {} rows were stored", kind.name(), args.rows);
    figures.add("D2", what, filled * BULK as f64, "/s", Bound::None);
    if args.wants("d8") {
        read(args, kind, &site, figures).await?;
    }
    if idle {
        rest(args, &site, figures).await?;
    }
    Ok(())
}

async fn read(args: &Dispatch, kind: Kind, site: &Site, figures: &mut Figures) -> anyhow::Result<()> {
    let tokens: Vec<String> = (0..args.users)
        .map(|user| reader(&format!("u{user}")))
        .collect::<anyhow::Result<_>>()?;
    let tokens = Arc::new(tokens);
    let time = Duration::from_secs(args.seconds.max(20));
    for (path, what) in [
        ("/api/v1/notifications?limit=20", "page of 20"),
        ("/api/v1/notifications/unread-count", "unread count"),
    ] {
        let tokens = Arc::clone(&tokens);
        // Users in no order: 7919 is a prime.
        let make = Arc::new(move |number: u64| get(path, &tokens[(number * 7919) as usize % tokens.len()]));
        // A user's first request is counted with the others of the first part.
        let driven = paced(site.address(), CONNECTIONS, time, RATE, make).await?;
        let what = format!("{}: {what}, {} rows, 500/s, p99", kind.name(), args.rows);
        figures.add("D8", what, driven.latency.p99_ms, "ms", Bound::Most(15.0, 5.0));
    }
    let everyone = Arc::clone(&tokens);
    let make = Arc::new(move |number: u64| {
        let token = &everyone[(number * 7919) as usize % everyone.len()];
        get("/api/v1/notifications?limit=20", token)
    });
    let driven = closed(
        site.address(),
        CONNECTIONS,
        Duration::from_secs(args.seconds),
        make,
    )
    .await?;
    let what = format!("{}: pages of 20, {CONNECTIONS} connections", kind.name());
    figures.add("D8", what, driven.rate, "/s", Bound::None);
    Ok(())
}

/// Started again on what is stored.
async fn rest(args: &Dispatch, site: &Site, figures: &mut Figures) -> anyhow::Result<()> {
    let label = format!("SQLite, {} rows", args.rows);
    site.node.terminate()?;
    site.node.wait(Duration::from_secs(60))?;
    let began = Instant::now();
    site.node.restart()?;
    let took = began.elapsed().as_secs_f64() * 1_000.0;
    figures.add(
        "D10",
        format!("{label}: start to ready"),
        took,
        "ms",
        Bound::Most(1_000.0, 200.0),
    );
    sleep(QUIET).await;
    let pid = site.node.pid();
    let before = usage(&[pid]).context("the server is gone")?;
    let span = QUIET * 3;
    sleep(span).await;
    let after = usage(&[pid]).context("the server is gone")?;
    let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() / span.as_secs_f64();
    figures.add(
        "D10",
        format!("{label}: CPU, nothing to do"),
        100.0 * cpu,
        "% of a core",
        Bound::Most(0.3, 0.1),
    );
    figures.add(
        "D10",
        format!("{label}: resident memory"),
        after.rss as f64 / 1_048_576.0,
        "MB",
        Bound::Most(60.0, 30.0),
    );
    Ok(())
}
