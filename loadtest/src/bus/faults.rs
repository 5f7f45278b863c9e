//! How long it takes until messages flow again.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use common::{
    bus::{Bus, BusEvent, BusEvents},
    redis::RedisKind,
    topic::TopicKey,
};
use rig::{
    redis::{Cluster, ClusterOptions, Options, Server},
    wait,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    setup::{config, connect, micros, publication, sent_at, topics, until_ready},
    silence::{Line, Which},
};
use crate::{
    args::Bus as Args,
    figure::{Bound, Figures},
};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(60);
/// Topics of the node that subscribes again.
const MANY: u32 = 100_000;
/// Topics of one question for heads, as a hub asks.
const COMPARED: usize = 1_000;

pub(super) async fn measure(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    if args.wants("c4") {
        failover(figures).await?;
    }
    if args.wants("c5") {
        silence(figures).await?;
    }
    if args.wants("c6") {
        resubscribe(figures).await?;
    }
    Ok(())
}

/// The next message that was published after this time.
async fn message_after(events: &mut BusEvents, after: u64) -> anyhow::Result<()> {
    let mut batch = Vec::new();
    let found = async {
        loop {
            if events.next_batch(&mut batch, 1024).await == 0 {
                bail!("the bus ended");
            }
            for event in batch.drain(..) {
                if let BusEvent::Message(message) = event
                    && sent_at(&message.payload) > Some(after)
                {
                    return Ok(());
                }
            }
        }
    };
    timeout(PATIENCE, found).await.context("no message came")?
}

/// Publishes one after the other, with a short pause, until it is aborted; failures are what is measured.
fn keep_publishing(tasks: &mut JoinSet<()>, bus: &Bus, topic: &TopicKey) {
    let (bus, topic) = (bus.clone(), topic.clone());
    tasks.spawn(async move {
        loop {
            bus.publish(publication(&topic)).await.ok();
            sleep(Duration::from_millis(5)).await;
        }
    });
}

/// The primary of a topic is killed.
async fn failover(figures: &mut Figures) -> anyhow::Result<()> {
    let cluster = spawn_blocking(|| Cluster::start(&ClusterOptions::default())).await??;
    let cluster = Arc::new(cluster);
    let config = config(RedisKind::Cluster, &cluster.urls(), 1)?;
    let (publisher, node) = (connect(&config).await?, connect(&config).await?);
    // Of so many topics each primary has some.
    let topics = topics(64)?;
    let (subscriptions, mut events) = node.attach(65_536);
    subscriptions.subscribe(&topics).await?;

    // Whose slot this is says where its messages are; the primary that has most of the topics is as good as another.
    let victim = 0;
    let own: Vec<&TopicKey> = of_node(&cluster, victim, &topics).await?;
    let topic = own.first().context("no topic on the primary")?;
    let mut tasks = JoinSet::new();
    keep_publishing(&mut tasks, &publisher, topic);
    message_after(&mut events, micros()).await?;

    let killed = Instant::now();
    let killed_us = micros();
    let watched = Arc::clone(&cluster);
    let slot = rig::redis::slot_of(channel_of(&config.prefix, &watched, topic)?);
    let taking_over = spawn_blocking(move || {
        watched.kill(victim)?;
        wait::until("another takes over", PATIENCE, || {
            let new = watched.owner_of(slot)?;
            wait::ensure(new != victim, || "it still has its slots".to_owned())
        })?;
        Ok::<_, rig::Error>(killed.elapsed())
    });
    // What Redis had handed on before it died may still be on its way.
    message_after(&mut events, killed_us + 200_000).await?;
    let flows = killed.elapsed();
    let redis = taking_over.await??;
    tasks.abort_all();
    let behind = flows.saturating_sub(redis).as_secs_f64();
    figures.add(
        "C4",
        "Redis's own fail-over",
        redis.as_secs_f64(),
        "s",
        Bound::None,
    );
    figures.add(
        "C4",
        "messages flow again after the kill",
        flows.as_secs_f64(),
        "s",
        Bound::None,
    );
    figures.add(
        "C4",
        "messages flow again after Redis's own fail-over",
        behind,
        "s",
        Bound::Most(3.0, 1.0),
    );
    Ok(())
}

/// The sharded channel of a topic that a node is subscribed to, by what Redis says.
fn channel_of(prefix: &str, cluster: &Cluster, topic: &TopicKey) -> anyhow::Result<String> {
    for node in 0..cluster.len() {
        let pattern = format!("{prefix}:*");
        let channels = cluster
            .node(node)
            .command(&["PUBSUB", "SHARDCHANNELS", &pattern])?;
        let channels = channels.as_list().iter();
        let wanted = format!(":c:{topic}");
        let found = channels
            .map(|name| name.as_str())
            .find(|name| name.ends_with(&wanted));
        if let Some(found) = found {
            return Ok(found.to_owned());
        }
    }
    bail!("nobody is subscribed to {topic}")
}

/// The topics whose channels are at this node.
async fn of_node<'t>(
    cluster: &Arc<Cluster>,
    node: usize,
    topics: &'t [TopicKey],
) -> anyhow::Result<Vec<&'t TopicKey>> {
    let asked = Arc::clone(cluster);
    let channels = spawn_blocking(move || asked.node(node).command(&["PUBSUB", "SHARDCHANNELS"])).await??;
    let has = |topic: &&TopicKey| {
        let wanted = format!(":c:{topic}");
        channels
            .as_list()
            .iter()
            .any(|name| name.as_str().ends_with(&wanted))
    };
    Ok(topics.iter().filter(has).collect())
}

/// Connections of a node go silent, and nobody is told: the subscribing one, then all of a node.
async fn silence(figures: &mut Figures) -> anyhow::Result<()> {
    let server = Server::start(&Options::default())?;
    let direct = config(RedisKind::Servers, &[server.url()], 0)?;
    let publisher = connect(&direct).await?;
    for (which, what, bound) in [
        (
            Which::Subscribing,
            "a subscribing connection that died silently is noticed and healed",
            Bound::Most(15.0, 11.0),
        ),
        (
            Which::All,
            "all connections of a node died silently: healed and ready",
            Bound::None,
        ),
    ] {
        let line = Line::to(server.address())?;
        let over_line = config(RedisKind::Servers, &[format!("redis://{}", line.address())], 0)?;
        let node = connect(&over_line).await?;
        let topics = topics(1)?;
        let (subscriptions, mut events) = node.attach(65_536);
        subscriptions.subscribe(&topics).await?;
        let before = micros();
        publisher.publish(publication(&topics[0])).await?;
        message_after(&mut events, before - 1).await?;
        let head = node.heads(&topics).await[0]
            .context("the topic has no head")?
            .offset;

        line.silence(which);
        let died = Instant::now();
        // What is published now is lost on the way; healing has to find it.
        publisher.publish(publication(&topics[0])).await?;
        let red = async {
            while node.ready() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, red).await.context("it was never noticed")?;
        let noticed = died.elapsed().as_secs_f64();
        unsure(&mut events, died + PATIENCE).await?;
        let missed = read(&node, &topics[0], head, died + PATIENCE).await?;
        anyhow::ensure!(
            missed == 1,
            "{missed} messages were missed, and one was published"
        );
        until_ready(&node, PATIENCE).await?;
        figures.add("C5", format!("{what}; red after"), noticed, "s", Bound::None);
        figures.add("C5", what, died.elapsed().as_secs_f64(), "s", bound);
    }
    Ok(())
}

/// What history has behind an offset, as soon as it can be read.
async fn read(bus: &Bus, topic: &TopicKey, after: u64, until: Instant) -> anyhow::Result<usize> {
    loop {
        match bus.history(topic, after, 10).await {
            Ok(history) => return Ok(history.messages.len()),
            Err(error) if Instant::now() >= until => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until the node is told to compare its topics.
async fn unsure(events: &mut BusEvents, until: Instant) -> anyhow::Result<()> {
    let mut batch = Vec::new();
    loop {
        let taken = timeout_at(until, events.next_batch(&mut batch, 1024)).await;
        let taken = taken.context("the node was not told to compare its topics")?;
        anyhow::ensure!(taken > 0, "the bus ended");
        if batch.drain(..).any(|event| matches!(event, BusEvent::Unsure)) {
            return Ok(());
        }
    }
}

/// The subscribing connection of a node with very many topics is closed.
async fn resubscribe(figures: &mut Figures) -> anyhow::Result<()> {
    let server = Server::start(&Options::default())?;
    let bus = connect(&config(RedisKind::Servers, &[server.url()], 0)?).await?;
    let topics = topics(MANY)?;
    let (subscriptions, mut events) = bus.attach(65_536);
    let began = Instant::now();
    for some in topics.chunks(10_000) {
        subscriptions.subscribe(some).await?;
    }
    figures.add(
        "C6",
        "100,000 topics subscribed at first",
        began.elapsed().as_secs_f64(),
        "s",
        Bound::None,
    );

    let list = server.command(&["CLIENT", "LIST"])?;
    let id = list
        .as_str()
        .lines()
        .find(|line| line.contains(" ssub=1"))
        .and_then(|line| line.split(' ').find_map(|word| word.strip_prefix("id=")))
        .context("no subscribing connection")?
        .to_owned();
    let cut = Instant::now();
    server.command(&["CLIENT", "KILL", "ID", &id])?;
    unsure(&mut events, cut + PATIENCE).await?;
    let subscribed = cut.elapsed();
    // A hub then asks for all heads.
    let mut tasks = JoinSet::new();
    for some in topics.chunks(COMPARED) {
        let (bus, some) = (bus.clone(), some.to_vec());
        tasks.spawn(async move { bus.heads(&some).await.into_iter().flatten().count() });
    }
    let mut heads = 0;
    while let Some(count) = tasks.join_next().await {
        heads += count?;
    }
    anyhow::ensure!(heads == topics.len(), "{heads} heads");
    let healed = cut.elapsed();
    figures.add(
        "C6",
        "100,000 topics subscribed again",
        subscribed.as_secs_f64(),
        "s",
        Bound::None,
    );
    figures.add(
        "C6",
        "100,000 topics subscribed again and compared",
        healed.as_secs_f64(),
        "s",
        Bound::Most(5.0, 2.0),
    );
    Ok(())
}
