//! The cases that every form of the stream has to pass. `run` takes a maker of both ends of a fresh, empty stream.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{Batch, Reader, Receipt, ReceiptSink, ReceiptStream};
use crate::{
    ids::{MessageId, Name, TenantId},
    topic::TopicKey,
};

/// Nothing here takes longer on a working stream.
const SOON: Duration = Duration::from_secs(10);

/// Runs every case, each on a stream of its own.
///
/// # Panics
/// When the stream breaks a promise; the message names it.
pub async fn run(make: impl AsyncFn() -> (ReceiptSink, ReceiptStream)) {
    every_kind_arrives_as_it_was_sent(make().await).await;
    what_one_sends_arrives_in_order(make().await).await;
    nothing_of_several_senders_is_missing(make().await).await;
    batches_are_bounded(make().await).await;
    what_is_given_back_comes_again_first(make().await).await;
    a_cancelled_wait_loses_nothing(make().await).await;
    what_was_flushed_outlives_the_hub(make().await).await;
    after_the_close_what_was_taken_in_still_comes(make().await).await;
}

/// A reader, as its token says.
#[must_use]
pub fn reader(user: &str) -> Reader {
    let tenant = TenantId::new("t1").expect("a valid tenant");
    let user = Name::new(user).expect("a valid name");
    let keys = [
        TopicKey::user(&tenant, &user),
        TopicKey::role(&tenant, &Name::new("manager").expect("a valid name")),
        TopicKey::tenant(&tenant),
        TopicKey::everyone(),
    ];
    Reader {
        tenant,
        user,
        session: "s1".into(),
        keys: Arc::new(keys),
    }
}

/// A receipt that no other is equal to.
#[must_use]
pub fn receipt() -> Receipt {
    Receipt::Delivered {
        reader: reader("u1"),
        ids: vec![MessageId::generate()],
    }
}

fn receipts(number: usize) -> Vec<Receipt> {
    (0..number).map(|_| receipt()).collect()
}

async fn send(sink: &ReceiptSink, receipts: &[Receipt]) {
    for receipt in receipts {
        assert!(sink.send(receipt.clone()).await, "the stream takes receipts");
    }
}

/// The next batch.
///
/// # Panics
/// When none comes.
pub async fn next(stream: &mut ReceiptStream, limit: usize) -> Batch {
    tokio::time::timeout(SOON, stream.next_batch(limit))
        .await
        .expect("receipts arrive")
        .expect("the stream goes on")
}

/// Takes and finishes batches until so many receipts have come.
///
/// # Panics
/// When fewer come.
pub async fn receive(stream: &mut ReceiptStream, number: usize) -> Vec<Receipt> {
    let mut all = Vec::new();
    while all.len() < number {
        let batch = next(stream, 256).await;
        all.extend(batch.receipts.iter().cloned());
        stream.done(batch).await;
    }
    all
}

async fn every_kind_arrives_as_it_was_sent((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    let ids = || vec![MessageId::generate(), MessageId::generate()];
    let sent = [
        Receipt::Seen { reader: reader("u1") },
        Receipt::Written {
            key: reader("a:b").keys[0].clone(),
            id: MessageId::generate(),
        },
        Receipt::Delivered {
            reader: reader("张三"),
            ids: ids(),
        },
        Receipt::Read {
            reader: reader("a \"quoted\"\nname"),
            ids: ids(),
        },
        Receipt::read_all(reader("u1")),
    ];
    send(&sink, &sent).await;
    assert_eq!(receive(&mut stream, sent.len()).await, sent);
}

async fn what_one_sends_arrives_in_order((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    let sent = receipts(2000);
    send(&sink, &sent).await;
    assert_eq!(receive(&mut stream, sent.len()).await, sent);
}

async fn nothing_of_several_senders_is_missing((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    let sent: Vec<_> = (0..4).map(|_| receipts(250)).collect();
    let sending: Vec<_> = sent
        .iter()
        .map(|part| {
            let (sink, part) = (sink.clone(), part.clone());
            tokio::spawn(async move { send(&sink, &part).await })
        })
        .collect();
    let received = receive(&mut stream, 1000).await;
    for sending in sending {
        sending.await.expect("the sender ends");
    }
    let id = |receipt: &Receipt| match receipt {
        Receipt::Delivered { ids, .. } => ids[0],
        other => panic!("{other:?} was not sent"),
    };
    let received: HashSet<_> = received.iter().map(id).collect();
    assert_eq!(received, sent.iter().flatten().map(id).collect());
}

async fn batches_are_bounded((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    send(&sink, &receipts(1500)).await;
    let mut left = 1500;
    while left > 0 {
        let batch = next(&mut stream, 256).await;
        assert!(
            (1..=256).contains(&batch.receipts.len()),
            "{}",
            batch.receipts.len()
        );
        left -= batch.receipts.len();
        stream.done(batch).await;
    }
}

async fn what_is_given_back_comes_again_first((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    let sent = receipts(600);
    send(&sink, &sent).await;
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let batch = next(&mut stream, 256).await;
        let first = batch.receipts.clone();
        stream.give_back(batch);
        let again = next(&mut stream, 256).await;
        assert_eq!(again.receipts, first);
        stream.done(again).await;
        received.extend(first);
    }
    assert_eq!(received, sent);
}

async fn a_cancelled_wait_loses_nothing((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    let sent = receipts(300);
    let sending = {
        let (sink, sent) = (sink.clone(), sent.clone());
        tokio::spawn(async move { send(&sink, &sent).await })
    };
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let taken = tokio::time::timeout(Duration::from_micros(50), stream.next_batch(16)).await;
        let Ok(batch) = taken else { continue };
        let batch = batch.expect("the stream goes on");
        received.extend(batch.receipts.iter().cloned());
        stream.done(batch).await;
    }
    sending.await.expect("the sender ends");
    assert_eq!(received, sent);
}

async fn what_was_flushed_outlives_the_hub((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    let sent = receipts(50);
    send(&sink, &sent).await;
    assert!(sink.flush(SOON).await, "what was sent is written");
    drop(sink);
    assert_eq!(receive(&mut stream, sent.len()).await, sent);
}

async fn after_the_close_what_was_taken_in_still_comes((sink, mut stream): (ReceiptSink, ReceiptStream)) {
    let sent = receipts(3);
    send(&sink, &sent).await;
    assert!(sink.flush(SOON).await, "what was sent is written");
    let first = next(&mut stream, 1).await;
    assert_eq!(first.receipts[0], sent[0]);
    stream.done(first).await;
    stream.close();
    let mut received = 0;
    while let Some(batch) = tokio::time::timeout(SOON, stream.next_batch(1))
        .await
        .expect("the stream ends")
    {
        received += batch.receipts.len();
        stream.done(batch).await;
    }
    assert!(received <= 2, "nothing comes twice");
    drop(sink);
}
