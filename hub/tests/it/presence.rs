//! Who is there, and who comes and goes.

use std::time::Duration;

use common::config::Span;
use serde_json::{Value, json};

use crate::{
    control::operator,
    policies::policies,
    support::{Answer, Client, TestHub, call, token},
};

async fn presence(hub: &TestHub, body: &Value) -> Answer {
    hub.post("/api/v1/control/presence", &operator(), body).await
}

fn with(user: &str, role: &str) -> String {
    token(user, |new| new.roles = vec![role.to_owned()])
}

#[tokio::test]
async fn users_are_counted_with_their_sessions() {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for (user, role) in [
        ("ann", "manager"),
        ("bob", "manager"),
        ("ann", "manager"),
        ("cid", "clerk"),
    ] {
        clients.push(hub.connect(&with(user, role)).await);
    }
    let _other = hub
        .connect(&token("ann", |new| new.tenant = Some("t2".to_owned())))
        .await;
    clients[3]
        .send(&json!({"type":"subscribe","topic":"public.a"}))
        .await;
    clients[3].expect("subscribed").await;
    for (to, expected) in [
        (json!({"user":"ann"}), json!([{"user":"ann","sessions":2}])),
        (json!({"user":"nobody"}), json!([])),
        (
            json!({"role":"manager"}),
            json!([{"user":"ann","sessions":2},{"user":"bob","sessions":1}]),
        ),
        (json!({"topic":"public.a"}), json!([{"user":"cid","sessions":1}])),
        (
            json!({"tenant":true,"except":{"user":"ann"}}),
            json!([{"user":"bob","sessions":1},{"user":"cid","sessions":1}]),
        ),
    ] {
        let answer = presence(&hub, &json!({"to":to})).await;
        let sessions: u64 = expected
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["sessions"].as_u64().unwrap())
            .sum();
        let whole = json!({"users":expected,"sessions":sessions,"nodes":1,"complete":true});
        assert_eq!(answer.body, whole, "{to}");
    }
    let answer = call(
        hub.internal,
        "GET",
        "/api/v1/control/presence?role=manager",
        &operator(),
        "",
    )
    .await;
    assert_eq!(answer.body["sessions"], 3);
    // Of all tenants: the same name twice is two users.
    let root = token("root", |new| new.scopes = vec!["platform:admin".to_owned()]);
    let answer = call(
        hub.internal,
        "GET",
        "/api/v1/control/presence?everyone=true",
        &root,
        "",
    )
    .await;
    assert_eq!(answer.body["sessions"], 5);
    assert_eq!(
        answer.body["users"][0],
        json!({"user":"ann","tenant":"t1","sessions":2})
    );
    assert_eq!(
        answer.body["users"][3],
        json!({"user":"ann","tenant":"t2","sessions":1})
    );
}

#[tokio::test]
async fn pages_of_users_are_whole() {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for number in 0..25 {
        for _ in 0..=number % 3 {
            clients.push(hub.user(&format!("u{number:02}")).await);
        }
    }
    let mut after = Value::Null;
    let mut seen = Vec::new();
    loop {
        let answer = presence(&hub, &json!({"to":{"tenant":true},"limit":4,"after":after})).await;
        assert_eq!(answer.body["sessions"], clients.len(), "{answer:?}");
        seen.extend(answer.body["users"].as_array().unwrap().clone());
        after = answer.body["next"].clone();
        if after.is_null() {
            break;
        }
    }
    let expected: Vec<Value> = (0..25)
        .map(|number| json!({"user":format!("u{number:02}"),"sessions":number % 3 + 1}))
        .collect();
    assert_eq!(seen, expected);
}

async fn room(grace: u64) -> TestHub {
    TestHub::with(|setup| {
        setup.policies = policies(
            "[[topics]]\npattern = \"topic:public.room*\"\npresence = true\n\
             [[topics]]\npattern = \"role:*\"\npresence = true\n",
        );
        setup.config.presence_grace = Span(Duration::from_secs(grace));
    })
    .await
}

async fn subscribe(client: &mut Client, topic: &str) {
    client.send(&json!({"type":"subscribe","topic":topic})).await;
    client.expect("subscribed").await;
}

#[tokio::test]
async fn the_first_session_of_a_user_joins_and_the_last_leaves() {
    let hub = room(1).await;
    let mut watcher = hub.user("watcher").await;
    subscribe(&mut watcher, "public.room").await;
    subscribe(&mut watcher, "public.other").await;
    let mut seeds = hub.seeds("/ws", &token("old", |_| ())).await;
    seeds
        .send(&json!({"type":"subscribe","topic":"public.room"}))
        .await;
    seeds.expect("subscribed").await;
    let join = |user: &str| json!({"type":"join","user":user,"topic":"topic:public.room"});
    let leave = |user: &str| json!({"type":"leave","user":user,"topic":"topic:public.room"});
    assert_eq!(watcher.json().await, join("old"));

    let mut first = hub.user("ann").await;
    subscribe(&mut first, "public.room").await;
    assert_eq!(watcher.json().await, join("ann"));
    let mut second = hub.user("ann").await;
    subscribe(&mut second, "public.room").await;
    subscribe(&mut second, "public.other").await;
    let mut bob = hub.user("bob").await;
    subscribe(&mut bob, "public.room").await;
    assert_eq!(
        watcher.json().await,
        join("bob"),
        "another session of ann is no event"
    );
    assert_eq!(first.json().await, join("bob"));

    // By a command, and by the end of the connection.
    first
        .send(&json!({"type":"unsubscribe","topic":"public.room"}))
        .await;
    first.expect("unsubscribed").await;
    second.close().await;
    bob.close().await;
    let mut gone = [watcher.json().await, watcher.json().await];
    gone.sort_unstable_by_key(|frame| frame["user"].to_string());
    assert_eq!(gone, [leave("ann"), leave("bob")]);
    assert!(first.until_pong().await.is_empty(), "it is no member any more");
    assert!(
        seeds.until_pong().await.is_empty(),
        "its dialect knows no such frames"
    );
}

#[tokio::test]
async fn implicit_topics_have_presence_too() {
    let hub = room(1).await;
    let mut watcher = hub.connect(&with("watcher", "staff")).await;
    let ann = hub.connect(&with("ann", "staff")).await;
    assert_eq!(
        watcher.json().await,
        json!({"type":"join","user":"ann","topic":"role:staff"})
    );
    ann.close().await;
    assert_eq!(
        watcher.json().await,
        json!({"type":"leave","user":"ann","topic":"role:staff"})
    );
}

#[tokio::test]
async fn a_reconnect_within_the_grace_is_no_event() {
    let hub = room(2).await;
    let mut watcher = hub.user("watcher").await;
    subscribe(&mut watcher, "public.room").await;
    let mut ann = hub.user("ann").await;
    subscribe(&mut ann, "public.room").await;
    watcher.expect("join").await;
    for _ in 0..3 {
        ann.close().await;
        ann = hub.user("ann").await;
        subscribe(&mut ann, "public.room").await;
    }
    // What ends is told behind all that was not.
    let mut bob = hub.user("bob").await;
    subscribe(&mut bob, "public.room").await;
    assert_eq!(watcher.expect("join").await["user"], "bob");
    bob.close().await;
    assert_eq!(watcher.expect("leave").await["user"], "bob");
    ann.close().await;
    assert_eq!(watcher.expect("leave").await["user"], "ann");
}

#[tokio::test]
async fn other_tenants_and_other_topics_hear_nothing() {
    let hub = room(1).await;
    let mut stranger = hub
        .connect(&token("stranger", |new| new.tenant = Some("t2".to_owned())))
        .await;
    subscribe(&mut stranger, "public.room").await;
    let mut plain = hub.user("plain").await;
    subscribe(&mut plain, "public.plain").await;
    let mut ann = hub.user("ann").await;
    subscribe(&mut ann, "public.plain").await;
    let mut watcher = hub.user("watcher").await;
    subscribe(&mut watcher, "public.room").await;
    subscribe(&mut ann, "public.room").await;
    watcher.expect("join").await;
    assert!(stranger.until_pong().await.is_empty());
    assert!(plain.until_pong().await.is_empty());
    // Nobody can pretend.
    for kind in ["join", "leave"] {
        let body = json!({"to":{"topic":"public.room"},"type":kind,"data":1});
        let answer = hub
            .post("/api/v1/publish", &crate::support::publisher(), &body)
            .await;
        answer.problem(422, "reserved_type");
    }
}
