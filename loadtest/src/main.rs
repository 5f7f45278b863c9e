//! Load and fault harness; `README.md` beside it says what each figure means.
//!
//! The parent starts the server (or uses one) and client processes of this same program, tells them what to do, and
//! reports. A client process holds sockets, publishes, and checks what its sockets receive.

mod agent;
mod args;
mod ask;
mod bus;
mod chaos;
mod check;
mod day;
mod dispatch;
mod figure;
mod fleet;
mod frame;
mod payload;
mod process;
mod report;
mod scenario;
mod server;
mod stamp;
mod sysctl;
mod table;
mod target;
mod times;
mod wire;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::{
    args::{Cli, Command, Common, Compare},
    report::{Report, compare},
};

/// What was asked for could not be done at all.
const TROUBLE: u8 = 2;

fn main() -> ExitCode {
    match go() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(TROUBLE)
        }
    }
}

fn go() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let common = match &cli.command {
        Command::Agent => {
            agent::run()?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Compare(args) => return side_by_side(args),
        Command::Table(args) => {
            table::write(args)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Bus(args) => {
            let report = runtime()?.block_on(bus::run(args))?;
            report.write(args.json.as_deref(), None)?;
            return Ok(verdict(&report));
        }
        Command::Dispatch(args) => {
            let report = runtime()?.block_on(dispatch::run(args))?;
            report.write(args.json.as_deref(), None)?;
            return Ok(verdict(&report));
        }
        command => common(command).context("not a scenario")?,
    };
    let report = runtime()?.block_on(scenario::run(&cli.command))?;
    report.write(common.json.as_deref(), common.html.as_deref())?;
    Ok(verdict(&report))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Says it, and whether it is good.
fn verdict(report: &Report) -> ExitCode {
    say(&report.to_string());
    if report.good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn common(command: &Command) -> Option<&Common> {
    Some(match command {
        Command::Idle(args) => &args.common,
        Command::Broadcast(args) => &args.common,
        Command::Unicast(args) => &args.common,
        Command::Mixed(args) => &args.common,
        Command::HotTopic(args) => &args.common,
        Command::Slow(args) => &args.common,
        Command::Churn(args) => &args.common,
        Command::Storm(args) => &args.common,
        Command::Drain(args) => &args.common,
        Command::Recover(args) => &args.common,
        Command::Chaos(args) => &args.common,
        Command::Rolling(args) => &args.common,
        Command::Bus(_) | Command::Dispatch(_) | Command::Compare(_) | Command::Table(_) | Command::Agent => {
            return None;
        }
    })
}

fn side_by_side(args: &Compare) -> anyhow::Result<ExitCode> {
    let reports = args
        .results
        .iter()
        .map(|path| Report::read(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (text, page) = compare(&reports);
    say(&text);
    if let Some(path) = &args.html {
        std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn say(text: &str) {
    print!("{text}");
}
