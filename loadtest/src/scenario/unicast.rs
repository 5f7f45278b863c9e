//! Messages to single users, over several publishing connections.

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use super::{Traffic, bar};
use crate::{
    publish::Publisher,
    report::{Clock, Report},
    wire::{Expected, now_us},
};

/// What one lane did.
#[derive(Debug)]
struct Lane {
    /// Messages by user; the users of lane `l` of `n` are `l`, `l + n`, `l + 2n` …
    sent: Vec<u64>,
    answers_us: Vec<u64>,
    error: Option<String>,
}

pub(super) async fn run(traffic: &mut Traffic<'_>, report: &mut Report) -> anyhow::Result<Expected> {
    let args = traffic.args;
    let lanes = args.lanes.min(args.sockets);
    let began = Instant::now();
    let end = began + Duration::from_secs(args.seconds);
    let mut tasks = JoinSet::new();
    for lane in 0..lanes {
        let publisher =
            Publisher::connect(traffic.server.publish, &traffic.token, traffic.run, args.size).await?;
        // Each lane has its own users: two lanes that write to one could not say in which order.
        let users: Vec<u32> = (lane..args.sockets).step_by(lanes as usize).collect();
        let pause = (args.rate > 0).then(|| Duration::from_secs(u64::from(lanes)) / args.rate);
        tasks.spawn(async move { (lane, send(publisher, &users, pause, end).await) });
    }
    let bar = bar(args.seconds, "sending");
    let mut tick = interval(Duration::from_millis(200));
    let mut answer = Clock::new()?;
    let mut counts = vec![0; args.sockets as usize];
    let mut errors = BTreeMap::new();
    loop {
        tokio::select! {
            _ = tick.tick() => bar.set_position(began.elapsed().as_secs()),
            ended = tasks.join_next() => {
                let Some(ended) = ended else { break };
                let (first, lane) = ended?;
                for (index, sent) in lane.sent.iter().enumerate() {
                    counts[first as usize + index * lanes as usize] = *sent;
                }
                lane.answers_us.iter().for_each(|us| answer.add(*us));
                if let Some(error) = lane.error {
                    *errors.entry(error).or_default() += 1;
                }
            }
        }
    }
    bar.finish_and_clear();
    report.traffic_seconds = began.elapsed().as_secs_f64();
    report.published = counts.iter().sum();
    report.publish_errors = errors;
    report.publish_answer = answer.times();
    Ok(Expected::Each(counts))
}

async fn send(mut publisher: Publisher, users: &[u32], pause: Option<Duration>, end: Instant) -> Lane {
    let mut lane = Lane {
        sent: vec![0; users.len()],
        answers_us: Vec::new(),
        error: None,
    };
    let mut pace = pause.map(interval);
    while Instant::now() < end {
        if let Some(pace) = &mut pace {
            pace.tick().await;
        }
        let index = fastrand::usize(..users.len());
        let to = format!(r#"{{"user":"u{}"}}"#, users[index]);
        match publisher.publish(&to, lane.sent[index] + 1).await {
            Ok(began_us) => {
                lane.sent[index] += 1;
                lane.answers_us.push(now_us().saturating_sub(began_us));
            }
            Err(error) => {
                lane.error = Some(format!("{error:#}"));
                break;
            }
        }
    }
    lane
}
