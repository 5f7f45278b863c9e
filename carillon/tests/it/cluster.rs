//! Hubs and a dispatcher that are processes of their own: together they do what standalone does alone.

use std::time::Duration;

use rig::{
    carillon::{Node, Service},
    redis::{Cluster, ClusterOptions, Options, Sentinel, Server},
};
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    cluster::{Common, post, readiness, token},
    eventually,
    server::{EXECUTABLE, Home},
    socket::{RawSocket, Socket},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// The state of the delivery by this channel, as soon as it has ended.
async fn ended(dispatcher: &Node, token: &str, id: &str, channel: &str) -> Value {
    let mut client = Client::connect(dispatcher.address()).await.unwrap();
    eventually("the delivery ends", PATIENCE, async || {
        let path = format!("/api/v1/notifications/{id}/status");
        let status = client.get(&path, Some(token)).await.unwrap().json();
        let deliveries = status["deliveries"]
            .as_array()
            .unwrap_or_else(|| panic!("{status}"))
            .clone();
        let found = deliveries.into_iter().find(|one| one["channel"] == channel)?;
        let on_its_way = ["pending", "running"].contains(&found["state"].as_str().unwrap());
        (!on_its_way).then_some(found)
    })
    .await
}

#[tokio::test]
async fn a_notification_reaches_sockets_on_every_hub() {
    let redis = Server::start(&Options::default()).unwrap();
    reaches_every_hub(&Common::on(&redis)).await;
}

#[tokio::test]
async fn it_does_so_over_several_servers() {
    let servers = [(); 2].map(|()| Server::start(&Options::default()).unwrap());
    reaches_every_hub(&Common::over("servers", &servers.each_ref().map(Server::url))).await;
}

#[tokio::test]
async fn it_does_so_over_redis_cluster() {
    let redis = Cluster::start(&ClusterOptions::bare()).unwrap();
    let common = Common::over("cluster", &redis.urls()).set("CARILLON_REDIS__WAIT_REPLICAS", "0");
    reaches_every_hub(&common).await;
}

#[tokio::test]
async fn it_does_so_behind_sentinels() {
    let redis = Sentinel::start().unwrap();
    reaches_every_hub(&Common::over("sentinel", &redis.urls())).await;
}

async fn reaches_every_hub(common: &Common) {
    let hubs = [common.start(Service::Hub), common.start(Service::Hub)];
    let dispatcher = common.start(Service::Dispatcher);
    let reader = token(&dispatcher, "u1", "");
    let sender = token(&dispatcher, "billing", "notifications:write publish service");
    let mut sockets = Vec::new();
    for hub in &hubs {
        sockets.push(Socket::open(hub.address(), &reader).await);
    }

    let body = json!({"to":{"user":"u1"},"title":"Paid","content":"over two hubs"});
    let created = post(dispatcher.address(), "/api/v1/notifications", &sender, &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let id = created.json()["id"].as_str().unwrap().to_owned();
    for socket in &mut sockets {
        let frame = socket.next().await;
        assert_eq!(
            (&frame["type"], &frame["id"]),
            (&json!("notification"), &json!(id))
        );
    }
    let realtime = ended(&dispatcher, &sender, &id, "realtime").await;
    assert_eq!(realtime["state"], "delivered", "a hub reported it: {realtime}");

    // One hub's publish reaches the sockets of the other.
    let message = json!({"to":{"user":"u1"},"data":{"n":1}});
    let published = post(hubs[0].internal(), "/api/v1/publish", &sender, &message).await;
    assert_eq!(published.status, 200, "{published:?}");
    for socket in &mut sockets {
        let frame = socket.next().await;
        assert_eq!(
            (&frame["type"], &frame["data"]["n"]),
            (&json!("message"), &json!(1))
        );
    }

    // The dispatcher's statistics know the sockets of all hubs; a user counts on each.
    eventually("all sockets are counted", PATIENCE, async || {
        let mut client = Client::connect(dispatcher.address()).await.ok()?;
        let stats = client
            .get("/api/v1/notifications/stats", Some(&sender))
            .await
            .ok()?
            .json();
        (stats["connections"] == 2 && stats["users_online"] == 2 && stats["created"] == 1).then_some(())
    })
    .await;

    // Reading on one device is told to the one on the other hub.
    sockets[0].send(&json!({"type":"read","ids":[id]})).await;
    let changed = sockets[1].next().await;
    assert_eq!(
        (&changed["type"], &changed["state"]),
        (&json!("changed"), &json!("read"))
    );
    assert_eq!(changed["ids"], json!([id]));
}

#[tokio::test]
async fn an_acknowledgement_decides_where_a_receipt_was_asked_for() {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis);
    let hub = common.start(Service::Hub);
    let dispatcher = common.start(Service::Dispatcher);
    let reader = token(&hub, "u1", "");
    let sender = token(&hub, "billing", "notifications:write service");
    let mut socket = Socket::open(hub.address(), &reader).await;
    let mut ids = Vec::new();
    for content in ["acknowledged", "not"] {
        let body = json!({"to":{"user":"u1"},"title":"t","content":content,"receipt":true});
        let created = post(dispatcher.address(), "/api/v1/notifications", &sender, &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let frame = socket.next().await;
        assert_eq!(
            (&frame["content"], &frame["receipt"]),
            (&json!(content), &json!(true))
        );
        ids.push(created.json()["id"].as_str().unwrap().to_owned());
    }
    socket.send(&json!({"type":"ack","ids":[ids[0]]})).await;
    for (id, state) in ids.iter().zip(["delivered", "skipped"]) {
        let realtime = ended(&dispatcher, &sender, id, "realtime").await;
        assert_eq!(realtime["state"], state, "{realtime}");
    }
}

/// The groups of operations that a document describes.
fn groups(document: &Value) -> Vec<String> {
    let tags = document["tags"].as_array().unwrap().iter();
    let mut names: Vec<_> = tags.map(|tag| tag["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn each_process_serves_and_describes_its_own_part() {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis);
    let hub = common.start(Service::Hub);
    let dispatcher = common.start(Service::Dispatcher);
    let caller = token(&hub, "billing", "notifications:write publish metrics");
    let notifications = "/api/v1/notifications";
    let statistics = "/api/v1/websocket/stats";
    for (node, served, not_served, tags, internal_tags) in [
        (
            &hub,
            [statistics, "/metrics", "/docs"],
            [notifications, "/", "/health"],
            &["health", "publish", "sockets"][..],
            &["control", "health", "publish", "sockets"][..],
        ),
        (
            &dispatcher,
            [notifications, "/metrics", "/"],
            [statistics, "/api/v1/sse", "/api/v1/poll"],
            &[
                "audit",
                "contacts",
                "health",
                "inbox",
                "keys",
                "notifications",
                "queue",
                "rules",
                "schedules",
                "settings",
                "templates",
            ],
            &["health"],
        ),
    ] {
        let mut client = Client::connect(node.address()).await.unwrap();
        for (paths, status) in [(served, 200), (not_served, 404)] {
            for path in paths {
                let answer = client.get(path, Some(&caller)).await.unwrap();
                assert_eq!(answer.status, status, "{path}: {answer:?}");
            }
        }
        let document = client.get("/openapi.json", None).await.unwrap().json();
        assert_eq!(groups(&document), tags);
        let paths = document["paths"].as_object().unwrap();
        assert!(not_served.iter().all(|path| !paths.contains_key(*path)));
        assert!(!paths.contains_key("/api/v1/publish"));
        assert_eq!(readiness(node), (200, json!({"status":"ready","reasons":[]})));
        let internal = node.internal();
        let mut client = Client::connect(internal).await.unwrap();
        let document = client.get("/openapi.json", None).await.unwrap().json();
        assert_eq!(groups(&document), internal_tags);
        let answer = post(
            internal,
            "/api/v1/publish",
            &caller,
            &json!({"to":{"user":"a"},"data":1}),
        )
        .await;
        assert_eq!(answer.status == 200, tags.contains(&"publish"), "{answer:?}");
    }

    // A token that does not say its tenant is nobody's in a cluster.
    let mut client = Client::connect(hub.address()).await.unwrap();
    let without = without_tenant();
    let answer = client.get(statistics, Some(&without)).await.unwrap();
    assert_eq!(
        (answer.status, answer.problem().0.as_str()),
        (401, "token_without_tenant")
    );
}

/// A token of the cluster's secret without `tenant_id`.
fn without_tenant() -> String {
    use common::token::{NewToken, mint};
    let new = NewToken {
        user: "u1".to_owned(),
        ttl_seconds: 60,
        ..NewToken::default()
    };
    mint(
        &new,
        &"a secret of a cluster of tests, long enough".to_owned().into(),
    )
    .unwrap()
}

#[tokio::test]
async fn what_a_cluster_lacks_is_said_at_once_and_nothing_starts() {
    for service in ["hub", "dispatcher"] {
        let home = Home::new();
        for arguments in [&["check", service][..], &[service]] {
            let mut command = home.command(EXECUTABLE);
            let output = command.args(arguments).output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
            for needed in [
                &format!("`carillon {service}`"),
                "redis.kind",
                "redis.urls",
                "auth.secret",
            ] {
                assert!(said.contains(needed), "{arguments:?} {needed}: {said}");
            }
        }
        // No secret was made up, nor anything else.
        assert_eq!(std::fs::read_dir(home.folder()).unwrap().count(), 0);
        let home = home.set("REDIS_URL", "redis://localhost:6379/0").set(
            "CARILLON_AUTH__SECRET",
            "a secret of a cluster of tests, long enough",
        );
        let mut command = home.command(EXECUTABLE);
        let output = command.args(["check", service]).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test]
async fn a_second_dispatcher_on_the_same_database_does_not_start() {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis);
    let first = common.start(Service::Dispatcher);
    let data = first.folder().join("data").display().to_string();
    let home = Home::new().set("REDIS_URL", &redis.url()).set(
        "CARILLON_AUTH__SECRET",
        "a secret of a cluster of tests, long enough",
    );
    let mut command = home.command(EXECUTABLE);
    let arguments = [
        "dispatcher",
        "--listen",
        "127.0.0.1:0",
        "--internal-listen",
        "127.0.0.1:0",
        "--grpc-listen",
        "127.0.0.1:0",
    ];
    let output = command
        .args(arguments)
        .args(["--data-dir", &data])
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("another carillon uses the database"), "{said}");
}

#[tokio::test]
async fn sigterm_sends_a_hub_s_sessions_away_and_the_other_goes_on() {
    let redis = Server::start(&Options::default()).unwrap();
    let common = Common::on(&redis);
    let hubs = [common.start(Service::Hub), common.start(Service::Hub)];
    let caller = token(&hubs[0], "u1", "publish");
    let leaving = RawSocket::open(hubs[0].address(), &caller).await;
    let mut staying = Socket::open(hubs[1].address(), &caller).await;
    hubs[0].terminate().unwrap();
    assert_eq!(leaving.closed().await, Some(1012));
    assert!(hubs[0].wait(PATIENCE).unwrap(), "{}", hubs[0].log());
    let message = json!({"to":{"user":"u1"},"data":1});
    let published = post(hubs[1].internal(), "/api/v1/publish", &caller, &message).await;
    assert_eq!(published.status, 200, "{published:?}");
    assert_eq!(staying.next().await["data"], 1);
}
