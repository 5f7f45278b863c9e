//! API keys over processes: two hubs and two dispatchers on a real Redis and a real PostgreSQL, and the command line.

mod reach;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rig::{
    carillon::{Node, Service},
    postgres, redis,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use crate::support::{
    client::{Answer, Client},
    cluster::{Common, TENANT, post, token},
    eventually,
    server::{EXECUTABLE, Home},
    socket::{RawSocket, Socket},
};

const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    redis: redis::Server,
    /// Ends with the test.
    _postgres: postgres::Server,
    hubs: [Node; 2],
    dispatchers: [Node; 2],
}

impl World {
    fn start() -> Self {
        let redis = redis::Server::start(&redis::Options::default()).unwrap();
        let postgres = postgres::Server::start(&postgres::Options::fast()).unwrap();
        let url = postgres.create_database("keys").unwrap();
        let common = Common::on(&redis).set("CARILLON_DATABASE__URL", &url);
        let dispatchers = [(); 2].map(|()| common.start(Service::Dispatcher));
        let hubs = [(); 2].map(|()| common.start(Service::Hub));
        Self {
            redis,
            _postgres: postgres,
            hubs,
            dispatchers,
        }
    }

    /// A key as the command line prints it, before there is any token.
    fn key(&self, arguments: &[&str]) -> String {
        let create = ["admin", "keys", "create", "--tenant", TENANT, "--name", "tests"];
        self.dispatchers[0]
            .command(&[&create[..], arguments].concat())
            .unwrap()
    }

    fn admin(&self) -> String {
        token(
            &self.dispatchers[0],
            "admin",
            "keys:write publish notifications:write notifications:broadcast service",
        )
    }
}

fn id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn notification() -> Value {
    json!({ "to": { "user": "u1" }, "title": "T", "content": "C" })
}

fn message() -> Value {
    json!({ "to": { "user": "u1" }, "data": "hello" })
}

async fn call(node: &Node, method: &str, path: &str, key: &str, body: &str) -> Answer {
    let mut client = Client::connect(node.address()).await.unwrap();
    let method = method.parse().unwrap();
    client
        .send(method, path, Some(key), body.to_owned().into())
        .await
        .unwrap()
}

/// Every way of every node by which a key calls.
async fn calls(world: &World, key: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for dispatcher in &world.dispatchers {
        answers.push(
            post(
                dispatcher.address(),
                "/api/v1/notifications",
                key,
                &notification(),
            )
            .await,
        );
    }
    for hub in &world.hubs {
        answers.push(post(hub.internal(), "/api/v1/publish", key, &message()).await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_10_a_revoked_key_stops_on_every_node_within_a_second() {
    let world = World::start();
    let key = world.key(&["--role", "publisher"]);
    for answer in calls(&world, &key).await {
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    }
    let mut sockets = Vec::new();
    for hub in &world.hubs {
        sockets.push(RawSocket::open(hub.address(), &key).await);
    }
    // Everybody goes on asking, each over a connection of its own, until it is refused.
    let asked = Arc::new(AtomicUsize::new(0));
    let mut asking = JoinSet::new();
    let doors = world
        .dispatchers
        .iter()
        .map(|node| (node.address(), "/api/v1/notifications", notification()))
        .chain(
            world
                .hubs
                .iter()
                .map(|node| (node.internal(), "/api/v1/publish", message())),
        );
    for (address, path, body) in doors {
        let (key, asked) = (key.clone(), Arc::clone(&asked));
        asking.spawn(async move {
            let mut client = Client::connect(address).await.unwrap();
            loop {
                let answer = client.post(path, Some(&key), &body).await.unwrap();
                if !matches!(answer.status, 200 | 201) {
                    assert_eq!((answer.status, answer.problem().0.as_str()), (401, "key_revoked"));
                    return Instant::now();
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    eventually("all of them are at it", PATIENCE, async || {
        (asked.load(Ordering::Relaxed) > 100).then_some(())
    })
    .await;
    let (admin, path) = (world.admin(), format!("/api/v1/keys/{}", id(&key)));
    let began = Instant::now();
    let answer = call(&world.dispatchers[1], "DELETE", &path, &admin, "").await;
    assert_eq!(answer.json()["state"], "revoked");
    while let Some(stopped) = asking.join_next().await {
        let after = stopped.unwrap().saturating_duration_since(began);
        assert!(after < Duration::from_secs(1), "{after:?}");
    }
    for socket in sockets {
        assert_eq!(socket.closed().await, Some(4002));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The list says so, and when it was last used at a hub or dispatcher.
    let list = call(&world.dispatchers[0], "GET", "/api/v1/keys", &world.admin(), "").await;
    assert_eq!(list.json()["keys"][0]["state"], "revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_10_rotation_under_load_fails_no_call() {
    let world = World::start();
    let first = world.key(&["--role", "publisher"]);
    let (shown, current) = watch::channel(first.clone());
    let done = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    let doors = world
        .dispatchers
        .iter()
        .map(|node| (node.address(), "/api/v1/notifications", notification()))
        .chain(
            world
                .hubs
                .iter()
                .map(|node| (node.internal(), "/api/v1/publish", message())),
        );
    for (address, path, body) in doors {
        let (current, done, count) = (current.clone(), Arc::clone(&done), Arc::clone(&count));
        callers.spawn(async move {
            let mut client = Client::connect(address).await.unwrap();
            while !done.load(Ordering::Relaxed) {
                let key = current.borrow().clone();
                let answer = client.post(path, Some(&key), &body).await.unwrap();
                assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let admin = world.admin();
    let path = format!("/api/v1/keys/{}/rotate", id(&first));
    for turn in 0..6 {
        let before = count.load(Ordering::Relaxed);
        let dispatcher = &world.dispatchers[turn % 2];
        let rotated = call(dispatcher, "POST", &path, &admin, r#"{"overlap_seconds":60}"#).await;
        assert_eq!(rotated.status, 200, "{rotated:?}");
        // The new secret is good everywhere as soon as it is told.
        shown.send_replace(rotated.json()["key"].as_str().unwrap().to_owned());
        eventually("calls go on", PATIENCE, async || {
            tokio::task::yield_now().await;
            (count.load(Ordering::Relaxed) > before + 100).then_some(())
        })
        .await;
    }
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    // The first secret has ended with the second rotation.
    for answer in calls(&world, &first).await {
        assert_eq!((answer.status, answer.problem().0.as_str()), (401, "key_invalid"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_10_what_redis_loses_of_keys_is_shown_again_and_uses_at_hubs_are_noted() {
    let world = World::start();
    let key = world.key(&["--scope", "publish"]);
    let publish = async || {
        let answer = post(world.hubs[0].internal(), "/api/v1/publish", &key, &message()).await;
        (answer.status, answer)
    };
    assert_eq!(publish().await.0, 200);
    // A hub that is new knows nothing, and asks a board that was emptied meanwhile.
    world.redis.command(&["DEL", "carillon:keys"]).unwrap();
    eventually("the board is filled again", PATIENCE, async || {
        let answer = post(world.hubs[1].internal(), "/api/v1/publish", &key, &message()).await;
        if answer.status == 503 {
            // Never a refusal: it is not known, and that is said.
            assert_eq!(answer.problem().0, "unavailable");
        }
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        (answer.status == 200).then_some(())
    })
    .await;
    let path = format!("/api/v1/keys/{}", id(&key));
    eventually("its use is noted", PATIENCE, async || {
        let seen = call(&world.dispatchers[0], "GET", &path, &world.admin(), "")
            .await
            .json();
        seen["last_used_at"].is_string().then_some(())
    })
    .await;
    let board = world.redis.command(&["HGETALL", "carillon:keys"]).unwrap();
    assert!(!format!("{board:?}").contains(key.rsplit('_').next().unwrap()));

    // By the command line, which tells nobody but the database and the board.
    world.dispatchers[1]
        .command(&["admin", "keys", "revoke", id(&key)])
        .unwrap();
    eventually("it stops", PATIENCE, async || {
        (publish().await.0 == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn s4_10_the_first_key_of_a_standalone_server_needs_no_token() {
    let home = Home::new();
    let run = async |arguments: &[&str]| {
        let mut command = home.command(EXECUTABLE);
        command.args(["--data-dir", &home.data().display().to_string(), "admin"]);
        let output = command.args(arguments).output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (made, key, errors) = run(&[
        "keys",
        "create",
        "--name",
        "first",
        "--role",
        "publisher",
        "--expires",
        "1h",
    ])
    .await;
    assert!(made, "{errors}");
    for bad in [
        &["keys", "create", "--name", "n"][..],
        &["keys", "create", "--name", "n", "--scope", "root"],
        &["keys", "create", "--name", " ", "--role", "admin"],
        &["keys", "create", "--name", "n", "--role", "root"],
        &["keys", "revoke", "x"],
        &["keys", "rotate", "0123456789012345678901"],
        &["audit", "export", "--from", "yesterday"],
    ] {
        assert!(!run(bad).await.0, "{bad:?}");
    }
    let (_, list, _) = run(&["keys", "list"]).await;
    let columns: Vec<&str> = list.split('\t').collect();
    assert_eq!(
        columns,
        [id(&key), "default", "active", "never", "publisher", "-", "first"]
    );
    let (read, log, errors) = run(&["audit", "export", "--tenant", "default", "--action", "key"]).await;
    assert!(read, "{errors}");
    let entry: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(
        (
            &entry["action"],
            &entry["who"]["credential"],
            &entry["object"]["id"]
        ),
        (&json!("key.create"), &json!("command"), &json!(id(&key)))
    );
    let (read, none, _) = run(&["audit", "export", "--to", "2020-01-01T00:00:00Z"]).await;
    assert_eq!((read, none.as_str()), (true, ""));
    let server = home.start().await;
    let mut client = server.public().await;
    let created = client
        .post("/api/v1/notifications", Some(&key), &notification())
        .await
        .unwrap();
    assert_eq!(created.status, 201, "{created:?}");
    let mut internal = server.internal().await;
    let published = internal
        .post("/api/v1/publish", Some(&key), &message())
        .await
        .unwrap();
    assert_eq!(published.status, 200, "{published:?}");
    let mut socket = Socket::open(home.public, &key).await;
    assert!(socket.until_pong().await.is_empty());
    // The file is the server's now.
    let (done, _, errors) = run(&["keys", "list"]).await;
    assert!(!done && errors.contains("/api/v1/keys"), "{errors}");
    server.terminate(PATIENCE).await;
    let (_, next, _) = run(&["keys", "rotate", id(&key), "--overlap", "0s"]).await;
    assert!(next.starts_with(&format!("ck_{}_", id(&key))) && next != key);
    assert!(run(&["keys", "revoke", id(&key)]).await.0);
    assert!(
        run(&["keys", "list", "--state", "revoked"])
            .await
            .1
            .contains(id(&key))
    );
    // Nothing of a key is in the log.
    assert!(!home.log().contains(key.rsplit('_').next().unwrap()));
}
