//! On which bus, and by which stream of receipts, a process of a cluster meets the others.

use common::{
    bus::{Bus, BusMetrics, RedisBus},
    ids::NodeId,
    policy::Policies,
    receipts::{self, ReceiptSink, ReceiptStream},
    redis::ClientError,
    telemetry::Metrics,
};

use crate::config::Config;

/// The bus that hubs and dispatcher share. It is there although Redis is away, and says so by not being ready.
///
/// # Errors
/// When Redis cannot be used as configured.
pub(super) fn shared(
    config: &Config,
    policies: &Policies,
    node: &NodeId,
    metrics: &Metrics,
) -> Result<Bus, ClientError> {
    let metrics = metrics.register(BusMetrics::register);
    let limits = (&config.bus).into();
    RedisBus::connect(&config.redis, limits, policies.clone(), node.clone(), metrics).map(Bus::Redis)
}

/// A hub's end of the receipts.
///
/// # Errors
/// When Redis cannot be used as configured.
#[expect(clippy::unnecessary_wraps, reason = "Redis may refuse its configuration")]
pub(super) fn receipt_sink(_: &Config, _: &Metrics) -> Result<ReceiptSink, ClientError> {
    Ok(receipts::in_memory(16).0)
}

/// The dispatcher's end.
///
/// # Errors
/// When Redis cannot be used as configured.
#[expect(clippy::unnecessary_wraps, reason = "Redis may refuse its configuration")]
pub(super) fn receipt_stream(_: &Config, _: &NodeId, _: &Metrics) -> Result<ReceiptStream, ClientError> {
    Ok(receipts::in_memory(16).1)
}
