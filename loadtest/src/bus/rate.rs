//! What one publisher gets through, and what that costs Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use common::{
    bus::{Bus, BusError, BusEvent, Published},
    redis::RedisKind,
    topic::TopicKey,
};
use rig::redis::{Options, Server};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    setup::{config, connect, cpu, pin, publication, topics},
    tool,
};
use crate::{
    args::Bus as Args,
    figure::{Bound, Figures},
};

/// Topics that publishes go to.
const TOPICS: u32 = 1_000;
/// Publishes on the way at once.
const AT_ONCE: usize = 512;
/// Messages of one `publish_many`.
const MANY: usize = 64;
/// Messages a second on each server while its processor time is counted.
const STEADY: u64 = 12_000;
/// Longest wait for a replica to be in sync.
const SYNC: Duration = Duration::from_secs(20);

pub(super) async fn measure(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    if args.wants("c1") {
        one_server(args, figures).await?;
        several_servers(args, figures).await?;
    }
    if args.wants("c7") {
        cost(args, figures).await?;
    }
    Ok(())
}

fn start(args: &Args, options: &Options) -> anyhow::Result<Server> {
    let server = Server::start(options)?;
    if let Some(core) = args.server_core {
        pin(server.pid(), core)?;
    }
    Ok(server)
}

async fn one_server(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(args.seconds);
    let calls = args.seconds * 80_000;
    let topics = topics(TOPICS)?;

    let server = start(args, &Options::default())?;
    // Before and after, as a machine's pace drifts.
    let before = tool::calls(&server, calls / 2, args.client_core).await?;
    let bus = connect(&config(RedisKind::Servers, &[server.url()], 0)?).await?;
    let many = flood(&bus, &topics, seconds, MANY).await?;
    let single = flood(&bus, &topics, seconds, 1).await?;
    let after = tool::calls(&server, calls / 2, args.client_core).await?;
    let tool = (before + after) / 2.0;
    figures.add(
        "C1",
        "`redis-benchmark -P 16` of the same script",
        tool,
        "/s",
        Bound::None,
    );
    figures.add("C1", "publishes, `publish_many` of 64", many, "/s", Bound::None);
    figures.add(
        "C1",
        "publishes, 512 single ones at once",
        single,
        "/s",
        Bound::None,
    );
    let best = many.max(single);
    figures.add(
        "C1",
        "publishes against `redis-benchmark`, without replicas",
        100.0 * best / tool,
        "%",
        Bound::Least(60.0, 85.0),
    );

    let guarded = start(args, &Options::default().line("min-replicas-to-write 1"))?;
    let _replica = Server::start(&Options {
        replica_of: Some(guarded.address()),
        ..Options::default()
    })?;
    in_sync(&guarded).await?;
    let bus = connect(&config(RedisKind::Servers, &[guarded.url()], 1)?).await?;
    let many = flood(&bus, &topics, seconds, MANY).await?;
    figures.add(
        "C1",
        "publishes, `publish_many` of 64, `WAIT 1`",
        many,
        "/s",
        Bound::None,
    );
    let single = flood(&bus, &topics, seconds, 1).await?;
    figures.add(
        "C1",
        "publishes, 512 single ones at once, `WAIT 1`",
        single,
        "/s",
        Bound::None,
    );
    let best = many.max(single);
    figures.add(
        "C1",
        "publishes against `redis-benchmark` without replicas, with `WAIT 1`",
        100.0 * best / tool,
        "%",
        Bound::Least(40.0, 70.0),
    );
    Ok(())
}

async fn in_sync(server: &Server) -> anyhow::Result<()> {
    let end = Instant::now() + SYNC;
    loop {
        let info = server.command(&["INFO", "replication"])?;
        if info.as_str().contains("state=online") {
            return Ok(());
        }
        if Instant::now() >= end {
            bail!("the replica is not in sync within {SYNC:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Servers beside each other on the same cores: what counts is that each takes its part.
async fn several_servers(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let topics = topics(TOPICS)?;
    for count in 1..=3 {
        let servers = (0..count)
            .map(|_| start(args, &Options::default()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let urls: Vec<String> = servers.iter().map(Server::url).collect();
        let bus = connect(&config(RedisKind::Servers, &urls, 0)?).await?;
        let rate = flood(&bus, &topics, Duration::from_secs(args.seconds), MANY).await?;
        let what = format!("publishes over {count} of the servers on one core, one publisher");
        figures.add("C1", what, rate, "/s", Bound::None);
    }
    Ok(())
}

/// Publishes as fast as answers come; how many a second.
async fn flood(bus: &Bus, topics: &[TopicKey], time: Duration, many: usize) -> anyhow::Result<f64> {
    let end = Instant::now() + time;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..AT_ONCE / many {
        let bus = bus.clone();
        let topics = topics.to_vec();
        tasks.spawn(async move {
            let mut next = task * many;
            let mut count = 0;
            while Instant::now() < end {
                if many == 1 {
                    next += 1;
                    bus.publish(publication(&topics[next % topics.len()])).await?;
                    count += 1;
                    continue;
                }
                let publications = (0..many)
                    .map(|_| {
                        next += 1;
                        publication(&topics[next % topics.len()])
                    })
                    .collect();
                for result in bus.publish_many(publications).await {
                    result?;
                    count += 1;
                }
            }
            Ok::<u64, BusError>(count)
        });
    }
    let mut all = 0;
    while let Some(count) = tasks.join_next().await {
        all += count??;
    }
    Ok(all as f64 / began.elapsed().as_secs_f64())
}

/// Processor time of Redis a message: one server, and two with as many messages on each.
async fn cost(args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let mut of_one = 0.0;
    for count in 1..=2_u64 {
        let servers = (0..count)
            .map(|_| start(args, &Options::default()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let urls: Vec<String> = servers.iter().map(Server::url).collect();
        let config = config(RedisKind::Servers, &urls, 0)?;
        let (publisher, node) = (connect(&config).await?, connect(&config).await?);
        let topics = topics(TOPICS)?;
        let listening = Listening::to(&node, &topics).await?;
        // What connecting and the first messages cost is not counted.
        pace(&publisher, &topics, STEADY * count, Duration::from_secs(1)).await?;
        let before = times(&servers)?;
        let sent = pace(
            &publisher,
            &topics,
            STEADY * count,
            Duration::from_secs(args.seconds),
        )
        .await?;
        let used = times(&servers)?.saturating_sub(before);
        let each = used.as_micros() as f64 / sent as f64;
        let word = if count == 1 {
            "one server"
        } else {
            "each of two servers"
        };
        let what = format!("Redis CPU a message, {word}, {STEADY} messages a second on each");
        figures.add("C7", what, each, "µs", Bound::None);
        listening.end().await?;
        if count == 1 {
            of_one = each;
        } else {
            let what = "Redis CPU a message, two servers against one";
            figures.add("C7", what, each / of_one, "x", Bound::Most(1.1, 1.02));
        }
    }
    Ok(())
}

fn times(servers: &[Server]) -> anyhow::Result<Duration> {
    servers.iter().map(|server| cpu(server.pid())).sum()
}

/// A node that takes what comes.
pub(super) struct Listening {
    received: Arc<AtomicU64>,
    task: JoinHandle<()>,
    _subscriptions: common::bus::Subscriptions,
}

impl Listening {
    pub(super) async fn to(bus: &Bus, topics: &[TopicKey]) -> anyhow::Result<Self> {
        let (subscriptions, mut events) = bus.attach(65_536);
        subscriptions.subscribe(topics).await?;
        let received = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&received);
        let task = tokio::spawn(async move {
            let mut batch = Vec::new();
            while events.next_batch(&mut batch, 1024).await > 0 {
                let messages = batch
                    .drain(..)
                    .filter(|event| matches!(event, BusEvent::Message(_)));
                count.fetch_add(messages.count() as u64, Ordering::Relaxed);
            }
        });
        Ok(Self {
            received,
            task,
            _subscriptions: subscriptions,
        })
    }

    /// How many messages came.
    pub(super) async fn end(self) -> anyhow::Result<u64> {
        self.task.abort();
        let received = self.received.load(Ordering::Relaxed);
        if received == 0 {
            bail!("the subscribed node received nothing");
        }
        Ok(received)
    }
}

/// Publishes by the clock; how many were acknowledged.
pub(super) async fn pace(
    bus: &Bus,
    topics: &[TopicKey],
    per_second: u64,
    time: Duration,
) -> anyhow::Result<u64> {
    let mut clock = interval(Duration::from_millis(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let began = Instant::now();
    let mut tasks: JoinSet<Vec<Result<Published, BusError>>> = JoinSet::new();
    let (mut sent, mut taken) = (0_u64, 0_u64);
    while began.elapsed() < time {
        clock.tick().await;
        let due = (began.elapsed().as_secs_f64() * per_second as f64) as u64;
        let publications: Vec<_> = (sent..due)
            .map(|number| publication(&topics[number as usize % topics.len()]))
            .collect();
        sent = due;
        let bus = bus.clone();
        tasks.spawn(async move { bus.publish_many(publications).await });
        while let Some(results) = tasks.try_join_next() {
            taken += acknowledged(results?)?;
        }
    }
    let rest = async {
        while let Some(results) = tasks.join_next().await {
            taken += acknowledged(results?)?;
        }
        anyhow::Ok(taken)
    };
    timeout(Duration::from_secs(10), rest)
        .await
        .context("publishes were not answered in time")?
}

fn acknowledged(results: Vec<Result<Published, BusError>>) -> anyhow::Result<u64> {
    let mut count = 0;
    for result in results {
        result?;
        count += 1;
    }
    Ok(count)
}
