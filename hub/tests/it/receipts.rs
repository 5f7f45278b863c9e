//! What the dispatcher is told.

use common::{ids::MessageId, message::FrameKind, receipts::Receipt};
use serde_json::json;

use crate::{
    malformed::masked,
    support::{Frame, TestHub, token, user_key},
};

#[tokio::test]
async fn seeds_answer_a_ping_behind_the_message() {
    let hub = TestHub::start().await;
    let mut client = hub.seeds("/api/v1/ws", &token("u1", |_| ())).await;
    let (id, _) = hub
        .put(&user_key("u1"), FrameKind::Notification, true, |header| {
            header.receipt = true
        })
        .await;
    assert!(matches!(client.frame().await, Frame::Text(_)));
    let Frame::Ping(serial) = client.frame().await else {
        panic!("no ping behind the message")
    };
    assert!(!serial.is_empty());
    // An unasked pong says nothing.
    client.raw(&masked(0x8A, b"r99")).await;
    client.raw(&masked(0x8A, &serial)).await;
    let Receipt::Delivered { reader, ids } = hub.receipt().await else {
        panic!("not delivered")
    };
    assert_eq!(ids, [id]);
    assert_eq!((reader.tenant.as_str(), reader.user.as_str()), ("t1", "u1"));
}

#[tokio::test]
async fn a_later_pong_answers_for_earlier_pings() {
    let hub = TestHub::start().await;
    let mut client = hub.seeds("/api/v1/ws", &token("u1", |_| ())).await;
    let mut ids = Vec::new();
    let mut last = Vec::new();
    for _ in 0..3 {
        ids.push(
            hub.put(&user_key("u1"), FrameKind::Notification, true, |header| {
                header.receipt = true
            })
            .await
            .0,
        );
        assert!(matches!(client.frame().await, Frame::Text(_)));
        let Frame::Ping(serial) = client.frame().await else {
            panic!("no ping behind the message")
        };
        last = serial;
    }
    client.raw(&masked(0x8A, &last)).await;
    let Receipt::Delivered { ids: delivered, .. } = hub.receipt().await else {
        panic!("not delivered")
    };
    assert_eq!(delivered, ids);
}

#[tokio::test]
async fn many_receipts_do_not_use_up_what_a_client_may_send() {
    let hub = TestHub::with(|setup| setup.config.inbound_per_second = 10).await;
    let mut client = hub.seeds("/api/v1/ws", &token("u1", |_| ())).await;
    for _ in 0..200 {
        hub.put(&user_key("u1"), FrameKind::Notification, true, |header| {
            header.receipt = true
        })
        .await;
    }
    let mut delivered = 0;
    for _ in 0..200 {
        client.expect("notification").await;
        let Frame::Ping(serial) = client.frame().await else {
            panic!("no ping behind the message")
        };
        client.raw(&masked(0x8A, &serial)).await;
        let Receipt::Delivered { ids, .. } = hub.receipt().await else {
            panic!("not delivered")
        };
        delivered += ids.len();
    }
    assert_eq!(delivered, 200);
}

#[tokio::test]
async fn v1_acknowledges_and_reads_by_command() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let (id, _) = hub
        .put(&user_key("u1"), FrameKind::Notification, true, |header| {
            header.receipt = true
        })
        .await;
    client.expect("notification").await;
    assert!(
        client.until_pong().await.is_empty(),
        "no ping behind the message in this dialect"
    );
    client.send(&json!({"type":"ack","ids":[id.to_string()]})).await;
    let Receipt::Delivered { reader, ids } = hub.receipt().await else {
        panic!("not delivered")
    };
    assert_eq!(ids, [id]);
    assert_eq!(&*reader.session, client.session());
    let names: Vec<_> = reader
        .keys
        .iter()
        .map(common::topic::TopicKey::public_name)
        .collect();
    assert_eq!(names, ["user", "tenant", "everyone"]);

    let other = MessageId::generate();
    client
        .send(&json!({"type":"read","ids":[id.to_string(), other.to_string()]}))
        .await;
    let Receipt::Read { ids, .. } = hub.receipt().await else {
        panic!("not read")
    };
    assert_eq!(ids, [id, other]);
    client.send(&json!({"type":"read","all":true})).await;
    assert!(matches!(hub.receipt().await, Receipt::ReadAll { .. }));
}

#[tokio::test]
async fn written_is_told_once_a_message() {
    let hub = TestHub::start().await;
    let token = token("u1", |_| ());
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(hub.connect(&token).await);
    }
    let (asked, _) = hub
        .put(&user_key("u1"), FrameKind::Notification, true, |header| {
            header.report = true
        })
        .await;
    hub.put(&user_key("u1"), FrameKind::Notification, true, |_| ())
        .await;
    // Nobody there: nothing to report.
    hub.put(&user_key("nobody"), FrameKind::Notification, true, |header| {
        header.report = true
    })
    .await;
    for client in &mut clients {
        client.expect("notification").await;
        client.expect("notification").await;
    }
    let Receipt::Written { key, id } = hub.receipt().await else {
        panic!("not written")
    };
    assert_eq!((key, id), (user_key("u1"), asked));
    // The next receipt is another's: it was told once.
    clients[0].send(&json!({"type":"read","all":true})).await;
    assert!(matches!(hub.receipt().await, Receipt::ReadAll { .. }));
}
