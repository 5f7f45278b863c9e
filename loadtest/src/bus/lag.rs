//! From a publish to another node, and what a node costs that has no part in it.

use std::time::Duration;

use anyhow::Context;
use common::{bus::BusEvent, redis::RedisKind};
use rig::{
    carillon::{Node, Options as NodeOptions, Service, executable},
    redis::{Options, Server},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    rate::{Listening, pace},
    setup::{config, connect, cpu, micros, publication, sent_at, topics},
};
use crate::{
    args::Bus as Args,
    figure::{Bound, Figures},
    times::Times,
};

/// Publishes a second while lag is measured.
const LAG_RATE: u64 = 5_000;
/// Publishes a second between others.
const OTHERS_RATE: u64 = 20_000;
/// Topics that publishes go to.
const TOPICS: u32 = 1_000;
/// Longest wait for what is on the way at the end.
const REST: Duration = Duration::from_secs(5);

pub(super) async fn measure(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    if args.wants("c2") {
        lag(args, figures).await?;
    }
    if args.wants("c3") {
        bystander(args, figures).await?;
    }
    Ok(())
}

/// Single publishes by the clock on one bus, received on another; each with connections of its own.
async fn lag(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let server = Server::start(&Options::default())?;
    let config = config(RedisKind::Servers, &[server.url()], 0)?;
    let (publisher, node) = (connect(&config).await?, connect(&config).await?);
    let topics = topics(TOPICS)?;
    let (subscriptions, mut events) = node.attach(65_536);
    subscriptions.subscribe(&topics).await?;

    let mut clock = interval(Duration::from_millis(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let time = Duration::from_secs(args.seconds);
    let began = Instant::now();
    let (mut sent, mut received) = (0_u64, 0_u64);
    let mut answers = JoinSet::new();
    let mut batch = Vec::new();
    let mut times = Times::new()?;
    while began.elapsed() < time || received < sent {
        tokio::select! {
            biased;
            count = events.next_batch(&mut batch, 256) => {
                anyhow::ensure!(count > 0, "the bus ended");
                let now = micros();
                for event in batch.drain(..) {
                    let BusEvent::Message(message) = event else { continue };
                    let at = sent_at(&message.payload).context("a message without its time")?;
                    times.add(now.saturating_sub(at));
                    received += 1;
                }
            }
            _ = clock.tick() => {
                let due = (began.elapsed().min(time).as_secs_f64() * LAG_RATE as f64) as u64;
                for number in sent..due {
                    let bus = publisher.clone();
                    let publication = publication(&topics[number as usize % topics.len()]);
                    answers.spawn(async move { bus.publish(publication).await });
                }
                sent = due;
                while let Some(answer) = answers.try_join_next() {
                    answer??;
                }
                anyhow::ensure!(began.elapsed() < time + REST, "{received} of {sent} arrived");
            }
        }
    }
    let latency = times.latency().context("no message came")?;
    figures.add(
        "C2",
        "publish to receive on another node, 5,000/s, p50",
        latency.p50_ms,
        "ms",
        Bound::Most(2.0, 0.5),
    );
    figures.add(
        "C2",
        "publish to receive on another node, 5,000/s, p99",
        latency.p99_ms,
        "ms",
        Bound::Most(10.0, 3.0),
    );
    Ok(())
}

/// A hub that is a process of its own, and two buses here that exchange messages of topics of which it has no member.
async fn bystander(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let server = Server::start(&Options::default())?;
    let options = NodeOptions {
        service: Service::Hub,
        program: Some(match &args.server {
            Some(path) => std::path::absolute(path)?,
            None => executable()?,
        }),
        config: format!("[redis]\nkind = \"servers\"\nurls = [{:?}]\n", server.url()),
        environment: vec![("CARILLON_AUTH__SECRET".to_owned(), "s".repeat(48))],
        ..NodeOptions::default()
    };
    let hub = tokio::task::spawn_blocking(move || Node::start(&options)).await??;
    let config = config(RedisKind::Servers, &[server.url()], 0)?;
    let (publisher, node) = (connect(&config).await?, connect(&config).await?);
    let topics = topics(TOPICS)?;
    let listening = Listening::to(&node, &topics).await?;
    let time = Duration::from_secs(args.bystander_seconds);
    // What its start leaves over is not counted.
    sleep(Duration::from_secs(2)).await;

    let before = cpu(hub.pid())?;
    sleep(time).await;
    let alone = cpu(hub.pid())?.saturating_sub(before);
    let before = cpu(hub.pid())?;
    let began = Instant::now();
    let sent = pace(&publisher, &topics, OTHERS_RATE, time).await?;
    let took = began.elapsed().as_secs_f64();
    let beside = cpu(hub.pid())?.saturating_sub(before);
    let received = timeout(REST, listening.end()).await??;
    figures.add(
        "C3",
        "messages that others exchanged",
        sent.min(received) as f64 / took,
        "/s",
        Bound::None,
    );
    let percent = |used: Duration| 100.0 * used.as_secs_f64() / time.as_secs_f64();
    figures.add(
        "C3",
        "CPU of a hub, nothing exchanged",
        percent(alone),
        "% of a core",
        Bound::None,
    );
    figures.add(
        "C3",
        "CPU of a hub that has no member of the topics",
        percent(beside),
        "% of a core",
        Bound::None,
    );
    let extra = percent(beside) - percent(alone);
    figures.add(
        "C3",
        "extra CPU of that hub",
        extra,
        "% of a core",
        Bound::Most(1.0, 0.1),
    );
    Ok(())
}
