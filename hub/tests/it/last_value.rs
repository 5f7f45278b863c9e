//! Topics that keep the newest value of each key, and hand them to whoever is new.

use std::{collections::BTreeMap, sync::Arc};

use common::{message::FrameKind, topic::TopicKey};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    order::offset,
    policies::{policies, subscribe},
    support::{Client, Handshake, TestHub, name, tenant, token},
};

const ENTRIES: &str = "[[topics]]\npattern = \"topic:public.last\"\nhistory = \"last_value\"\n\
    [[topics]]\npattern = \"topic:public.few\"\nhistory = \"last_value\"\nhistory_count = 2\n\
    [[topics]]\npattern = \"tenant\"\nhistory = \"last_value\"\n";

async fn hub() -> TestHub {
    TestHub::with(|setup| setup.policies = policies(ENTRIES)).await
}

async fn set(hub: &TestHub, to: &Value, key: &str, value: u64) {
    hub.publish(&json!({"to":to,"data":[key, value],"conflate":key}))
        .await;
}

fn last() -> Value {
    json!({"topic":"public.last"})
}

/// Resumes, and answers the data that came, the topics to resync, and `recovered`.
async fn resume(client: &mut Client, positions: &Value) -> (Vec<Value>, Vec<Value>, Value) {
    client.send(&json!({"type":"resume","positions":positions})).await;
    let (mut data, mut resync) = (Vec::new(), Vec::new());
    loop {
        let mut frame = client.json().await;
        match frame["type"].as_str().unwrap() {
            "recovered" => return (data, resync, frame),
            "resync" => resync.clone_from(frame["topics"].as_array().unwrap()),
            "subscribed" => {}
            _ => data.push(frame["data"].take()),
        }
    }
}

async fn take(client: &mut Client, count: usize) -> Vec<Value> {
    let mut data = Vec::new();
    for _ in 0..count {
        data.push(client.expect("message").await["data"].take());
    }
    data
}

#[tokio::test]
async fn a_new_subscriber_is_handed_the_newest_of_each_key() {
    let hub = hub().await;
    for (key, value) in [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3)] {
        set(&hub, &last(), key, value).await;
    }
    hub.publish(&json!({"to":last(),"data":["except", 1],"conflate":"e","except":{"user":"u1"}}))
        .await;
    hub.publish(&json!({"to":last(),"data":["gone", 1],"conflate":"g","history":false}))
        .await;
    let mut client = hub.user("u1").await;
    let subscribed = subscribe(&mut client, "public.last").await;
    assert_eq!(offset(&subscribed), 0, "before the values that come next");
    assert_eq!(
        take(&mut client, 3).await,
        [json!(["b", 1]), json!(["c", 1]), json!(["a", 3])]
    );
    set(&hub, &last(), "b", 2).await;
    assert_eq!(take(&mut client, 1).await, [json!(["b", 2])]);
    assert!(client.until_pong().await.is_empty());
    // Subscribing again hands over nothing, but coming back to the topic does.
    subscribe(&mut client, "public.last").await;
    assert!(client.until_pong().await.is_empty());
    client
        .send(&json!({"type":"unsubscribe","topic":"public.last"}))
        .await;
    client.expect("unsubscribed").await;
    subscribe(&mut client, "public.last").await;
    assert_eq!(take(&mut client, 3).await[2], json!(["b", 2]));

    // So it is in the other dialect, and for whoever has the topic by the token.
    set(&hub, &json!({"tenant":true}), "x", 1).await;
    set(&hub, &json!({"tenant":true}), "x", 2).await;
    let mut seeds = Client::open(hub.public, &Handshake::seeds("/ws", &token("u2", |_| ()))).await;
    assert_eq!(take(&mut seeds, 1).await, [json!(["x", 2])]);
    let mut late = hub.user("u2").await;
    assert_eq!(take(&mut late, 1).await, [json!(["x", 2])]);
    set(&hub, &json!({"tenant":true}), "x", 3).await;
    for client in [&mut seeds, &mut late] {
        assert_eq!(take(client, 1).await, [json!(["x", 3])]);
        assert!(client.until_pong().await.is_empty());
    }
}

#[tokio::test]
async fn who_is_cut_off_among_the_values_gets_the_rest() {
    let hub = hub().await;
    set(&hub, &json!({"tenant":true}), "x", 0).await;
    for key in ["a", "b", "c"] {
        set(&hub, &last(), key, 1).await;
    }
    let mut client = hub.user("u1").await;
    assert!(client.position("tenant").contains(":0:"), "before its value");
    take(&mut client, 1).await;
    let subscribed = subscribe(&mut client, "public.last").await["position"].clone();
    let first = client.expect("message").await["position"].clone();
    drop(client);
    for (position, keys) in [(subscribed, &["a", "b", "c"][..]), (first, &["b", "c"])] {
        let mut again = hub.user("u1").await;
        take(&mut again, 1).await;
        let (data, resync, _) = resume(&mut again, &json!({"topic:public.last":position})).await;
        let expected: Vec<_> = keys.iter().map(|key| json!([key, 1])).collect();
        assert_eq!((data, resync), (expected, vec![]));
    }
}

#[tokio::test]
async fn a_resume_is_whole_with_the_newest_of_each() {
    let hub = hub().await;
    let mut first = hub.user("u1").await;
    subscribe(&mut first, "public.last").await;
    for (key, value) in [("a", 1), ("b", 1)] {
        set(&hub, &last(), key, value).await;
    }
    first.expect("message").await;
    let position = first.expect("message").await["position"].clone();
    drop(first);
    // What stood at the position gives way, and so does most of what was missed.
    for (key, value) in [("b", 2), ("c", 1), ("b", 3), ("c", 2)] {
        set(&hub, &last(), key, value).await;
    }
    let mut again = hub.user("u1").await;
    let (data, resync, recovered) = resume(&mut again, &json!({"topic:public.last":position})).await;
    assert_eq!((data, resync), (vec![json!(["b", 3]), json!(["c", 2])], vec![]));
    assert_eq!(recovered["count"], 2);
    let at = recovered["positions"]["topic:public.last"].clone();
    assert!(at.as_str().unwrap().contains(":6:"));
    set(&hub, &last(), "a", 2).await;
    assert_eq!(take(&mut again, 1).await, [json!(["a", 2])]);
    assert!(again.until_pong().await.is_empty());

    // Of a topic by the token the values were handed over already: a resume finds nothing to add.
    let start = again.position("tenant");
    set(&hub, &json!({"tenant":true}), "x", 1).await;
    let mut third = hub.user("u1").await;
    assert_eq!(take(&mut third, 1).await, [json!(["x", 1])]);
    let (data, resync, recovered) = resume(&mut third, &json!({"tenant":start})).await;
    assert_eq!((data, resync, &recovered["count"]), (vec![], vec![], &json!(0)));
    assert!(recovered["positions"]["tenant"].as_str().unwrap().contains(":1:"));
}

#[tokio::test]
async fn a_resume_right_behind_the_handshake_gets_each_value_once() {
    let hub = hub().await;
    let start = hub.user("u1").await.position("tenant");
    for value in 0..50 {
        set(&hub, &json!({"tenant":true}), &format!("k{value}"), value).await;
    }
    for _ in 0..20 {
        let mut handshake = Handshake::v1(&token("u1", |_| ()));
        let command = json!({"type":"resume","positions":{"tenant":start}}).to_string();
        handshake.behind = crate::malformed::masked(0x81, command.as_bytes());
        let mut client = Client::open(hub.public, &handshake).await.welcomed().await;
        let mut data = Vec::new();
        loop {
            let frame = client.json().await;
            if frame["type"] == "recovered" {
                assert!(frame["positions"]["tenant"].as_str().unwrap().contains(":50:"));
                break;
            }
            data.push(frame["data"][1].as_u64().unwrap());
        }
        assert_eq!(data, (0..50).collect::<Vec<_>>());
        assert!(client.until_pong().await.is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_a_resync_with_the_values_behind_it() {
    let hub = hub().await;
    let few = json!({"topic":"public.few"});
    let mut first = hub.user("u1").await;
    let start = subscribe(&mut first, "public.few").await["position"].clone();
    for key in ["a", "b", "c"] {
        set(&hub, &few, key, 1).await;
    }
    drop(first);
    for (position, why) in [
        (start, "a value left for want of room"),
        (json!("1:1:00000001"), "another epoch"),
        (json!("nonsense"), "no position"),
    ] {
        let mut client = hub.user("u1").await;
        let (data, resync, recovered) = resume(&mut client, &json!({"topic:public.few":position})).await;
        assert_eq!((data, resync), (vec![], vec![json!("topic:public.few")]), "{why}");
        assert_eq!(recovered["positions"], json!({}));
        assert_eq!(
            take(&mut client, 2).await,
            [json!(["b", 1]), json!(["c", 1])],
            "{why}"
        );
        assert!(client.until_pong().await.is_empty());
    }
}

#[tokio::test]
async fn a_history_longer_than_one_read_is_handed_over_whole() {
    const KEYS: u64 = 2500;
    let entries = format!(
        "[[topics]]\npattern = \"topic:public.many\"\nhistory = \"last_value\"\nhistory_count = {KEYS}\n"
    );
    let hub = TestHub::with(|setup| setup.policies = policies(&entries)).await;
    for key in 0..KEYS {
        set(&hub, &json!({"topic":"public.many"}), &key.to_string(), key).await;
    }
    let mut client = hub.user("u1").await;
    subscribe(&mut client, "public.many").await;
    for key in 0..KEYS {
        assert_eq!(client.expect("message").await["data"][1], key);
    }
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_in_the_middle_sees_values_grow_and_ends_with_the_newest() {
    const KEYS: u64 = 5;
    const ROUNDS: u64 = 400;
    let hub = Arc::new(hub().await);
    let publisher = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move {
            for value in 1..=ROUNDS {
                set(&hub, &last(), &format!("k{}", value % KEYS), value).await;
            }
        }
    });
    let mut readers = JoinSet::new();
    while !publisher.is_finished() {
        let mut client = hub.user(&format!("u{}", readers.len())).await;
        readers.spawn(async move {
            subscribe(&mut client, "public.last").await;
            let (mut newest, mut at) = (BTreeMap::new(), 0);
            while at < ROUNDS {
                let frame = client.expect("message").await;
                assert!(offset(&frame) > at, "in order, and none twice");
                at = offset(&frame);
                newest.insert(frame["data"][0].to_string(), frame["data"][1].as_u64().unwrap());
            }
            assert_eq!(newest.len() as u64, KEYS.min(ROUNDS));
            assert!(newest.values().all(|value| *value > ROUNDS - KEYS));
            assert!(client.until_pong().await.is_empty());
        });
    }
    publisher.await.unwrap();
    assert!(readers.len() > 3);
    readers.join_all().await;
}

#[tokio::test]
async fn what_a_worker_missed_is_healed_without_a_resync() {
    let hub = TestHub::with(|setup| {
        setup.config.workers = 1;
        setup.node_queue = 4;
        setup.policies = policies(ENTRIES);
    })
    .await;
    let mut client = hub.user("u1").await;
    subscribe(&mut client, "public.last").await;
    // All at once, so that most are dropped on the way to the node.
    let key = TopicKey::topic(&tenant("t1"), &name("public.last"));
    for value in 0..1000 {
        hub.put(&key, FrameKind::Message, true, |header| {
            header.conflate = Some((value % 7).to_string());
        })
        .await;
    }
    let mut at = 0;
    while at < 1000 {
        let frame = client.expect("message").await;
        assert!(offset(&frame) > at);
        at = offset(&frame);
    }
    assert!(hub.metric("hub_messages_dropped_total") > 0.0);
    assert_eq!(hub.metric("hub_resyncs_total"), 0.0);
}
