//! On which bus, and by which stream of receipts, a process of a cluster meets the others.

use common::{
    bus::{Bus, BusMetrics, RedisBus},
    credential::KeyBoard,
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

/// Where dispatchers show API keys to hubs.
///
/// # Errors
/// When Redis cannot be used as configured.
pub(super) fn board(config: &Config) -> Result<KeyBoard, ClientError> {
    KeyBoard::connect(&config.redis)
}

/// A hub's end of the receipts.
///
/// # Errors
/// When Redis cannot be used as configured.
pub(super) fn receipt_sink(config: &Config, metrics: &Metrics) -> Result<ReceiptSink, ClientError> {
    receipts::redis_sink(&config.redis, metrics)
}

/// The dispatcher's end.
///
/// # Errors
/// When Redis cannot be used as configured.
pub(super) fn receipt_stream(
    config: &Config,
    node: &NodeId,
    metrics: &Metrics,
) -> Result<ReceiptStream, ClientError> {
    receipts::redis_stream(&config.redis, node.as_str(), metrics)
}
