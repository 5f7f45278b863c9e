//! What runs do, one file a scenario, on top of `run.rs`.

mod broadcast;
mod chaos;
mod churn;
mod cluster;
mod drain;
mod hot_topic;
mod idle;
mod mixed;
mod recover;
mod rolling;
mod run;
mod slow;
mod storm;
mod unicast;
mod verdict;
mod watch;

use crate::{args::Command, report::Report};

/// Runs a scenario.
pub(crate) async fn run(command: &Command) -> anyhow::Result<Report> {
    match command {
        Command::Idle(args) => idle::run(args).await,
        Command::Broadcast(args) => broadcast::run(args).await,
        Command::Unicast(args) => unicast::run(args).await,
        Command::Mixed(args) => mixed::run(args).await,
        Command::HotTopic(args) => hot_topic::run(args).await,
        Command::Slow(args) => slow::run(args).await,
        Command::Churn(args) => churn::run(args).await,
        Command::Storm(args) => storm::run(args).await,
        Command::Drain(args) => drain::run(args).await,
        Command::Recover(args) => recover::run(args).await,
        Command::Chaos(args) => chaos::run(args).await,
        Command::Rolling(args) => rolling::run(args).await,
        Command::Bus(_) | Command::Dispatch(_) | Command::Compare(_) | Command::Table(_) | Command::Agent => {
            anyhow::bail!("not a scenario")
        }
    }
}
