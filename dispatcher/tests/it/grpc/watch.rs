//! Following an inbox.

use std::{collections::BTreeSet, time::Duration};

use futures_util::StreamExt;
use proto::v1::{MarkAsReadRequest, WatchInboxRequest, WatchInboxResponse, inbox_change::Change};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

use super::{Grpc, by, config, refusal};
use crate::{
    api::Who,
    support::{eventually, soon},
};

async fn watch(
    grpc: &Grpc,
    who: &Who,
    cursor: Option<&str>,
) -> Result<Streaming<WatchInboxResponse>, Status> {
    let request = WatchInboxRequest {
        cursor: cursor.map(str::to_owned),
        ..WatchInboxRequest::default()
    };
    let answer = grpc.client.clone().watch_inbox(by(who, request)).await?;
    Ok(answer.into_inner())
}

async fn next(stream: &mut Streaming<WatchInboxResponse>) -> Result<WatchInboxResponse, Status> {
    soon("the stream says something", stream.next())
        .await
        .expect("it ends with a status")
}

/// The next message with changes.
async fn changes(stream: &mut Streaming<WatchInboxResponse>) -> WatchInboxResponse {
    loop {
        let message = next(stream).await.unwrap();
        if !message.changes.is_empty() {
            return message;
        }
    }
}

/// How a stream ends.
async fn end(stream: &mut Streaming<WatchInboxResponse>) -> Status {
    loop {
        if let Err(status) = next(stream).await {
            return status;
        }
    }
}

fn arrived(message: &WatchInboxResponse) -> Vec<String> {
    let ids = message.changes.iter().filter_map(|change| match &change.change {
        Some(Change::Upsert(notification)) => Some(notification.id.clone()),
        _ => None,
    });
    ids.collect()
}

#[tokio::test]
async fn s3_2_a_watch_goes_on_at_its_cursor_without_gap_or_repeat() {
    let grpc = Grpc::new().await;
    let reader = Who::user("u1");
    let mut stream = watch(&grpc, &reader, None).await.unwrap();
    let first = next(&mut stream).await.unwrap();
    assert!(first.changes.is_empty(), "it begins at the present");
    let one = grpc.send("u1", "one").await;
    let message = changes(&mut stream).await;
    assert_eq!(arrived(&message), std::slice::from_ref(&one));
    drop(stream);

    // While nobody watches, more arrives than one message takes.
    let mut expected = BTreeSet::new();
    for number in 0..130 {
        expected.insert(grpc.send("u1", &number.to_string()).await);
    }
    let mut stream = watch(&grpc, &reader, Some(&message.cursor)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        seen.extend(arrived(&changes(&mut stream).await));
    }
    assert_eq!(seen.len(), expected.len(), "none twice");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);

    // What the reader does elsewhere comes too.
    let mark = MarkAsReadRequest {
        notification_ids: vec![one.clone()],
        ..MarkAsReadRequest::default()
    };
    grpc.client.clone().mark_as_read(by(&reader, mark)).await.unwrap();
    let message = changes(&mut stream).await;
    match &message.changes[..] {
        [change] => match &change.change {
            Some(Change::State(state)) => assert!(state.is_read && state.id == one),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn s3_2_a_service_watches_whom_it_names() {
    let grpc = Grpc::new().await;
    let request = WatchInboxRequest {
        user_id: Some("u1".to_owned()),
        ..WatchInboxRequest::default()
    };
    let mut client = grpc.client.clone();
    let denied = client
        .watch_inbox(by(&Who::user("u2"), request.clone()))
        .await
        .unwrap_err();
    assert_eq!(
        refusal(&denied),
        (
            Code::PermissionDenied,
            "scope_missing".to_owned(),
            Some("user_id".to_owned())
        )
    );
    let service = Who::service().scope("inbox:any");
    let mut stream = client
        .watch_inbox(by(&service, request))
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await.unwrap();
    let id = grpc.send("u1", "t").await;
    assert_eq!(arrived(&changes(&mut stream).await), [id]);
}

#[tokio::test]
async fn s3_2_a_watch_ends_with_the_server_and_says_so() {
    let grpc = Grpc::new().await;
    let mut stream = watch(&grpc, &Who::user("u1"), None).await.unwrap();
    let first = next(&mut stream).await.unwrap();
    let beat = next(&mut stream).await.unwrap();
    assert_eq!(beat, first, "a heartbeat changes nothing");
    grpc.api.closing.cancel();
    let status = end(&mut stream).await;
    assert_eq!(
        refusal(&status),
        (Code::Unavailable, "unavailable".to_owned(), None)
    );
    assert!(soon("the stream ends", stream.next()).await.is_none());
}

#[tokio::test]
async fn s3_2_a_watch_ends_with_its_deadline() {
    let grpc = Grpc::new().await;
    let mut request = by(&Who::user("u1"), WatchInboxRequest::default());
    let deadline = Instant::now() + Duration::from_millis(200);
    request.extensions_mut().insert(common::grpc::Deadline(deadline));
    let mut stream = grpc
        .client
        .clone()
        .watch_inbox(request)
        .await
        .unwrap()
        .into_inner();
    let status = end(&mut stream).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(Instant::now() >= deadline);
}

#[tokio::test]
async fn s3_2_a_watch_has_one_of_a_few_places_and_gives_it_back() {
    let grpc = Grpc::of(config()).await;
    let reader = Who::user("u1");
    let first = watch(&grpc, &reader, None).await.unwrap();
    let _second = watch(&grpc, &reader, None).await.unwrap();
    let refused = watch(&grpc, &reader, None).await.unwrap_err();
    assert_eq!(refusal(&refused).1, "too_many_watches");
    watch(&grpc, &Who::user("u2"), None)
        .await
        .expect("another user's are counted for themselves");
    drop(first);
    eventually("the place is free", async || {
        watch(&grpc, &reader, None).await.ok()
    })
    .await;
}

#[tokio::test]
async fn s3_2_a_cursor_that_is_none_is_refused() {
    let grpc = Grpc::new().await;
    let refused = watch(&grpc, &Who::user("u1"), Some("x")).await.unwrap_err();
    assert_eq!(
        refusal(&refused),
        (
            Code::InvalidArgument,
            "invalid_cursor".to_owned(),
            Some("cursor".to_owned())
        )
    );
}
