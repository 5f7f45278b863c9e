//! `rig cluster`: the whole for development, without containers. `make cluster` builds what it needs and calls it.

mod args;
mod guide;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use clap::Parser as _;
use rig::{Error, whole::Whole};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use args::{Arguments, Command};

/// How often it looks whether everything is still there.
const LOOK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let Command::Cluster(cluster) = Arguments::parse().command;
    let result = interrupts()
        .map_err(|error| error.to_string())
        .and_then(|interrupts| run(&cluster, &interrupts).map_err(|error| error.to_string()));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("rig: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything held until the end.
fn run(cluster: &args::Cluster, interrupts: &Receiver<()>) -> Result<bool, Error> {
    say("starting PostgreSQL, Redis, hubs, dispatchers, nginx ...");
    let whole = Whole::start(&cluster.options())?;
    say(&guide::text(&whole));
    let end = cluster
        .duration
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut told = Vec::new();
    loop {
        for (address, error) in whole.ended() {
            if !told.contains(&address) {
                say(&format!("rig: {error}"));
                told.push(address);
            }
        }
        let left = end.map_or(LOOK, |end| {
            end.saturating_duration_since(Instant::now()).min(LOOK)
        });
        match interrupts.recv_timeout(left) {
            Err(RecvTimeoutError::Timeout) if end.is_none_or(|end| Instant::now() < end) => {}
            Ok(()) | Err(_) => break,
        }
    }
    say("stopping, which takes a moment; once more to kill ...");
    whole.stop()?;
    Ok(told.is_empty())
}

/// The first interrupt is told; with the second this process ends, and the watcher kills what is left.
fn interrupts() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let (tell, told) = sync_channel(1);
    thread::spawn(move || {
        for _ in signals.forever() {
            if tell.try_send(()).is_err() {
                signal_hook::low_level::exit(130);
            }
        }
    });
    Ok(told)
}

/// A terminal that is gone is no reason to leave everything running.
fn say(text: &str) {
    writeln!(io::stdout(), "{text}").ok();
}
