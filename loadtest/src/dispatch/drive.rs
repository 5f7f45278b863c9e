//! Requests over connections that are kept.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use memchr::memmem;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::client::{Answer, Connection};
use crate::times::{Counts, Latency, Times, merged};

/// What is not counted at the beginning.
const WARM_UP: Duration = Duration::from_secs(1);

/// Makes the request of a number.
pub(super) type Make = Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// What came of it.
#[derive(Debug)]
pub(super) struct Driven {
    /// Good answers a second.
    pub(super) rate: f64,
    /// Of good answers.
    pub(super) latency: Latency,
}

/// How requests follow each other.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// The next one on a connection when the last was answered.
    Answers,
    /// So many a second over all connections; times count from when one was due.
    PerSecond(f64),
}

/// The next request of a connection goes out when the last was answered.
pub(super) async fn closed(
    address: SocketAddr,
    connections: u32,
    time: Duration,
    make: Make,
) -> anyhow::Result<Driven> {
    drive(address, connections, time, Pace::Answers, make).await
}

/// So many requests a second, over as many connections as it takes to be in time.
pub(super) async fn paced(
    address: SocketAddr,
    connections: u32,
    time: Duration,
    rate: f64,
    make: Make,
) -> anyhow::Result<Driven> {
    drive(address, connections, time, Pace::PerSecond(rate), make).await
}

async fn drive(
    address: SocketAddr,
    connections: u32,
    time: Duration,
    pace: Pace,
    make: Make,
) -> anyhow::Result<Driven> {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    let counted = began + WARM_UP;
    let end = counted + time;
    for number in 0..u64::from(connections) {
        let make = Arc::clone(&make);
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let (mut times, mut refused) = (Times::new()?, BTreeMap::<String, u64>::new());
            let mut next = number;
            loop {
                let due = match pace {
                    Pace::Answers => Instant::now(),
                    Pace::PerSecond(rate) => began + Duration::from_secs_f64(next as f64 / rate),
                };
                if due >= end {
                    break;
                }
                sleep_until(due).await;
                let answer = connection.ask(&make(next)).await?;
                next += u64::from(connections);
                if !good(&answer) {
                    let body = String::from_utf8_lossy(answer.body);
                    *refused
                        .entry(format!("{} {body:.300}", answer.status))
                        .or_default() += 1;
                } else if due >= counted {
                    times.add(due.elapsed().as_micros() as u64);
                }
            }
            anyhow::Ok((times.drain(), refused))
        });
    }
    let mut all: Vec<Counts> = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let (times, refused) = ended??;
        if let Some((what, count)) = refused.first_key_value() {
            bail!("{count} requests were answered with {what}");
        }
        all.push(times);
    }
    // What was begun before the end is waited for, and counts for its time.
    let took = counted.elapsed().as_secs_f64();
    let latency = merged(all.iter())?.context("no request was answered")?;
    Ok(Driven {
        rate: latency.count as f64 / took,
        latency,
    })
}

/// Taken, and in bulk every one of them.
fn good(answer: &Answer<'_>) -> bool {
    let failed = memmem::find(answer.body, br#""failed":"#);
    let none = failed.is_none_or(|at| answer.body[at..].starts_with(br#""failed":0"#));
    (200..300).contains(&answer.status) && none
}

/// So many requests in all, over so many connections; how many a second.
pub(super) async fn finite(
    address: SocketAddr,
    connections: u64,
    count: u64,
    make: Make,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for first in 0..connections {
        let make = Arc::clone(&make);
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            for number in (first..count).step_by(connections as usize) {
                let answer = connection.ask(&make(number)).await?;
                if !good(&answer) {
                    let body = String::from_utf8_lossy(answer.body);
                    bail!("answered with {} {body:.300}", answer.status);
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
