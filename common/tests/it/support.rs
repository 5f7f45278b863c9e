//! Buses for tests, each under a prefix of its own.

use std::time::Duration;

use common::{
    bus::{Bus, BusLimits, BusMetrics, RedisBus},
    ids::NodeId,
    patience::eventually,
    policy::Policies,
    redis::{RedisConfig, RedisKind},
};

/// A prefix that no other test has.
pub(crate) fn prefix() -> String {
    format!("t{}", NodeId::generate().as_str())
}

pub(crate) fn config(kind: RedisKind, urls: &[String]) -> RedisConfig {
    RedisConfig::for_test(kind, urls, &prefix())
}

/// A bus that is ready.
pub(crate) async fn connect(config: &RedisConfig, limits: BusLimits, policies: Policies) -> Bus {
    let bus = RedisBus::connect(
        config,
        limits,
        policies,
        NodeId::generate(),
        BusMetrics::default(),
    );
    let bus = Bus::Redis(bus.expect("a configuration that can be used"));
    until("the bus is ready", Duration::from_secs(10), || bus.ready()).await;
    bus
}

/// Waits for what other processes bring about.
pub(crate) async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    eventually(what, within, async || holds().then_some(())).await;
}
