//! One message to every socket.

use std::time::Duration;

use tokio::time::{Instant, interval};

use super::{Traffic, bar};
use crate::{
    fleet::{Arrived, Rounds},
    publish::Publisher,
    report::{Clock, Report},
    wire::{Expected, now_us},
};

const EVERYONE: &str = r#"{"tenant":true}"#;

/// Times of the broadcasts of a run.
#[derive(Debug)]
struct Watch {
    answer: Clock,
    spread: Clock,
    whole: Clock,
    /// When each was published, by number from 1.
    sent_us: Vec<u64>,
}

impl Watch {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            answer: Clock::new()?,
            spread: Clock::new()?,
            whole: Clock::new()?,
            sent_us: Vec::new(),
        })
    }

    async fn publish(&mut self, publisher: &mut Publisher, report: &mut Report) {
        let number = self.sent_us.len() as u64 + 1;
        match publisher.publish(EVERYONE, number).await {
            Ok(sent_us) => {
                self.answer.add(now_us().saturating_sub(sent_us));
                self.sent_us.push(sent_us);
                report.published += 1;
            }
            Err(error) => *report.publish_errors.entry(format!("{error:#}")).or_default() += 1,
        }
    }

    fn arrived(&mut self, arrived: Arrived) {
        self.spread.add(arrived.last_us - arrived.first_us);
        let index = usize::try_from(arrived.number).unwrap_or(0).checked_sub(1);
        if let Some(sent_us) = index.and_then(|index| self.sent_us.get(index)) {
            self.whole.add(arrived.last_us.saturating_sub(*sent_us));
        }
    }

    async fn finish(
        mut self,
        traffic: &mut Traffic<'_>,
        mut partial: Rounds,
        began: Instant,
        report: &mut Report,
    ) -> anyhow::Result<Expected> {
        let expected = Expected::All(report.published);
        let grace = Duration::from_secs(traffic.args.grace_seconds);
        let mut last_us = 0;
        let done = traffic
            .fleet
            .finish(&expected, grace, &mut partial, |arrived| {
                last_us = arrived.last_us;
                self.arrived(arrived);
            })
            .await?;
        // Traffic ends with the last arrival, not with the reports.
        let late = Duration::from_micros(now_us().saturating_sub(last_us));
        let lasted = if last_us == 0 {
            report.traffic_seconds
        } else {
            began.elapsed().saturating_sub(late).as_secs_f64()
        };
        report.traffic_seconds = lasted.max(report.traffic_seconds);
        report.publish_answer = self.answer.times();
        report.first_to_last = self.spread.times();
        report.publish_to_last = self.whole.times();
        report.add(&done)?;
        Ok(expected)
    }
}

async fn publisher(traffic: &Traffic<'_>) -> anyhow::Result<Publisher> {
    Publisher::connect(
        traffic.server.publish,
        &traffic.token,
        traffic.run,
        traffic.args.size,
    )
    .await
}

/// The next broadcast when the last one has arrived everywhere; a number of them, or for the time of the arguments.
pub(super) async fn one_at_a_time(
    traffic: &mut Traffic<'_>,
    rounds: Option<u64>,
    report: &mut Report,
) -> anyhow::Result<Expected> {
    let mut publisher = publisher(traffic).await?;
    let mut watch = Watch::new()?;
    let mut partial = Rounds::default();
    let bar = bar(rounds.unwrap_or(traffic.args.seconds), "broadcasting");
    let began = Instant::now();
    let end = began + Duration::from_secs(traffic.args.seconds);
    while rounds.map_or_else(|| Instant::now() < end, |rounds| report.published < rounds) {
        watch.publish(&mut publisher, report).await;
        if !report.publish_errors.is_empty() {
            break;
        }
        let deadline = Instant::now() + Duration::from_secs(traffic.args.grace_seconds);
        match traffic.fleet.arrived(&mut partial, deadline).await {
            Ok(arrived) => watch.arrived(arrived),
            // The client processes know which sockets miss it.
            Err(_) => break,
        }
        bar.set_position(if rounds.is_some() {
            report.published
        } else {
            began.elapsed().as_secs()
        });
    }
    report.traffic_seconds = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    watch.finish(traffic, partial, began, report).await
}

/// So many broadcasts a second, whether or not the last one has arrived.
pub(super) async fn paced(traffic: &mut Traffic<'_>, report: &mut Report) -> anyhow::Result<Expected> {
    let mut publisher = publisher(traffic).await?;
    let mut watch = Watch::new()?;
    let mut partial = Rounds::default();
    let count = traffic.args.seconds * u64::from(traffic.args.rate);
    let bar = bar(count, "broadcasting");
    let mut pace = interval(Duration::from_secs(1) / traffic.args.rate);
    let began = Instant::now();
    // A server that cannot keep up makes the run longer, within bounds.
    let end = began + Duration::from_secs(traffic.args.seconds * 2);
    while report.published < count && Instant::now() < end {
        pace.tick().await;
        watch.publish(&mut publisher, report).await;
        if !report.publish_errors.is_empty() {
            break;
        }
        for arrived in traffic.fleet.arrived_now(&mut partial) {
            watch.arrived(arrived);
        }
        bar.set_position(report.published);
    }
    report.traffic_seconds = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    watch.finish(traffic, partial, began, report).await
}
