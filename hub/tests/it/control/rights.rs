//! Taking sessions out of topics, asking for other tokens; who may do what.

use serde_json::json;

use super::{done, get, of, operator, people, root, users};
use crate::support::{TestHub, call, token};

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
