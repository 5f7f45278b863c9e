//! What runs do, one file a scenario, on top of `run.rs`.

mod broadcast;
mod idle;
mod run;
mod unicast;

use crate::{args::Command, report::Report};

/// Runs a scenario.
pub(crate) async fn run(command: &Command) -> anyhow::Result<Report> {
    match command {
        Command::Idle(args) => idle::run(args).await,
        Command::Broadcast(args) => broadcast::run(args).await,
        Command::Unicast(args) => unicast::run(args).await,
        _ => anyhow::bail!("not a scenario"),
    }
}
