//! permessage-deflate: one compressed frame for all who agreed on it.

use common::config::Bytes;
use hub::config::Flush;
use serde_json::{Value, json};

use crate::{
    malformed::masked,
    order::take_in_order,
    support::{Client, Frame, Handshake, TestHub, deflated, token},
};

async fn hub() -> TestHub {
    TestHub::with(|setup| {
        setup.config.compression = true;
        setup.config.max_message = Bytes(4096);
    })
    .await
}

async fn offering(hub: &TestHub, user: &str, offer: &str) -> Client {
    let mut handshake = Handshake::v1(&token(user, |_| ()));
    handshake
        .headers
        .push(("Sec-WebSocket-Extensions".to_owned(), offer.to_owned()));
    Client::open(hub.public, &handshake).await.welcomed().await
}

fn extensions(client: &Client) -> Option<&str> {
    client.answer.header("sec-websocket-extensions")
}

#[tokio::test]
async fn it_is_agreed_only_where_both_want_it() {
    let off = TestHub::start().await;
    assert_eq!(extensions(&offering(&off, "u", "permessage-deflate").await), None);
    let hub = hub().await;
    assert_eq!(extensions(&hub.user("u").await), None);
    for offer in ["permessage-deflate", "permessage-deflate; client_max_window_bits"] {
        assert_eq!(
            extensions(&offering(&hub, "u", offer).await),
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
        );
    }
    for offer in ["permessage-deflate; server_max_window_bits=9", "permessage-bzip2"] {
        let mut client = offering(&hub, "u", offer).await;
        assert_eq!(extensions(&client), None);
        client.send(&json!({"type":"ping"})).await;
        client.expect("pong").await;
    }
}

/// A text that deflate likes.
fn quotes() -> Value {
    let quote = |number| json!({"symbol":format!("SYM{number}"),"price":149.5,"volume":1000,"venue":"XNAS"});
    (0..16).map(quote).collect()
}

async fn all_get_the_same(flush: Flush) {
    let hub = TestHub::with(|setup| {
        setup.config.compression = true;
        setup.config.workers = 1;
        setup.config.flush = flush;
    })
    .await;
    let mut clients = Vec::new();
    for number in 0..80 {
        let user = format!("u{number}");
        clients.push(if number % 2 == 0 {
            offering(&hub, &user, "permessage-deflate").await
        } else {
            hub.user(&user).await
        });
    }
    const MESSAGES: u64 = 20;
    for number in 0..MESSAGES {
        // Every second one is too small to be compressed.
        let data = if number % 2 == 0 { quotes() } else { json!(number) };
        hub.publish(&json!({"to":{"tenant":true},"data":data})).await;
    }
    let mut received = Vec::new();
    for client in &mut clients {
        let before = client.received;
        take_in_order(client, 0, MESSAGES).await;
        received.push((client.received - before, client.compressed));
    }
    for pair in received.chunks(2) {
        assert_eq!((pair[0].1, pair[1].1), (MESSAGES as usize / 2, 0));
        assert!(pair[0].0 * 2 < pair[1].0, "{pair:?}");
    }
    // A replay goes the same way.
    let mut again = offering(&hub, "again", "permessage-deflate").await;
    let start = clients[0].position("tenant");
    again
        .send(&json!({"type":"resume","positions":{"tenant":start}}))
        .await;
    take_in_order(&mut again, 0, MESSAGES).await;
    again.expect("recovered").await;
    assert!(again.compressed >= MESSAGES as usize / 2);
}

#[tokio::test]
async fn compressed_and_plain_sessions_get_the_same() {
    all_get_the_same(Flush::Write).await;
}

#[tokio::test]
async fn compressed_and_plain_sessions_get_the_same_by_io_uring() {
    all_get_the_same(Flush::IoUring).await;
}

#[tokio::test]
async fn what_clients_send_may_be_compressed() {
    let hub = hub().await;
    let mut client = offering(&hub, "u", "permessage-deflate").await;
    client.raw(&masked(0xC1, &deflated(br#"{"type":"ping"}"#))).await;
    client.expect("pong").await;
    let subscribe = deflated(br#"{"type":"subscribe","topic":"public.a"}"#);
    let (first, second) = subscribe.split_at(5);
    client.raw(&masked(0x41, first)).await;
    client.raw(&masked(0x89, b"between")).await;
    client.raw(&masked(0x80, second)).await;
    assert_eq!(client.frame().await, Frame::Pong(b"between".to_vec()));
    client.expect("subscribed").await;
}

#[tokio::test]
async fn bad_input_is_closed_with_its_code_and_nobody_else_notices() {
    let hub = hub().await;
    let mut other = offering(&hub, "other", "permessage-deflate").await;
    let bomb = deflated(&vec![b' '; 3 * 1024 * 1024]);
    assert!(bomb.len() < 4096, "{}", bomb.len());
    let cases: [(&str, Vec<u8>, u16); 7] = [
        ("a bomb", masked(0xC1, &bomb), 1009),
        (
            "a bomb in fragments",
            [masked(0x41, &bomb[..100]), masked(0x80, &bomb[100..])].concat(),
            1009,
        ),
        ("no deflate stream", masked(0xC1, &[0xFF; 64]), 1007),
        ("a torn stream", masked(0xC1, &bomb[..bomb.len() / 2]), 1009),
        ("not UTF-8 inside", masked(0xC1, &deflated(b"\xFF\xFF\xFF")), 1007),
        ("a compressed Ping", masked(0xC9, b""), 1002),
        (
            "RSV1 on a continuation",
            [masked(0x01, b"a"), masked(0xC0, b"b")].concat(),
            1002,
        ),
    ];
    for (name, bytes, code) in cases {
        let mut client = offering(&hub, "bad", "permessage-deflate").await;
        client.raw(&bytes).await;
        assert_eq!(client.closed().await.0, Some(code), "{name}");
    }
    let mut plain = hub.user("plain").await;
    plain.raw(&masked(0xC1, &deflated(br#"{"type":"ping"}"#))).await;
    assert_eq!(plain.closed().await.0, Some(1002), "not agreed");
    assert!(other.until_pong().await.is_empty());
}
