//! Buses, topics and publications for measuring.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use common::{
    bus::{Bus, BusLimits, BusMetrics, Publication, RedisBus},
    ids::{MessageId, Name, NodeId, TenantId},
    message::{FrameKind, Header},
    policy::Policies,
    redis::{RedisConfig, RedisKind},
    topic::TopicKey,
};
use tokio::time::{Instant, sleep};

use crate::process::usage;

/// Longest wait for a bus to be ready.
const READY: Duration = Duration::from_secs(20);

/// The configuration that Carillon loads first.
const DEFAULTS: &str = include_str!("../../../config/carillon.toml");

/// The defaults of Carillon with these servers.
pub(super) fn config(kind: RedisKind, urls: &[String], replicas: u8) -> anyhow::Result<RedisConfig> {
    let defaults: toml::Table = toml::from_str(DEFAULTS)?;
    let redis = defaults.get("redis").context("no [redis] among the defaults")?;
    let mut config: RedisConfig = redis.clone().try_into()?;
    config.kind = kind;
    config.urls = urls
        .iter()
        .map(|url| url.parse().context("a Redis URL"))
        .collect::<anyhow::Result<_>>()?;
    config.wait_replicas = Some(replicas);
    Ok(config)
}

/// A bus that is ready.
pub(super) async fn connect(config: &RedisConfig) -> anyhow::Result<Bus> {
    let bus = Bus::Redis(RedisBus::connect(
        config,
        BusLimits::default(),
        Policies::default(),
        NodeId::generate(),
        BusMetrics::default(),
    )?);
    until_ready(&bus, READY).await?;
    Ok(bus)
}

pub(super) async fn until_ready(bus: &Bus, within: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + within;
    while !bus.ready() {
        if Instant::now() >= end {
            bail!("the bus is not ready within {within:?}");
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The topics with these numbers.
pub(super) fn topics(count: u32) -> anyhow::Result<Vec<TopicKey>> {
    let tenant = TenantId::new("bench").context("a tenant")?;
    (0..count)
        .map(|number| {
            let name = Name::new(&format!("n{number}")).context("a name")?;
            Ok(TopicKey::topic(&tenant, &name))
        })
        .collect()
}

/// A message of 256 bytes with the time in it.
pub(super) fn publication(key: &TopicKey) -> Publication {
    let at = micros();
    let payload = format!(r#"{{"at":{at:016},"note":"{:223}"}}"#, "");
    Publication {
        key: key.clone(),
        header: Header::new(MessageId::generate(), FrameKind::Message),
        payload: Bytes::from(payload),
        history: true,
        idempotency_key: None,
    }
}

/// The time in a message of [`publication`].
pub(super) fn sent_at(payload: &[u8]) -> Option<u64> {
    std::str::from_utf8(payload.get(6..22)?).ok()?.parse().ok()
}

/// Unix microseconds.
pub(super) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64
}

/// User and system time of a process so far.
pub(super) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    Ok(usage(&[pid]).context("a process that has gone")?.cpu)
}

/// Binds a process with all its threads to a core.
pub(super) fn pin(pid: u32, core: u32) -> anyhow::Result<()> {
    let output = Command::new("taskset")
        .args(["-apc", &core.to_string(), &pid.to_string()])
        .output()
        .context("running taskset")?;
    if !output.status.success() {
        bail!("taskset: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_time_and_its_size() {
        let key = &topics(1).unwrap()[0];
        let before = micros();
        let publication = publication(key);
        assert_eq!(publication.payload.len(), 256);
        let at = sent_at(&publication.payload).unwrap();
        assert!((before..=micros()).contains(&at));
        assert_eq!(sent_at(b"{}"), None);
    }
}
