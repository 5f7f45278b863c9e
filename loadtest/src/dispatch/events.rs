//! From a topic of Kafka to committed notifications.

use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::time::{Instant, sleep};

use super::site::{Site, TENANT};
use crate::{
    args::{Dispatch, Kind},
    figure::{Bound, Figures},
};

/// Longest time without progress.
const STUCK: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// Longest answer of a metrics page.
const METRICS: Duration = Duration::from_secs(5);
/// The topic, which the broker makes with six partitions.
const TOPIC: &str = "task.completed";
/// Users whose tasks these are.
const USERS: u64 = 10_000;

pub(super) async fn measure(args: &Dispatch, kind: Kind, figures: &mut Figures) -> anyhow::Result<()> {
    if !args.wants("d9") {
        return Ok(());
    }
    let broker = rig::kafka::Broker::start().context("starting kafka")?;
    let brokers = broker.address().to_string();
    let count = args.events;
    let writing = brokers.clone();
    tokio::task::spawn_blocking(move || write(&writing, count)).await??;
    let site = Site::start(
        args,
        kind,
        &format!("[kafka]\nbrokers = [\"{brokers}\"]\ntopics = [\"{TOPIC}\"]\n"),
    )?;
    let (began, first) = moment(&site, 1).await?;
    let (ended, last) = moment(&site, count).await?;
    let rate = (last - first) as f64 / (ended - began).as_secs_f64();
    figures.add(
        "D9",
        format!(
            "{}: events of Kafka (6 partitions, one broker) to committed notifications",
            kind.name()
        ),
        rate,
        "/s",
        Bound::Least(5_000.0, 15_000.0),
    );
    Ok(())
}

/// Writes so many events, which a built-in rule makes notifications of.
fn write(brokers: &str, count: u64) -> anyhow::Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "20")
        .set("compression.type", "none")
        .create()?;
    for number in 0..count {
        let key = format!("user-{}", number % USERS);
        let event = format!(
            r#"{{"event_type":"task.completed","tenant_id":"{TENANT}","user_id":"{key}","task_id":"{number}","task_name":"export {number}","completed_at":"2026-11-21T00:00:00Z"}}"#
        );
        let mut record = BaseRecord::to(TOPIC).key(&key).payload(&event);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                bail!("writing events: {error}");
            }
            record = back;
            producer.poll(Duration::from_millis(20));
        }
    }
    producer.flush(Duration::from_secs(60)).context("writing events")
}

/// When so many notifications, or some more, were seen to be committed, and how many.
async fn moment(site: &Site, count: u64) -> anyhow::Result<(Instant, u64)> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let page = rig::http::get(site.node.internal(), "/metrics", METRICS)?;
        let now = created(&page.body);
        if now >= count {
            return Ok((Instant::now(), now));
        }
        if now > last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > STUCK {
            bail!(
                "{now} of {count} events came, and no more: {:.2000}",
                site.node.log()
            );
        }
        sleep(LOOK).await;
    }
}

fn created(metrics: &str) -> u64 {
    let value = |line: &str| {
        line.strip_prefix("notification_created_total ")?
            .trim()
            .parse()
            .ok()
    };
    metrics.lines().find_map(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_in_the_metrics() {
        assert_eq!(created("# x\nnotification_created_total 12\n"), 12);
        assert_eq!(created("other 3\n"), 0);
    }
}
