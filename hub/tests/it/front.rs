//! Handshakes in every portion, and what is none: each is answered as HTTP answers it, whoever reads it.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    malformed::masked,
    support::{Answer, Client, Frame, Handshake, TestHub, call, eventually, soon, tenant, token},
};

/// Reads one answer and nothing behind it.
async fn answer(stream: &mut TcpStream) -> Answer {
    let reading = async {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await;
            bytes.push(byte.expect("the end came without an answer"));
        }
        let length = Answer::parse(&bytes)
            .header("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        Answer::parse(&[bytes, body].concat())
    };
    soon("an answer", reading).await
}

/// Whether the server ended the connection.
async fn ends(stream: &mut TcpStream) {
    let mut byte = [0];
    let read = soon("the end", stream.read(&mut byte)).await;
    assert_eq!(read.unwrap_or(0), 0, "the connection goes on");
}

async fn connected(hub: &TestHub) -> TcpStream {
    let stream = TcpStream::connect(hub.public).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

#[tokio::test]
async fn a_head_may_come_in_any_portions() {
    let hub = TestHub::start().await;
    let mut handshake = Handshake::v1(&token("u1", |_| ()));
    handshake.behind = masked(0x89, b"early");
    let bytes = handshake.bytes(hub.public);
    for portion in [1, 7, 100, bytes.len() - 3] {
        let mut stream = connected(&hub).await;
        for part in bytes.chunks(portion) {
            stream.write_all(part).await.unwrap();
            // The next part comes when the server has had the time to see this one.
            tokio::task::yield_now().await;
        }
        let mut client = Client::over(stream).await;
        assert_eq!(client.answer.status, 101, "{portion}: {:?}", client.answer);
        // Which of the two comes first is the worker's affair.
        let both = [client.frame().await, client.frame().await];
        assert!(
            both.contains(&Frame::Pong(b"early".to_vec())),
            "{portion}: {both:?}"
        );
        assert!(
            both.iter()
                .any(|frame| matches!(frame, Frame::Text(text) if text.contains("welcome")))
        );
        client.close().await;
    }
}

#[tokio::test]
async fn a_handshake_may_follow_other_requests() {
    let hub = TestHub::start().await;
    let token = token("u1", |_| ());
    let mut handshake = Handshake::v1(&token);
    handshake.behind = masked(0x89, b"early");
    let mut stream = connected(&hub).await;
    let stats =
        format!("GET /api/v1/websocket/stats HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(stats.as_bytes()).await.unwrap();
    let first = answer(&mut stream).await;
    assert_eq!((first.status, &first.body["connections"]), (200, &json!(0)));
    // A handshake that is refused leaves the connection for the next request, whichever side read it.
    for _ in 0..2 {
        let nobody = Handshake::new("/ws").bytes(hub.public);
        stream.write_all(&nobody).await.unwrap();
        answer(&mut stream).await.problem(401, "token_missing");
    }
    stream.write_all(&handshake.bytes(hub.public)).await.unwrap();
    let client = Client::over(stream).await;
    assert_eq!(client.answer.status, 101);
    client.close().await;
}

#[tokio::test]
async fn a_refused_handshake_leaves_the_connection() {
    let hub = TestHub::start().await;
    let nobody = Handshake::new("/ws").bytes(hub.public);
    let good = Handshake::v1(&token("u1", |_| ())).bytes(hub.public);
    let mut stream = connected(&hub).await;
    // Both at once: what came behind the refused one is not lost.
    stream.write_all(&[nobody, good].concat()).await.unwrap();
    answer(&mut stream).await.problem(401, "token_missing");
    let client = Client::over(stream).await;
    assert_eq!(client.answer.status, 101);
    client.welcomed().await.close().await;
}

#[tokio::test]
async fn a_second_head_is_no_frame() {
    let hub = TestHub::start().await;
    let mut handshake = Handshake::v1(&token("u1", |_| ()));
    handshake.behind = handshake.bytes(hub.public);
    let client = Client::open(hub.public, &handshake).await;
    assert_eq!(client.closed().await.0, Some(1002));
}

#[tokio::test]
async fn who_comes_too_early_is_sent_away_for_good() {
    let hub = TestHub::with(|setup| setup.config.max_connections = 1).await;
    let _first = hub.user("u1").await;
    let mut stream = connected(&hub).await;
    stream
        .write_all(&Handshake::v1(&token("u2", |_| ())).bytes(hub.public))
        .await
        .unwrap();
    let refused = answer(&mut stream).await;
    refused.problem(503, "unavailable");
    assert_eq!(refused.header("connection"), Some("close"));
    ends(&mut stream).await;
}

#[tokio::test]
async fn what_is_no_handshake_is_answered_by_http() {
    let hub = TestHub::start().await;
    let token = token("u1", |_| ());
    let good = String::from_utf8(Handshake::v1(&token).bytes(hub.public)).unwrap();
    let huge = "a".repeat(1024 * 1024);
    for (what, bytes, status) in [
        ("another method", good.replacen("GET", "POST", 1), 405),
        ("another path", good.replacen("/ws", "/nothing", 1), 404),
        (
            "no handshake",
            "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            426,
        ),
        ("garbage", "\u{1}\u{2}garbage\r\n\r\n".to_owned(), 400),
        ("garbage in a head", good.replacen("Host: ", "Ho st: ", 1), 400),
        (
            "a huge head",
            good.replacen("Host: ", &format!("X: {huge}\r\nHost: "), 1),
            431,
        ),
        (
            "many fields",
            good.replacen("Host: ", &format!("{}Host: ", "X: y\r\n".repeat(200)), 1),
            431,
        ),
        ("HTTP/1.0", good.replacen("HTTP/1.1", "HTTP/1.0", 1), 426),
    ] {
        let mut stream = connected(&hub).await;
        // A head that is refused may not be read to its end.
        stream.write_all(bytes.as_bytes()).await.ok();
        assert_eq!(answer(&mut stream).await.status, status, "{what}");
    }
    assert_eq!(hub.hub.tenant_count(&tenant("t1")).connections, 0);
    // A head that only looks odd is a handshake all the same, and one that is long.
    for odd in [
        good.replacen("Host: ", &format!("{}Host: ", "X: y\r\n".repeat(60)), 1),
        good.replacen("Host: ", &format!("X: {}\r\nHost: ", "y".repeat(30_000)), 1),
        good.replacen("/ws", "/ws?a=%22'{}", 1),
    ] {
        let mut stream = connected(&hub).await;
        stream.write_all(odd.as_bytes()).await.unwrap();
        let client = Client::over(stream).await;
        assert_eq!(client.answer.status, 101, "{:?}", client.answer);
        client.welcomed().await.close().await;
    }
}

#[tokio::test]
async fn who_never_ends_a_head_is_cut_off() {
    let hub = TestHub::with(|setup| setup.header_timeout = Duration::from_millis(300)).await;
    for start in ["", "GET /ws HTT", "GET /other HTT"] {
        let mut stream = connected(&hub).await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        soon("the end", stream.read_to_end(&mut rest)).await.ok();
        assert!(!rest.starts_with(b"HTTP/1.1 1"), "{start}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_its_handshake_leaves_nothing() {
    let hub = TestHub::start().await;
    let good = Handshake::v1(&token("u1", |_| ())).bytes(hub.public);
    for end in [0, 1, 40, good.len() - 1, good.len()] {
        let mut stream = connected(&hub).await;
        stream.write_all(&good[..end]).await.unwrap();
        drop(stream);
    }
    hub.metric_reaches(r#"hub_sessions_closed_total{reason="gone"}"#, 1.0)
        .await;
    eventually("every seat is free", async || {
        (hub.hub.tenant_count(&tenant("t1")).connections == 0).then_some(())
    })
    .await;
    assert_eq!(
        call(
            hub.public,
            "GET",
            "/api/v1/websocket/stats",
            &token("u1", |_| ()),
            ""
        )
        .await
        .status,
        200
    );
}
