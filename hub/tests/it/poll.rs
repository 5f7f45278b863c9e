//! Sessions that last for one request.

use std::{sync::Arc, time::Duration};

use common::receipts::Receipt;
use serde_json::{Value, json};

use crate::{
    policies::policies,
    sse::{check_numbers, publish_numbers, two_hubs},
    support::{Answer, PATIENCE, TestHub, call, eventually, soon, tenant, token},
};

fn user(name: &str) -> String {
    token(name, |_| ())
}

async fn ask(hub: &TestHub, token: &str, query: &str, positions: &Value) -> Answer {
    let mut path = format!("/api/v1/poll?{query}");
    if !positions.is_null() {
        let encoded: String = positions
            .to_string()
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        path.push_str(&format!("&positions={encoded}"));
    }
    call(hub.public, "GET", &path, token, "").await
}

/// A poll that has to be answered: data of the frames, and the positions.
async fn poll(hub: &TestHub, query: &str, positions: &Value) -> (Vec<Value>, Value, bool) {
    let mut answer = ask(hub, &user("u1"), query, positions).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let frames = answer.body["frames"].as_array_mut().unwrap();
    let data = frames.iter_mut().map(|frame| {
        assert_eq!(frame["type"], "message", "{frame}");
        frame["data"].take()
    });
    let data = data.collect();
    let more = answer.body["more"].as_bool().unwrap();
    (data, answer.body["positions"].take(), more)
}

async fn start(hub: &TestHub, query: &str) -> Value {
    let (frames, positions, more) = poll(hub, query, &Value::Null).await;
    assert_eq!((frames, more), (vec![], false));
    positions
}

#[tokio::test]
async fn it_answers_with_what_was_missed_or_waits_for_what_comes() {
    let hub = TestHub::start().await;
    let positions = start(&hub, "topics=public.a").await;
    assert_eq!(
        positions.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["everyone", "tenant", "topic:public.a", "user"]
    );
    // Nothing was missed, and it may not wait.
    let (frames, same, more) = poll(&hub, "topics=public.a&wait=0", &positions).await;
    assert_eq!((frames, &same, more), (vec![], &positions, false));
    // Missed.
    for number in 0..3 {
        hub.publish(&json!({"to":{"topic":"public.a"},"data":number}))
            .await;
    }
    let (frames, positions, more) = poll(&hub, "topics=public.a", &positions).await;
    assert_eq!((frames, more), (vec![json!(0), json!(1), json!(2)], false));
    // Comes. The topic stands in the positions, so it need not be named again.
    let waiting = poll(&hub, "wait=30", &positions);
    let publishing = async {
        hub.metric_reaches("hub_sessions_opened_total", 4.0).await;
        hub.publish(&json!({"to":{"user":"u1"},"data":"live"})).await;
    };
    let ((frames, positions, _), ()) = tokio::join!(waiting, publishing);
    assert_eq!(frames, [json!("live")]);
    assert!(positions["user"].as_str().unwrap().contains(":1:"));
    assert!(positions["topic:public.a"].as_str().unwrap().contains(":3:"));
    assert_eq!(hub.metric(r#"hub_fallbacks_opened_total{transport="poll"}"#), 4.0);
    eventually("every session ended", async || {
        (hub.metric("websocket_connections_active") == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_wait_ends_without_frames() {
    let hub = TestHub::start().await;
    let positions = start(&hub, "").await;
    let began = tokio::time::Instant::now();
    let (frames, same, more) = poll(&hub, "wait=1", &positions).await;
    assert_eq!((frames, &same, more), (vec![], &positions, false));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let answer = ask(&hub, &user("u1"), "wait=0", &positions).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn polls_on_any_node_get_everything_once() {
    const COUNT: u64 = 1500;
    let hubs = two_hubs().await.map(Arc::new);
    let mut positions = start(&hubs[0], "topics=public.a").await;
    let publisher = tokio::spawn({
        let hub = Arc::clone(&hubs[1]);
        async move { publish_numbers(&hub, COUNT).await }
    });
    let mut got = Vec::new();
    let mut polls = 0;
    while (got.len() as u64) < COUNT {
        let (frames, next, _) = poll(&hubs[fastrand::usize(..2)], "topics=public.a", &positions).await;
        got.extend(frames.iter().map(|number| number.as_u64().unwrap()));
        positions = next;
        polls += 1;
    }
    publisher.await.unwrap();
    check_numbers(&got, COUNT);
    assert!(polls > 5, "{polls}");
    let (frames, ..) = poll(&hubs[0], "topics=public.a&wait=0", &positions).await;
    assert_eq!(frames, [] as [Value; 0]);
}

#[tokio::test]
async fn the_second_poll_brings_the_values_of_a_last_value_topic() {
    let hub = TestHub::with(|setup| {
        setup.policies = policies("[[topics]]\npattern = \"topic:public.*\"\nhistory = \"last_value\"\n");
    })
    .await;
    let set = async |key: &str, value: u64| {
        hub.publish(&json!({"to":{"topic":"public.a"},"data":[key, value],"conflate":key}))
            .await;
    };
    set("x", 1).await;
    set("y", 1).await;
    set("x", 2).await;
    let positions = start(&hub, "topics=public.a").await;
    let (frames, positions, _) = poll(&hub, "topics=public.a&wait=30", &positions).await;
    assert_eq!(frames, [json!(["y", 1]), json!(["x", 2])]);
    let (frames, positions, _) = poll(&hub, "topics=public.a&wait=0", &positions).await;
    assert_eq!(frames, Vec::<Value>::new());
    set("y", 2).await;
    let (frames, ..) = poll(&hub, "topics=public.a&wait=30", &positions).await;
    assert_eq!(frames, [json!(["y", 2])]);
}

#[tokio::test]
async fn an_answer_is_bounded_and_the_rest_comes_next() {
    let hub = TestHub::start().await;
    let mut positions = start(&hub, "").await;
    for number in 0..600 {
        hub.publish(&json!({"to":{"user":"u1"},"data":number})).await;
    }
    let (first, next, more) = poll(&hub, "", &positions).await;
    assert_eq!((first.len(), more), (512, true));
    let (second, next, more) = poll(&hub, "", &next).await;
    assert_eq!((second.len(), more), (88, false));
    assert!(first.into_iter().chain(second).eq((0..600).map(Value::from)));
    // By bytes too.
    positions = next;
    for _ in 0..8 {
        hub.publish(&json!({"to":{"user":"u1"},"data":"x".repeat(200_000)}))
            .await;
    }
    let mut sizes = Vec::new();
    loop {
        let (frames, next, more) = poll(&hub, "", &positions).await;
        sizes.push(frames.len());
        positions = next;
        if !more {
            break;
        }
    }
    assert_eq!(sizes, [3, 3, 2]);
}

#[tokio::test]
async fn what_is_lost_is_told_once() {
    let hub = TestHub::with(|setup| setup.history.count = 3).await;
    let positions = start(&hub, "").await;
    for number in 0..6 {
        hub.publish(&json!({"to":{"user":"u1"},"data":number})).await;
    }
    let mut answer = ask(&hub, &user("u1"), "", &positions).await;
    assert_eq!(
        answer.body["frames"],
        json!([{"type":"resync","topics":["user"]}])
    );
    let positions = answer.body["positions"].take();
    assert!(positions["user"].as_str().unwrap().contains(":6:"));
    let (frames, ..) = poll(&hub, "wait=0", &positions).await;
    assert_eq!(frames, [] as [Value; 0]);
    // A position that cannot be read, and a topic that is not the session's.
    let answer = ask(
        &hub,
        &user("u1"),
        "",
        &json!({"tenant":"x","role:x":"a:1:00000000","topic:secret":"a:1:00000000"}),
    )
    .await;
    let frames = answer.body["frames"].as_array().unwrap();
    let lost = frames.iter().filter(|frame| frame["type"] == "resync");
    let mut lost: Vec<&str> = lost
        .flat_map(|frame| frame["topics"].as_array().unwrap())
        .map(|topic| topic.as_str().unwrap())
        .collect();
    lost.sort_unstable();
    assert_eq!(lost, ["role:x", "tenant", "topic:secret"]);
    let positions = answer.body["positions"].as_object().unwrap();
    assert!(positions.keys().eq(["everyone", "tenant", "user"]));
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_session() {
    let hub = TestHub::start().await;
    let positions = start(&hub, "").await;
    eventually("the first poll's session is gone", async || {
        (hub.hub.tenant_count(&tenant("t1")).connections == 0).then_some(())
    })
    .await;
    let public = hub.public;
    let query = positions
        .to_string()
        .replace('"', "%22")
        .replace('{', "%7B")
        .replace('}', "%7D");
    let waiting = tokio::spawn(async move {
        let path = format!("/api/v1/poll?wait=60&positions={query}");
        call(public, "GET", &path, &user("u1"), "").await
    });
    eventually("it waits", async || {
        (hub.hub.tenant_count(&tenant("t1")).connections == 1).then_some(())
    })
    .await;
    waiting.abort();
    eventually("the seat is free", async || {
        (hub.hub.tenant_count(&tenant("t1")).connections == 0).then_some(())
    })
    .await;
    assert_eq!(hub.metric(r#"hub_fallbacks_active{transport="poll"}"#), 0.0);
}

#[tokio::test]
async fn a_stop_and_the_token_s_end_are_answered() {
    let hub = TestHub::start().await;
    let positions = start(&hub, "").await;
    let short = token("u1", |new| new.ttl_seconds = 2);
    let answer = ask(&hub, &short, "wait=30", &positions).await;
    answer.problem(401, "token_expired");
    let user = user("u1");
    let waiting = ask(&hub, &user, "wait=30", &positions);
    let stopping = async {
        hub.metric_reaches("hub_sessions_opened_total", 3.0).await;
        assert!(hub.hub.drain(PATIENCE, true).await);
    };
    let (answer, ()) = tokio::join!(soon("the answer", waiting), stopping);
    answer.problem(503, "unavailable");
    assert!(answer.header("retry-after").is_some());
    ask(&hub, &user, "", &positions).await.problem(503, "unavailable");
}

#[tokio::test]
async fn bad_polls_are_refused() {
    let hub = TestHub::start().await;
    for (query, status, code, field) in [
        ("wait=x", 422, "invalid_value", "wait"),
        ("wait=61", 422, "invalid_value", "wait"),
        ("wait=-1", 422, "invalid_value", "wait"),
        ("topics=a,,b", 422, "invalid_value", "topics"),
        ("topics=secret", 403, "forbidden_topic", "topics"),
        ("positions=null", 422, "invalid_value", "positions"),
        ("tenant_id=t2", 403, "not_the_tokens", "tenant_id"),
    ] {
        let answer = ask(&hub, &user("u1"), query, &Value::Null).await;
        assert_eq!(answer.problem(status, code), Some(field), "{query}");
    }
    ask(&hub, "", "", &Value::Null)
        .await
        .problem(401, "token_missing");
    assert_eq!(hub.hub.tenant_count(&tenant("t1")).connections, 0);
}

#[tokio::test]
async fn receipts_go_by_a_request() {
    let hub = TestHub::start().await;
    let id = "01980c5e-8a4e-7c31-9d5e-0a1b2c3d4e5f";
    let say = async |query: &str, body: &str| {
        let path = format!("/api/v1/commands{query}");
        call(hub.public, "POST", &path, &user("u1"), body).await
    };
    let ack = format!(r#"{{"type":"ack","ids":["{id}"]}}"#);
    assert_eq!(say("?session=s1", &ack).await.status, 204);
    match hub.receipt().await {
        Receipt::Delivered { reader, ids } => {
            assert_eq!((reader.user.as_str(), &*reader.session), ("u1", "s1"));
            assert_eq!(reader.keys.len(), 3);
            assert_eq!(ids, [id.parse().unwrap()]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(say("", r#"{"type":"read","all":true}"#).await.status, 204);
    assert!(matches!(hub.receipt().await, Receipt::ReadAll { .. }));
    hub.close_receipts().await;
    let answer = say("", &ack).await;
    answer.problem(503, "receipts_unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(hub.metric("hub_receipts_dropped_total") >= 1.0);
    for (body, code, field) in [
        (r#"{"type":"subscribe","topic":"a"}"#, "unknown_command", "type"),
        (r#"{"type":"dance"}"#, "unknown_command", "type"),
        (r#"{"type":"ack"}"#, "invalid_field", "ids"),
        (r#"{"type":"ack","ids":["x"]}"#, "invalid_field", "ids"),
    ] {
        assert_eq!(say("", body).await.problem(422, code), Some(field), "{body}");
    }
    let long = format!("?session={}", "x".repeat(65));
    assert_eq!(
        say(&long, &ack).await.problem(422, "invalid_value"),
        Some("session")
    );
    let answer = call(hub.public, "POST", "/api/v1/commands", "", &ack).await;
    answer.problem(401, "token_missing");
}
