//! Sessions as a stream of events.

mod slow;

use std::{sync::Arc, time::Duration};

use common::{
    bus::{Bus, BusLimits, MemoryBus},
    config::{Bytes, Span},
};
use serde_json::{Value, json};

use crate::{
    order::offset,
    policies::policies,
    support::{
        Block, Client, Handshake, PATIENCE, Stream, TestHub, eventually, foreign_token, soon, tenant, token,
    },
};

fn user(name: &str) -> String {
    token(name, |_| ())
}

async fn open(hub: &TestHub, name: &str, query: &str) -> Stream {
    Stream::open(hub.public, &user(name), query, "").await
}

#[tokio::test]
async fn a_stream_is_what_a_socket_is() {
    let hub = TestHub::start().await;
    let mut socket = hub.user("u1").await;
    let mut stream = open(&hub, "u1", "topics=public.a,public.%C3%A4").await;
    for (header, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("connection", "close"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(stream.answer.header(header), Some(value));
    }
    let welcome = stream.expect("welcome").await;
    assert!((1000..=3000).contains(&stream.retry));
    assert_eq!(stream.positions(), welcome["positions"]);
    assert_eq!(welcome["heartbeat_ms"], 25_000);
    for topic in ["topic:public.a", "topic:public.ä"] {
        let subscribed = stream.expect("subscribed").await;
        assert_eq!(subscribed["topic"], topic);
        assert_eq!(stream.positions()[topic], subscribed["position"]);
    }
    for topic in ["public.a", "public.ä"] {
        socket.send(&json!({"type":"subscribe","topic":topic})).await;
        socket.expect("subscribed").await;
    }
    for to in [
        json!({"user":"u1"}),
        json!({"tenant":true}),
        json!({"topic":"public.a"}),
        json!({"topic":"public.ä"}),
    ] {
        hub.publish(&json!({"to":to,"data":"ä\n\u{2028}"})).await;
        let frame = socket.expect("message").await;
        assert_eq!(stream.event().await, frame);
        let topic = frame["topic"].as_str().unwrap();
        assert_eq!(stream.positions()[topic], frame["position"], "{}", stream.id);
    }
    // At most once: it moves nothing.
    let id = stream.id.clone();
    hub.publish(&json!({"to":{"user":"u1"},"data":1,"history":false}))
        .await;
    assert_eq!(stream.event().await, socket.expect("message").await);
    assert_eq!(stream.id, id);
    assert_eq!(hub.metric(r#"hub_fallbacks_active{transport="sse"}"#), 1.0);
    assert_eq!(hub.metric("websocket_connections_active"), 2.0);
    drop(stream);
    eventually("the session is gone", async || {
        let open = hub.metric(r#"hub_fallbacks_active{transport="sse"}"#);
        (hub.metric("websocket_connections_active") == 1.0 && open == 0.0).then_some(())
    })
    .await;
    assert_eq!(hub.metric(r#"hub_fallbacks_opened_total{transport="sse"}"#), 1.0);
}

#[tokio::test]
async fn what_a_request_offers_for_sockets_means_nothing_to_a_stream() {
    let hub = TestHub::with(|setup| setup.config.compression = true).await;
    let headers = format!(
        "Authorization: Bearer {}\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: bearer.x\r\n",
        user("u1")
    );
    let mut stream = Stream::attempt(hub.public, "", &headers, 0).await;
    stream.expect("welcome").await;
    hub.publish(&json!({"to":{"user":"u1"},"data":"x".repeat(4096)}))
        .await;
    assert_eq!(stream.expect("message").await["data"], "x".repeat(4096));
}

/// Data that a publisher forwards byte for byte may be written over several lines.
#[tokio::test]
async fn line_breaks_in_data_are_kept_apart() {
    let hub = TestHub::start().await;
    let mut stream = open(&hub, "u1", "").await;
    stream.expect("welcome").await;
    let body = "{\"to\":{\"user\":\"u1\"},\"data\":{\r\n \"a\":1,\n\n \"b\":[\r2]}}";
    let answer = crate::support::call(
        hub.internal,
        "POST",
        "/api/v1/publish",
        &crate::support::publisher(),
        body,
    )
    .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(stream.expect("message").await["data"], json!({"a":1,"b":[2]}));
}

/// Two nodes on one bus.
pub(crate) async fn two_hubs() -> [TestHub; 2] {
    let bus = Bus::Memory(MemoryBus::new(BusLimits {
        count: 10_000,
        bytes: 64 * 1024 * 1024,
        ..BusLimits::default()
    }));
    let start = async |bus: &Bus| TestHub::with(|setup| setup.bus = Some(bus.clone())).await;
    [start(&bus).await, start(&bus).await]
}

pub(crate) const TARGETS: [&str; 3] = [
    r#"{"user":"u1"}"#,
    r#"{"tenant":true}"#,
    r#"{"topic":"public.a"}"#,
];

/// Publishes numbers to three topics in turn, and tells by `data` which.
pub(crate) async fn publish_numbers(hub: &TestHub, count: u64) {
    let targets = TARGETS.map(|to| serde_json::from_str::<Value>(to).unwrap());
    for number in 0..count {
        let target = &targets[number as usize % targets.len()];
        hub.publish(&json!({"to":target,"data":number})).await;
    }
}

/// Asserts that these are all numbers, each once, and those of each topic in order.
pub(crate) fn check_numbers(got: &[u64], count: u64) {
    for topic in 0..TARGETS.len() as u64 {
        let of_topic = got.iter().copied().filter(|number| number % 3 == topic);
        let expected = (0..count).filter(|number| number % 3 == topic);
        assert!(of_topic.eq(expected), "topic {topic}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cuts_lose_nothing_and_repeat_nothing_on_any_node() {
    const COUNT: u64 = 1500;
    let hubs = two_hubs().await.map(Arc::new);
    let mut stream = open(&hubs[0], "u1", "topics=public.a").await;
    stream.expect("welcome").await;
    stream.expect("subscribed").await;
    let publisher = tokio::spawn({
        let hub = Arc::clone(&hubs[1]);
        async move { publish_numbers(&hub, COUNT).await }
    });
    let mut got = Vec::new();
    let mut connections = 1;
    let mut left = 3;
    while (got.len() as u64) < COUNT {
        if left == 0 {
            // Cut wherever it stands, also in a replay; back on the other node or the same.
            let hub = &hubs[fastrand::usize(..2)];
            stream = Stream::open(hub.public, &user("u1"), "topics=public.a", &stream.id).await;
            connections += 1;
            left = fastrand::usize(1..40);
        }
        let event = stream.event().await;
        left -= 1;
        match event["type"].as_str().unwrap() {
            "message" => got.push(event["data"].as_u64().unwrap()),
            "welcome" | "subscribed" | "recovered" => {}
            other => panic!("{other}: {event}"),
        }
    }
    publisher.await.unwrap();
    check_numbers(&got, COUNT);
    assert!(connections > 20, "{connections}");
    // And nothing is left over.
    let mut last = Stream::open(hubs[0].public, &user("u1"), "topics=public.a", &stream.id).await;
    last.expect("welcome").await;
    last.expect("subscribed").await;
    let recovered = last.expect("recovered").await;
    assert_eq!(recovered["count"], 0);
    assert_eq!(recovered["positions"], last.positions());
}

#[tokio::test]
async fn what_cannot_be_told_is_a_resync_and_goes_on() {
    let hub = TestHub::with(|setup| setup.history.count = 3).await;
    let mut stream = open(&hub, "u1", "").await;
    stream.expect("welcome").await;
    let id = stream.id.clone();
    drop(stream);
    for number in 0..6 {
        hub.publish(&json!({"to":{"user":"u1"},"data":number})).await;
    }
    let old = id.replace("\"tenant\"", "\"role:lost\":\"a:1:00000000\",\"tenant\"");
    let mut stream = Stream::open(hub.public, &user("u1"), "", &old).await;
    stream.expect("welcome").await;
    let mut lost = Vec::new();
    loop {
        let event = stream.event().await;
        match event["type"].as_str().unwrap() {
            "resync" => lost.extend(event["topics"].as_array().unwrap().iter().cloned()),
            "recovered" => break,
            other => panic!("{other}"),
        }
    }
    lost.sort_by_key(Value::to_string);
    assert_eq!(lost, ["role:lost", "user"]);
    // The id is one that can be come back with.
    assert!(stream.positions()["user"].as_str().unwrap().contains(":6:"));
    assert!(stream.positions().get("role:lost").is_none());
    hub.publish(&json!({"to":{"user":"u1"},"data":6})).await;
    assert_eq!(stream.expect("message").await["data"], 6);
    let mut stream = Stream::open(hub.public, &user("u1"), "", &stream.id).await;
    stream.expect("welcome").await;
    assert_eq!(stream.expect("recovered").await["count"], 0);
}

/// The last event is newer than what the page's address says.
#[tokio::test]
async fn the_last_event_wins_over_the_address() {
    let hub = TestHub::start().await;
    let mut stream = open(&hub, "u1", "").await;
    stream.expect("welcome").await;
    let first = stream.id.clone();
    for number in 0..3 {
        hub.publish(&json!({"to":{"user":"u1"},"data":number})).await;
    }
    stream.expect("message").await;
    let encoded: String = first.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let query = format!("positions={encoded}");
    for (id, count) in [("", 3), (stream.id.as_str(), 2)] {
        let mut again = Stream::open(hub.public, &user("u1"), &query, id).await;
        again.expect("welcome").await;
        for _ in 0..count {
            again.expect("message").await;
        }
        assert_eq!(again.expect("recovered").await["count"], count);
    }
}

#[tokio::test]
async fn a_heartbeat_moves_what_no_frame_moved() {
    let hub = TestHub::with(|setup| setup.config.heartbeat = Span(Duration::from_secs(1))).await;
    let mut stream = open(&hub, "u1", "").await;
    stream.expect("welcome").await;
    hub.publish(&json!({"to":{"tenant":true},"data":1,"except":{"user":"u1"}}))
        .await;
    // Nothing is answered, and yet it lives on for more than two heartbeats.
    let mut silent = 0;
    while silent < 4 {
        assert_eq!(stream.block().await, Block::Silent);
        silent += 1;
    }
    assert!(stream.positions()["tenant"].as_str().unwrap().contains(":1:"));
    hub.publish(&json!({"to":{"tenant":true},"data":2})).await;
    assert_eq!(stream.expect("message").await["data"], 2);
}

#[tokio::test]
async fn a_node_that_stops_says_when_to_come_back() {
    let hub = TestHub::start().await;
    let mut streams = Vec::new();
    for number in 0..10 {
        let mut stream = open(&hub, &format!("u{number}"), "").await;
        stream.expect("welcome").await;
        streams.push(stream);
    }
    let draining = tokio::spawn({
        let hub = hub.hub.clone();
        async move { hub.drain(PATIENCE, true).await }
    });
    for mut stream in streams {
        let close = stream.closed().await;
        assert_eq!(
            (&close["code"], &close["reason"]),
            (&json!(1012), &json!("restart"))
        );
        assert!(close["retry_after_ms"].as_u64().unwrap() < 2000);
        assert_eq!(close["retry_after_ms"], stream.retry);
    }
    assert!(draining.await.unwrap());
    let headers = format!("Authorization: Bearer {}\r\n", user("u1"));
    let refused = Stream::attempt(hub.public, "", &headers, 0).await.answer;
    refused.problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn a_token_that_ends_ends_the_stream() {
    let hub = TestHub::start().await;
    let short = token("u1", |new| new.ttl_seconds = 2);
    let mut stream = Stream::open(hub.public, &short, "", "").await;
    stream.expect("welcome").await;
    stream.expect("expiring").await;
    let close = stream.closed().await;
    assert_eq!(
        close,
        json!({"type":"close","code":4001,"reason":"token expired"})
    );
    let headers = format!(
        "Authorization: Bearer {}\r\n",
        token("u1", |new| new.ttl_seconds = -60)
    );
    let refused = Stream::attempt(hub.public, "", &headers, 0).await.answer;
    refused.problem(401, "token_expired");
}

#[tokio::test]
async fn a_stream_takes_a_seat_and_gives_it_back() {
    let hub = TestHub::with(|setup| setup.config.max_connections_per_user = 1).await;
    let mut stream = open(&hub, "u1", "").await;
    stream.expect("welcome").await;
    let headers = format!("Authorization: Bearer {}\r\n", user("u1"));
    let refused = Stream::attempt(hub.public, "", &headers, 0).await.answer;
    refused.problem(429, "user_full");
    assert!(refused.header("retry-after").is_some());
    let socket = Client::attempt(hub.public, &Handshake::v1(&user("u1"))).await;
    socket.answer.problem(429, "user_full");
    assert_eq!(
        hub.metric(r#"hub_handshakes_refused_total{reason="user_full"}"#),
        2.0
    );
    drop(stream);
    eventually("the seat is free", async || {
        (hub.hub.tenant_count(&tenant("t1")).connections == 0).then_some(())
    })
    .await;
    let mut stream = open(&hub, "u1", "").await;
    stream.expect("welcome").await;
}

#[tokio::test]
async fn handshakes_are_counted_together() {
    let hub = TestHub::with(|setup| setup.config.handshakes_per_second = 1).await;
    let _stream = open(&hub, "u1", "").await;
    let socket = Client::attempt(hub.public, &Handshake::v1(&user("u1"))).await;
    socket.answer.problem(429, "handshake_rate");
}

#[tokio::test]
async fn bad_requests_are_refused_and_change_nothing() {
    let hub = TestHub::start().await;
    let good = format!("Authorization: Bearer {}\r\n", user("u1"));
    let bad = format!("Authorization: Bearer {}\r\n", foreign_token("u1"));
    let evil = format!("{good}Origin: https://evil.net\r\n");
    let garbage = format!("{good}Last-Event-ID: garbage\r\n");
    let nine = "topics=public.1,public.2,public.3,public.4,public.5,public.6,public.7,public.8,public.9";
    for (query, headers, status, code, field) in [
        ("", "", 401, "token_missing", None),
        ("", bad.as_str(), 401, "token_invalid", None),
        ("token=x", "", 401, "token_invalid", None),
        ("user_id=u2", &good, 403, "not_the_tokens", Some("user_id")),
        ("tenant_id=t2", &good, 403, "not_the_tokens", Some("tenant_id")),
        ("", &evil, 403, "origin_not_allowed", Some("Origin")),
        ("topics=secret", &good, 403, "forbidden_topic", Some("topics")),
        ("topics=public.a,,b", &good, 422, "invalid_value", Some("topics")),
        ("topics=%5B7%5D", &good, 422, "invalid_value", Some("topics")),
        (nine, &good, 422, "too_many_topics", Some("topics")),
        ("positions=x", &good, 422, "invalid_value", Some("positions")),
        ("positions=%5B%5D", &good, 422, "invalid_value", Some("positions")),
        ("wait=61", &good, 422, "invalid_value", Some("wait")),
        ("", &garbage, 422, "invalid_value", Some("Last-Event-ID")),
    ] {
        let answer = Stream::attempt(hub.public, query, headers, 0).await.answer;
        assert_eq!(answer.problem(status, code), field, "{query}");
    }
    for (reason, count) in [("forbidden_topic", 1.0), ("invalid_value", 6.0), ("origin", 1.0)] {
        let name = format!(r#"hub_handshakes_refused_total{{reason="{reason}"}}"#);
        assert_eq!(hub.metric(&name), count, "{reason}");
    }
    assert_eq!(hub.hub.tenant_count(&tenant("t1")).connections, 0);
    assert_eq!(hub.metric("hub_sessions_opened_total"), 0.0);
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let hub = TestHub::start().await;
    let other = token("u1", |new| new.tenant = Some("t2".to_owned()));
    let mut ours = open(&hub, "u1", "topics=public.a").await;
    ours.expect("welcome").await;
    ours.expect("subscribed").await;
    // Also not where it comes back with another tenant's positions.
    for to in TARGETS {
        let to: Value = serde_json::from_str(to).unwrap();
        hub.publish(&json!({"to":to,"data":"t1"})).await;
        ours.expect("message").await;
    }
    let mut theirs = Stream::open(hub.public, &other, "topics=public.a", &ours.id).await;
    theirs.expect("welcome").await;
    let mut lost = 0;
    loop {
        let event = theirs.event().await;
        match event["type"].as_str().unwrap() {
            "resync" => lost += event["topics"].as_array().unwrap().len(),
            "recovered" => break,
            "subscribed" => {}
            other => panic!("{other}: {event}"),
        }
    }
    assert_eq!(lost, 3, "user, tenant and topic are others of the same name");
    hub.publish(&json!({"to":{"tenant":true},"data":"t1"})).await;
    let publisher = token("service", |new| {
        new.tenant = Some("t2".to_owned());
        new.scopes = vec!["publish".to_owned()];
    });
    hub.post(
        "/api/v1/publish",
        &publisher,
        &json!({"to":{"tenant":true},"data":"t2"}),
    )
    .await;
    assert_eq!(theirs.expect("message").await["data"], "t2");
    assert_eq!(ours.expect("message").await["data"], "t1");
}
