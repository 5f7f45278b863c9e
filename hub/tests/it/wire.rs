//! What breaks the rules of the wire, over real sockets.

use crate::{
    malformed::{malformed, masked},
    support::{Frame, TestHub, token},
};

#[tokio::test]
async fn malformed_frames_are_closed_with_the_right_code() {
    const MAX: usize = 4096;
    let hub = TestHub::with(|setup| setup.config.max_message = common::config::Bytes(MAX)).await;
    let token = token("u1", |_| ());
    for (name, bytes, code) in malformed(MAX) {
        let mut client = hub.connect(&token).await;
        client.raw(&bytes).await;
        let (closed, _) = client.closed().await;
        // Before the violation a binary message may end, which both dialects refuse.
        assert_eq!(closed, Some(code), "{name}");
    }
    // Byte by byte, as far as the server reads.
    for (name, bytes, code) in malformed(MAX)
        .into_iter()
        .filter(|(_, bytes, _)| bytes.len() < 300)
        .step_by(5)
    {
        let mut client = hub.connect(&token).await;
        for byte in bytes {
            client.raw(&[byte]).await;
        }
        assert_eq!(client.closed().await.0, Some(code), "{name}, byte by byte");
    }
}

#[tokio::test]
async fn binary_is_not_understood() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    client.raw(&masked(0x82, b"x")).await;
    assert_eq!(client.closed().await, (Some(1003), "text frames only".to_owned()));
}

#[tokio::test]
async fn fragments_and_pings_between_them_are_fine() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    for bytes in [
        masked(0x01, br#"{"type":"#),
        masked(0x89, b"p"),
        masked(0x00, b""),
        masked(0x80, br#""ping"}"#),
    ] {
        client.raw(&bytes).await;
    }
    assert_eq!(client.frame().await, Frame::Pong(b"p".to_vec()));
    client.expect("pong").await;
}

#[tokio::test]
async fn closes_are_answered_with_their_code() {
    let hub = TestHub::start().await;
    for (payload, code) in [
        (&b""[..], None),
        (&[0x03, 0xE9], Some(1001)),
        (&[0x0F, 0xA0, b'x'], Some(4000)),
    ] {
        let mut client = hub.user("u1").await;
        client.raw(&masked(0x88, payload)).await;
        assert_eq!(client.closed().await.0, code);
    }
    assert_eq!(hub.metric(r#"hub_sessions_closed_total{reason="normal"}"#), 3.0);
}

#[tokio::test]
async fn who_sends_too_much_is_closed() {
    let hub = TestHub::with(|setup| setup.config.inbound_per_second = 5).await;
    let mut client = hub.user("u1").await;
    client.raw(&masked(0x81, b"ping").repeat(1000)).await;
    assert_eq!(
        client.closed().await,
        (Some(4007), "too many messages".to_owned())
    );
    // Pongs are cheap, but not free.
    let mut client = hub.user("u1").await;
    client.raw(&masked(0x8A, b"").repeat(10_000)).await;
    assert_eq!(client.closed().await.0, Some(4007));
}

#[tokio::test]
async fn endless_empty_fragments_are_closed_and_hold_up_nobody() {
    let hub = TestHub::with(|setup| setup.config.inbound_per_second = 5).await;
    let mut client = hub.user("u1").await;
    client.raw(&masked(0x01, b"")).await;
    // They make no message and no memory, only work.
    client.raw(&masked(0x00, b"").repeat(2000)).await;
    assert_eq!(client.closed().await.0, Some(4007));
    let mut other = hub.user("u2").await;
    other.text(r#"{"type":"ping"}"#).await;
    other.expect("pong").await;
}
