//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use common::{
    config::Span,
    token::{KeyId, Role},
};

/// Self-hosted notifications: sockets, inbox, email and more. Without a command it runs everything in this process.
#[derive(Debug, Parser)]
#[command(name = "carillon", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Configuration: TOML, or YAML by its ending
    #[arg(long, global = true, value_name = "FILE", env = "CARILLON_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of the database and the made secret [default: ./carillon-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Public listener: page, API, sockets [default: 127.0.0.1:8000; of a dispatcher 127.0.0.1:9005]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Internal listener: publish, metrics, health [default: 127.0.0.1:8001; of a dispatcher 127.0.0.1:9006]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) internal_listen: Option<SocketAddr>,
    /// gRPC listener of a standalone server and a dispatcher [default: 127.0.0.1:9505]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) grpc_listen: Option<SocketAddr>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in this process (the default)
    Standalone,
    /// Run a hub of a cluster: sockets, publish API
    Hub,
    /// Run the dispatcher of a cluster: notifications, inbox, deliveries
    Dispatcher,
    /// Print a token
    Token(TokenArgs),
    /// See to what needs no token: on the configured database, by who may read its configuration
    Admin {
        /// What to see to
        #[command(subcommand)]
        admin: Admin,
    },
    /// Change the database's schema, or show where it stands
    Migrate {
        /// What to do with it
        #[command(subcommand)]
        step: MigrateStep,
    },
    /// Read the configuration and say what is wrong with it, without starting
    Check {
        /// For which process
        #[arg(value_enum, default_value_t)]
        service: Service,
    },
}

/// The processes that Carillon can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// Everything in one process
    #[default]
    Standalone,
    /// One of several hubs over Redis
    Hub,
    /// What is beside them
    Dispatcher,
}

impl Command {
    /// The process whose configuration the command needs. A token and the database are the same whichever it is.
    pub(crate) fn service(&self) -> Service {
        match self {
            Self::Hub => Service::Hub,
            Self::Dispatcher => Service::Dispatcher,
            Self::Check { service } => *service,
            Self::Standalone | Self::Token(_) | Self::Admin { .. } | Self::Migrate { .. } => {
                Service::Standalone
            }
        }
    }
}

/// Steps of `carillon migrate`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum MigrateStep {
    /// Apply every migration that is missing
    Up,
    /// Take the newest migration back, with the data of its tables
    Down,
    /// Show which migrations the database has
    Status,
}

/// What the printed token says.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The user, or a service's name
    #[arg(long)]
    pub(crate) user: String,
    /// The tenant [default: auth.default_tenant]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// A role; may be given more than once
    #[arg(long = "role", value_name = "ROLE")]
    pub(crate) roles: Vec<String>,
    /// A store; may be given more than once
    #[arg(long = "store", value_name = "STORE")]
    pub(crate) stores: Vec<String>,
    /// A pattern of topics that may be subscribed; may be given more than once
    #[arg(long = "topic", value_name = "PATTERN")]
    pub(crate) topics: Vec<String>,
    /// Scopes, separated by spaces; may be given more than once
    /// [default: "notifications:write templates:write"]
    #[arg(long = "scope", value_name = "SCOPES")]
    pub(crate) scopes: Vec<String>,
    /// How long it is valid
    #[arg(long, default_value = "1h")]
    pub(crate) ttl: Span,
}

/// What `carillon admin` sees to.
#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// API keys of services
    #[command(subcommand)]
    Keys(KeysCommand),
    /// The audit log
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print who changed what, the newest first, one JSON object a line
    Export {
        /// Of this tenant only [default: of all, and of the platform]
        #[arg(long)]
        tenant: Option<String>,
        /// An action such as `key.create`, or its noun, `key`
        #[arg(long)]
        action: Option<String>,
        /// At this time or later, RFC 3339
        #[arg(long, value_name = "TIME")]
        from: Option<jiff::Timestamp>,
        /// Before this time, RFC 3339 [default: now]
        #[arg(long, value_name = "TIME")]
        to: Option<jiff::Timestamp>,
    },
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key, and print it: it is shown once
    Create(CreateKey),
    /// List keys, without their secrets
    List {
        /// Of this tenant only
        #[arg(long)]
        tenant: Option<String>,
        /// active, expired or revoked
        #[arg(long)]
        state: Option<String>,
    },
    /// Give a key another secret, and print it: it is shown once
    Rotate {
        /// The key's id
        id: KeyId,
        /// For how long the secret before counts too
        #[arg(long, default_value = "1h")]
        overlap: Span,
    },
    /// Take a key back, for good
    Revoke {
        /// The key's id
        id: KeyId,
    },
}

/// A key to be made.
#[derive(Debug, Args)]
pub(crate) struct CreateKey {
    /// What people will know it by
    #[arg(long)]
    pub(crate) name: String,
    /// The tenant [default: auth.default_tenant]
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// Scopes, separated by spaces; may be given more than once
    #[arg(long = "scope", value_name = "SCOPES")]
    pub(crate) scopes: Vec<String>,
    /// A role: admin, operator, publisher or auditor
    #[arg(long)]
    pub(crate) role: Option<Role>,
    /// For how long it counts [default: until it is revoked]
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Span>,
}
