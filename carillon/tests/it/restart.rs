//! Start and end of the process: exit code, secret, logs.

use std::{os::unix::fs::PermissionsExt, time::Duration};

use serde_json::json;

use crate::support::{
    eventually,
    server::{Home, signal, terminate},
    socket::{RawSocket, Socket, refusal_status},
};

/// The default deadline of a stop, and some time for a busy machine.
const DEADLINE: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let home = Home::new();
    let server = home.start().await;
    signal("HUP", server.pid()).await;
    eventually("it says that it read its configuration", DEADLINE, async || {
        home.log()
            .contains("the configuration was read again")
            .then_some(())
    })
    .await;
    let ready = server.internal().await.get("/ready", None).await.unwrap();
    assert_eq!(ready.status, 200, "{ready:?}");
}

/// A file that changes is taken on by itself: what it allows more of, somebody who was refused gets.
#[tokio::test]
async fn s3_13_bounds_of_sockets_hold_as_soon_as_the_file_says_so() {
    let home = Home::new();
    let file = home.folder().join("carillon.toml");
    let write =
        |most: &str| std::fs::write(&file, format!("[hub]\nmax_connections_per_user = {most}\n")).unwrap();
    write("1");
    let home = home.set("CARILLON_CONFIG", &file.display());
    let server = home.start().await;
    let token = server.token(&["--user", "u1"]).await;
    let first = Socket::open(home.public, &token).await;
    assert_eq!(refusal_status(home.public, &token, "").await, 429);
    write("none at all");
    eventually("it says what is wrong", DEADLINE, async || {
        home.log().contains("the configuration is refused").then_some(())
    })
    .await;
    assert_eq!(
        refusal_status(home.public, &token, "").await,
        429,
        "what held holds on"
    );
    write("10");
    eventually("a second one is let in", DEADLINE, async || {
        (refusal_status(home.public, &token, "").await == 101).then_some(())
    })
    .await;
    drop(first);
}

#[tokio::test]
async fn a_stop_is_clean_and_nothing_secret_is_logged() {
    let home = Home::new()
        .set("CARILLON_LOG__LEVEL", "debug")
        .set("CARILLON_HUB__LAME_DUCK", "200ms")
        .set("CARILLON_HUB__DRAIN_WINDOW", "500ms");
    let server = home.start().await;
    let token = server
        .token(&["--user", "u1", "--scope", "notifications:write"])
        .await;
    let mode = std::fs::metadata(home.data().join("auth.secret"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let secret = home.secret();

    // A token in every place where it may come, in requests that succeed and in ones that fail.
    let mut public = server.public().await;
    let body = json!({"to":{"user":"u1"},"title":"t","content":"kept over a restart"});
    let created = public
        .post("/api/v1/notifications", Some(&token), &body)
        .await
        .unwrap();
    assert_eq!(created.status, 201, "{created:?}");
    let refused = public
        .post(
            &format!("/api/v1/notifications?token={token}"),
            Some(&format!("{token}x")),
            &body,
        )
        .await
        .unwrap();
    assert_eq!(refused.status, 401, "{refused:?}");
    let socket = Socket::open(home.public, &token).await;
    let raw = RawSocket::open(home.public, &token).await;
    for path in [
        format!("/api/v1/ws?token={token}"),
        format!("/nowhere?token={token}"),
    ] {
        public.get(&path, None).await.unwrap();
    }

    let status = server.terminate(DEADLINE).await;
    assert_eq!(status.code(), Some(0), "{}", home.log());
    // Sessions are told to come back.
    assert_eq!(raw.closed().await, Some(1012));
    drop(socket);

    let server = home.start().await;
    assert_eq!(home.secret(), secret, "the secret has to outlast the process");
    let list = server
        .public()
        .await
        .get("/api/v1/notifications", Some(&token))
        .await
        .unwrap();
    assert_eq!(list.status, 200, "a token of before is still good: {list:?}");
    assert_eq!(list.json()[0]["content"], "kept over a restart");
    assert_eq!(server.terminate(DEADLINE).await.code(), Some(0));

    let log = home.log();
    assert!(!log.is_empty());
    let signature = token.rsplit('.').next().unwrap();
    for hidden in [&secret, &token, signature] {
        assert!(!log.contains(hidden), "a secret is in the log:\n{log}");
    }
}

#[tokio::test]
async fn a_stop_is_the_reason_for_not_being_ready() {
    let home = Home::new()
        .set("CARILLON_HUB__LAME_DUCK", "10s")
        .set("CARILLON_HUB__DRAIN_WINDOW", "0s");
    let server = home.start().await;
    for mut client in [server.public().await, server.internal().await] {
        let ready = client.get("/ready", None).await.unwrap();
        assert_eq!(
            (ready.status, ready.json()),
            (200, json!({"status":"ready","reasons":[]}))
        );
    }
    terminate(server.pid()).await;
    // The signal is taken when the server comes to it; all else goes on meanwhile.
    let answer = eventually("it is not ready", DEADLINE, async || {
        let answer = server.public().await.get("/ready", None).await.unwrap();
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert_eq!(
        (answer.status, answer.json()),
        (503, json!({"status":"not_ready","reasons":["stopping"]}))
    );
    server.kill().await;
}

#[tokio::test]
async fn a_wrong_configuration_names_its_key() {
    for (variable, value, key) in [
        ("CARILLON_SERVER__SPEED", "7", "server.speed"),
        ("CARILLON_HUB__HEARTBEAT", "never", "hub.heartbeat"),
    ] {
        let home = Home::new().set(variable, value);
        for first in ["check", "standalone"] {
            let mut command = home.command(crate::support::server::EXECUTABLE);
            let output = command.arg(first).args(home.arguments()).output().await.unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && said.contains(key),
                "{first}, {key}: {said}"
            );
        }
    }
}
