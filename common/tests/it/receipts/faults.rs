//! Redis that is away, paused, empty or without replicas.

use std::time::Duration;

use common::receipts::conformance;
use rig::redis::{Options, Restart, Server};

use super::ends::{Ends, LONG, metric, receive_all, send, until};

/// A server that has on disk what it answered, so that nothing of it goes with its process. With `appendfsync everysec` a write
/// may be put off while the disk is busy.
fn on_disk() -> Server {
    let options = Options::default()
        .line("appendonly yes")
        .line("appendfsync always");
    Server::start(&options).unwrap()
}

/// Too short for anything to come about by a wait.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn while_redis_is_away_receipts_wait_up_to_a_bound() {
    let server = on_disk();
    let mut ends = Ends::on(&server);
    ends.config.receipts_queue = 100;
    let (sink, mut stream) = (ends.sink(), ends.stream("d1"));
    let mut ids = send(&sink, 10).await;
    assert!(sink.flush(LONG).await);
    server.kill().unwrap();

    ids.extend(send(&sink, 50).await);
    assert!(!sink.flush(SHORT).await, "nobody has them");
    until("it is tried", || {
        metric(&ends.hub, "receipts_write_retries_total") >= 1.0
    })
    .await;
    // What the writer has in its hands, and what waits for it.
    let more = conformance::receipt();
    let taken = (0..2000).take_while(|_| sink.try_send(more.clone())).count();
    assert!((50..=100).contains(&taken), "{taken} more were taken");
    assert!(metric(&ends.hub, "receipts_waiting") >= 50.0);

    server.restart(Restart::WithData).unwrap();
    let number = receive_all(&mut stream, &ids).await;
    assert!(number >= ids.len());
    assert!(sink.flush(LONG).await);
    assert!(sink.try_send(more));
}

#[tokio::test]
async fn a_restart_of_redis_loses_nothing_that_it_took() {
    let server = on_disk();
    let ends = Ends::on(&server);
    let sink = ends.sink();
    let mut ids = send(&sink, 500).await;
    assert!(sink.flush(LONG).await);
    server.kill().unwrap();
    server.restart(Restart::WithData).unwrap();
    let mut stream = ends.stream("d1");
    ids.extend(send(&sink, 10).await);
    receive_all(&mut stream, &ids).await;
    until("all is acknowledged", || ends.length(&server) == 0).await;
}

#[tokio::test]
async fn after_a_flushall_it_goes_on() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let (sink, mut stream) = (ends.sink(), ends.stream("d1"));
    let ids = send(&sink, 5).await;
    receive_all(&mut stream, &ids).await;
    for _ in 0..3 {
        server.command(&["FLUSHALL"]).unwrap();
        let ids = send(&sink, 5).await;
        assert_eq!(receive_all(&mut stream, &ids).await, ids.len());
    }
}

#[tokio::test]
async fn a_paused_redis_holds_receipts_up_and_loses_none() {
    let server = Server::start(&Options::default()).unwrap();
    let mut ends = Ends::on(&server);
    ends.config.timeout = common::config::Span(Duration::from_millis(300));
    let (sink, mut stream) = (ends.sink(), ends.stream("d1"));
    let mut ids = send(&sink, 5).await;
    receive_all(&mut stream, &ids).await;
    server.pause().unwrap();
    ids = send(&sink, 100).await;
    until("it counts as away", || {
        metric(&ends.hub, "receipts_write_retries_total") >= 2.0
    })
    .await;
    server.resume().unwrap();
    // What was sent to it while it did not answer may come twice.
    receive_all(&mut stream, &ids).await;
    assert!(sink.flush(LONG).await);
}

#[tokio::test]
async fn without_a_replica_nothing_counts_as_written() {
    let server = Server::start(&Options::default()).unwrap();
    let mut ends = Ends::on(&server);
    ends.config.wait_replicas = Some(1);
    ends.config.timeout = common::config::Span(Duration::from_millis(500));
    let sink = ends.sink();
    let ids = send(&sink, 5).await;
    assert!(!sink.flush(SHORT).await);
    until("it is tried", || {
        metric(&ends.hub, "receipts_write_retries_total") >= 1.0
    })
    .await;
    assert_eq!(metric(&ends.hub, "receipts_written_total"), 0.0);

    let replica = Options {
        replica_of: Some(server.address()),
        ..Options::default()
    };
    let _replica = Server::start(&replica).unwrap();
    assert!(sink.flush(LONG).await);
    receive_all(&mut ends.stream("d1"), &ids).await;
}

#[tokio::test]
async fn redis_without_memory_holds_receipts_up() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let sink = ends.sink();
    let mut ids = send(&sink, 5).await;
    assert!(sink.flush(LONG).await);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    ids.extend(send(&sink, 5).await);
    until("it is refused", || {
        metric(&ends.hub, "receipts_write_retries_total") >= 1.0
    })
    .await;
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert!(sink.flush(LONG).await);
    receive_all(&mut ends.stream("d1"), &ids).await;
}
