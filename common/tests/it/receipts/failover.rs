//! Primaries that fail and slots that move, while receipts are sent and read.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use common::{ids::MessageId, receipts::ReceiptSink};
use rig::redis::{Cluster, ClusterOptions, Sentinel, slot_of};
use tokio::task::JoinHandle;

use super::ends::{Ends, LONG, metric, receive_all, send, until};

/// Sends and waits until it is written, again and again, until told to stop; gives all ids.
fn keep_sending(sink: ReceiptSink) -> (JoinHandle<Vec<MessageId>>, Arc<AtomicBool>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(async move {
        let mut ids = Vec::new();
        while !stopped.load(Ordering::Acquire) {
            ids.extend(send(&sink, 20).await);
            assert!(sink.flush(LONG).await, "redis comes back");
        }
        ids
    });
    (task, stop)
}

/// Reads everything that was sent during a fault, and what is sent after it.
async fn nothing_is_lost(ends: &Ends, fault: impl AsyncFnOnce()) {
    let sink = ends.sink();
    let mut stream = ends.stream("d1");
    let ids = send(&sink, 50).await;
    receive_all(&mut stream, &ids).await;
    let written = || metric(&ends.hub, "receipts_written_total");
    let (sending, stop) = keep_sending(sink.clone());
    until("it is being written", || written() >= 200.0).await;
    fault().await;
    let before = written();
    until("it is written again", || written() >= before + 100.0).await;
    stop.store(true, Ordering::Release);
    let ids = sending.await.unwrap();
    receive_all(&mut stream, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_sentinel_loses_nothing() {
    let sentinel = Sentinel::start().unwrap();
    nothing_is_lost(&Ends::on_sentinel(&sentinel), async || {
        let old = sentinel.kill_primary().unwrap();
        sentinel.wait_for_failover(old, LONG).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_primary_that_comes_back_as_replica_loses_nothing() {
    let sentinel = Sentinel::start().unwrap();
    nothing_is_lost(&Ends::on_sentinel(&sentinel), async || {
        let old = sentinel.pause_primary().unwrap();
        sentinel.wait_for_failover(old, LONG).unwrap();
        sentinel.nodes()[old].resume().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_a_cluster_loses_nothing() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    let ends = Ends::on_cluster(&cluster);
    nothing_is_lost(&ends, async || {
        let old = cluster.owner_of(slot_of(ends.key())).unwrap();
        cluster.kill(old).unwrap();
        cluster.wait_for_failover(old, LONG).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_loses_nothing() {
    let cluster = Cluster::start(&ClusterOptions::default()).unwrap();
    let ends = Ends::on_cluster(&cluster);
    let slot = slot_of(ends.key());
    nothing_is_lost(&ends, async || {
        let from = cluster.owner_of(slot).unwrap();
        let to = cluster
            .primaries()
            .unwrap()
            .into_iter()
            .find(|node| *node != from)
            .unwrap();
        cluster.migrate_slots(from, to, [slot]).unwrap();
    })
    .await;
}
