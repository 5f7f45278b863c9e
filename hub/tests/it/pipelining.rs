//! Publishing over kept connections: several requests at once, in pieces, mixed with others, and what is refused.

use serde_json::{Value, json};

use crate::support::{Kept, TestHub, call, publisher, token};

fn request(token: &str, body: &str) -> String {
    format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn to_user(user: &str, data: &Value) -> String {
    json!({"to":{"user":user},"data":data}).to_string()
}

#[tokio::test]
async fn requests_in_one_segment_are_answered_in_order() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let token = publisher();
    let many: String = (1..=100)
        .map(|number| request(&token, &to_user("u1", &json!(number))))
        .collect();
    let mut connection = Kept::open(hub.internal).await;
    connection.send(many).await;
    let mut last = 0;
    for _ in 0..100 {
        let answer = connection.answer().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(
            answer.header("date").is_some_and(|date| date.ends_with(" gmt")),
            "{answer:?}"
        );
        let offset = answer.body["offset"].as_u64().unwrap();
        assert_eq!(offset, last + 1);
        last = offset;
    }
    for number in 1..=100 {
        assert_eq!(client.expect("message").await["data"], number);
    }
}

#[tokio::test]
async fn other_requests_are_answered_in_their_place() {
    let hub = TestHub::start().await;
    let token = publisher();
    let stats =
        format!("GET /api/v1/websocket/stats HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\r\n");
    let batch = json!({"messages":[{"to":{"user":"u1"},"data":1}]}).to_string();
    let batch = format!(
        "POST /api/v1/publish/batch HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{batch}",
        batch.len()
    );
    let publish = request(&token, &to_user("u1", &json!(1)));
    let (first, second) = (r#"{"to""#, r#":{"user":"u1"},"data":[1,2,3]}"#);
    let chunked = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        first.len(),
        second.len()
    );
    let mut connection = Kept::open(hub.internal).await;
    connection
        .send(
            [&publish, &stats, &publish, &chunked, &batch, &publish]
                .map(|text| text.as_str())
                .concat(),
        )
        .await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        let answer = connection.answer().await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answers.push(answer.body);
    }
    assert_eq!(answers[0]["offset"], 1);
    assert_eq!(answers[1]["connections"], 0);
    assert_eq!(answers[2]["offset"], 2);
    assert_eq!(answers[3]["offset"], 3);
    assert_eq!(answers[4]["results"][0]["offset"], 4);
    assert_eq!(answers[5]["offset"], 5);
}

#[tokio::test]
async fn requests_may_come_in_pieces() {
    let hub = TestHub::start().await;
    let mut connection = Kept::open(hub.internal).await;
    let text = request(&publisher(), &to_user("u1", &json!("päck")));
    for byte in text.as_bytes().chunks(3) {
        connection.send(byte).await;
    }
    assert_eq!(connection.answer().await.body["offset"], 1);
    // A large one, cut in its body, with the beginning of the next one behind.
    let large = request(&publisher(), &to_user("u1", &json!("x".repeat(200_000))));
    let both = format!("{large}{text}");
    let (first, second) = both.split_at(100_000);
    connection.send(first).await;
    connection.send(second).await;
    assert_eq!(connection.answer().await.body["offset"], 2);
    assert_eq!(connection.answer().await.body["offset"], 3);
}

#[tokio::test]
async fn refusals_are_those_of_the_ordinary_server_and_the_connection_lives_on() {
    let hub = TestHub::with(|setup| setup.config.max_publish = common::config::Bytes(2048)).await;
    let good = publisher();
    let plain = token("u1", |_| ());
    let expired = token("u1", |new| new.ttl_seconds = -60);
    let body = to_user("u1", &json!(1));
    let user = json!({"user":"u1"});
    let mut connection = Kept::open(hub.internal).await;
    for (token, body, status, code) in [
        ("x.y.z", body.clone(), 401, "token_invalid"),
        (&expired, body.clone(), 401, "token_expired"),
        (&plain, body.clone(), 403, "scope_missing"),
        (&good, String::new(), 400, "not_json"),
        (&good, "{".to_owned(), 400, "not_json"),
        (&good, "{\"to\":\u{1}}".to_owned(), 400, "not_json"),
        (&good, format!("{body}{body}"), 400, "not_json"),
        (&good, "[]".to_owned(), 422, "invalid_value"),
        (&good, json!({"to":user}).to_string(), 422, "missing_field"),
        (
            &good,
            json!({"to":user,"data":1,"x":1}).to_string(),
            422,
            "unknown_field",
        ),
        (
            &good,
            json!({"to":{"everyone":true},"data":1}).to_string(),
            403,
            "scope_missing",
        ),
        (
            &good,
            json!({"to":user,"data":"x".repeat(2048)}).to_string(),
            413,
            "body_too_large",
        ),
    ] {
        connection.send(request(token, &body)).await;
        let answer = connection.answer().await;
        answer.problem(status, code);
        let ordinary = call(hub.internal, "POST", "/api/v1/publish", token, &body).await;
        assert_eq!(answer.status, ordinary.status);
        assert_eq!(answer.body, ordinary.body, "{body}");
        for name in ["content-type", "www-authenticate", "retry-after"] {
            assert_eq!(answer.header(name), ordinary.header(name), "{name}");
        }
    }
    let without = request("", &body).replace("Authorization: Bearer \r\n", "");
    connection.send(without).await;
    connection.answer().await.problem(401, "token_missing");
    let text = request(&good, &body).replace("application/json", "text/plain");
    connection.send(text).await;
    connection.answer().await.problem(415, "not_json");
    assert_eq!(hub.metric("hub_published_total"), 0.0);
    connection.send(request(&good, &body)).await;
    assert_eq!(connection.answer().await.body["offset"], 1);

    // A comment is taken out, as the ordinary server does.
    connection
        .send(request(&good, "{\"to\":{\"user\":\"u1\"}, // whom\n\"data\":1}"))
        .await;
    assert_eq!(connection.answer().await.body["offset"], 2);
    // What is announced too large is not read.
    connection
        .send(request(&good, &body).replace("Content-Length: ", "Content-Length: 9999999"))
        .await;
    connection.answer().await.problem(413, "body_too_large");
}

#[tokio::test]
async fn keys_count_over_a_kept_connection() {
    let hub = TestHub::start().await;
    let mut connection = Kept::open(hub.internal).await;
    let body = json!({"to":{"user":"u1"},"data":1,"idempotency_key":"k"}).to_string();
    let twice = request(&publisher(), &body).repeat(2);
    connection.send(twice).await;
    let first = connection.answer().await;
    assert_eq!(first.body, connection.answer().await.body);
    assert_eq!(first.body["offset"], 1);
}

fn with_key(request: &str, key: &str) -> String {
    request.replacen(
        "Host: hub\r\n",
        &format!("Host: hub\r\nIdempotency-Key: {key}\r\n"),
        1,
    )
}

#[tokio::test]
async fn a_key_may_stand_in_the_header() {
    let hub = TestHub::start().await;
    let token = publisher();
    let plain = request(&token, &to_user("u1", &json!(1)));
    let keyed = json!({"to":{"user":"u1"},"data":1,"idempotency_key":"k"}).to_string();
    let keyed = request(&token, &keyed);
    let mut connection = Kept::open(hub.internal).await;
    connection.send(&keyed).await;
    let first = connection.answer().await;
    assert_eq!(first.body["offset"], 1);
    // The first time by the short way; what cannot be read there leads to the ordinary server, and the second is by it.
    for _ in 0..2 {
        for repeat in [with_key(&plain, "k"), with_key(&keyed, "k")] {
            connection.send(repeat).await;
            assert_eq!(connection.answer().await.body, first.body);
        }
        connection.send(with_key(&keyed, "l")).await;
        let answer = connection.answer().await;
        assert_eq!(answer.problem(422, "conflict"), Some("Idempotency-Key"));
        connection.send(with_key(&with_key(&plain, "k"), "k")).await;
        let answer = connection.answer().await;
        assert_eq!(answer.problem(422, "invalid_value"), Some("Idempotency-Key"));
    }

    let broadcast = |key: &str| {
        let text = request(&token, r#"{"message":1}"#);
        with_key(&text, key).replace("/api/v1/publish", "/api/v1/websocket/broadcast")
    };
    connection.send(broadcast("b")).await;
    let first = connection.answer().await;
    assert_eq!((first.status, &first.body["offset"]), (200, &json!(1)));
    connection.send(broadcast("b")).await;
    assert_eq!(connection.answer().await.body, first.body);
    connection.send(broadcast("c")).await;
    assert_eq!(connection.answer().await.body["offset"], 2);

    // It cannot be the key of several.
    let body = json!({"messages":[{"to":{"user":"u1"},"data":2}]}).to_string();
    let batch = request(&token, &body).replace("/api/v1/publish", "/api/v1/publish/batch");
    let stream = plain
        .replace("/api/v1/publish", "/api/v1/publish/stream")
        .replace("application/json", "application/x-ndjson");
    for several in [batch, stream] {
        connection.send(with_key(&several, "k")).await;
        let answer = connection.answer().await;
        assert_eq!(answer.problem(422, "invalid_value"), Some("Idempotency-Key"));
    }
    connection.send(&plain).await;
    assert_eq!(connection.answer().await.body["offset"], 2);
}

#[tokio::test]
async fn garbage_is_refused() {
    let hub = TestHub::start().await;
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..], 400),
        (b"POST /api/v1/publish HTTP/9.9\r\n\r\n", 400),
        (
            b"POST /api/v1/publish HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n",
            400,
        ),
        (b"POST /api/v1/publish HTTP/1.1\r\nno colon\r\n\r\n", 400),
    ] {
        let mut connection = Kept::open(hub.internal).await;
        connection.send(bytes).await;
        assert_eq!(connection.answer().await.status, status, "{bytes:?}");
        assert!(connection.ended().await);
    }
}

#[tokio::test]
async fn a_stop_lets_the_request_on_its_way_come_to_its_end() {
    let hub = TestHub::start().await;
    let text = request(&publisher(), &to_user("u1", &json!("x".repeat(1000))));
    let (first, second) = text.split_at(text.len() - 500);
    let mut busy = Kept::open(hub.internal).await;
    let mut idle = Kept::open(hub.internal).await;
    // The first part of the second request has arrived with the first request.
    busy.send(format!("{text}{first}")).await;
    assert_eq!(busy.answer().await.status, 200);
    idle.send(&text).await;
    assert_eq!(idle.answer().await.status, 200);
    hub.stop_listening();
    assert!(idle.ended().await);
    busy.send(second).await;
    assert_eq!(busy.answer().await.body["offset"], 3);
    assert!(busy.ended().await);
}

// The clock stands still but for what is waited for: nothing else happens in these tests.
#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_arrive_ends_its_connection() {
    let hub = TestHub::start().await;
    let text = request(&publisher(), &to_user("u1", &json!(1)));
    let mut head = Kept::open(hub.internal).await;
    head.send(&text[..40]).await;
    assert!(head.ended().await);

    let mut body = Kept::open(hub.internal).await;
    body.send(&text[..text.len() - 1]).await;
    let answer = body.answer().await;
    answer.problem(408, "body_timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(body.ended().await);
    assert_eq!(hub.metric("hub_published_total"), 0.0);
}
