//! Redis is away: what is up stays up, says so, and drops nothing in silence; and it heals by itself.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use hyper::Method;
use rig::{
    carillon::{Node, Service},
    redis::{Options, Restart, Server},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{
    client::{Answer, Client},
    cluster::{Common, post, readiness, token},
    eventually,
    socket::{RawSocket, Socket, refusal},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn not_ready() -> (u16, Value) {
    (503, json!({"status":"not_ready","reasons":["bus"]}))
}

/// An answer that says that nothing was done, and when to come back.
fn assert_later(what: &str, answer: &Answer) {
    assert_eq!(answer.status, 503, "{what}: {answer:?}");
    assert_eq!(answer.problem().0, "unavailable", "{what}");
    let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=120).contains(&after), "{what}: {after}");
}

/// Every way to publish, and every way in, is refused with the time to come back.
async fn assert_refusing(hub: &Node, token: &str) {
    let one = json!({"to":{"topic":"t"},"data":"lost?"});
    let express = post(hub.internal(), "/api/v1/publish", token, &one).await;
    assert_later("express", &express);
    // A parameter that express does not read sends it through the ordinary server.
    let ordinary = post(hub.internal(), "/api/v1/publish?", token, &one).await;
    assert_later("publish", &ordinary);
    let several = json!({"to":{"any_of":[{"user":"a"},{"user":"b"}]},"data":"lost?"});
    assert_later(
        "several",
        &post(hub.internal(), "/api/v1/publish", token, &several).await,
    );
    let said = json!({"message":"lost?"});
    for listener in [hub.internal(), hub.address()] {
        let broadcast = post(listener, "/api/v1/websocket/broadcast", token, &said).await;
        assert_later("broadcast", &broadcast);
    }
    let batch = json!({"messages":[one, one]});
    let batch = post(hub.internal(), "/api/v1/publish/batch", token, &batch).await;
    assert_eq!(batch.status, 200, "{batch:?}");
    for result in batch.json()["results"].as_array().unwrap() {
        assert_eq!(
            (&result["status"], &result["code"]),
            (&json!(503), &json!("unavailable"))
        );
    }
    let lines = stream(hub.internal(), token, &format!("{one}\n{one}\n")).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in &lines[..2] {
        assert_eq!(
            (&line["status"], &line["code"]),
            (&json!(503), &json!("unavailable"))
        );
    }
    assert_eq!(lines[2]["summary"], json!({"published":0,"failed":2}));

    let refused = refusal(hub.address(), token).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.contains("retry-after: ") && refused.contains("\"unavailable\""),
        "{refused}"
    );
    for path in ["/api/v1/sse", "/api/v1/poll?wait=0"] {
        let mut client = Client::connect(hub.address()).await.unwrap();
        assert_later(path, &client.get(path, Some(token)).await.unwrap());
    }
}

/// Publishes lines; the answers, line by line.
async fn stream(address: SocketAddr, token: &str, lines: &str) -> Vec<Value> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST /api/v1/publish/stream HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{lines}",
        lines.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    // Lengths of chunks and heads are no JSON objects.
    let objects = answer.lines().filter(|line| line.starts_with('{'));
    objects.map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn becomes_unready(node: &Node) {
    eventually("the bus is missed", PATIENCE, async || {
        (readiness(node) == not_ready()).then_some(())
    })
    .await;
}

async fn publish(hub: &Node, token: &str, n: u32) -> u16 {
    let body = json!({"to":{"user":"u1"},"data":n});
    post(hub.internal(), "/api/v1/publish", token, &body).await.status
}

#[tokio::test]
async fn processes_start_without_redis_and_become_ready_when_it_comes() {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis);
    redis.kill().unwrap();
    let (hub, dispatcher) = (common.spawn(Service::Hub), common.spawn(Service::Dispatcher));
    for node in [&hub, &dispatcher] {
        eventually("it answers", PATIENCE, async || node.ready().ok()).await;
        assert_eq!(readiness(node), not_ready(), "{}", node.log());
    }
    let caller = token(&hub, "u1", "publish notifications:write");
    assert_refusing(&hub, &caller).await;
    // What is accepted without Redis is stored.
    let body = json!({"to":{"user":"u1"},"title":"t","content":"early"});
    let created = post(dispatcher.address(), "/api/v1/notifications", &caller, &body).await;
    assert_eq!(created.status, 201, "{created:?}");

    redis.restart(Restart::Empty).unwrap();
    for node in [&hub, &dispatcher] {
        node.wait_until_ready(PATIENCE).unwrap();
    }
    let mut socket = Socket::open(hub.address(), &caller).await;
    assert_eq!(publish(&hub, &caller, 1).await, 200);
    loop {
        // The early one may still be on its way.
        let frame = socket.next().await;
        if frame["type"] == "message" {
            assert_eq!(frame["data"], 1);
            break;
        }
        assert_eq!(frame["content"], "early");
    }
}

#[tokio::test]
async fn a_paused_redis_keeps_sockets_and_loses_nothing_that_was_acknowledged() {
    away_and_back(Server::pause, Server::resume).await;
}

#[tokio::test]
async fn a_killed_redis_keeps_sockets_and_loses_nothing_that_was_acknowledged() {
    away_and_back(
        |redis| {
            redis.command(&["SAVE"])?;
            redis.kill()
        },
        |redis| redis.restart(Restart::WithData),
    )
    .await;
}

async fn away_and_back(
    away: impl Fn(&Server) -> Result<(), rig::Error>,
    back: impl Fn(&Server) -> Result<(), rig::Error>,
) {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis);
    let hubs = [common.start(Service::Hub), common.start(Service::Hub)];
    let caller = token(&hubs[0], "u1", "publish");
    let mut sockets = Vec::new();
    for hub in &hubs {
        sockets.push(Socket::open(hub.address(), &caller).await);
    }
    assert_eq!(publish(&hubs[0], &caller, 0).await, 200);

    away(&redis).unwrap();
    // At once, before anybody noticed: the wait for an answer ends.
    assert_ne!(publish(&hubs[0], &caller, 1).await, 200);
    for hub in &hubs {
        becomes_unready(hub).await;
        assert_refusing(hub, &caller).await;
    }
    // The sockets are there and answer.
    for socket in &mut sockets {
        let frames = socket.until_pong().await;
        assert!(frames.iter().all(|frame| frame["data"] != 1), "{frames:?}");
    }

    back(&redis).unwrap();
    for hub in &hubs {
        hub.wait_until_ready(PATIENCE).unwrap();
    }
    for n in 2..20 {
        assert_eq!(
            publish(&hubs[n % 2], &caller, u32::try_from(n).unwrap()).await,
            200
        );
    }
    for socket in &mut sockets {
        let mut seen = Vec::new();
        while seen.last() != Some(&19) {
            let frame = socket.next().await;
            assert_eq!(frame["type"], "message", "{frame}");
            seen.push(frame["data"].as_u64().unwrap());
        }
        // A publish that was answered with 503 may have come before Redis stood still; it is repeated by key.
        seen.retain(|n| *n != 1);
        let all: Vec<u64> = [0].into_iter().chain(2..20).collect();
        assert!(all.ends_with(&seen) && seen.len() >= 18, "{seen:?}");
    }
}

#[tokio::test]
async fn a_session_whose_topics_are_not_confirmed_is_sent_away_without_a_welcome() {
    let redis = Server::start(&Options::default()).unwrap();
    // Nobody notices by himself that Redis stands still.
    let common = Common::on(&redis).set("CARILLON_REDIS__PROBE_AFTER", "60s");
    let hub = common.start(Service::Hub);
    let caller = token(&hub, "u1", "");
    redis.pause().unwrap();
    let socket = RawSocket::open(hub.address(), &caller).await;
    assert_eq!(socket.closed_unwelcomed().await, Some(1013));
    redis.resume().unwrap();
    hub.wait_until_ready(PATIENCE).unwrap();
    Socket::open(hub.address(), &caller).await;
}

#[tokio::test]
async fn both_listeners_of_a_dispatcher_say_the_same_of_the_bus() {
    let redis = Server::start(&Options::default()).unwrap();
    let dispatcher = Common::on(&redis).start(Service::Dispatcher);
    redis.kill().unwrap();
    let degraded = (200, json!({"status":"ready","reasons":[],"degraded":["bus"]}));
    eventually("the dispatcher says that it has no bus", PATIENCE, async || {
        (readiness(&dispatcher) == degraded).then_some(())
    })
    .await;
    // Nobody asked the public one while the bus was there.
    let mut client = Client::connect(dispatcher.address()).await.unwrap();
    let public = client.get("/ready", None).await.unwrap();
    assert_eq!((public.status, public.json()), degraded);
}

#[tokio::test]
async fn realtime_is_tried_until_it_is_too_old() {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis)
        .set("CARILLON_REALTIME__MAX_AGE", "4s")
        .set("CARILLON_REALTIME__RECEIPT_WAIT", "1s");
    let patient = Common::on(&redis);
    let hub = common.start(Service::Hub);
    let [impatient, patient] = [&common, &patient].map(|common| common.start(Service::Dispatcher));
    let caller = token(&hub, "u1", "notifications:write service");
    let mut socket = Socket::open(hub.address(), &caller).await;

    redis.command(&["SAVE"]).unwrap();
    redis.kill().unwrap();
    let mut ids = Vec::new();
    for (dispatcher, content) in [(&impatient, "given up"), (&patient, "late")] {
        let body = json!({"to":{"user":"u1"},"title":"t","content":content});
        let mut client = Client::connect(dispatcher.address()).await.unwrap();
        let body = Bytes::from(body.to_string());
        let created = timeout(
            // Less than the bus is waited for.
            Duration::from_millis(400),
            client.send(Method::POST, "/api/v1/notifications", Some(&caller), body),
        );
        let created = created.await.expect("the answer waits for the bus").unwrap();
        assert_eq!(created.status, 201, "{created:?}");
        ids.push(created.json()["id"].as_str().unwrap().to_owned());
    }
    eventually("the dispatcher says that it has no bus", PATIENCE, async || {
        let degraded = json!({"status":"ready","reasons":[],"degraded":["bus"]});
        (readiness(&patient) == (200, degraded)).then_some(())
    })
    .await;
    let mut client = Client::connect(impatient.address()).await.unwrap();
    let given_up = eventually("the frame is too old", PATIENCE, async || {
        let path = format!("/api/v1/notifications/{}/status", ids[0]);
        let status = client.get(&path, Some(&caller)).await.unwrap().json();
        let deliveries = status["deliveries"]
            .as_array()
            .unwrap_or_else(|| panic!("{status}"))
            .clone();
        deliveries
            .into_iter()
            .find(|one| one["channel"] == "realtime" && one["state"] == "expired")
    })
    .await;
    assert_eq!(given_up["reason"], "expired", "{given_up}");

    redis.restart(Restart::WithData).unwrap();
    let frame = socket.next().await;
    assert_eq!(
        (&frame["type"], &frame["content"]),
        (&json!("notification"), &json!("late"))
    );
}
