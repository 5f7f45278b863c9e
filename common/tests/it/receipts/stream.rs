//! What the stream in Redis is beyond its contract: shared, bounded, readable, and empty when all is stored.

use common::receipts::conformance::next;
use rig::redis::{Options, Server};

use super::ends::{Ends, LONG, ids_of, metric, receive_all, send, until};

#[tokio::test]
async fn what_is_stored_is_gone_and_does_not_come_again() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let (sink, mut stream) = (ends.sink(), ends.stream("d1"));
    let ids = send(&sink, 1000).await;
    assert_eq!(receive_all(&mut stream, &ids).await, ids.len());
    assert_eq!((ends.length(&server), ends.pending(&server)), (0, 0));

    // Long after another would have taken it over, the next that comes is new.
    let mut other = ends.stream("d2");
    let looked = metric(&ends.dispatcher, "receipts_upkeeps_total");
    until("both have looked for what is left", || {
        metric(&ends.dispatcher, "receipts_upkeeps_total") >= looked + 8.0
    })
    .await;
    let new = send(&sink, 1).await;
    let batch = tokio::select! {
        batch = next(&mut stream, 1) => batch,
        batch = next(&mut other, 1) => batch,
    };
    assert_eq!(ids_of(&batch.receipts[0]), new);
    assert_eq!(metric(&ends.dispatcher, "receipts_entries_claimed_total"), 0.0);
    // Who reads may be faster than the answer to who wrote.
    until("each was written once", || {
        metric(&ends.hub, "receipts_written_total") >= 1001.0
    })
    .await;
    assert_eq!(metric(&ends.hub, "receipts_written_total"), 1001.0);
}

#[tokio::test]
async fn dispatchers_share_the_stream() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let sink = ends.sink();
    let mut streams = [ends.stream("d1"), ends.stream("d2")];
    let mut got = [0, 0];
    // Who has something in its hands takes nothing more, so the other one has its turn.
    while got.contains(&0) {
        send(&sink, 1).await;
        let [one, two] = &mut streams;
        let (who, batch) = tokio::select! {
            batch = one.next_batch(1) => (0, batch.unwrap()),
            batch = two.next_batch(1) => (1, batch.unwrap()),
        };
        got[who] += batch.receipts.len();
        streams[who].done(batch).await;
    }
    assert_eq!(ends.length(&server), 0);
}

#[tokio::test]
async fn a_dispatcher_that_is_killed_loses_nothing() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let (sink, mut first) = (ends.sink(), ends.stream("d1"));
    let mut ids = send(&sink, 300).await;
    // It has taken these, and did not get to acknowledging them.
    let batch = next(&mut first, 256).await;
    assert!(ends.pending(&server) > 0);
    drop((batch, first));
    ids.extend(send(&sink, 300).await);

    let mut second = ends.stream("d2");
    assert_eq!(receive_all(&mut second, &ids).await, ids.len());
    assert!(metric(&ends.dispatcher, "receipts_entries_claimed_total") >= 1.0);
    assert_eq!((ends.length(&server), ends.pending(&server)), (0, 0));
    // Its name goes, as it holds nothing any more.
    until("the first is forgotten", || ends.consumers(&server) == ["d2"]).await;
}

#[tokio::test]
async fn what_is_being_stored_is_not_taken_over_from_itself() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let (sink, mut stream) = (ends.sink(), ends.stream("d1"));
    let ids = send(&sink, 1).await;
    let slow = next(&mut stream, 1).await;
    let idle = || {
        let answer = server.command(&["XPENDING", &ends.key(), "dispatchers", "-", "+", "1"]);
        answer.unwrap().as_list()[0].as_list()[3].as_integer().unwrap()
    };
    // The times that it was handed out: once to be stored, then again to the same by its own claim.
    until("it has been looked at again", || idle() > 1).await;
    let more = send(&sink, 1).await;
    assert_eq!(slow.receipts.len(), ids.len());
    stream.done(slow).await;
    assert_eq!(receive_all(&mut stream, &more).await, 1);
    assert_eq!(metric(&ends.dispatcher, "receipts_entries_claimed_total"), 0.0);
}

#[tokio::test]
async fn what_cannot_be_read_is_passed_over() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let key = ends.key();
    let put = |fields: &[&str]| {
        let words = [&["XADD", key.as_str(), "*"], fields].concat();
        server.command(&words).unwrap();
    };
    put(&["v", "2", "r", "what a newer hub writes"]);
    put(&["v", "1", "r", "not json"]);
    put(&["neither", "field"]);
    let sink = ends.sink();
    let ids = send(&sink, 2).await;
    let mut stream = ends.stream("d1");
    assert_eq!(receive_all(&mut stream, &ids).await, 2);
    assert_eq!(metric(&ends.dispatcher, "receipts_poisoned_total"), 3.0);
    until("nothing is left of them", || ends.length(&server) == 0).await;
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_bounded_and_both_ends_say_so() {
    let server = Server::start(&Options::default()).unwrap();
    let mut ends = Ends::on(&server);
    ends.config.receipts_max = 5;
    let sink = ends.sink();
    let mut stream = ends.stream("d1");
    // It has begun, so that what is dropped from here on is its loss.
    let first = send(&sink, 1).await;
    assert_eq!(receive_all(&mut stream, &first).await, 1);
    let mut last = Vec::new();
    for _ in 0..100 {
        last = send(&sink, 1).await;
        assert!(sink.flush(LONG).await);
    }
    assert!(ends.length(&server) <= 5);
    let dropped = metric(&ends.hub, "receipts_entries_dropped_total");
    assert!(dropped >= 50.0, "{dropped}");
    until("the dispatcher has seen it", || {
        metric(&ends.dispatcher, "receipts_entries_lost_total") == dropped
    })
    .await;
    receive_all(&mut stream, &last).await;
}

#[tokio::test]
async fn the_stream_is_measured() {
    let server = Server::start(&Options::default()).unwrap();
    let ends = Ends::on(&server);
    let sink = ends.sink();
    let ids = send(&sink, 3).await;
    assert!(sink.flush(LONG).await);
    let mut stream = ends.stream("d1");
    until("it is seen", || {
        metric(&ends.dispatcher, "receipts_stream_entries") == 1.0
    })
    .await;
    until("its age is seen", || {
        metric(&ends.dispatcher, "receipts_stream_age_seconds") > 0.0
    })
    .await;
    receive_all(&mut stream, &ids).await;
    until("it is empty", || {
        metric(&ends.dispatcher, "receipts_stream_entries") == 0.0
    })
    .await;
    assert_eq!(metric(&ends.hub, "receipts_waiting"), 0.0);
}
