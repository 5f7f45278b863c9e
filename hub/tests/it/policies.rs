//! Readers that are too slow, where topics or publishes say what is to happen; last-value topics.

use std::{collections::BTreeMap, time::Duration};

use common::{
    config::{Bytes, Loader, Span, TopicRule, topic_policies},
    policy::Policies,
};
use serde_json::{Value, json};

use crate::{
    order::offset,
    support::{Client, Frame, Handshake, TestHub, eventually, token},
};

/// What the configuration makes of these entries.
pub(crate) fn policies(entries: &str) -> Policies {
    #[derive(serde::Deserialize)]
    struct Config {
        #[serde(default)]
        topics: Vec<TopicRule>,
    }
    let config: Config = Loader::with_defaults(entries).unwrap().build().unwrap();
    topic_policies(&config.topics, Duration::from_secs(3600)).unwrap()
}

/// A hub with a small outbound queue, in which these entries hold.
async fn hub(entries: &str) -> TestHub {
    TestHub::with(|setup| {
        setup.config.workers = 1;
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_bytes = Bytes(128 * 1024);
        setup.config.max_publish = Bytes(64 * 1024);
        setup.policies = policies(entries);
    })
    .await
}

/// A session that does not read, on a socket that takes little.
async fn stalled(hub: &TestHub, topic: &str) -> Client {
    let mut handshake = Handshake::v1(&token("slow", |_| ()));
    handshake.receive_buffer = 4096;
    let mut client = Client::open(hub.public, &handshake).await.welcomed().await;
    subscribe(&mut client, topic).await;
    client
}

pub(crate) async fn subscribe(client: &mut Client, topic: &str) -> Value {
    client.send(&json!({"type":"subscribe","topic":topic})).await;
    client.expect("subscribed").await
}

async fn say(hub: &TestHub, topic: &str, number: u64, with: Value) -> Value {
    let mut body = json!({"to":{"topic":topic},"data":{"n":number,"pad":"x".repeat(16 * 1024)}});
    body.as_object_mut()
        .unwrap()
        .extend(with.as_object().unwrap().clone());
    hub.publish(&body).await
}

fn evicted(hub: &TestHub) -> f64 {
    hub.metric(r#"hub_sessions_closed_total{reason="slow_consumer"}"#)
}

#[tokio::test]
async fn the_oldest_are_dropped_and_a_resume_gives_them_again() {
    const COUNT: u64 = 60;
    let hub = hub("[[topics]]\npattern = \"topic:public.*\"\nslow = \"drop_oldest\"\n").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 1..=COUNT {
        say(&hub, "public.a", number, json!({})).await;
    }
    hub.metric_reaches("hub_gaps_told_total", 1.0).await;
    hub.metric_reaches("hub_deliveries_total", COUNT as f64).await;

    // It reads: in order, a gap where some are missing, and the newest.
    let mut got: BTreeMap<u64, u64> = BTreeMap::new();
    let mut gaps = Vec::new();
    while !got.contains_key(&COUNT) {
        let frame = slow.json().await;
        if frame["type"] == "gap" {
            assert_eq!(frame["topic"], "topic:public.a");
            let last = got.last_key_value().map_or(0, |(last, _)| *last);
            assert_eq!(offset(&frame), last, "the last one that was delivered");
            gaps.push(frame["position"].as_str().unwrap().to_owned());
            continue;
        }
        let at = offset(&frame);
        assert!(
            got.last_key_value()
                .is_none_or(|(last, _)| { at == last + 1 || (at > *last && !gaps.is_empty()) })
        );
        got.insert(at, frame["data"]["n"].as_u64().unwrap());
    }
    assert!(!gaps.is_empty() && (got.len() as u64) < COUNT);
    assert_eq!(
        hub.metric("hub_outbound_dropped_oldest_total"),
        (COUNT - got.len() as u64) as f64
    );
    assert_eq!(evicted(&hub), 0.0);

    // In the same session a resume gives what was dropped.
    slow.send(&json!({"type":"resume","positions":{"topic:public.a":gaps[0]}}))
        .await;
    loop {
        let frame = slow.json().await;
        if frame["type"] == "recovered" {
            assert!(
                frame["positions"]["topic:public.a"]
                    .as_str()
                    .unwrap()
                    .contains(&format!(":{COUNT}:"))
            );
            break;
        }
        got.insert(offset(&frame), frame["data"]["n"].as_u64().unwrap());
    }
    assert!(got.into_iter().eq((1..=COUNT).map(|number| (number, number))));
    // And nothing is dropped twice or told twice.
    say(&hub, "public.a", COUNT + 1, json!({})).await;
    assert_eq!(offset(&slow.expect("message").await), COUNT + 1);
    assert!(slow.until_pong().await.is_empty());
}

#[tokio::test]
async fn a_gap_outlives_the_connection() {
    let hub = hub("[[topics]]\npattern = \"topic:*\"\nslow = \"drop_oldest\"\n").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 1..=40 {
        say(&hub, "public.a", number, json!({})).await;
    }
    hub.metric_reaches("hub_gaps_told_total", 1.0).await;
    let mut last = 0;
    let gap = loop {
        let frame = slow.json().await;
        if frame["type"] == "gap" {
            break frame["position"].as_str().unwrap().to_owned();
        }
        last = offset(&frame);
    };
    drop(slow);
    let mut again = hub.user("slow").await;
    again
        .send(&json!({"type":"resume","positions":{"topic:public.a":gap}}))
        .await;
    again.expect("subscribed").await;
    for number in last + 1..=40 {
        assert_eq!(offset(&again.expect("message").await), number);
    }
    again.expect("recovered").await;
}

#[tokio::test]
async fn what_has_no_history_leaves_no_gap() {
    let hub =
        hub("[[topics]]\npattern = \"topic:public.*\"\nslow = \"drop_oldest\"\nhistory = \"none\"\n").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 1..=40 {
        let answer = say(&hub, "public.a", number, json!({})).await;
        assert!(answer.get("offset").is_none(), "{answer}");
    }
    hub.metric_reaches("hub_outbound_dropped_oldest_total", 1.0).await;
    let mut last = 0;
    while last < 40 {
        let frame = slow.expect("message").await;
        let number = frame["data"]["n"].as_u64().unwrap();
        assert!(number > last);
        last = number;
    }
    assert_eq!((hub.metric("hub_gaps_told_total"), evicted(&hub)), (0.0, 0.0));
}

#[tokio::test]
async fn who_wakes_up_gets_the_newest_of_each_key() {
    const KEYS: u64 = 3;
    let hub = hub("[[topics]]\npattern = \"topic:public.*\"\nslow = \"latest\"\n").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 0..150 {
        say(
            &hub,
            "public.a",
            number,
            json!({"conflate":format!("k{}", number % KEYS)}),
        )
        .await;
    }
    // The control lane passes what waits, and what is critical is not replaced.
    say(
        &hub,
        "public.a",
        150,
        json!({"conflate":"k0","priority":"critical"}),
    )
    .await;
    say(&hub, "public.a", 151, json!({"conflate":"k0"})).await;
    hub.metric_reaches("hub_deliveries_total", 152.0).await;
    assert_eq!(evicted(&hub), 0.0);
    let mut numbers = Vec::new();
    while numbers.last() != Some(&151) {
        let frame = slow.expect("message").await;
        assert_eq!(offset(&frame), frame["data"]["n"].as_u64().unwrap() + 1);
        numbers.push(frame["data"]["n"].as_u64().unwrap());
    }
    assert!(numbers.is_sorted());
    assert!(numbers.len() < 100, "{numbers:?}");
    assert_eq!(numbers[numbers.len() - 4..], [148, 149, 150, 151]);
    assert_eq!(
        hub.metric("hub_outbound_conflated_total"),
        (152 - numbers.len()) as f64
    );
    assert!(slow.until_pong().await.is_empty());
}

#[tokio::test]
async fn without_a_key_latest_evicts_and_the_client_resumes() {
    let hub = hub("[[topics]]\npattern = \"topic:public.*\"\nslow = \"latest\"\n").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 1..=40 {
        say(&hub, "public.a", number, json!({})).await;
    }
    hub.metric_reaches(r#"hub_outbound_evicted_total{reason="bytes"}"#, 1.0)
        .await;
    let mut last = String::new();
    let mut count = 0;
    loop {
        match slow.frame().await {
            Frame::Text(text) => {
                let frame: Value = serde_json::from_str(&text).unwrap();
                count += 1;
                assert_eq!(offset(&frame), count);
                last = frame["position"].as_str().unwrap().to_owned();
            }
            Frame::Close(code, reason) => {
                assert_eq!((code, reason.as_str()), (Some(4008), "slow consumer"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let mut again = hub.user("slow").await;
    again
        .send(&json!({"type":"resume","positions":{"topic:public.a":last}}))
        .await;
    again.expect("subscribed").await;
    for number in count + 1..=40 {
        assert_eq!(offset(&again.expect("message").await), number);
    }
    again.expect("recovered").await;
}

#[tokio::test]
async fn a_publish_may_say_otherwise() {
    // The topic's default would evict.
    let hub = hub("").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 1..=40 {
        say(&hub, "public.a", number, json!({"slow":"drop_oldest"})).await;
    }
    hub.metric_reaches("hub_outbound_dropped_oldest_total", 1.0).await;
    for number in 41..=80 {
        say(&hub, "public.a", number, json!({"slow":"latest","conflate":"k"})).await;
    }
    hub.metric_reaches("hub_outbound_conflated_total", 1.0).await;
    hub.metric_reaches("hub_deliveries_total", 80.0).await;
    assert_eq!(evicted(&hub), 0.0);
    let frames = slow.until_pong().await;
    assert_eq!(offset(frames.last().unwrap()), 80);

    for (with, field) in [
        (json!({"slow":"never"}), "slow"),
        (json!({"slow":"latest"}), "slow"),
        (json!({"conflate":""}), "conflate"),
        (json!({"conflate":"x".repeat(257)}), "conflate"),
    ] {
        let mut body = json!({"to":{"topic":"public.a"},"data":1});
        body.as_object_mut()
            .unwrap()
            .extend(with.as_object().unwrap().clone());
        let answer = hub
            .post("/api/v1/publish", &crate::support::publisher(), &body)
            .await;
        assert_eq!(answer.status, 422, "{answer:?}");
        assert_eq!(answer.body["field"], field, "{answer:?}");
    }
    assert!(slow.until_pong().await.is_empty());
}

#[tokio::test]
async fn frames_are_counted_too() {
    let hub = TestHub::with(|setup| {
        setup.config.workers = 1;
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_frames = 20;
        setup.policies = policies("[[topics]]\npattern = \"tenant\"\nslow = \"drop_oldest\"\n");
    })
    .await;
    let slow = stalled(&hub, "public.a").await;
    for number in 0..60 {
        hub.publish(&json!({"to":{"tenant":true},"data":"x".repeat(10_000)}))
            .await;
        say(&hub, "public.b", number, json!({})).await;
    }
    hub.metric_reaches("hub_outbound_dropped_oldest_total", 10.0)
        .await;
    assert_eq!(evicted(&hub), 0.0);
    for number in 0..60 {
        say(&hub, "public.a", number, json!({})).await;
    }
    hub.metric_reaches(r#"hub_outbound_evicted_total{reason="frames"}"#, 1.0)
        .await;
    assert_eq!(slow.closed().await.0, Some(4008));
}

#[tokio::test]
async fn age_drops_or_evicts_and_a_dead_socket_is_given_up() {
    let hub = TestHub::with(|setup| {
        setup.config.workers = 1;
        setup.config.send_buffer = Bytes(4096);
        setup.config.outbound_age = Span(Duration::from_secs(1));
        setup.config.outbound_stall = Span(Duration::from_secs(3));
        setup.policies = policies("[[topics]]\npattern = \"topic:*\"\nslow = \"drop_oldest\"\n");
    })
    .await;
    let slow = stalled(&hub, "public.a").await;
    for number in 0..30 {
        say(&hub, "public.a", number, json!({})).await;
    }
    // What is old goes, and the session stays; until its socket has taken nothing for so long.
    hub.metric_reaches("hub_outbound_dropped_oldest_total", 1.0).await;
    assert_eq!(evicted(&hub), 0.0);
    hub.metric_reaches(r#"hub_outbound_evicted_total{reason="stalled"}"#, 1.0)
        .await;
    assert_eq!(hub.metric(r#"hub_outbound_evicted_total{reason="age"}"#), 0.0);
    assert_eq!(slow.closed().await.0, Some(4008));
}

#[tokio::test]
async fn what_expires_in_the_queue_is_not_sent() {
    let hub = hub("").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 1..=5 {
        say(&hub, "public.a", number, json!({})).await;
    }
    say(&hub, "public.a", 6, json!({"ttl_ms":300})).await;
    say(&hub, "public.a", 7, json!({})).await;
    hub.metric_reaches("hub_outbound_expired_total", 1.0).await;
    let frames = slow.until_pong().await;
    let offsets: Vec<u64> = frames.iter().map(offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5, 7]);
}

#[tokio::test]
async fn administrators_of_the_platform_see_what_waits() {
    let hub = hub("[[topics]]\npattern = \"topic:*\"\nslow = \"drop_oldest\"\n").await;
    let mut slow = stalled(&hub, "public.a").await;
    for number in 0..40 {
        say(&hub, "public.a", number, json!({})).await;
    }
    let admin = token("admin", |new| new.scopes = vec!["platform:admin".to_owned()]);
    let stats = async |token: &str| {
        crate::support::call(hub.internal, "GET", "/api/v1/websocket/stats", token, "")
            .await
            .body
    };
    let outbound = eventually("the queue is seen", async || {
        let outbound = stats(&admin).await["node_outbound"].take();
        (outbound["blocked_sessions"] == 1 && outbound["dropped_oldest"].as_u64() > Some(0))
            .then_some(outbound)
    })
    .await;
    let bytes = outbound["bytes"].as_u64().unwrap();
    assert!((1..=128 * 1024).contains(&bytes), "{outbound}");
    assert_eq!(outbound["gaps"], 1);
    for count in ["bytes", "frames", "age", "stalled"] {
        assert_eq!(outbound["evicted"][count], 0, "{outbound}");
    }
    assert!(stats(&token("u1", |_| ())).await.get("node_outbound").is_none());
    slow.until_pong().await;
    eventually("nothing waits", async || {
        let outbound = stats(&admin).await["node_outbound"].take();
        (outbound["blocked_sessions"] == 0 && outbound["bytes"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rule_may_ask_for_presence() {
    let hub = hub("[[topics]]\npattern = \"topic:public.room\"\npresence = true\n").await;
    let mut first = hub.user("u1").await;
    subscribe(&mut first, "public.room").await;
    let mut second = hub.user("u2").await;
    subscribe(&mut second, "public.room").await;
    let join = first.expect("join").await;
    assert_eq!(
        (&join["user"], &join["topic"]),
        (&json!("u2"), &json!("topic:public.room"))
    );
    subscribe(&mut first, "public.other").await;
    subscribe(&mut second, "public.other").await;
    assert!(first.until_pong().await.is_empty());
}
