//! The bus over real Redis, measured from this process: what it carries, how late, and how it comes back.
//!
//! | file | what |
//! | --- | --- |
//! | `rate` | publishes a second beside `redis-benchmark`, processor time of Redis a message |
//! | `lag` | from a publish to another node; what a node costs that is not concerned |
//! | `faults` | a primary killed, a connection that died silently, a hundred thousand topics subscribed again |
//! | `setup`, `tool`, `silence` | buses, topics; `redis-benchmark`; a line that goes dead |

mod faults;
mod lag;
mod rate;
mod setup;
mod silence;
mod tool;

use anyhow::Context;

use crate::{args::Bus, figure::Figures, report::Report};

/// Measures what is asked for, so many times, and judges by the median.
pub(crate) async fn run(args: &Bus) -> anyhow::Result<Report> {
    if let Some(core) = args.client_core {
        setup::pin(std::process::id(), core)?;
    }
    let mut figures = Figures::default();
    for run in 1..=args.runs {
        eprintln!("run {run} of {}", args.runs);
        rate::measure(args, &mut figures).await.context("rate")?;
        lag::measure(args, &mut figures).await.context("lag")?;
        faults::measure(args, &mut figures).await.context("faults")?;
    }
    if let Some(path) = &args.markdown {
        figures.write_into(path, "bench-redis")?;
    }
    let mut report = Report {
        name: "bus".to_owned(),
        scenario: "bus".to_owned(),
        target: "Redis".to_owned(),
        target_version: tool::version().await,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        ..Report::default()
    };
    figures.tell(&mut report);
    Ok(report)
}
