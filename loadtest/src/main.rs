//! Load and fault harness; `README.md` beside it says what each figure means.
//!
//! The parent starts the server (or uses one), starts client processes of this same program, publishes, and reports.
//! A client process holds the sockets and checks what they receive.

mod args;
mod check;
mod client;
mod fleet;
mod frame;
mod publish;
mod report;
mod scenario;
mod server;
#[allow(dead_code)]
mod target;
mod wire;
mod worker;

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;

use crate::{
    args::{Args, Scenario},
    server::Server,
};

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build()?;
    if args.scenario == Scenario::Client {
        runtime.block_on(worker::run())?;
        return Ok(ExitCode::SUCCESS);
    }
    runtime.block_on(parent(&args))
}

async fn parent(args: &Args) -> anyhow::Result<ExitCode> {
    let server = Server::new(args).await?;
    let bound = Duration::from_secs(args.connect_seconds + args.seconds * 2 + args.grace_seconds * 2 + 180);
    let ran = tokio::time::timeout(bound, scenario::run(args, &server)).await;
    let stopped = server.stop().await;
    let report = ran.context("the run took too long")??;
    scenario::write(&report, args)?;
    #[expect(clippy::print_stdout, reason = "the report is what this program is for")]
    {
        print!("{report}");
    }
    stopped?;
    Ok(if report.good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
