//! Both ends of a stream that a test has for itself.

use std::{collections::HashSet, time::Duration};

use common::{
    config::Span,
    ids::MessageId,
    receipts::{Receipt, ReceiptSink, ReceiptStream, conformance, redis_sink, redis_stream},
    redis::{RedisConfig, RedisKind},
    telemetry::Metrics,
};
use rig::redis::{Cluster, Sentinel, Server};
use tokio::time::Instant;

/// The longest time for anything to come about, fail-overs included, on a machine that builds at the same time.
pub(super) const LONG: Duration = Duration::from_secs(30);

/// A stream under a prefix of its own, and what its ends count.
pub(super) struct Ends {
    pub(super) config: RedisConfig,
    pub(super) hub: Metrics,
    pub(super) dispatcher: Metrics,
}

impl Ends {
    /// On one server.
    pub(super) fn on(server: &Server) -> Self {
        Self::new(RedisKind::Servers, &[server.url()])
    }

    pub(super) fn on_sentinel(sentinel: &Sentinel) -> Self {
        Self::new(RedisKind::Sentinel, &sentinel.urls())
    }

    pub(super) fn on_cluster(cluster: &Cluster) -> Self {
        Self::new(RedisKind::Cluster, &cluster.urls())
    }

    fn new(kind: RedisKind, urls: &[String]) -> Self {
        let mut config = crate::support::config(kind, urls);
        config.receipts_claim_after = Span(Duration::from_millis(300));
        config.validate().unwrap();
        Self {
            config,
            hub: Metrics::default(),
            dispatcher: Metrics::default(),
        }
    }

    pub(super) fn key(&self) -> String {
        format!("{}:receipts", self.config.prefix)
    }

    pub(super) fn sink(&self) -> ReceiptSink {
        redis_sink(&self.config, &self.hub).unwrap()
    }

    pub(super) fn stream(&self, consumer: &str) -> ReceiptStream {
        redis_stream(&self.config, consumer, &self.dispatcher).unwrap()
    }

    /// The number of entries in the stream.
    pub(super) fn length(&self, server: &Server) -> i64 {
        let answer = server.command(&["XLEN", &self.key()]).unwrap();
        answer.as_integer().unwrap()
    }

    /// The number of entries that are handed out and not finished.
    pub(super) fn pending(&self, server: &Server) -> i64 {
        let answer = server.command(&["XPENDING", &self.key(), "dispatchers"]).unwrap();
        answer.as_list()[0].as_integer().unwrap()
    }

    /// The names of the dispatchers that Redis knows.
    pub(super) fn consumers(&self, server: &Server) -> Vec<String> {
        let answer = server.command(&["XINFO", "CONSUMERS", &self.key(), "dispatchers"]);
        let answer = answer.unwrap();
        let name = |consumer: &rig::redis::Reply| consumer.as_list()[1].as_str().to_owned();
        answer.as_list().iter().map(name).collect()
    }
}

/// A metric's value, of all ends together.
pub(super) fn metric(metrics: &Metrics, name: &str) -> f64 {
    let text = metrics.text();
    let values = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

/// Waits for what other processes bring about.
pub(super) async fn until(what: &str, holds: impl FnMut() -> bool) {
    crate::support::until(what, LONG, holds).await;
}

/// Sends new receipts; gives the ids in them.
pub(super) async fn send(sink: &ReceiptSink, number: usize) -> Vec<MessageId> {
    let mut ids = Vec::with_capacity(number);
    for _ in 0..number {
        let receipt = conformance::receipt();
        ids.extend(ids_of(&receipt));
        assert!(sink.send(receipt).await, "the hub's end takes receipts");
    }
    ids
}

/// The ids that a receipt names.
pub(super) fn ids_of(receipt: &Receipt) -> Vec<MessageId> {
    match receipt {
        Receipt::Delivered { ids, .. } => ids.clone(),
        other => panic!("{other:?} was not sent"),
    }
}

/// Takes and finishes batches until all these have come; gives the number of receipts that came.
pub(super) async fn receive_all(stream: &mut ReceiptStream, ids: &[MessageId]) -> usize {
    let mut missing: HashSet<_> = ids.iter().copied().collect();
    let mut number = 0;
    let end = Instant::now() + LONG;
    while !missing.is_empty() {
        let batch = tokio::time::timeout_at(end, stream.next_batch(256)).await;
        let batch = batch.unwrap_or_else(|_| panic!("{} receipts are lost", missing.len()));
        let batch = batch.expect("the stream goes on");
        number += batch.receipts.len();
        for receipt in &batch.receipts {
            missing.retain(|id| !ids_of(receipt).contains(id));
        }
        stream.done(batch).await;
    }
    number
}
