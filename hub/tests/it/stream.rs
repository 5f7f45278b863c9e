//! Uploads of one publish a line: results in order, bad lines, cuts, and early ends.

use common::config::Bytes;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{Kept, TestHub, call, publisher, soon, token};

/// The head of an upload in chunks.
fn head(token: &str, query: &str) -> String {
    format!(
        "POST /api/v1/publish/stream{query} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
}

fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}

const END: &str = "0\r\n\r\n";

fn line(user: &str, data: &Value) -> String {
    format!("{}\n", json!({"to":{"user":user},"data":data}))
}

/// An upload whose answer is read line by line.
struct Upload(Kept);

impl Upload {
    async fn begin(hub: &TestHub, token: &str, query: &str) -> Self {
        let mut connection = Kept::open(hub.internal).await;
        connection.send(head(token, query)).await;
        Self(connection)
    }

    async fn send(&mut self, text: &str) {
        self.0.send(chunk(text)).await;
    }

    async fn end(&mut self) {
        self.0.send(END).await;
    }

    /// The next line of the answer; its head and what frames its chunks are read over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.0.line().await?;
            if line == "0" {
                return None;
            }
            if line.starts_with('{') {
                return Some(serde_json::from_str(&line).unwrap());
            }
        }
    }

    async fn rest(mut self) -> Vec<Value> {
        let mut lines = Vec::new();
        while let Some(line) = self.next().await {
            lines.push(line);
        }
        lines
    }
}

#[tokio::test]
async fn each_line_has_its_result_while_others_still_come() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let mut upload = Upload::begin(&hub, &publisher(), "").await;
    for number in 1..=3 {
        upload.send(&line("u1", &json!(number))).await;
        let result = upload.next().await.unwrap();
        assert_eq!(
            (&result["line"], &result["offset"], &result["topic"]),
            (&json!(number), &json!(number), &json!("user:u1"))
        );
        let frame = client.expect("message").await;
        assert_eq!((&frame["data"], &frame["id"]), (&json!(number), &result["id"]));
    }
    // The last line needs no end, and lines may be cut anywhere.
    let text = line("u1", &json!("cut"));
    let (first, second) = text.trim_end().split_at(20);
    upload.send(first).await;
    upload.send(second).await;
    upload.end().await;
    let rest = upload.rest().await;
    assert_eq!(rest[0]["offset"], 4);
    assert_eq!(rest[1], json!({"summary":{"published":4,"failed":0}}));
    assert_eq!(rest.len(), 2);
    assert_eq!(client.expect("message").await["data"], "cut");
}

#[tokio::test]
async fn a_bad_line_does_not_stop_the_others() {
    let hub = TestHub::with(|setup| setup.config.max_publish = Bytes(1024)).await;
    let mut client = hub.user("u1").await;
    let text = [
        line("u1", &json!(1)),
        "{\n".to_owned(),
        "\r\n".to_owned(),
        "  \n".to_owned(),
        "[]\n".to_owned(),
        format!("{}\n", json!({"to":{"user":"u1"}})),
        format!("{}\n", json!({"to":{"everyone":true},"data":1})),
        format!("{}\n", json!({"to":{"user":"u1"},"data":1,"type":"welcome"})),
        line("u1", &json!("x".repeat(1024))),
        line("u1", &json!("x".repeat(600_000))),
        "{\"to\":\"\u{1}\"}\n".to_owned(),
        format!("{}\r\n", line("u1", &json!(2)).trim_end()),
        format!("{}\n", json!({"to":{"users":["u1","u2"]},"data":3})),
    ]
    .concat();
    for query in ["", "?results=all", "?results=errors"] {
        let mut upload = Upload::begin(&hub, &publisher(), query).await;
        upload.send(&text).await;
        upload.end().await;
        let mut results = upload.rest().await;
        assert_eq!(
            results.pop().unwrap(),
            json!({"summary":{"published":3,"failed":8}}),
            "{query}"
        );
        let failed: Vec<_> = results
            .iter()
            .filter(|result| result.get("code").is_some())
            .map(|result| {
                let text = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
                (result["line"].as_u64().unwrap(), text("code"), text("field"))
            })
            .collect();
        let failure = |line: u64, code: &str, field: &str| (line, code.to_owned(), field.to_owned());
        assert_eq!(
            failed,
            [
                failure(2, "not_json", ""),
                failure(5, "invalid_value", ""),
                failure(6, "missing_field", "data"),
                failure(7, "scope_missing", "to"),
                failure(8, "reserved_type", "type"),
                failure(9, "body_too_large", "data"),
                failure(10, "line_too_long", ""),
                failure(11, "not_json", ""),
            ]
        );
        let lines: Vec<_> = results
            .iter()
            .map(|result| result["line"].as_u64().unwrap())
            .collect();
        let expected: &[u64] = if query == "?results=errors" {
            &[2, 5, 6, 7, 8, 9, 10, 11]
        } else {
            &[1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13]
        };
        assert_eq!(lines, expected, "{query}");
        for data in 1..=3 {
            assert_eq!(client.expect("message").await["data"], data);
        }
    }
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn a_firehose_waits_for_the_workers_and_keeps_its_order() {
    let hub = TestHub::with(|setup| {
        setup.config.workers = 1;
        setup.config.worker_queue = 128;
    })
    .await;
    let mut client = hub.user("u1").await;
    let (read, mut write) = TcpStream::connect(hub.internal).await.unwrap().into_split();
    let head = head(&publisher(), "");
    let sending = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await.unwrap();
        // Far more in a chunk than the worker's queue holds.
        for first in (1..=6000).step_by(1000) {
            let lines: String = (first..first + 1000)
                .map(|number| line("u1", &json!(number)))
                .collect();
            write.write_all(chunk(&lines).as_bytes()).await.unwrap();
        }
        write.write_all(END.as_bytes()).await.unwrap();
        write
    });
    let mut lines = BufReader::new(read).lines();
    let mut expected = 1;
    loop {
        let line = soon("a line", lines.next_line()).await.unwrap().unwrap();
        if line.starts_with("{\"summary") {
            assert_eq!(line, r#"{"summary":{"published":6000,"failed":0}}"#);
            break;
        }
        if line.starts_with('{') {
            let result: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(
                (&result["line"], &result["offset"]),
                (&json!(expected), &json!(expected))
            );
            expected += 1;
        }
    }
    for number in 1..=6000 {
        assert_eq!(client.expect("message").await["data"], number);
    }
    // Nothing had to be read again from history.
    assert_eq!(hub.metric("hub_messages_dropped_total"), 0.0);
    assert!(hub.metric("hub_publishers_held_back_total") > 0.0);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn what_arrived_whole_before_a_cut_is_published() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let mut upload = Upload::begin(&hub, &publisher(), "").await;
    let text = [
        line("u1", &json!(1)),
        line("u1", &json!(2)),
        line("u1", &json!("torn")).trim_end().to_owned(),
    ]
    .concat();
    upload.send(&text).await;
    drop(upload);
    for data in 1..=2 {
        assert_eq!(client.expect("message").await["data"], data);
    }
    // Nothing comes of the torn line, also when everything else has been done.
    let mut next = Upload::begin(&hub, &publisher(), "").await;
    next.send(&line("u1", &json!("next"))).await;
    next.end().await;
    assert_eq!(next.rest().await[0]["offset"], 3);
    assert_eq!(client.expect("message").await["data"], "next");
}

#[tokio::test]
async fn a_key_counts_for_lines_as_for_others() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let body = json!({"to":{"user":"u1"},"data":1,"idempotency_key":"k"});
    let first = hub.publish(&body).await;
    let mut upload = Upload::begin(&hub, &publisher(), "").await;
    upload.send(&format!("{body}\n{body}\n")).await;
    upload.end().await;
    let results = upload.rest().await;
    for result in &results[..2] {
        assert_eq!((&result["id"], &result["offset"]), (&first["id"], &json!(1)));
    }
    assert_eq!(client.expect("message").await["id"], first["id"]);
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn an_upload_with_keys_may_be_sent_again_whole() {
    let hub = TestHub::start().await;
    let text: String = (0..1500)
        .map(|number| {
            let key = format!("k{number}");
            let line = json!({"to":{"topic":"prices"},"data":number,"idempotency_key":key});
            format!("{line}\n")
        })
        .collect();
    for _ in 0..2 {
        let mut upload = Upload::begin(&hub, &publisher(), "?results=errors").await;
        upload.send(&text).await;
        upload.end().await;
        let rest = upload.rest().await;
        assert_eq!(rest, [json!({"summary":{"published":1500,"failed":0}})]);
    }
    let next = hub.publish(&json!({"to":{"topic":"prices"},"data":0})).await;
    assert_eq!(next["offset"], 1501);
}

// The clock stands still but for what is waited for, so the token's end comes at once.
#[tokio::test(start_paused = true)]
async fn the_token_s_end_is_the_stream_s() {
    let hub = TestHub::start().await;
    let short = token("service", |new| {
        new.scopes = vec!["publish".to_owned()];
        new.ttl_seconds = 20;
    });
    let mut upload = Upload::begin(&hub, &short, "?results=errors").await;
    upload
        .send(&[line("u1", &json!(1)), "{".to_owned()].concat())
        .await;
    let problem = upload.next().await.unwrap();
    assert_eq!(
        (&problem["code"], &problem["line"]),
        (&json!("token_expired"), &json!(2))
    );
    let rest = upload.rest().await;
    assert_eq!(rest, [json!({"summary":{"published":1,"failed":1}})]);
}

// As above.
#[tokio::test(start_paused = true)]
async fn silence_ends_a_stream() {
    let hub = TestHub::start().await;
    let mut upload = Upload::begin(&hub, &publisher(), "").await;
    upload
        .send(&[line("u1", &json!(1)), "{\"to\"".to_owned()].concat())
        .await;
    assert_eq!(upload.next().await.unwrap()["line"], 1);
    let problem = upload.next().await.unwrap();
    assert_eq!(
        (&problem["code"], &problem["line"], &problem["status"]),
        (&json!("body_timeout"), &json!(2), &json!(408))
    );
    let rest = upload.rest().await;
    assert_eq!(rest, [json!({"summary":{"published":1,"failed":1}})]);
}

#[tokio::test]
async fn a_stop_says_from_which_line_on_nothing_was_published() {
    let hub = TestHub::start().await;
    let mut upload = Upload::begin(&hub, &publisher(), "").await;
    upload.send(&line("u1", &json!(1))).await;
    assert_eq!(upload.next().await.unwrap()["line"], 1);
    hub.stop_listening();
    let problem = upload.next().await.unwrap();
    assert_eq!(
        (&problem["code"], &problem["line"], &problem["status"]),
        (&json!("unavailable"), &json!(2), &json!(503))
    );
    // A client that goes on all the same can still read that.
    upload.send(&line("u1", &json!(2))).await;
    assert_eq!(
        upload.next().await.unwrap(),
        json!({"summary":{"published":1,"failed":1}})
    );
    upload.end().await;
    assert!(upload.rest().await.is_empty());
    assert_eq!(hub.metric("hub_published_total"), 1.0);
}

#[tokio::test]
async fn what_cannot_begin_is_refused_before_anything_is_read() {
    let hub = TestHub::start().await;
    let good = publisher();
    let plain = token("u1", |_| ());
    for (token, query, kind, status, code, field) in [
        ("", "", "application/x-ndjson", 401, "token_missing", None),
        ("x.y.z", "", "application/x-ndjson", 401, "token_invalid", None),
        (&plain, "", "application/x-ndjson", 403, "scope_missing", None),
        (&good, "", "application/json", 415, "not_ndjson", None),
        (&good, "", "", 415, "not_ndjson", None),
        (
            &good,
            "?results=some",
            "application/x-ndjson",
            422,
            "invalid_query",
            Some("results"),
        ),
        (
            &good,
            "?x=1",
            "application/x-ndjson",
            422,
            "invalid_query",
            Some("x"),
        ),
    ] {
        let mut connection = Kept::open(hub.internal).await;
        let text = head(token, query).replace("application/x-ndjson", kind);
        connection.send(text).await;
        let answer = connection.answer().await;
        assert_eq!(answer.problem(status, code), field, "{answer:?}");
    }
    let answer = call(hub.public, "POST", "/api/v1/publish/stream", &good, "").await;
    assert_eq!(answer.status, 404);
    assert_eq!(hub.metric("hub_published_total"), 0.0);
}
