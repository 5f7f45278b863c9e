//! The dispatcher, measured from outside, beside what the same disk and processors do without it.
//!
//! | file | what |
//! | --- | --- |
//! | `site` | a server on a database of its own, and its tokens |
//! | `client`, `drive` | HTTP connections that are kept; requests as fast as answers come, or by the clock |
//! | `accept` | one at a time, in bulk, all to one role |
//! | `live` | from the request to the frame |
//! | `through`, `sink` | mails and webhook calls, and who takes them |
//! | `events` | events of Kafka |
//! | `inbox` | reading in a large database; a server that has nothing to do |
//! | `floor` | pgbench, a bare commit loop, smtp-source |

mod accept;
mod client;
mod drive;
mod events;
mod floor;
mod inbox;
mod live;
mod sink;
mod site;
mod through;

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::{
    args::Dispatch,
    figure::{Bound, Figures},
    report::Report,
};

/// A figure that was measured elsewhere.
#[derive(Debug, Deserialize)]
struct Foreign {
    id: String,
    what: String,
    value: f64,
    unit: String,
    /// What it must be and should be; where the first is larger, it is a most.
    bounds: Option<[f64; 2]>,
}

/// Measures what is asked for, so many times, and judges by the median.
pub(crate) async fn run(args: &Dispatch) -> anyhow::Result<Report> {
    let mut figures = Figures::default();
    for run in 1..=args.runs {
        eprintln!("run {run} of {}", args.runs);
        for &kind in &args.stores {
            accept::measure(args, kind, &mut figures)
                .await
                .context("accepting")?;
            live::measure(args, kind, &mut figures).await.context("frames")?;
            through::measure(args, kind, &mut figures)
                .await
                .context("mails and webhooks")?;
            events::measure(args, kind, &mut figures)
                .await
                .context("events")?;
            inbox::measure(args, kind, &mut figures).await.context("inbox")?;
        }
    }
    for path in &args.more {
        take(path, &mut figures)?;
    }
    if let Some(path) = &args.markdown {
        figures.write_into(path, "bench-dispatch")?;
    }
    let mut report = Report {
        name: "dispatch".to_owned(),
        scenario: "dispatch".to_owned(),
        target: "carillon".to_owned(),
        target_version: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        ..Report::default()
    };
    figures.tell(&mut report);
    Ok(report)
}

fn take(path: &Path, figures: &mut Figures) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    for line in text.lines() {
        let figure: Foreign =
            serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))?;
        let bound = match figure.bounds {
            None => Bound::None,
            Some([must, goal]) if must > goal => Bound::Most(must, goal),
            Some([must, goal]) => Bound::Least(must, goal),
        };
        figures.add(&figure.id, figure.what, figure.value, &figure.unit, bound);
    }
    Ok(())
}
