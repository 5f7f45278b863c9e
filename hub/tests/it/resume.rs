//! Coming back: all that was missed, or a refusal that says so.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    order::offset,
    support::{Client, TestHub, user_key},
};

async fn say(hub: &TestHub, to: &Value, numbers: std::ops::Range<u32>) {
    for number in numbers {
        hub.publish(&json!({"to":to,"data":number})).await;
    }
}

/// Resumes and answers what came: data in order, topics to resync, and the `recovered` frame.
async fn resume(client: &mut Client, positions: &Value) -> (Vec<Value>, Vec<String>, Value) {
    client.send(&json!({"type":"resume","positions":positions})).await;
    let (mut data, mut resync) = (Vec::new(), Vec::new());
    loop {
        let mut frame = client.json().await;
        match frame["type"].as_str().unwrap() {
            "recovered" => return (data, resync, frame),
            "resync" => resync = serde_json::from_value(frame["topics"].take()).unwrap(),
            "message" => data.push(frame["data"].take()),
            "subscribed" => {}
            other => panic!("{other}: {frame}"),
        }
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(Value::from).collect()
}

#[tokio::test]
async fn some_missed_and_nothing_missed() {
    let hub = TestHub::start().await;
    let user = json!({"user":"u1"});
    let first = hub.user("u1").await;
    let start = first.position("user");
    first.close().await;
    say(&hub, &user, 0..5).await;

    let mut client = hub.user("u1").await;
    let (data, resync, recovered) = resume(&mut client, &json!({"user":start})).await;
    assert_eq!(
        (data, resync, &recovered["count"]),
        (numbers(0..5), vec![], &json!(5))
    );
    let at = recovered["positions"]["user"].as_str().unwrap().to_owned();
    assert!(at.contains(":5:"));
    assert_eq!(at, client.position("user"), "nothing came since the welcome");

    // From there, nothing is missing; live goes on.
    let (data, resync, recovered) = resume(&mut client, &json!({"user":at})).await;
    assert_eq!((data, resync, &recovered["count"]), (vec![], vec![], &json!(0)));
    say(&hub, &user, 5..6).await;
    assert_eq!(client.expect("message").await["data"], 5);
    // From the middle.
    let mut client = hub.user("u1").await;
    let frame = {
        let (data, _, _) = resume(&mut client, &json!({"user":at})).await;
        data
    };
    assert_eq!(frame, numbers(5..6));
}

#[tokio::test]
async fn positions_of_the_own_welcome_repeat_nothing() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    say(&hub, &json!({"user":"u1"}), 0..3).await;
    say(&hub, &json!({"tenant":true}), 0..3).await;
    for _ in 0..6 {
        client.expect("message").await;
    }
    let positions = client.welcome["positions"].clone();
    let (data, resync, recovered) = resume(&mut client, &positions).await;
    assert_eq!((data, resync), (vec![], vec![]));
    assert!(recovered["positions"]["user"].as_str().unwrap().contains(":3:"));
    assert_eq!(recovered["positions"].as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn what_cannot_be_told_is_a_resync() {
    let hub = TestHub::with(|setup| setup.history.count = 3).await;
    let user = json!({"user":"u1"});
    let mut first = hub.user("u1").await;
    let start = first.position("user");
    say(&hub, &user, 0..6).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(
            first.expect("message").await["position"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    let (epoch, rest) = seen[4].split_once(':').unwrap();
    let changed = |at: &str| format!("{:x}:{rest}", u64::from_str_radix(at, 16).unwrap() ^ 1);
    let last = &seen[5];
    for (name, position) in [
        ("trimmed", start.as_str()),
        ("trimmed too", &seen[1]),
        ("the entry itself is trimmed", &seen[2]),
        ("another epoch", &changed(epoch)),
        (
            "another message there",
            &format!("{}0", &seen[4][..seen[4].len() - 1]),
        ),
        (
            "another message at the head",
            &last.replace(&last[last.len() - 8..], "00000000"),
        ),
        ("beyond the head", &format!("{epoch}:7:00000000")),
        ("not a position", "x"),
        ("empty", ""),
    ] {
        if seen.iter().any(|seen| seen == position) && !name.contains("trimmed") {
            continue;
        }
        let mut client = hub.user("u1").await;
        let (data, resync, recovered) = resume(&mut client, &json!({"user":position})).await;
        assert_eq!(
            (data, resync),
            (vec![], vec!["user".to_owned()]),
            "{name}: {position}"
        );
        assert_eq!(recovered["positions"], json!({}), "{name}");
        // It goes on live all the same.
        assert!(client.until_pong().await.is_empty());
    }
    // The oldest position of which everything behind it, and it itself, is still there.
    let mut client = hub.user("u1").await;
    assert_eq!(
        resume(&mut client, &json!({"user":seen[3]})).await.0,
        numbers(4..6)
    );
}

#[tokio::test]
async fn explicit_topics_are_subscribed_again() {
    let hub = TestHub::start().await;
    let mut first = hub.user("u1").await;
    first.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    let at = first.expect("subscribed").await["position"].clone();
    first.close().await;
    say(&hub, &json!({"topic":"public.a"}), 0..3).await;

    let mut client = hub.user("u1").await;
    let positions = json!({
        "topic:public.a": at, "topic:public.b": "x", "topic:secret": at, "role:admin": at, "nonsense": at, "user": client.position("user"),
    });
    client.send(&json!({"type":"resume","positions":positions})).await;
    let mut kinds = BTreeMap::<String, usize>::new();
    let recovered = loop {
        let frame = client.json().await;
        *kinds
            .entry(frame["type"].as_str().unwrap().to_owned())
            .or_default() += 1;
        match frame["type"].as_str().unwrap() {
            "resync" => {
                let mut topics: Vec<String> = serde_json::from_value(frame["topics"].clone()).unwrap();
                topics.sort_unstable();
                assert_eq!(
                    topics,
                    ["nonsense", "role:admin", "topic:public.b", "topic:secret"]
                );
            }
            "error" => assert_eq!(frame["code"], "forbidden_topic"),
            "recovered" => break frame,
            _ => {}
        }
    };
    let expected = [
        ("error", 1),
        ("message", 3),
        ("recovered", 1),
        ("resync", 1),
        ("subscribed", 2),
    ];
    assert_eq!(
        kinds,
        expected.map(|(kind, count)| (kind.to_owned(), count)).into()
    );
    let topics: Vec<&String> = recovered["positions"].as_object().unwrap().keys().collect();
    assert_eq!(topics, ["topic:public.a", "user"]);
    // Both are live.
    for topic in ["public.a", "public.b"] {
        say(&hub, &json!({"topic":topic}), 7..8).await;
        assert_eq!(client.expect("message").await["topic"], format!("topic:{topic}"));
    }
}

#[tokio::test]
async fn two_resumes_at_once_are_both_answered() {
    let hub = TestHub::start().await;
    let first = hub.user("u1").await;
    let positions = first.welcome["positions"].clone();
    first.close().await;
    say(&hub, &json!({"user":"u1"}), 0..3).await;
    say(&hub, &json!({"tenant":true}), 0..3).await;
    let mut client = hub.user("u1").await;
    for topic in ["user", "tenant"] {
        client
            .send(&json!({"type":"resume","positions":{topic:positions[topic]}}))
            .await;
    }
    let mut recovered = std::collections::BTreeSet::new();
    let mut messages = 0;
    while recovered.len() < 2 {
        let frame = client.json().await;
        match frame["type"].as_str().unwrap() {
            "recovered" => recovered.extend(frame["positions"].as_object().unwrap().keys().cloned()),
            kind => {
                assert_eq!(kind, "message");
                messages += 1;
            }
        }
    }
    assert_eq!(messages, 6);
}

#[tokio::test]
async fn leaving_a_topic_ends_its_replay() {
    let hub = TestHub::start().await;
    let mut first = hub.user("u1").await;
    first.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    let at = first.expect("subscribed").await["position"].clone();
    say(&hub, &json!({"topic":"public.a"}), 0..3).await;
    for round in 0..20 {
        let mut client = hub.user(&format!("other{round}")).await;
        let commands = [
            json!({"type":"resume","positions":{"topic:public.a":at}}),
            json!({"type":"unsubscribe","topic":"public.a"}),
        ];
        let bytes: Vec<u8> = commands
            .iter()
            .flat_map(|command| crate::malformed::masked(0x81, command.to_string().as_bytes()))
            .collect();
        client.raw(&bytes).await;
        // However the two meet, the resume is answered.
        while client.json().await["type"] != "recovered" {}
        say(&hub, &json!({"user":format!("other{round}")}), 0..1).await;
        while client.json().await["topic"] != "user" {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn live_publishing_during_a_resume_leaves_no_gap_and_doubles_nothing() {
    const MESSAGES: u64 = 1500;
    let hub = Arc::new(TestHub::start().await);
    let mut watch = hub.user("watch").await;
    let mut last = watch.position("tenant");
    let publisher = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move {
            for number in 0..MESSAGES {
                hub.publish(&json!({"to":{"tenant":true},"data":number})).await;
            }
        }
    });
    // Cut and resume again and again; between them every offset comes exactly once in all.
    let mut seen = std::collections::BTreeSet::new();
    let mut rounds = 0;
    while (seen.len() as u64) < MESSAGES {
        drop(watch);
        watch = hub.user("watch").await;
        watch
            .send(&json!({"type":"resume","positions":{"tenant":last}}))
            .await;
        let mut live_first = Vec::new();
        loop {
            let frame = watch.json().await;
            match frame["type"].as_str().unwrap() {
                "recovered" => {
                    last = frame["positions"]["tenant"].as_str().unwrap().to_owned();
                    break;
                }
                kind => {
                    assert_eq!(kind, "message", "{frame}");
                    live_first.push(offset(&frame));
                }
            }
        }
        for offset in live_first {
            assert!(seen.insert(offset), "{offset} came twice");
        }
        let reached: u64 = last.split(':').nth(1).unwrap().parse().unwrap();
        assert!(seen.iter().copied().eq(1..=reached), "a gap before {reached}");
        // A few live ones, in order.
        for number in 1..=5.min(MESSAGES - reached) {
            let frame = watch.expect("message").await;
            assert_eq!(offset(&frame), reached + number);
            assert!(seen.insert(offset(&frame)));
            last = frame["position"].as_str().unwrap().to_owned();
        }
        rounds += 1;
    }
    publisher.await.unwrap();
    assert!(rounds > 5, "{rounds}");
    assert_eq!(hub.metric("hub_resyncs_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn resuming_where_one_stands_while_messages_arrive_is_no_loss() {
    const MESSAGES: u64 = 3000;
    let hub = Arc::new(TestHub::start().await);
    let mut client = hub.user("u1").await;
    let publisher = tokio::spawn({
        let hub = Arc::clone(&hub);
        async move {
            for _ in 0..MESSAGES {
                hub.put(&user_key("u1"), common::message::FrameKind::Message, true, |_| ())
                    .await;
                // Now and then, so that answers of history and new messages meet in every order.
                tokio::task::yield_now().await;
            }
        }
    });
    let mut last = client.position("user");
    let (mut got, mut asked, mut answered) = (0, 0, 0);
    while got < MESSAGES || answered == 0 {
        if asked == answered {
            client
                .send(&json!({"type":"resume","positions":{"user":last}}))
                .await;
            asked += 1;
        }
        let frame = client.json().await;
        if frame["type"] == "recovered" {
            answered += 1;
            continue;
        }
        assert_eq!(frame["type"], "message", "{frame}");
        got += 1;
        assert_eq!(offset(&frame), got);
        last = frame["position"].as_str().unwrap().to_owned();
    }
    publisher.await.unwrap();
    assert!(answered > 20, "{answered}");
    assert_eq!(hub.metric("hub_resyncs_total"), 0.0);
}

#[tokio::test]
async fn a_replay_longer_than_one_read_is_whole() {
    let hub = TestHub::start().await;
    let key = user_key("u1");
    // Nobody is there yet, so the welcome's position is the end, and all comes by replay.
    let start = hub.bus.heads(std::slice::from_ref(&key)).await[0]
        .unwrap()
        .position()
        .to_string();
    for _ in 0..3000 {
        hub.put(&key, common::message::FrameKind::Message, true, |_| ())
            .await;
    }
    let mut client = hub.user("u1").await;
    client
        .send(&json!({"type":"resume","positions":{"user":start}}))
        .await;
    crate::order::take_in_order(&mut client, 0, 3000).await;
    assert_eq!(client.expect("recovered").await["count"], 3000);
}

#[tokio::test]
async fn a_pong_tells_positions_that_moved() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    client.send(&json!({"type":"ping"})).await;
    assert_eq!(client.expect("pong").await["positions"], json!({}));
    say(&hub, &json!({"user":"u1"}), 0..2).await;
    // Filtered out, and yet the topic moved: the client needs not ask for it again.
    hub.publish(&json!({"to":{"tenant":true},"except":{"user":"u1"},"data":1}))
        .await;
    client.expect("message").await;
    client.expect("message").await;
    client.send(&json!({"type":"ping"})).await;
    let positions = client.expect("pong").await["positions"].clone();
    assert!(positions["user"].as_str().unwrap().contains(":2:"));
    assert!(positions["tenant"].as_str().unwrap().contains(":1:"));
    assert_eq!(positions.as_object().unwrap().len(), 2);
    client.send(&json!({"type":"ping"})).await;
    assert_eq!(client.expect("pong").await["positions"], json!({}));
}
