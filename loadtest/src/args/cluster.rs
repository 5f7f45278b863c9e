//! What can be asked of several hubs that are one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Common;

/// The cluster that is started for the run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Cluster {
    /// Hubs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16), help_heading = "Cluster")]
    pub(crate) hubs: u8,
    /// Primaries of the Redis Cluster; three at least, or nobody could take over.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=16), help_heading = "Cluster")]
    pub(crate) primaries: u8,
    /// Replicas of each. With one, publishing waits after a loss until a second copy exists again.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=4), help_heading = "Cluster")]
    pub(crate) replicas: u8,
    /// What stands between sockets and hubs. Publishes go to the hubs themselves in any case.
    #[arg(long, value_enum, default_value = "nginx", help_heading = "Cluster")]
    pub(crate) balancer: Balancer,
    /// The folder of nginx's configuration, with its `render.sh`. Default: that of this repository.
    #[arg(long, help_heading = "Cluster")]
    pub(crate) nginx: Option<PathBuf>,
}

/// What stands before the hubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balancer {
    /// nginx with the repository's configuration.
    Nginx,
    /// Nothing: sockets spread by themselves, and try the next hub when one does not let them in.
    None,
}

/// What is published while something happens to the cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct Traffic {
    /// Publishes a second: to users, topics, stores, roles and now and then the tenant. Each has an idempotency key and is
    /// repeated until a hub acknowledges it.
    #[arg(long, default_value_t = 200.0)]
    pub(crate) rate: f64,
    /// Explicit topics.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) topics: u32,
    /// How many of them a socket subscribes to.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=50))]
    pub(crate) topics_each: u32,
}

#[derive(Debug, Clone, Args)]
#[command(mut_arg("sockets", |arg| arg.default_value("3000")), mut_arg("seconds", |arg| arg.default_value("600")), mut_arg("grace_seconds", |arg| arg.default_value("60")))]
pub(crate) struct Chaos {
    /// The plan of faults (TOML). Default: everything by chance, `loadtest/plans/everything.toml`.
    #[arg(long)]
    pub(crate) plan: Option<PathBuf>,
    /// Session-topics, in per cent, that may be told `resync` because of faults of Redis.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) allowed_percent: f64,
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Clone, Args)]
#[command(mut_arg("sockets", |arg| arg.default_value("3000")), mut_arg("grace_seconds", |arg| arg.default_value("60")))]
pub(crate) struct Rolling {
    #[command(flatten)]
    pub(crate) traffic: Traffic,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) common: Common,
}
