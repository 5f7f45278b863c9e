//! Sessions by target, described, page by page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{done, get, of, operator, order, people, users};
use crate::support::{Stream, TestHub, token};

#[tokio::test]
async fn sessions_are_found_by_every_target() {
    let (hub, mut clients) = people().await;
    clients[3]
        .send(&json!({"type":"subscribe","topic":"public.a"}))
        .await;
    clients[3].expect("subscribed").await;
    let session = clients[1].session().to_owned();
    for (body, found) in [
        (json!({"to":{"tenant":true}}), "ann ann bob cid"),
        (json!({"to":{"user":"ann"}}), "ann ann"),
        (json!({"to":{"users":["bob","cid","nobody"]}}), "bob cid"),
        (json!({"to":{"role":"manager"}}), "ann ann bob"),
        (json!({"to":{"store":"12"}}), "ann ann cid"),
        (json!({"to":{"topic":"public.a"}}), "cid"),
        (
            json!({"to":{"all_of":[{"role":"manager"},{"store":"12"}]}}),
            "ann ann",
        ),
        (json!({"to":{"all_of":[{"user":"bob"},{"store":"12"}]}}), ""),
        (
            json!({"to":{"any_of":[{"role":"clerk"},{"store":"12"}]}}),
            "ann ann cid",
        ),
        (
            json!({"to":{"any_of":[{"user":"ann"},{"all_of":[{"user":"ann"},{"store":"12"}]}]}}),
            "ann ann",
        ),
        (json!({"to":{"tenant":true,"except":{"user":"ann"}}}), "bob cid"),
        (
            json!({"to":{"tenant":true,"except":{"session":session}}}),
            "ann bob cid",
        ),
        (json!({"to":{"tenant":true},"session":session}), "ann"),
        (json!({"to":{"user":"bob"},"session":session}), ""),
        (json!({"to":{"user":"dan"}}), ""),
    ] {
        let expected: Vec<&str> = found.split_whitespace().collect();
        let answer = order(&hub, "sessions", &body).await;
        assert_eq!(users(&answer), expected, "{body}");
        assert_eq!(answer.body["next"], Value::Null);
        assert_eq!(
            done(&hub, "sessions/count", &body).await,
            expected.len() as u64,
            "{body}"
        );
    }
    for (query, found) in [
        ("", "ann ann bob cid"),
        ("?user=ann", "ann ann"),
        ("?role=manager&store=12", "ann ann"),
        ("?topic=public.a", "cid"),
        ("?tenant=t1&store=13", "bob"),
        (&format!("?session={session}"), "ann"),
    ] {
        let expected: Vec<&str> = found.split_whitespace().collect();
        assert_eq!(
            users(&get(&hub, &format!("sessions{query}"), &operator()).await),
            expected,
            "{query}"
        );
        let count = get(&hub, &format!("sessions/count{query}"), &operator()).await;
        assert_eq!(count.body["sessions"], expected.len(), "{query}");
    }
}

#[tokio::test]
async fn a_session_is_described() {
    let hub = TestHub::start().await;
    let before = jiff::Timestamp::now();
    let mut client = hub.connect(&of("t1", "ann", "manager", "12")).await;
    for topic in ["public.b", "public.a"] {
        client.send(&json!({"type":"subscribe","topic":topic})).await;
        client.expect("subscribed").await;
    }
    let answer = get(&hub, "sessions?user=ann", &operator()).await;
    let info = &answer.body["sessions"][0];
    assert_eq!(info["session"], client.session());
    for (field, value) in [
        ("tenant", json!("t1")),
        ("user", json!("ann")),
        ("roles", json!(["manager"])),
        ("stores", json!(["12"])),
        ("topics", json!(["public.a", "public.b"])),
        ("transport", json!("websocket")),
        ("dialect", json!("carillon.v1")),
        ("address", json!("127.0.0.1")),
        ("queued_bytes", json!(0)),
        ("unanswered", json!(0)),
    ] {
        assert_eq!(info[field], value, "{info}");
    }
    let time = |field: &str| info[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let millisecond = jiff::SignedDuration::from_millis(1);
    assert!(time("since") >= before - millisecond && time("since") <= jiff::Timestamp::now() + millisecond);
    assert!(time("heard") <= jiff::Timestamp::now());
    assert!(time("expires_at") > before);
    // Nothing of its token, whatever it is called.
    assert!(!answer.body.to_string().contains("eyJ"));

    let _seeds = hub.seeds("/ws", &of("t1", "bob", "manager", "12")).await;
    let answer = get(&hub, "sessions?user=bob", &operator()).await;
    assert_eq!(answer.body["sessions"][0]["dialect"], "seeds");

    let mut stream = Stream::open(hub.public, &token("eve", |_| ()), "topics=public.a", "").await;
    stream.expect("welcome").await;
    let answer = get(&hub, "sessions?user=eve", &operator()).await;
    let info = &answer.body["sessions"][0];
    assert_eq!(
        (&info["transport"], &info["topics"]),
        (&json!("http"), &json!(["public.a"]))
    );
    assert_eq!(
        done(
            &hub,
            "disconnect",
            &json!({"to":{"user":"eve"},"code":4100,"reason":"bye"})
        )
        .await,
        1
    );
    stream.expect("subscribed").await;
    let close = stream.expect("close").await;
    assert_eq!((&close["code"], &close["reason"]), (&json!(4100), &json!("bye")));
}

#[tokio::test]
async fn pages_hold_each_session_once_while_others_come_and_go() {
    let hub = TestHub::start().await;
    let mut staying = Vec::new();
    let mut going = Vec::new();
    for number in 0..60 {
        let client = hub.user(&format!("u{number}")).await;
        if number % 3 == 0 {
            going.push(client)
        } else {
            staying.push(client)
        }
    }
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let answer = get(&hub, &format!("sessions?limit=7{after}"), &operator()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let sessions = answer.body["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 7);
        seen.extend(
            sessions
                .iter()
                .map(|info| info["session"].as_str().unwrap().to_owned()),
        );
        // Between the pages somebody goes, and somebody comes.
        if let Some(client) = going.pop() {
            client.close().await;
            hub.user("new").await.close().await;
        }
        let Some(next) = answer.body["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert!(seen.is_sorted());
    let unique: BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "a session came twice");
    for client in &staying {
        assert!(
            unique.contains(&client.session().to_owned()),
            "a session was left out"
        );
    }
}
