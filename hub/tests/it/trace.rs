//! Live traces.

use std::{net::SocketAddr, time::Duration};

use common::config::{Bytes, Span};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    control::operator,
    support::{Client, Handshake, TestHub, call, soon, token},
};

/// The lines of a trace that runs.
pub(crate) struct Lines {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Lines {
    /// Begins a trace, and takes its first line.
    pub(crate) async fn begin(address: SocketAddr, query: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET /api/v1/control/trace?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            operator()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = Self {
            stream,
            pending: Vec::new(),
        };
        let head = lines.until(b"\r\n\r\n").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.contains("application/x-ndjson"),
            "{head}"
        );
        let first = lines.next().await;
        assert_eq!(first["event"], "begin", "{first}");
        lines
    }

    async fn until(&mut self, end: &[u8]) -> String {
        let found = async {
            loop {
                if let Some(at) = self.pending.windows(end.len()).position(|window| window == end) {
                    let line: Vec<u8> = self.pending.drain(..at + end.len()).collect();
                    return String::from_utf8(line).unwrap();
                }
                assert!(
                    self.stream.read_buf(&mut self.pending).await.unwrap() > 0,
                    "the trace broke off"
                );
            }
        };
        soon("a line", found).await
    }

    /// The next line; sizes of chunks are no objects.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let line = self.until(b"\n").await;
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    /// Lines up to one with this event, and that one.
    pub(crate) async fn until_event(&mut self, event: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        loop {
            lines.push(self.next().await);
            if lines.last().is_some_and(|line| line["event"] == event) {
                return lines;
            }
        }
    }

    /// The next lines as `event:reason user`.
    async fn short(&mut self, count: usize) -> Vec<String> {
        let mut short = Vec::new();
        for _ in 0..count {
            let line = self.next().await;
            let mut text = line["event"].as_str().unwrap().to_owned();
            for (sign, field) in [(":", "reason"), (" ", "user")] {
                if let Some(value) = line[field].as_str() {
                    text = format!("{text}{sign}{value}");
                }
            }
            short.push(text);
        }
        short
    }
}

fn manager(user: &str) -> String {
    token(user, |new| new.roles = vec!["manager".to_owned()])
}

#[tokio::test]
async fn a_topic_shows_to_whom_it_went_and_why_not() {
    let hub = TestHub::start().await;
    let mut lines = Lines::begin(hub.internal, "topic=public.a").await;
    // Nobody has the topic, and it is seen all the same.
    hub.publish(&json!({"to":{"topic":"public.a"},"data":"secret"}))
        .await;
    let published = lines.next().await;
    assert_eq!(published["event"], "published");
    assert_eq!(published["topic"], "topic:public.a");
    assert_eq!(published["kind"], "message");
    assert!(published["bytes"].as_u64().unwrap() > 10);
    assert!(published["position"].is_string());
    assert!(!published.to_string().contains("secret"));
    assert_eq!(lines.short(1).await, ["not_delivered:not_subscribed"]);

    let mut ann = hub.connect(&manager("ann")).await;
    let mut bob = hub.user("bob").await;
    for client in [&mut ann, &mut bob] {
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
    }
    // One worker each, perhaps: their lines come in any order.
    for (body, expected) in [
        (
            json!({"to":{"topic":"public.a"},"data":1}),
            ["sent ann", "sent bob"],
        ),
        (
            json!({"to":{"topic":"public.a","except":{"user":"ann"}},"data":1}),
            ["filtered:except ann", "sent bob"],
        ),
        (
            json!({"to":{"topic":"public.a"},"data":1,"ttl_ms":0}),
            ["filtered:expired ann", "filtered:expired bob"],
        ),
    ] {
        hub.publish(&body).await;
        let mut got = Vec::new();
        while got.len() < 2 {
            got.extend(lines.short(1).await.into_iter().filter(|line| line.contains(' ')));
        }
        got.sort_unstable();
        assert_eq!(got, expected, "{body}");
    }
    assert_eq!(ann.until_pong().await.len(), 1);
    assert_eq!(bob.until_pong().await.len(), 2);
}

#[tokio::test]
async fn a_user_shows_all_that_concerns_it() {
    let hub = TestHub::start().await;
    let mut lines = Lines::begin(hub.internal, "user=ann&payload=true").await;
    hub.publish(&json!({"to":{"user":"ann"},"data":{"a":1}})).await;
    let published = lines.next().await;
    assert_eq!(
        published["data"]["data"],
        json!({"a":1}),
        "the payload was asked for"
    );
    assert_eq!(published["topic"], "user:ann");
    assert_eq!(lines.short(1).await, ["not_delivered:not_connected"]);

    let mut ann = hub.connect(&manager("ann")).await;
    let mut bob = hub.connect(&manager("bob")).await;
    assert_eq!(lines.short(1).await, ["connected ann"]);
    for (body, expected) in [
        (
            json!({"to":{"user":"ann"},"data":1}),
            &["published", "sent ann"][..],
        ),
        (json!({"to":{"user":"bob"},"data":1}), &[]),
        (json!({"to":{"role":"clerk"},"data":1}), &[]),
        (json!({"to":{"tenant":true},"data":1}), &["published", "sent ann"]),
        (
            json!({"to":{"all_of":[{"role":"manager"},{"topic":"public.a"}]},"data":1}),
            &["published", "filtered:expression ann"],
        ),
        (
            json!({"to":{"role":"manager","except":{"user":"ann"}},"data":1}),
            &["published", "filtered:except ann"],
        ),
    ] {
        hub.publish(&body).await;
        assert_eq!(lines.short(expected.len()).await, expected, "{body}");
    }
    bob.until_pong().await;
    let positions = ann.welcome["positions"].clone();
    ann.until_pong().await;
    ann.close().await;
    assert_eq!(lines.short(1).await, ["closed:normal ann"]);
    let mut again = hub.connect(&manager("ann")).await;
    assert_eq!(lines.short(1).await, ["connected ann"]);
    again.send(&json!({"type":"resume","positions":positions})).await;
    again.until_pong_and("recovered").await;
    assert_eq!(lines.short(2).await, ["replayed ann", "replayed ann"]);

    let mut seeds = hub.seeds("/api/v1/ws", &manager("ann")).await;
    assert_eq!(lines.short(1).await, ["connected ann"]);
    let key = crate::support::user_key("ann");
    hub.put(&key, common::message::FrameKind::Changed, false, |_| ())
        .await;
    let mut got = lines.short(3).await;
    got.sort_unstable();
    assert_eq!(got, ["filtered:dialect ann", "published", "sent ann"]);
    assert!(seeds.until_pong().await.is_empty());
}

#[tokio::test]
async fn what_a_topic_is_to_a_user() {
    let hub = TestHub::start().await;
    let mut other = hub.user("bob").await;
    other.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    other.expect("subscribed").await;
    let mut lines = Lines::begin(hub.internal, "user=ann&topic=public.a").await;
    let publish = json!({"to":{"topic":"public.a"},"data":1});
    hub.publish(&publish).await;
    assert_eq!(lines.short(1).await, ["published"]);
    // Whether another session shares the worker decides which of the two is known.
    let why = lines.short(1).await;
    assert!(
        ["not_delivered:not_subscribed", "not_delivered:not_connected"].contains(&why[0].as_str()),
        "{why:?}"
    );
    let mut ann = hub.user("ann").await;
    assert_eq!(lines.short(1).await, ["connected ann"]);
    hub.publish(&publish).await;
    let why = lines.short(2).await;
    assert!(
        ["not_delivered:not_subscribed", "filtered:not_subscribed ann"].contains(&why[1].as_str()),
        "{why:?}"
    );
    ann.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    ann.expect("subscribed").await;
    hub.publish(&publish).await;
    hub.publish(&json!({"to":{"user":"ann"},"data":1})).await;
    hub.publish(&publish).await;
    assert_eq!(
        lines.short(4).await,
        ["published", "sent ann", "published", "sent ann"]
    );
}

#[tokio::test]
async fn a_slow_reader_is_seen() {
    let hub = TestHub::with(|setup| {
        setup.config.workers = 1;
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_bytes = Bytes(64 * 1024);
        setup.config.max_publish = Bytes(32 * 1024);
    })
    .await;
    let mut handshake = Handshake::v1(&token("slow", |_| ()));
    handshake.receive_buffer = 4096;
    let _slow = Client::open(hub.public, &handshake).await.welcomed().await;
    let mut lines = Lines::begin(hub.internal, "user=slow").await;
    for _ in 0..60 {
        hub.publish(&json!({"to":{"user":"slow"},"data":"x".repeat(16 * 1024)}))
            .await;
    }
    let seen = lines.until_event("closed").await;
    assert!(seen.iter().any(|line| line["event"] == "queued"), "{seen:?}");
    assert_eq!(seen.last().unwrap()["reason"], "slow_consumer");
}

#[tokio::test]
async fn traces_are_bounded_and_end() {
    let hub = TestHub::with(|setup| {
        setup.config.traces = 2;
        setup.config.trace_time = Span(Duration::from_secs(60));
    })
    .await;
    let mut short = Lines::begin(hub.internal, "topic=public.a&seconds=1").await;
    let second = Lines::begin(hub.internal, "user=ann").await;
    let path = "/api/v1/control/trace?topic=public.b";
    let answer = call(hub.internal, "GET", path, &operator(), "").await;
    answer.problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    // One ends by itself.
    let end = short.until_event("end").await.pop().unwrap();
    assert_eq!(end["reason"], "time");
    assert_eq!(
        short.until(b"0\r\n\r\n").await.matches('{').count(),
        0,
        "the answer is whole"
    );
    let third = Lines::begin(hub.internal, "topic=public.b").await;
    // One ends with its client.
    drop(second);
    crate::support::eventually("there is room", async || {
        let busy = call(
            hub.internal,
            "GET",
            "/api/v1/control/trace?topic=public.c&seconds=1",
            &operator(),
            "",
        )
        .await;
        (busy.status == 200).then_some(())
    })
    .await;
    drop(third);
}

#[tokio::test]
async fn a_trace_ends_when_the_node_stops() {
    let hub = TestHub::start().await;
    let mut lines = Lines::begin(hub.internal, "user=ann").await;
    assert!(hub.hub.drain(Duration::from_secs(10), false).await);
    assert_eq!(
        lines.until_event("end").await.pop().unwrap()["reason"],
        "stopping"
    );
}

#[tokio::test]
async fn another_tenant_s_messages_are_not_seen_and_bad_input_begins_nothing() {
    let hub = TestHub::start().await;
    let mut lines = Lines::begin(hub.internal, "user=ann").await;
    let of_t2 = |user: &str, scope: &str| {
        token(user, |new| {
            new.tenant = Some("t2".to_owned());
            new.scopes = vec![scope.to_owned()];
        })
    };
    let _other = hub.connect(&of_t2("ann", "")).await;
    let body = json!({"to":{"user":"ann"},"data":1});
    assert_eq!(
        hub.post("/api/v1/publish", &of_t2("p", "publish"), &body)
            .await
            .status,
        200
    );
    hub.publish(&body).await;
    assert_eq!(lines.short(2).await, ["published", "not_delivered:not_connected"]);

    for (query, token, status, code, field) in [
        ("", operator(), 422, "no_target", Some("user")),
        ("?user=", operator(), 422, "invalid_value", Some("user")),
        ("?topic=", operator(), 422, "invalid_value", Some("topic")),
        (
            "?user=a&seconds=0",
            operator(),
            422,
            "invalid_value",
            Some("seconds"),
        ),
        (
            "?user=a&seconds=601",
            operator(),
            422,
            "invalid_value",
            Some("seconds"),
        ),
        (
            "?user=a&payload=maybe",
            operator(),
            422,
            "invalid_query",
            Some("payload"),
        ),
        ("?users=a", operator(), 422, "invalid_query", Some("users")),
        (
            "?user=a&tenant=t2",
            operator(),
            403,
            "scope_missing",
            Some("tenant"),
        ),
        ("?user=a", token("p", |_| ()), 403, "scope_missing", None),
        ("?user=a", String::new(), 401, "token_missing", None),
    ] {
        let answer = call(
            hub.internal,
            "GET",
            &format!("/api/v1/control/trace{query}"),
            &token,
            "",
        )
        .await;
        assert_eq!(answer.problem(status, code), field, "{query}: {answer:?}");
    }
}
