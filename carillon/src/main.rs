//! The executable: reads the command line and the configuration, and runs what is asked for.

mod admin;
mod cli;
mod config;
mod files;
mod grpc;
mod lock;
mod page;
mod routes;
mod secret;
mod service;

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use clap::Parser;
use common::token::{NewToken, mint};
use dispatcher::store::{MigrationStatus, migrate_down, migrate_status, migrate_up};

use self::{
    cli::{Cli, Command, MigrateStep, TokenArgs},
    config::{Config, Runtime},
};

// An idle session is a few small blocks; jemalloc keeps them densest (docs/operations.md, memory).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bad usage or configuration (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Standalone);
    let loaded = Runtime::load(command.service(), cli.options, std::env::vars().collect());
    let (runtime, config) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("carillon: configuration: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match run(command, config, runtime) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("carillon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, config: Config, reading: Runtime) -> anyhow::Result<()> {
    match command {
        Command::Standalone | Command::Hub => {
            common::telemetry::init(&config.log)?;
            files::raise_limit(config.hub.max_connections);
            runtime()?.block_on(service::run(command.service(), config, reading))
        }
        Command::Dispatcher => {
            common::telemetry::init(&config.log)?;
            runtime()?.block_on(service::run(command.service(), config, reading))
        }
        Command::Token(args) => say(&token(&args, &config)?),
        Command::Migrate { step } => {
            let place = config.database_place();
            secret::make_folder(&config.server.data_dir)?;
            let _lock = match step {
                MigrateStep::Status => None,
                MigrateStep::Up | MigrateStep::Down => lock::DatabaseLock::of(&place)?,
            };
            let status = runtime()?.block_on(async {
                match step {
                    MigrateStep::Up => migrate_up(&place).await,
                    MigrateStep::Down => migrate_down(&place).await,
                    MigrateStep::Status => migrate_status(&place).await,
                }
            });
            let status = status.with_context(|| format!("the database {place}"))?;
            for MigrationStatus {
                version,
                name,
                applied,
            } in status
            {
                let stands = if applied { "applied" } else { "missing" };
                say(&format!("{version:04} {name:<24} {stands}"))?;
            }
            Ok(())
        }
        Command::Admin { admin } => {
            let done = runtime()?.block_on(admin::run(admin, &config, &mut std::io::stdout()));
            done.or_else(unless_read_enough)
        }
        // What can be wrong has been refused with the loading.
        Command::Check { .. } => say("the configuration is good"),
    }
}

/// Prints one line. Who closed the pipe has read enough.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}").or_else(|error| unless_read_enough(error.into()))
}

fn unless_read_enough(error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast_ref::<std::io::Error>() {
        Some(broken) if broken.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime")
}

fn token(args: &TokenArgs, config: &Config) -> anyhow::Result<String> {
    anyhow::ensure!(
        !args.ttl.0.is_zero(),
        "--ttl: a token has to be valid for some time"
    );
    let secret = secret::configured_or_kept(config.auth.secret.as_ref(), &config.server.data_dir)?;
    let scopes = if args.scopes.is_empty() {
        vec!["notifications:write templates:write".to_owned()]
    } else {
        args.scopes.clone()
    };
    let tenant = args
        .tenant
        .clone()
        .or_else(|| config.auth.default_tenant.as_ref().map(ToString::to_string));
    let new = NewToken {
        user: args.user.clone(),
        tenant,
        roles: args.roles.clone(),
        stores: args.stores.clone(),
        topics: args.topics.clone(),
        scopes,
        issuer: config.auth.issuer.clone(),
        audience: config.auth.audience.clone(),
        ttl_seconds: i64::try_from(args.ttl.0.as_secs())?,
    };
    let token = mint(&new, &secret)?;
    // What the server would refuse is not worth printing.
    common::token::Verifier::new(&config.auth, Some(&secret))?.verify(&token)?;
    Ok(token)
}
