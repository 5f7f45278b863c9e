//! What operators see of sessions and do to them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Client, Handshake, Stream, TestHub, call, token};

pub(crate) fn operator() -> String {
    token("operator", |new| new.scopes = vec!["control".to_owned()])
}

fn root() -> String {
    token("root", |new| new.scopes = vec!["platform:admin".to_owned()])
}

fn of(tenant: &str, user: &str, role: &str, store: &str) -> String {
    token(user, |new| {
        new.tenant = Some(tenant.to_owned());
        new.roles = vec![role.to_owned()];
        new.stores = vec![store.to_owned()];
    })
}

/// Ann, with two sessions, and bob are managers, cid is a clerk; dan is a manager of another tenant.
async fn people() -> (TestHub, Vec<Client>) {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for (tenant, user, role, store) in [
        ("t1", "ann", "manager", "12"),
        ("t1", "ann", "manager", "12"),
        ("t1", "bob", "manager", "13"),
        ("t1", "cid", "clerk", "12"),
        ("t2", "dan", "manager", "12"),
    ] {
        clients.push(hub.connect(&of(tenant, user, role, store)).await);
    }
    (hub, clients)
}

async fn get(hub: &TestHub, path: &str, token: &str) -> Answer {
    call(hub.internal, "GET", &format!("/api/v1/control/{path}"), token, "").await
}

async fn order(hub: &TestHub, path: &str, body: &Value) -> Answer {
    hub.post(&format!("/api/v1/control/{path}"), &operator(), body)
        .await
}

async fn done(hub: &TestHub, path: &str, body: &Value) -> u64 {
    let answer = order(hub, path, body).await;
    assert_eq!(answer.status, 200, "{body}: {answer:?}");
    assert_eq!(answer.body["complete"], true);
    assert_eq!(answer.body["nodes"], 1);
    answer.body["sessions"].as_u64().unwrap()
}

fn users(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let sessions = answer.body["sessions"].as_array().unwrap();
    sessions
        .iter()
        .map(|info| info["user"].as_str().unwrap())
        .collect()
}

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

#[tokio::test]
async fn disconnected_sessions_are_told_why_and_whether_to_come_back() {
    let hub = TestHub::start().await;
    for (body, code, reason) in [
        (json!({}), 4003, "disconnected"),
        (
            json!({"reconnect":false,"code":4100}),
            4100,
            "disconnected; reconnect=no",
        ),
        (json!({"reason":"bye","code":4999}), 4999, "bye"),
        (
            json!({"retry_after_ms":0,"reason":"moved"}),
            4003,
            "moved; retry_after_ms=0",
        ),
    ] {
        let client = hub.user("ann").await;
        let other = hub.user("bob").await;
        let mut body = body;
        body["to"] = json!({"user":"ann"});
        assert_eq!(done(&hub, "disconnect", &body).await, 1, "{body}");
        assert_eq!(client.closed().await, (Some(code), reason.to_owned()), "{body}");
        // Nobody else is.
        other.close().await;
    }
    let client = hub.user("ann").await;
    assert_eq!(
        done(&hub, "disconnect", &json!({"to":{"user":"ann"},"reconnect":true})).await,
        1
    );
    let (_, reason) = client.closed().await;
    let ms: u32 = reason
        .strip_prefix("disconnected; retry_after_ms=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((1000..=2000).contains(&ms), "{reason}");
    assert!(hub.metric(r#"hub_sessions_closed_total{reason="disconnected"}"#) >= 5.0);
}

#[tokio::test]
async fn a_disconnect_can_be_spread_over_time() {
    let hub = TestHub::start().await;
    let mut clients = JoinSet::new();
    for number in 0..30 {
        clients.spawn(hub.user(&format!("u{number}")).await.closed());
    }
    let began = tokio::time::Instant::now();
    let body = json!({"to":{"tenant":true},"spread_ms":3000});
    assert_eq!(done(&hub, "disconnect", &body).await, 30);
    assert!(began.elapsed().as_secs() < 2, "the answer does not wait for it");
    while let Some(closed) = clients.join_next().await {
        assert_eq!(closed.unwrap().0, Some(4003));
    }
    assert!(began.elapsed().as_millis() >= 1500, "all were told at once");
}

/// Sessions that are closed while messages go to others: nothing of theirs is lost, none that comes back is closed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_disconnect_holds_nobody_up() {
    const MANY: usize = 5000;
    const MESSAGES: u64 = 300;
    // Both ends of every socket are in this process.
    rlimit::increase_nofile_limit(4 * MANY as u64).unwrap();
    let hub = TestHub::with(|setup| setup.config.workers = 1).await;
    let crowd = of("t1", "crowd", "crowd", "1");
    let mut sockets = Vec::with_capacity(MANY);
    for number in 0..MANY {
        let mut handshake = Handshake::v1(&crowd);
        // Ports of one address would not do together with those of other tests.
        handshake.source = [127, 0, 1, (number % 200) as u8 + 1];
        sockets.push(Client::open(hub.public, &handshake).await);
    }
    assert_eq!(
        done(&hub, "sessions/count", &json!({"to":{"role":"crowd"}})).await,
        MANY as u64
    );
    let mut quiet = hub.user("quiet").await;
    let reading = tokio::spawn(async move {
        crate::order::take_in_order(&mut quiet, 0, MESSAGES).await;
        quiet
    });
    let body = json!({"to":{"role":"crowd"},"retry_after_ms":0});
    let ordering = order(&hub, "disconnect", &body);
    let publishing = async {
        for _ in 0..MESSAGES {
            hub.publish(&json!({"to":{"user":"quiet"},"data":1})).await;
        }
    };
    let (answer, ()) = tokio::join!(ordering, publishing);
    assert_eq!(answer.body["sessions"], MANY, "{answer:?}");
    let quiet = reading.await.unwrap();
    // Who comes back while the others are told stays.
    let back = hub.connect(&crowd).await;
    for socket in sockets {
        let (code, reason) = socket.closed().await;
        assert_eq!(
            (code, reason.as_str()),
            (Some(4003), "disconnected; retry_after_ms=0")
        );
    }
    let left = json!({"to":{"tenant":true}});
    assert_eq!(done(&hub, "sessions/count", &left).await, 2);
    quiet.close().await;
    back.close().await;
}

#[tokio::test]
async fn sessions_are_taken_out_of_a_topic() {
    let (hub, mut clients) = people().await;
    for client in &mut clients[..4] {
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
    }
    let mut seeds = hub.seeds("/ws", &of("t1", "eve", "manager", "12")).await;
    seeds.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    seeds.expect("subscribed").await;
    let body = json!({"to":{"role":"manager"},"topic":"public.a"});
    assert_eq!(done(&hub, "unsubscribe", &body).await, 4);
    assert_eq!(done(&hub, "unsubscribe", &body).await, 0, "they had it no more");
    for client in &mut clients[..3] {
        assert_eq!(client.expect("unsubscribed").await["topic"], "topic:public.a");
    }
    hub.publish(&json!({"to":{"topic":"public.a"},"data":1})).await;
    for client in &mut clients[..3] {
        assert!(client.until_pong().await.is_empty());
    }
    assert_eq!(clients[3].until_pong().await.len(), 1);
    assert!(
        seeds.until_pong().await.is_empty(),
        "its dialect is told nothing that it did not ask for"
    );
    // The token still allows it.
    clients[0]
        .send(&json!({"type":"subscribe","topic":"public.a"}))
        .await;
    clients[0].expect("subscribed").await;
}

#[tokio::test]
async fn changed_rights_ask_for_another_token() {
    let hub = TestHub::start().await;
    let old = token("ann", |new| new.ttl_seconds = 3600);
    let mut stays = hub.connect(&old).await;
    let mut silent = hub.connect(&old).await;
    let mut stubborn = hub.connect(&old).await;
    let seeds = hub.seeds("/ws", &old).await;
    let now = jiff::Timestamp::now().as_second();
    assert_eq!(
        done(&hub, "refresh", &json!({"to":{"user":"ann"},"within_ms":2000})).await,
        4
    );
    for client in [&mut stays, &mut silent, &mut stubborn] {
        let at = client.expect("expiring").await["at"].as_i64().unwrap();
        assert!((now..now + 10).contains(&at), "{at}");
    }
    stays
        .send(&json!({"type":"refresh","token":token("ann", |new| new.ttl_seconds = 7200)}))
        .await;
    stays.expect("pong").await;
    // The same token again is no answer.
    stubborn.send(&json!({"type":"refresh","token":old})).await;
    assert_eq!(stubborn.expect("error").await["code"], "token_outdated");
    for client in [silent, stubborn, seeds] {
        assert_eq!(client.closed().await, (Some(4001), "token expired".to_owned()));
    }
    assert!(stays.until_pong().await.is_empty());
    let answer = get(&hub, "sessions?user=ann", &operator()).await;
    assert_eq!(answer.body["sessions"][0]["session"], stays.session());
    let expires_at = answer.body["sessions"][0]["expires_at"].as_str().unwrap();
    assert!(expires_at.parse::<jiff::Timestamp>().unwrap().as_second() > now + 3600);
}

#[tokio::test]
async fn a_later_refresh_does_not_put_the_end_off() {
    let hub = TestHub::start().await;
    let mut client = hub.user("ann").await;
    let refresh = async |within_ms: u32| {
        let body = json!({"to":{"user":"ann"},"within_ms":within_ms});
        assert_eq!(done(&hub, "refresh", &body).await, 1);
    };
    refresh(60_000).await;
    let at = client.expect("expiring").await["at"].as_i64().unwrap();
    refresh(2000).await;
    let sooner = client.expect("expiring").await["at"].as_i64().unwrap();
    assert!(sooner < at, "{sooner} {at}");
    refresh(60_000).await;
    assert_eq!(client.expect("expiring").await["at"], sooner);
    assert_eq!(client.closed().await, (Some(4001), "token expired".to_owned()));
}

#[tokio::test]
async fn tenants_stay_apart_and_scopes_are_needed() {
    let (hub, clients) = people().await;
    let paths = [
        "sessions",
        "sessions/count",
        "presence",
        "disconnect",
        "unsubscribe",
        "refresh",
    ];
    let body = json!({"to":{"role":"manager"},"topic":"x"});
    let without = |path: &str| {
        let mut body = body.clone();
        if path != "unsubscribe" {
            body.as_object_mut().unwrap().remove("topic");
        }
        body
    };
    for path in paths {
        let path_of = format!("/api/v1/control/{path}");
        hub.post(&path_of, "", &without(path))
            .await
            .problem(401, "token_missing");
        let publisher = token("p", |new| new.scopes = vec!["publish".to_owned()]);
        hub.post(&path_of, &publisher, &without(path))
            .await
            .problem(403, "scope_missing");
        let other = hub
            .post(&format!("{path_of}?tenant=t2"), &operator(), &without(path))
            .await;
        assert_eq!(other.problem(403, "scope_missing"), Some("tenant"), "{path}");
        let mut everyone = without(path);
        everyone["to"] = json!({"any_of":[{"role":"x"},{"everyone":true}]});
        let everyone = hub.post(&path_of, &operator(), &everyone).await;
        assert_eq!(everyone.problem(403, "scope_missing"), Some("to"), "{path}");
        // It is not on the public listener.
        let public = call(
            hub.public,
            "POST",
            &path_of,
            &operator(),
            &without(path).to_string(),
        )
        .await;
        assert_eq!(public.status, 404, "{path}");
    }
    assert_eq!(
        users(&get(&hub, "sessions", &root()).await),
        ["ann", "ann", "bob", "cid"]
    );
    assert_eq!(users(&get(&hub, "sessions?tenant=t2", &root()).await), ["dan"]);
    assert_eq!(
        users(&get(&hub, "sessions?everyone=true", &root()).await).len(),
        5
    );
    // Everyone is not of one tenant, and nobody is taken for everyone by mistake.
    for path in paths {
        for to in [
            json!({"everyone":true}),
            json!({"any_of":[{"role":"manager"},{"everyone":true}]}),
        ] {
            let mut body = without(path);
            body["to"] = to;
            for named in ["t1", "t2"] {
                let path = format!("/api/v1/control/{path}?tenant={named}");
                let answer = hub.post(&path, &root(), &body).await;
                assert_eq!(answer.problem(422, "conflict"), Some("tenant"), "{path} {body}");
            }
        }
    }
    for path in ["sessions", "sessions/count", "presence"] {
        let answer = get(&hub, &format!("{path}?everyone=true&tenant=t2"), &root()).await;
        assert_eq!(answer.problem(422, "conflict"), Some("tenant"), "{path}");
        let answer = get(&hub, &format!("{path}?everyone=true"), &operator()).await;
        assert_eq!(answer.problem(403, "scope_missing"), Some("everyone"), "{path}");
    }
    let narrowed = json!({"to":{"all_of":[{"everyone":true},{"role":"manager"}]}});
    let answer = hub
        .post("/api/v1/control/sessions?tenant=t2", &root(), &narrowed)
        .await;
    assert_eq!(users(&answer), ["dan"]);
    let other = token("x", |new| {
        new.tenant = Some("t2".to_owned());
        new.scopes = vec!["control".to_owned()];
    });
    let answer = hub
        .post(
            "/api/v1/control/disconnect",
            &other,
            &json!({"to":{"role":"manager"}}),
        )
        .await;
    assert_eq!(answer.body["sessions"], 1);
    for (number, client) in clients.into_iter().enumerate() {
        if number == 4 {
            assert_eq!(client.closed().await.0, Some(4003));
        } else {
            client.close().await;
        }
    }
}

#[tokio::test]
async fn bad_input_changes_nothing() {
    let hub = TestHub::start().await;
    let mut client = hub.user("ann").await;
    let to = json!({"user":"ann"});
    for (path, body, status, code, field) in [
        ("sessions", json!({}), 422, "missing_field", Some("to")),
        ("sessions", json!({"to":{}}), 422, "invalid_value", Some("to")),
        (
            "sessions",
            json!({"to":to,"x":1}),
            422,
            "unknown_field",
            Some("x"),
        ),
        (
            "sessions",
            json!({"to":to,"limit":0}),
            422,
            "invalid_value",
            Some("limit"),
        ),
        (
            "sessions",
            json!({"to":to,"limit":1001}),
            422,
            "invalid_value",
            Some("limit"),
        ),
        (
            "sessions",
            json!({"to":to,"limit":-1}),
            422,
            "invalid_value",
            Some("limit"),
        ),
        (
            "sessions",
            json!({"to":to,"after":"x"}),
            422,
            "invalid_cursor",
            Some("after"),
        ),
        ("sessions", json!([to]), 422, "invalid_value", None),
        (
            "sessions/count",
            json!({"to":to,"limit":1}),
            422,
            "unknown_field",
            Some("limit"),
        ),
        (
            "presence",
            json!({"to":to,"after":"%%"}),
            422,
            "invalid_cursor",
            Some("after"),
        ),
        (
            "presence",
            json!({"to":{"user":""}}),
            422,
            "invalid_value",
            Some("to"),
        ),
        ("disconnect", json!({}), 422, "missing_field", Some("to")),
        (
            "disconnect",
            json!({"to":to,"code":1000}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":4001}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":4099}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":5000}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"code":70000}),
            422,
            "invalid_value",
            Some("code"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"x".repeat(81)}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"a\nb"}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"x; reconnect=no","reconnect":true}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reason":"x; retry_after_ms=5"}),
            422,
            "invalid_value",
            Some("reason"),
        ),
        (
            "disconnect",
            json!({"to":to,"reconnect":false,"retry_after_ms":1}),
            422,
            "conflict",
            Some("retry_after_ms"),
        ),
        (
            "disconnect",
            json!({"to":to,"retry_after_ms":86_400_001}),
            422,
            "invalid_value",
            Some("retry_after_ms"),
        ),
        (
            "disconnect",
            json!({"to":to,"spread_ms":600_001}),
            422,
            "invalid_value",
            Some("spread_ms"),
        ),
        (
            "unsubscribe",
            json!({"to":to}),
            422,
            "missing_field",
            Some("topic"),
        ),
        (
            "unsubscribe",
            json!({"to":to,"topic":""}),
            422,
            "invalid_value",
            Some("topic"),
        ),
        (
            "refresh",
            json!({"to":to,"within_ms":999}),
            422,
            "invalid_value",
            Some("within_ms"),
        ),
        (
            "refresh",
            json!({"to":to,"within_ms":60_001}),
            422,
            "invalid_value",
            Some("within_ms"),
        ),
        (
            "refresh",
            json!({"to":to,"token":"x"}),
            422,
            "unknown_field",
            Some("token"),
        ),
    ] {
        let answer = order(&hub, path, &body).await;
        assert_eq!(answer.problem(status, code), field, "{path} {body}: {answer:?}");
    }
    for (query, code, field) in [
        ("sessions?usr=a", "invalid_query", "usr"),
        ("sessions?limit=x", "invalid_query", "limit"),
        ("sessions?limit=0", "invalid_value", "limit"),
        ("sessions?user=", "invalid_value", "user"),
        ("sessions?after=zz", "invalid_cursor", "after"),
        ("sessions/count?everyone=maybe", "invalid_query", "everyone"),
        ("presence?after=zz", "invalid_cursor", "after"),
    ] {
        let answer = get(&hub, query, &operator()).await;
        assert_eq!(answer.problem(422, code), Some(field), "{query}: {answer:?}");
    }
    let answer = get(&hub, "sessions?tenant=a%20b", &root()).await;
    assert_eq!(answer.problem(422, "invalid_value"), Some("tenant"));
    assert!(client.until_pong().await.is_empty());
}

/// More orders than may be under way at once: each is answered, and what remains of it keeps nobody out.
#[tokio::test]
async fn spread_orders_hold_no_place() {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let user = format!("u{number}");
        clients.push(hub.user(&user).await);
        let body = json!({"to":{"user":user},"spread_ms":600_000,"code":4100});
        assert_eq!(done(&hub, "disconnect", &body).await, 1);
    }
    let all = json!({"to":{"tenant":true},"spread_ms":600_000,"code":4101});
    for _ in 0..20 {
        assert_eq!(done(&hub, "disconnect", &all).await, 20);
    }
    assert_eq!(
        done(&hub, "sessions/count", &json!({"to":{"tenant":true}})).await,
        20
    );
    for client in &mut clients {
        assert!(client.until_pong().await.is_empty(), "its time has not come");
    }
    // A sooner order counts.
    let now = json!({"to":{"tenant":true},"spread_ms":1000,"code":4102});
    assert_eq!(done(&hub, "disconnect", &now).await, 20);
    for client in clients {
        assert_eq!(client.closed().await, (Some(4102), "disconnected".to_owned()));
    }
}

#[tokio::test]
async fn what_cannot_answer_makes_the_answer_incomplete() {
    let hub = TestHub::start().await;
    assert!(hub.hub.drain(std::time::Duration::from_secs(10), false).await);
    for path in ["sessions", "sessions/count", "presence"] {
        let answer = get(&hub, path, &operator()).await;
        assert_eq!(
            (answer.status, &answer.body["complete"]),
            (200, &json!(false)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn every_call_is_in_the_document() {
    let hub = TestHub::start().await;
    let (_, document) = hub::http::internal(&hub.hub).split_for_parts();
    let document = serde_json::to_value(document).unwrap();
    let mut operations = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.insert(format!("{method} {path}"));
            assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
        }
    }
    for call in [
        "get sessions",
        "post sessions",
        "get sessions/count",
        "post sessions/count",
        "get presence",
        "post presence",
        "post disconnect",
        "post unsubscribe",
        "post refresh",
        "get trace",
    ] {
        let (method, path) = call.split_once(' ').unwrap();
        assert!(
            operations.contains(&format!("{method} /api/v1/control/{path}")),
            "{call}"
        );
    }
}
