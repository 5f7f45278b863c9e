//! Tenants do not see each other, and no name forges another's topic.

use common::ids::Name;
use common::topic::TopicKey;
use serde_json::json;

use crate::support::{TestHub, tenant, token};

fn of_tenant(id: &str) -> String {
    token("u1", |new| {
        new.tenant = Some(id.to_owned());
        new.roles = vec!["admin".to_owned()];
        new.stores = vec!["1".to_owned()];
    })
}

#[tokio::test]
async fn the_same_names_in_two_tenants_are_two() {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for id in ["t1", "t2"] {
        let mut client = hub.connect(&of_tenant(id)).await;
        client.send(&json!({"type":"subscribe","topic":"public.a"})).await;
        client.expect("subscribed").await;
        clients.push(client);
    }
    for (from, id) in ["t1", "t2"].into_iter().enumerate() {
        let publisher = token("service", |new| {
            new.tenant = Some(id.to_owned());
            new.scopes = vec!["publish".to_owned()];
        });
        for to in [
            json!({"user":"u1"}),
            json!({"users":["u1"]}),
            json!({"role":"admin"}),
            json!({"store":"1"}),
            json!({"topic":"public.a"}),
            json!({"tenant":true}),
            json!({"all_of":[{"role":"admin"},{"store":"1"}]}),
            json!({"any_of":[{"role":"admin"},{"user":"u1"}]}),
        ] {
            let answer = hub
                .post("/api/v1/publish", &publisher, &json!({"to":to,"data":id}))
                .await;
            assert_eq!(answer.status, 200);
            assert!(!clients[from].until_pong().await.is_empty(), "{to}");
            assert_eq!(clients[1 - from].until_pong().await.len(), 0, "{to}");
        }
    }
}

#[tokio::test]
async fn everyone_is_everyone() {
    let hub = TestHub::start().await;
    let mut first = hub.connect(&of_tenant("t1")).await;
    let mut second = hub.connect(&of_tenant("t2")).await;
    let admin = token("root", |new| new.scopes = vec!["platform:admin".to_owned()]);
    hub.post(
        "/api/v1/publish",
        &admin,
        &json!({"to":{"everyone":true},"data":1}),
    )
    .await;
    // As a part of an expression, everyone is narrowed by the caller's own tenant's keys.
    let body = json!({"to":{"all_of":[{"everyone":true},{"role":"admin"}]},"data":2});
    hub.post("/api/v1/publish", &admin, &body).await;
    assert_eq!(first.until_pong().await.len(), 2);
    assert_eq!(second.until_pong().await.len(), 1);
}

#[tokio::test]
async fn forged_names_reach_nobody_else() {
    let hub = TestHub::with(|setup| setup.public_topics = vec!["*".to_owned()]).await;
    let mut client = hub.connect(&of_tenant("t1")).await;
    let forged = [
        "x:r:admin",
        "t1:r:admin",
        ":e",
        "a",
        "u1",
        "*",
        "}",
        "{t1}",
        "%3A",
        "r:admin",
        "\u{1}",
        "u1%",
        "admin:r",
    ];
    for name in forged {
        for to in [
            json!({"user":name}),
            json!({"role":name}),
            json!({"store":name}),
            json!({"topic":name}),
        ] {
            let is_own = to == json!({"user":"u1"});
            hub.publish(&json!({"to":to,"data":name})).await;
            assert_eq!(client.until_pong().await.len(), usize::from(is_own), "{to}");
        }
    }
    // Subscribing to them gives the topic of that very name, and nothing of anyone's.
    let mut forger = hub.connect(&token("forger", |_| ())).await;
    for name in &forged[..8] {
        forger.send(&json!({"type":"subscribe","topic":name})).await;
        assert_eq!(
            forger.expect("subscribed").await["topic"],
            format!("topic:{name}")
        );
    }
    for to in [
        json!({"role":"admin"}),
        json!({"user":"u1"}),
        json!({"store":"1"}),
    ] {
        hub.publish(&json!({"to":to,"data":1})).await;
    }
    assert!(forger.until_pong().await.is_empty());
    // Nor does naming others' topics in a resume.
    let head = hub
        .bus
        .heads(&[TopicKey::role(&tenant("t1"), &Name::new("admin").unwrap())])
        .await[0]
        .unwrap();
    let start = common::message::Position {
        offset: 0,
        check: 0,
        ..head.position()
    }
    .to_string();
    let positions = json!({"role:admin":start,"store:1":start,"user:u1":start,"t1:r:admin":start});
    forger.send(&json!({"type":"resume","positions":positions})).await;
    let mut topics: Vec<String> =
        serde_json::from_value(forger.expect("resync").await["topics"].take()).unwrap();
    topics.sort_unstable();
    assert_eq!(topics, ["role:admin", "store:1", "t1:r:admin", "user:u1"]);
    assert_eq!(forger.expect("recovered").await["count"], 0);
}
