//! Names that look like keys reach nobody but those who bear them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{server::Server, socket::Socket};

/// Names that would be others' topics, if they were pasted into keys.
const FORGED: [&str; 9] = [
    "x:r:admin",
    "t1:r:admin",
    "r:admin",
    "}",
    "{t1}",
    "*",
    "%",
    "admin%00",
    "victim\" OR \"1\"=\"1",
];

#[tokio::test]
async fn forged_names_reach_nobody_else() {
    let server = Server::start().await;
    let publisher = server
        .token(&[
            "--user",
            "service",
            "--tenant",
            "t1",
            "--scope",
            "publish notifications:write service",
        ])
        .await;
    let victim = server
        .token(&[
            "--user", "victim", "--tenant", "t1", "--role", "admin", "--store", "12",
        ])
        .await;
    let other = server
        .token(&["--user", "victim", "--tenant", "t2", "--role", "admin"])
        .await;
    let mut watched = BTreeMap::new();
    for (name, token) in [("victim", &victim), ("other tenant", &other)] {
        watched.insert(name, Socket::open(server.home.public, token).await);
    }
    let mut internal = server.internal().await;
    let mut public = server.public().await;
    for name in FORGED {
        // Whoever bears the name gets it, so that silence elsewhere means something.
        let token = server
            .token(&["--user", name, "--tenant", "t1", "--role", name])
            .await;
        let mut bearer = Socket::open(server.home.public, &token).await;
        for to in [
            json!({"user":name}),
            json!({"role":name}),
            json!({"store":name}),
            json!({"topic":name}),
        ] {
            let published = internal
                .post(
                    "/api/v1/publish",
                    Some(&publisher),
                    &json!({"to":to,"data":{"to":to}}),
                )
                .await
                .unwrap();
            assert!((200..300).contains(&published.status), "{published:?}");
            let body = json!({"to":to,"title":"t","content":name,"channels":["in_app","realtime"]});
            let created = public
                .post("/api/v1/notifications", Some(&publisher), &body)
                .await
                .unwrap();
            assert_eq!(created.status, 201, "{created:?}");
        }
        let mut got = Vec::new();
        // A frame of a notification comes right after its commit, which may be a moment after the answer.
        while got.len() < 4 {
            got.push(bearer.next().await);
        }
        got.extend(bearer.until_pong().await);
        let topics: Vec<&str> = got.iter().filter_map(|frame| frame["topic"].as_str()).collect();
        assert!(
            topics
                .iter()
                .all(|topic| *topic == "user" || *topic == format!("role:{name}")),
            "{topics:?}"
        );
    }
    // A tenant's name cannot be forged at all, in a body or in a token.
    let body = json!({"tenant_id":"t2","to":{"user":"victim"},"title":"t","content":"c"});
    assert_eq!(
        public
            .post("/api/v1/notifications", Some(&publisher), &body)
            .await
            .unwrap()
            .status,
        403
    );
    for (who, socket) in &mut watched {
        let frames: Vec<Value> = socket.until_pong().await;
        assert!(frames.is_empty(), "{who} got {frames:?}");
    }
    for token in [&victim, &other] {
        let list = public.get("/api/v1/notifications", Some(token)).await.unwrap();
        assert_eq!(list.json(), json!([]));
    }
}

#[tokio::test]
async fn forged_subscriptions_hear_only_their_own_topic() {
    let server = Server::start().await;
    let publisher = server
        .token(&["--user", "service", "--tenant", "t1", "--scope", "publish"])
        .await;
    let token = server
        .token(&["--user", "eve", "--tenant", "t1", "--topic", "*"])
        .await;
    let mut eve = Socket::open(server.home.public, &token).await;
    for name in FORGED.into_iter().chain([
        "user",
        "u:victim",
        "role:admin",
        "tenant",
        "everyone",
        ":e",
        "t2:a",
    ]) {
        eve.send(&json!({"type":"subscribe","topic":name})).await;
        assert_eq!(eve.next().await["type"], "subscribed", "{name}");
    }
    let mut internal = server.internal().await;
    for to in [
        json!({"user":"victim"}),
        json!({"role":"admin"}),
        json!({"store":"12"}),
        json!({"topic":"other"}),
    ] {
        let published = internal
            .post("/api/v1/publish", Some(&publisher), &json!({"to":to,"data":1}))
            .await
            .unwrap();
        assert!((200..300).contains(&published.status), "{published:?}");
    }
    let frames = eve.until_pong().await;
    assert!(frames.is_empty(), "{frames:?}");
}
