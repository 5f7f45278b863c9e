//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rig::{
    nginx, postgres,
    redis::{self, ClusterOptions, Plan, SentinelOptions},
    whole,
};

/// Starts real servers on loopback.
#[derive(Debug, Parser)]
#[command(name = "rig", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Redis, PostgreSQL, hubs, dispatchers and nginx, until Ctrl-C
    Cluster(Cluster),
}

#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The form of Redis
    #[arg(long, value_enum, default_value_t = Form::Cluster)]
    redis: Form,
    /// The dispatchers' database
    #[arg(long, value_enum, default_value_t = Store::Postgres)]
    database: Store,
    /// Port of PostgreSQL [default: any free one]
    #[arg(long, value_name = "PORT")]
    database_port: Option<u16>,
    /// How many dispatchers [default: 2 with PostgreSQL, 1 with SQLite]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    dispatchers: Option<u16>,
    /// How many hubs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    hubs: u16,
    /// Public port of the first hub; its internal one and the other hubs' follow
    #[arg(long, default_value_t = 8000)]
    hub_port: u16,
    /// Public port of the first dispatcher; its internal one and the other dispatchers' follow
    #[arg(long, default_value_t = 9005)]
    dispatcher_port: u16,
    /// Port of nginx
    #[arg(long, default_value_t = 8080)]
    edge_port: u16,
    /// Any free ports instead
    #[arg(long)]
    any_ports: bool,
    /// The executable of Carillon [default: beside this one]
    #[arg(long, value_name = "FILE", env = rig::carillon::EXECUTABLE)]
    carillon: Option<PathBuf>,
    /// Folder of nginx's configuration
    #[arg(long, value_name = "DIR", default_value = "nginx")]
    nginx: PathBuf,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) duration: Option<u64>,
}

/// Forms of Redis.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// Three primaries with two replicas each
    Cluster,
    /// A primary, two replicas, three sentinels
    Sentinel,
    /// One server
    Single,
}

/// Databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// One server that all dispatchers share
    Postgres,
    /// A file, of one dispatcher
    Sqlite,
}

impl Cluster {
    pub(crate) fn options(&self) -> whole::Options {
        let port = |number| (!self.any_ports).then_some(number);
        whole::Options {
            redis: match self.redis {
                Form::Cluster => Plan::Cluster(ClusterOptions::default()),
                Form::Sentinel => Plan::Sentinel(SentinelOptions::default()),
                Form::Single => Plan::Single(redis::Options::default()),
            },
            hubs: self.hubs.into(),
            hub_port: port(self.hub_port),
            postgres: (self.database == Store::Postgres).then(|| postgres::Options {
                port: self.database_port,
                ..postgres::Options::default()
            }),
            dispatchers: self.dispatchers.map_or_else(
                || match self.database {
                    Store::Postgres => 2,
                    Store::Sqlite => 1,
                },
                usize::from,
            ),
            dispatcher_port: port(self.dispatcher_port),
            edge: Some((
                self.nginx.clone(),
                nginx::Options {
                    port: port(self.edge_port),
                    ..nginx::Options::default()
                },
            )),
            program: self.carillon.clone(),
            environment: Vec::new(),
        }
    }
}
