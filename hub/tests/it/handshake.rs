//! Who is let in, and what those are told who are not.

use serde_json::json;

use crate::{
    malformed::masked,
    support::{Client, Frame, Handshake, Kept, TestHub, foreign_token, token},
};

#[tokio::test]
async fn a_token_comes_three_ways() {
    let hub = TestHub::start().await;
    let token = token("u1", |_| ());
    let in_query = Handshake::new(&format!("/api/v1/ws?token={token}&user_id=u1&tenant_id=t1"))
        .header("Sec-WebSocket-Protocol", "carillon.v1");
    let in_protocol = Handshake::new("/api/v1/ws")
        .header("Sec-WebSocket-Protocol", &format!("carillon.v1, bearer.{token}"));
    for handshake in [in_query, in_protocol, Handshake::v1(&token)] {
        let client = Client::open(hub.public, &handshake).await.welcomed().await;
        assert_eq!(
            client.answer.header("sec-websocket-protocol"),
            Some("carillon.v1")
        );
        client.close().await;
    }
    // Only the token is offered: it is answered, as browsers close where an offer is not taken.
    let offered = Handshake::new("/api/v1/ws").header("Sec-WebSocket-Protocol", &format!("bearer.{token}"));
    let client = Client::open(hub.public, &offered).await;
    let taken = client.answer.header("sec-websocket-protocol").unwrap();
    assert_eq!(taken, format!("bearer.{token}").to_ascii_lowercase());
    client.close().await;
}

#[tokio::test]
async fn every_path_is_a_socket() {
    let hub = TestHub::start().await;
    for path in ["/api/v1/ws", "/ws", "/api/v1/websocket/connect"] {
        hub.seeds(path, &token("u1", |_| ())).await.close().await;
    }
}

#[tokio::test]
async fn bad_tokens_are_refused() {
    let hub = TestHub::start().await;
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSIsInRlbmFudF9pZCI6InQxIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    for (given, code) in [
        (String::new(), "token_missing"),
        ("x".to_owned(), "token_invalid"),
        (none.to_owned(), "token_invalid"),
        (foreign_token("u1"), "token_invalid"),
        (token("u1", |new| new.ttl_seconds = -60), "token_expired"),
    ] {
        let client = Client::attempt(hub.public, &Handshake::seeds("/api/v1/ws", &given)).await;
        client.answer.problem(401, code);
        assert_eq!(client.answer.header("www-authenticate"), Some("bearer"));
    }
    let client = Client::attempt(hub.public, &Handshake::new("/api/v1/ws")).await;
    client.answer.problem(401, "token_missing");
    assert_eq!(
        hub.metric(r#"hub_handshakes_refused_total{reason="token_invalid"}"#),
        3.0
    );
}

#[tokio::test]
async fn names_in_the_query_are_those_of_the_token() {
    let hub = TestHub::start().await;
    let token = token("u1", |_| ());
    for (query, field) in [
        ("user_id=u2", "user_id"),
        ("tenant_id=t2", "tenant_id"),
        ("user_id=u1&tenant_id=", "tenant_id"),
    ] {
        let handshake = Handshake::new(&format!("/ws?token={token}&{query}"));
        let client = Client::attempt(hub.public, &handshake).await;
        assert_eq!(client.answer.problem(403, "not_the_tokens"), Some(field));
    }
    // A name that is given twice cannot hide the one that differs.
    let twice = Handshake::v1(&token);
    let twice = Handshake {
        path: "/api/v1/ws?user_id=u1&user_id=u2".to_owned(),
        ..twice
    };
    Client::attempt(hub.public, &twice)
        .await
        .answer
        .problem(422, "invalid_query");
}

#[tokio::test]
async fn origins_are_checked() {
    let hub = TestHub::with(|setup| setup.allowed_origins = vec!["https://app.example".to_owned()]).await;
    let token = token("u1", |_| ());
    let own = format!("http://{}", hub.public);
    for (origin, status) in [
        ("https://app.example", 101),
        (own.as_str(), 101),
        ("https://evil.example", 403),
        ("null", 403),
    ] {
        let handshake = Handshake::v1(&token).header("Origin", origin);
        let client = Client::attempt(hub.public, &handshake).await;
        assert_eq!(client.answer.status, status, "{origin}: {:?}", client.answer);
        if status == 403 {
            assert_eq!(client.answer.problem(403, "origin_not_allowed"), Some("Origin"));
        }
    }
}

#[tokio::test]
async fn what_is_no_handshake_is_told_to_upgrade() {
    let hub = TestHub::start().await;
    let whole = Handshake::v1(&token("u1", |_| ()));
    let old = whole
        .clone()
        .without("Sec-WebSocket-Version")
        .header("Sec-WebSocket-Version", "8");
    for handshake in [
        whole.clone().without("Upgrade"),
        whole.clone().without("Connection"),
        whole.clone().without("Sec-WebSocket-Key"),
        whole.clone().without("Sec-WebSocket-Version"),
        old,
    ] {
        let client = Client::attempt(hub.public, &handshake).await;
        client.answer.problem(426, "upgrade_required");
        assert_eq!(client.answer.header("upgrade"), Some("websocket"));
        assert_eq!(client.answer.header("sec-websocket-version"), Some("13"));
    }
    assert_eq!(
        hub.hub.tenant_count(&crate::support::tenant("t1")).connections,
        0,
        "a refused seat is given back"
    );
}

#[tokio::test]
async fn a_socket_is_opened_by_get() {
    let hub = TestHub::start().await;
    let token = token("u1", |_| ());
    for path in ["/api/v1/ws", "/ws", "/api/v1/websocket/connect"] {
        let mut connection = Kept::open(hub.public).await;
        let head = format!(
            "HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        connection.send(head).await;
        let mut lines = Vec::new();
        while let Some(line) = connection.line().await
            && !line.is_empty()
        {
            lines.push(line.to_ascii_lowercase());
        }
        assert_eq!(lines[0], "http/1.1 405 method not allowed", "{path}");
        assert!(lines.contains(&"allow: get".to_owned()), "{lines:?}");
    }
    assert_eq!(
        hub.hub.tenant_count(&crate::support::tenant("t1")).connections,
        0,
        "no seat was taken"
    );
}

#[tokio::test]
async fn a_frame_right_behind_the_handshake_is_not_lost() {
    let hub = TestHub::start().await;
    let mut handshake = Handshake::v1(&token("u1", |_| ()));
    let subscribe = json!({"type":"subscribe","topic":"public.a"}).to_string();
    handshake.behind = [masked(0x89, b"hello"), masked(0x81, subscribe.as_bytes())].concat();
    // The last byte comes alone, so that a frame is cut by the switch of protocols.
    let last = handshake.behind.pop().unwrap();
    let mut client = Client::open(hub.public, &handshake).await;
    client.raw(&[last]).await;
    assert_eq!(client.frame().await, Frame::Pong(b"hello".to_vec()));
    client.expect("welcome").await;
    assert_eq!(client.expect("subscribed").await["topic"], "topic:public.a");
}
