//! How many are let in.

use serde_json::json;

use crate::support::{Client, Handshake, TestHub, call, eventually, tenant, token};

fn other_tenant(user: &str) -> String {
    token(user, |new| new.tenant = Some("t2".to_owned()))
}

#[tokio::test]
async fn each_limit_refuses_and_gives_back() {
    let admin = token("root", |new| new.scopes = vec!["platform:admin".to_owned()]);
    for limit in ["node", "tenant", "user", "address"] {
        let hub = TestHub::with(|setup| {
            let config = &mut setup.config;
            match limit {
                "node" => config.max_connections = 1,
                "tenant" => config.max_connections_per_tenant = 1,
                "user" => config.max_connections_per_user = 1,
                _ => config.max_connections_per_address = 1,
            }
        })
        .await;
        let first = hub.user("u1").await;
        // Who differs in what the limit counts is let in; whoever does not is refused.
        let (fits, refused) = match limit {
            "tenant" => (
                Some(Handshake::v1(&other_tenant("u1"))),
                Handshake::v1(&token("u2", |_| ())),
            ),
            "user" => (
                Some(Handshake::v1(&token("u2", |_| ()))),
                Handshake::v1(&token("u1", |_| ())),
            ),
            "address" => {
                let mut elsewhere = Handshake::v1(&token("u1", |_| ()));
                elsewhere.source = [127, 0, 0, 2];
                (Some(elsewhere), Handshake::v1(&token("u2", |_| ())))
            }
            _ => (None, Handshake::v1(&other_tenant("u2"))),
        };
        let second = match fits {
            Some(fits) => Some(Client::open(hub.public, &fits).await.welcomed().await),
            None => None,
        };
        let answer = Client::attempt(hub.public, &refused).await.answer;
        match limit {
            "node" => answer.problem(503, "unavailable"),
            other => answer.problem(429, &format!("{other}_full")),
        };
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&after));
        assert_eq!(
            hub.metric(&format!(
                r#"hub_handshakes_refused_total{{reason="{limit}_full"}}"#
            )),
            1.0
        );

        first.close().await;
        if let Some(second) = second {
            second.close().await;
        }
        eventually("the counts are zero", async || {
            let stats = call(hub.public, "GET", "/api/v1/websocket/stats", &admin, "")
                .await
                .body;
            (stats["node_connections"] == json!(0) && stats["users_online"] == json!(0)).then_some(())
        })
        .await;
        assert_eq!(hub.metric("websocket_connections_active"), 0.0);
        Client::open(hub.public, &refused).await.welcomed().await;
    }
}

#[tokio::test]
async fn handshakes_are_a_bucket() {
    let hub = TestHub::with(|setup| setup.config.handshakes_per_second = 1).await;
    let handshake = Handshake::v1(&token("u1", |_| ()));
    let _first = Client::open(hub.public, &handshake).await;
    let answer = Client::attempt(hub.public, &handshake).await.answer;
    answer.problem(429, "handshake_rate");
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    // The first that is refused; nobody else was promised anything.
    assert!((1..=2).contains(&after), "{after}");
    assert_eq!(
        hub.hub.tenant_count(&tenant("t1")).connections,
        1,
        "the refused one took no seat"
    );
}

#[tokio::test]
async fn a_trusted_proxy_names_the_address() {
    let hub = TestHub::with(|setup| {
        setup.config.max_connections_per_address = 1;
        setup.trusted_proxies = vec!["127.0.0.1".to_owned()];
    })
    .await;
    let from = |forwarded: &str| Handshake::v1(&token("u1", |_| ())).header("X-Forwarded-For", forwarded);
    let _one = Client::open(hub.public, &from("10.0.0.1")).await;
    let _two = Client::open(hub.public, &from("10.0.0.1, 10.0.0.2")).await;
    Client::attempt(hub.public, &from("8.8.8.8, 10.0.0.2"))
        .await
        .answer
        .problem(429, "address_full");
    // Another peer is not believed.
    let mut elsewhere = from("10.0.0.9");
    elsewhere.source = [127, 0, 0, 3];
    let _three = Client::open(hub.public, &elsewhere).await;
    let mut lies = from("10.0.0.10");
    lies.source = [127, 0, 0, 3];
    Client::attempt(hub.public, &lies)
        .await
        .answer
        .problem(429, "address_full");
}

#[tokio::test]
async fn a_client_that_vanishes_gives_its_seat_back() {
    let hub = TestHub::start().await;
    let client = hub.user("u1").await;
    assert_eq!(hub.hub.tenant_count(&tenant("t1")).connections, 1);
    drop(client);
    eventually("the seat is free", async || {
        (hub.hub.tenant_count(&tenant("t1")).connections == 0).then_some(())
    })
    .await;
    assert_eq!(hub.metric(r#"hub_sessions_closed_total{reason="gone"}"#), 1.0);
}
