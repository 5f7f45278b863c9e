//! Receipts through a stream in Redis.
//!
//! One stream, `{prefix}:receipts`, for all hubs and dispatchers: it is on one server of a cluster, and an entry holds up to
//! some hundred receipts, so that one server carries far more than the stores behind the dispatchers. One stream also
//! keeps what a hub says of a user in order without a rule that says which dispatcher has which part.
//!
//! - A hub appends ([`sink`]); where replicas are configured, an entry counts as written when one has it.
//! - Dispatchers are the consumer group [`GROUP`] ([`reading`]). An entry is handed to one of them, and is acknowledged and
//!   deleted in one step when its store has it ([`stream`]). So the stream is as long as what is not stored yet, and
//!   nothing but a dispatcher that is away lets it grow; over `redis.receipts_max` its oldest entries are dropped, which
//!   both ends count.
//! - What a dispatcher took and did not finish within `redis.receipts_claim_after` another one takes over.

mod entry;
mod metrics;
mod reading;
mod reply;
mod sink;
mod stream;

use std::time::Duration;

pub(in crate::receipts) use self::reply::EntryId;
pub(in crate::receipts) use self::{sink::Sink, stream::Stream};
use super::{ReceiptSink, ReceiptStream};
use crate::{
    backoff::Backoff,
    redis::{ClientError, RedisConfig, client},
    telemetry::Metrics,
};

/// The consumer group of all dispatchers.
const GROUP: &str = "dispatchers";

/// When something is tried again that Redis did not do.
const AGAIN: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(2),
};

/// A hub's end. It connects by itself, and again for as long as it takes; meanwhile `redis.receipts_queue` receipts wait.
/// Needs a runtime.
///
/// # Errors
/// [`ClientError`]: the configuration cannot be used.
pub fn redis_sink(config: &RedisConfig, metrics: &Metrics) -> Result<ReceiptSink, ClientError> {
    let metrics = metrics.register(metrics::SinkMetrics::register);
    Ok(ReceiptSink::Redis(sink::start(client(config)?, config, metrics)))
}

/// A dispatcher's end; `consumer` is the name of this process, which no other has. It connects by itself, and again for as
/// long as it takes. Needs a runtime.
///
/// # Errors
/// [`ClientError`]: the configuration cannot be used.
pub fn redis_stream(
    config: &RedisConfig,
    consumer: &str,
    metrics: &Metrics,
) -> Result<ReceiptStream, ClientError> {
    let metrics = metrics.register(metrics::StreamMetrics::register);
    let stream = stream::start(client(config)?, client(config)?, config, consumer, metrics);
    Ok(ReceiptStream::Redis(stream))
}

/// The key of the stream.
fn key(config: &RedisConfig) -> String {
    format!("{}:receipts", config.prefix)
}

/// The key of the number of entries that were dropped unread.
fn dropped_key(key: &str) -> String {
    format!("{key}:dropped")
}

fn chance() -> f64 {
    fastrand::f64()
}

/// Whether the server that answered is no primary any more. The connection to it would stay as long as it does.
fn is_replica(error: &fred::error::Error) -> bool {
    error.details().starts_with("READONLY")
}
