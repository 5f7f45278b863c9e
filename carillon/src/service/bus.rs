//! On which bus, and by which stream of receipts, a process of a cluster meets the others.

use common::{
    bus::{Bus, MemoryBus},
    policy::Policies,
    receipts::{self, ReceiptSink, ReceiptStream},
};

use crate::config::Config;

/// The bus that hubs and dispatcher share. It is there although Redis is away, and says so by not being ready.
///
/// # Errors
/// When Redis cannot be used as configured.
pub(super) async fn shared(config: &Config, policies: &Policies) -> anyhow::Result<Bus> {
    let memory = MemoryBus::with_policies(config.bus.memory_limits(), policies.clone());
    Ok(Bus::Memory(memory))
}

/// A hub's end of the receipts.
///
/// # Errors
/// When Redis cannot be used as configured.
pub(super) async fn receipt_sink(_config: &Config) -> anyhow::Result<ReceiptSink> {
    Ok(receipts::in_memory(16).0)
}

/// The dispatcher's end.
///
/// # Errors
/// When Redis cannot be used as configured.
pub(super) async fn receipt_stream(_config: &Config) -> anyhow::Result<ReceiptStream> {
    Ok(receipts::in_memory(16).1)
}
