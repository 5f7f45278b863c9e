//! API keys at a hub: wherever tokens go, and until they are revoked.

use std::{collections::BTreeSet, time::Instant};

use common::{credential::KeyRecord, token::NewKey};
use serde_json::{Value, json};

use crate::support::{
    Client, Handshake, Kept, Stream, TestHub, call, eventually, foreign_token, soon, tenant,
};

/// Longer than any node may believe a revoked key.
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn record(key: &NewKey, scopes: &[&str]) -> KeyRecord {
    KeyRecord {
        id: key.id,
        revision: 1,
        tenant: tenant("t1"),
        hash: key.hash,
        previous: None,
        scopes: scopes
            .iter()
            .map(|scope| (*scope).to_owned())
            .collect::<BTreeSet<_>>(),
        role: None,
        expires_at: None,
        revoked: false,
    }
}

fn put(hub: &TestHub, scopes: &[&str]) -> NewKey {
    let key = NewKey::generate().unwrap();
    hub.keys.put(record(&key, scopes));
    key
}

fn revoke(hub: &TestHub, key: &NewKey) {
    hub.keys.put(KeyRecord {
        revision: 2,
        revoked: true,
        ..record(key, &["publish"])
    });
}

fn message() -> Value {
    json!({ "to": { "user": "u1" }, "data": "hello" })
}

/// A publish as the express reads it.
fn request(headers: &str) -> String {
    let body = message().to_string();
    format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: hub\r\n{headers}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn s4_10_a_key_publishes_over_both_servers_within_its_scopes() {
    let hub = TestHub::start().await;
    let key = put(&hub, &["publish"]);
    let mut reader = hub.user("u1").await;
    let mut kept = Kept::open(hub.internal).await;
    for headers in [
        format!("Authorization: Bearer {}", key.text()),
        format!("X-API-Key: {}", key.text()),
        format!("X-API-Key: {}\r\nAuthorization: Basic dTpw", key.text()),
    ] {
        // Several at once, of which the first has to be looked up.
        kept.send(request(&headers).repeat(3)).await;
        for _ in 0..3 {
            assert_eq!(kept.answer().await.status, 200, "{headers}");
            reader.expect("message").await;
        }
        // With an `Origin` it is for the ordinary server.
        let mut ordinary = Kept::open(hub.internal).await;
        ordinary
            .send(request(&format!("{headers}\r\nOrigin: http://hub")))
            .await;
        assert_eq!(ordinary.answer().await.status, 200, "{headers}");
        reader.expect("message").await;
    }
    let other = put(&hub, &["metrics"]);
    kept.send(request(&format!("X-API-Key: {}", other.text()))).await;
    assert_eq!(kept.answer().await.problem(403, "scope_missing"), None);
    let unknown = NewKey::generate().unwrap();
    for bad in [unknown.text(), "ck_", NewKey::next(key.id).unwrap().text()] {
        kept.send(request(&format!("X-API-Key: {bad}"))).await;
        assert_eq!(kept.answer().await.problem(401, "key_invalid"), None);
    }
    // Another tenant's people are not there.
    hub.keys.put(KeyRecord {
        tenant: tenant("t2"),
        ..record(&unknown, &["publish"])
    });
    kept.send(request(&format!("X-API-Key: {}", unknown.text())))
        .await;
    assert_eq!(kept.answer().await.status, 200);
    assert!(reader.until_pong().await.is_empty());
}

#[tokio::test]
async fn s4_10_a_revoked_key_ends_publishes_sockets_and_uploads_within_a_second() {
    let hub = TestHub::start().await;
    let key = put(&hub, &["publish"]);
    let text = key.text();
    // As the first request of its connection, and as a later one, which HTTP reads.
    let front = Client::open(hub.public, &Handshake::v1(text))
        .await
        .welcomed()
        .await;
    let query = Client::open(hub.public, &Handshake::seeds("/ws", text)).await;
    let bearer =
        Handshake::new("/api/v1/ws").header("Sec-WebSocket-Protocol", &format!("carillon.v1, bearer.{text}"));
    let bearer = Client::open(hub.public, &bearer).await.welcomed().await;
    let header = Handshake::new("/api/v1/ws")
        .header("Sec-WebSocket-Protocol", "carillon.v1")
        .header("X-API-Key", text);
    let header = Client::open(hub.public, &header).await.welcomed().await;
    let mut events = Stream::open(hub.public, text, "", "").await;
    let mut upload = Kept::open(hub.internal).await;
    let line = format!("{}\n", message());
    let head = format!(
        "POST /api/v1/publish/stream HTTP/1.1\r\nHost: hub\r\nX-API-Key: {text}\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{line}\r\n",
        line.len()
    );
    upload.send(head).await;
    while upload.line().await.is_some_and(|line| !line.starts_with('{')) {}
    let mut kept = Kept::open(hub.internal).await;
    kept.send(request(&format!("X-API-Key: {text}"))).await;
    assert_eq!(kept.answer().await.status, 200);

    revoke(&hub, &key);
    let began = Instant::now();
    eventually("publishing stops", async || {
        kept.send(request(&format!("X-API-Key: {text}"))).await;
        let answer = kept.answer().await;
        (answer.status != 200).then(|| assert_eq!(answer.problem(401, "key_revoked"), None))
    })
    .await;
    for socket in [front, query, bearer, header] {
        assert_eq!(socket.closed().await.0, Some(4002));
    }
    assert_eq!(events.closed().await["code"], 4002);
    while !upload
        .line()
        .await
        .expect("the upload is told")
        .contains("key_revoked")
    {}
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    let refused = Client::attempt(hub.public, &Handshake::v1(text)).await;
    assert_eq!(refused.answer.problem(401, "key_revoked"), None);
}

#[tokio::test]
async fn what_a_session_brings_as_its_newer_token_may_have_to_be_looked_up() {
    let hub = TestHub::start().await;
    let key = put(&hub, &["publish"]);
    let mut session = Client::open(hub.public, &Handshake::v1(key.text()))
        .await
        .welcomed()
        .await;
    // The same key with its next secret, which this node has not seen.
    let next = NewKey::next(key.id).unwrap();
    hub.keys.put(KeyRecord {
        revision: 2,
        ..record(&next, &["publish"])
    });
    session
        .send(&json!({ "type": "refresh", "token": next.text() }))
        .await;
    session.expect("pong").await;
    // Nobody's, and a later one's of another user.
    session
        .send(&json!({ "type": "refresh", "token": NewKey::generate().unwrap().text() }))
        .await;
    assert_eq!(session.expect("error").await["code"], "key_invalid");
    let other = put(&hub, &["publish"]);
    session
        .send(&json!({ "type": "refresh", "token": other.text() }))
        .await;
    assert_eq!(session.closed().await.0, Some(4002));
}

#[tokio::test]
async fn while_keys_cannot_be_read_those_that_were_seen_go_on_and_others_come_later() {
    let hub = TestHub::start().await;
    let key = put(&hub, &["publish"]);
    let other = put(&hub, &["publish"]);
    assert_eq!(
        hub.post("/api/v1/publish", key.text(), &message()).await.status,
        200
    );
    hub.keys.set_away(true);
    let refused = hub.post("/api/v1/publish", other.text(), &message()).await;
    assert_eq!(refused.problem(503, "unavailable"), None);
    assert!(refused.header("retry-after").is_some());
    let refused = Client::attempt(hub.public, &Handshake::v1(other.text())).await;
    assert_eq!(refused.answer.problem(503, "unavailable"), None);
    for _ in 0..20 {
        assert_eq!(
            hub.post("/api/v1/publish", key.text(), &message()).await.status,
            200
        );
    }
    hub.keys.set_away(false);
    assert_eq!(
        hub.post("/api/v1/publish", other.text(), &message()).await.status,
        200
    );
}

#[tokio::test]
async fn who_guesses_is_refused_at_every_door_and_who_is_known_there_goes_on() {
    let hub = TestHub::start().await;
    let key = put(&hub, &["publish"]);
    assert_eq!(
        hub.post("/api/v1/publish", key.text(), &message()).await.status,
        200
    );
    let guess = foreign_token("u1");
    let mut kept = Kept::open(hub.internal).await;
    let one = request(&format!("Authorization: Bearer {guess}"));
    eventually("the address is refused", async || {
        kept.send(one.repeat(10)).await;
        let mut last = 0;
        for _ in 0..10 {
            last = kept.answer().await.status;
        }
        (last == 429).then_some(())
    })
    .await;
    let refused = soon("a handshake", Client::attempt(hub.public, &Handshake::v1(&guess))).await;
    assert_eq!(refused.answer.problem(429, "too_many_failures"), None);
    let refused = call(hub.public, "GET", "/api/v1/websocket/stats", &guess, "").await;
    assert_eq!(refused.problem(429, "too_many_failures"), None);
    assert_eq!(
        hub.post("/api/v1/publish", key.text(), &message()).await.status,
        200
    );
}
