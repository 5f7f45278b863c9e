//! What each dialect gets without asking, and what it is answered.

use bytes::Bytes;
use common::message::FrameKind;
use fastwebsockets::{FragmentCollector, Frame as WsFrame, OpCode, Payload, handshake};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    malformed::masked,
    support::{Client, Frame, Handshake, TestHub, soon, token, user_key},
};

#[tokio::test]
async fn v1_is_welcomed_with_all_positions() {
    let hub = TestHub::start().await;
    let token = token("u1", |new| {
        new.roles = vec!["manager".to_owned()];
        new.stores = vec!["12".to_owned()];
    });
    let client = hub.connect(&token).await;
    let positions = client.welcome["positions"].as_object().unwrap();
    let topics: Vec<&str> = positions.keys().map(String::as_str).collect();
    assert_eq!(topics, ["everyone", "role:manager", "store:12", "tenant", "user"]);
    assert!(
        positions
            .values()
            .all(|at| at.as_str().unwrap().ends_with(":0:00000000")),
        "{positions:?}"
    );
    assert_eq!(client.welcome["heartbeat_ms"], 25_000);
    assert_eq!(client.welcome["node"], hub.hub.node().as_str());
    assert!(!client.session().is_empty());
}

#[tokio::test]
async fn the_first_seed_s_snippet_works() {
    // It sends the text `ping` and parses every message as JSON.
    let hub = TestHub::start().await;
    let mut client = Client::open(hub.public, &Handshake::seeds("/api/v1/ws", &token("u1", |_| ()))).await;
    client.text("ping").await;
    assert_eq!(client.frame().await, Frame::Pong(Vec::new()));
    client.text("ping").await;
    assert_eq!(client.frame().await, Frame::Pong(Vec::new()));
    // A command's answer shows that the session is in place; nothing came before it.
    assert_eq!(client.until_pong().await, Vec::<Value>::new());
    hub.put(&user_key("u1"), FrameKind::Notification, true, |_| ())
        .await;
    let frame = client.expect("notification").await;
    assert_eq!(frame["topic"], "user");
    assert!(frame["position"].is_string());
}

#[tokio::test]
async fn kinds_go_to_those_who_understand_them() {
    let hub = TestHub::start().await;
    let token = token("u1", |_| ());
    let mut v1 = hub.connect(&token).await;
    let mut plain = hub.seeds("/api/v1/ws", &token).await;
    let mut connect = hub.seeds("/api/v1/websocket/connect", &token).await;
    let mut voice = hub.seeds("/ws", &token).await;
    for kind in [
        FrameKind::Unread,
        FrameKind::Changed,
        FrameKind::Message,
        FrameKind::Notification,
    ] {
        hub.put(&user_key("u1"), kind, false, |_| ()).await;
    }
    for (client, kinds) in [
        (&mut v1, &["unread", "changed", "message", "notification"][..]),
        (&mut plain, &["message", "notification"]),
        (&mut connect, &["message", "notification"]),
        (&mut voice, &["unread", "message", "notification"]),
    ] {
        for kind in kinds {
            let frame = client.expect(kind).await;
            assert_eq!(frame.get("position"), None, "no history, no position");
        }
        assert!(client.until_pong().await.is_empty());
    }
}

#[tokio::test]
async fn s0_subscribes_with_channel_right_after_open() {
    let hub = TestHub::start().await;
    let path = "/api/v1/websocket/connect";
    let token = token("u1", |new| new.topics = vec!["trading_*".to_owned()]);
    let mut client = Client::open(hub.public, &Handshake::seeds(path, &token)).await;
    client
        .send(&json!({"type":"subscribe","channel":"trading_alerts"}))
        .await;
    let subscribed = client.expect("subscribed").await;
    assert_eq!(subscribed["topic"], "topic:trading_alerts");
    assert!(subscribed["position"].is_string());
    // Told is subscribed: what is published from now on comes.
    hub.publish(&json!({"to":{"topic":"trading_alerts"},"data":1}))
        .await;
    let frame = client.expect("message").await;
    assert_eq!(
        (&frame["data"], &frame["topic"]),
        (&json!(1), &json!("topic:trading_alerts"))
    );
}

#[tokio::test]
async fn commands_before_the_welcome_are_carried_out_behind_it() {
    let hub = TestHub::start().await;
    for round in 0..20 {
        // A user of its own each time, so that its topic is not confirmed yet.
        let mut handshake = Handshake::v1(&token(&format!("u{round}"), |_| ()));
        for command in [
            json!({"type":"subscribe","topic":"public.a"}),
            json!({"type":"resume","positions":{"topic:nowhere":"x"}}),
        ] {
            handshake
                .behind
                .extend(masked(0x81, command.to_string().as_bytes()));
        }
        let mut client = Client::open(hub.public, &handshake).await;
        client.expect("welcome").await;
        let mut kinds = Vec::new();
        for _ in 0..4 {
            kinds.push(client.json().await["type"].as_str().unwrap().to_owned());
        }
        kinds.sort_unstable();
        assert_eq!(kinds, ["error", "recovered", "resync", "subscribed"], "{round}");
    }
}

#[tokio::test]
async fn an_ordinary_library_gets_along() {
    let hub = TestHub::start().await;
    let stream = TcpStream::connect(hub.public).await.unwrap();
    let request = hyper::Request::get("/api/v1/ws")
        .header("host", hub.public.to_string())
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", handshake::generate_key())
        .header("sec-websocket-protocol", "carillon.v1")
        .header("authorization", format!("Bearer {}", token("u1", |_| ())))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let (socket, _) = handshake::client(&TokioExecutor::new(), request, stream)
        .await
        .unwrap();
    let mut socket: FragmentCollector<TokioIo<hyper::upgrade::Upgraded>> = FragmentCollector::new(socket);
    let next = async |socket: &mut FragmentCollector<_>| -> Value {
        let frame = soon("a frame", socket.read_frame()).await.unwrap();
        assert_eq!(frame.opcode, OpCode::Text);
        serde_json::from_slice(&frame.payload).unwrap()
    };
    assert_eq!(next(&mut socket).await["type"], "welcome");
    hub.publish(&json!({"to":{"user":"u1"},"data":"x".repeat(70_000)}))
        .await;
    assert_eq!(next(&mut socket).await["data"].as_str().unwrap().len(), 70_000);
    let command = br#"{"type":"ping"}"#.as_slice();
    socket
        .write_frame(WsFrame::text(Payload::Borrowed(command)))
        .await
        .unwrap();
    let pong = next(&mut socket).await;
    assert_eq!(pong["type"], "pong");
    assert!(
        pong["positions"]["user"].as_str().unwrap().contains(":1:"),
        "{pong}"
    );
    socket.write_frame(WsFrame::close(1000, b"")).await.unwrap();
    let close = soon("the close", socket.read_frame()).await.unwrap();
    assert_eq!(close.opcode, OpCode::Close);
}
