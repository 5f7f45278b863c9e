//! Bad input: a problem with a code and the field, and nothing stored.

use bytes::Bytes;
use common::token::{NewToken, mint};
use hyper::Method;
use serde_json::{Value, json};

use crate::support::server::Server;

/// `{"alg":"none"}`, `{"sub":"u1","exp":9999999999}`, no signature.
const ALG_NONE: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSIsImV4cCI6OTk5OTk5OTk5OX0.";

/// The inbox and the tenant's counts: what has to stay as it is.
async fn state(server: &Server, token: &str) -> (Value, Value) {
    let mut client = server.public().await;
    let list = client
        .get("/api/v1/notifications?limit=200", Some(token))
        .await
        .unwrap();
    let stats = client
        .get("/api/v1/notifications/stats", Some(token))
        .await
        .unwrap();
    assert_eq!((list.status, stats.status), (200, 200), "{list:?} {stats:?}");
    let mut stats = stats.json();
    // Not of stored things.
    stats
        .as_object_mut()
        .unwrap()
        .retain(|name, _| name != "connections" && name != "users_online");
    (list.json(), stats)
}

#[tokio::test]
async fn bodies_are_refused_with_the_field_and_store_nothing() {
    let server = Server::start().await;
    let token = server
        .token(&[
            "--user",
            "u1",
            "--scope",
            "notifications:write templates:write service",
        ])
        .await;
    let mut client = server.public().await;
    let good = json!({"to":{"user":"u1"},"title":"t","content":"c"});
    assert_eq!(
        client
            .post("/api/v1/notifications", Some(&token), &good)
            .await
            .unwrap()
            .status,
        201
    );
    let before = state(&server, &token).await;

    let with = |change: Value| {
        let mut body = good.clone();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string()
    };
    let cases = [
        ("not JSON", "{\"to\":".to_owned(), 400, "not_json", None),
        ("two bodies", format!("{good}{good}"), 400, "not_json", None),
        (
            "not UTF-8 as a text",
            "nonsense".to_owned(),
            400,
            "not_json",
            None,
        ),
        ("a list", "[]".to_owned(), 422, "invalid_value", None),
        (
            "title is a number",
            with(json!({"title":7})),
            422,
            "invalid_value",
            Some("title"),
        ),
        (
            "channels is a text",
            with(json!({"channels":"email"})),
            422,
            "invalid_value",
            Some("channels"),
        ),
        (
            "an unknown field",
            with(json!({"titel":"t"})),
            422,
            "unknown_field",
            Some("titel"),
        ),
        (
            "an unknown field in the target",
            with(json!({"to":{"usr":"u1"}})),
            422,
            "*",
            Some("to*"),
        ),
        (
            "two targets in one",
            with(json!({"to":{"user":"u1","role":"r"}})),
            422,
            "*",
            Some("to"),
        ),
        (
            "an empty name",
            with(json!({"to":{"user":""}})),
            422,
            "*",
            Some("to*"),
        ),
        (
            "no content",
            json!({"to":{"user":"u1"},"title":"t"}).to_string(),
            422,
            "missing_field",
            Some("content"),
        ),
        (
            "no target",
            json!({"title":"t","content":"c"}).to_string(),
            422,
            "no_target",
            Some("to"),
        ),
        (
            "an unknown channel",
            with(json!({"channels":["pigeon"]})),
            422,
            "unknown_channel",
            Some("channels[0]"),
        ),
        (
            "an unknown kind",
            with(json!({"kind":"gossip"})),
            422,
            "unknown_kind",
            Some("kind"),
        ),
        (
            "an unknown priority",
            with(json!({"priority":"whenever"})),
            422,
            "unknown_priority",
            Some("priority"),
        ),
        (
            "an unknown strategy",
            with(json!({"strategy":"luck"})),
            422,
            "*",
            Some("strategy"),
        ),
        (
            "a time that is none",
            with(json!({"schedule_at":"tomorrow"})),
            422,
            "*",
            Some("schedule_at"),
        ),
        (
            "two titles",
            with(json!({"subject":"other"})),
            422,
            "*",
            Some("*"),
        ),
        (
            "another tenant",
            with(json!({"tenant_id":"t2"})),
            403,
            "*",
            Some("tenant_id"),
        ),
        (
            "everyone of all tenants",
            with(json!({"to":{"everyone":true}})),
            403,
            "*",
            None,
        ),
        (
            "an unknown template",
            json!({"to":{"user":"u1"},"template":"nowhere"}).to_string(),
            422,
            "unknown_template",
            Some("template"),
        ),
        (
            "a body of two megabytes",
            with(json!({"content":"x".repeat(2 << 20)})),
            413,
            "body_too_large",
            None,
        ),
    ];
    for (name, body, status, code, field) in cases {
        // A refused body may end its connection.
        let mut client = server.public().await;
        let answer = client
            .send(
                Method::POST,
                "/api/v1/notifications",
                Some(&token),
                Bytes::from(body),
            )
            .await;
        let answer = answer.unwrap_or_else(|_| panic!("{name}: no answer"));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        let (got, where_) = answer.problem();
        assert!(code == "*" || got == code, "{name}: {answer:?}");
        match field {
            None => {}
            Some("*") => assert!(where_.is_some(), "{name}: {answer:?}"),
            Some(field) => match field.strip_suffix('*') {
                Some(start) => assert!(
                    where_.is_some_and(|at| at.starts_with(start)),
                    "{name}: {answer:?}"
                ),
                None => assert_eq!(where_.as_deref(), Some(field), "{name}: {answer:?}"),
            },
        }
    }

    let template = json!({"name":"greeting","title":"Hello {{ name }}","content":"Dear {{ name }}","channels":["in_app"]});
    let made = client
        .post("/api/v1/templates", Some(&token), &template)
        .await
        .unwrap();
    assert!((200..300).contains(&made.status), "{made:?}");
    let body = json!({"to":{"user":"u1"},"template":"greeting","variables":{"other":"x"}});
    let answer = client
        .post("/api/v1/notifications", Some(&token), &body)
        .await
        .unwrap();
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.problem(),
        (
            "template_variable_missing".to_owned(),
            Some("variables.name".to_owned())
        )
    );

    assert_eq!(state(&server, &token).await, before);
}

#[tokio::test]
async fn tokens_are_refused_and_store_nothing() {
    let server = Server::start().await;
    let token = server
        .token(&["--user", "u1", "--scope", "notifications:write service"])
        .await;
    let before = state(&server, &token).await;
    let new = |change: fn(&mut NewToken)| {
        let mut new = NewToken {
            user: "u1".to_owned(),
            scopes: vec!["notifications:write".to_owned()],
            ..NewToken::default()
        };
        change(&mut new);
        new
    };
    let secret = || server.home.secret().into();
    let own = |change: fn(&mut NewToken)| mint(&new(change), &secret()).unwrap();
    let foreign = mint(
        &new(|_| {}),
        &"another secret of thirty-two bytes".to_owned().into(),
    )
    .unwrap();
    // The signature of one token under the claims of another.
    let parts: Vec<&str> = token.split('.').collect();
    let admin = own(|new| new.scopes = vec!["platform:admin".to_owned()]);
    let spliced = format!("{}.{}.{}", parts[0], admin.split('.').nth(1).unwrap(), parts[2]);
    let cases = [
        ("none", None, 401, "token_missing"),
        ("empty", Some(String::new()), 401, "token_*"),
        ("nonsense", Some("nonsense".to_owned()), 401, "token_invalid"),
        ("alg none", Some(ALG_NONE.to_owned()), 401, "token_invalid"),
        ("foreign", Some(foreign), 401, "token_invalid"),
        ("spliced", Some(spliced), 401, "token_invalid"),
        (
            "expired",
            Some(own(|new| new.ttl_seconds = -60)),
            401,
            "token_expired",
        ),
        (
            "an impossible tenant",
            Some(own(|new| new.tenant = Some("a:b".to_owned()))),
            401,
            "token_claim_invalid",
        ),
        (
            "no user",
            Some(own(|new| new.user = String::new())),
            401,
            "token_*",
        ),
        (
            "without the scope",
            Some(own(|new| new.scopes.clear())),
            403,
            "scope_missing",
        ),
    ];
    let mut client = server.public().await;
    let body = json!({"to":{"user":"u1"},"title":"t","content":"c"});
    for (name, token, status, code) in cases {
        let answer = client
            .post("/api/v1/notifications", token.as_deref(), &body)
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        let (got, _) = answer.problem();
        assert!(
            code.strip_suffix('*')
                .map_or(got == code, |start| got.starts_with(start)),
            "{name}: {answer:?}"
        );
        if status == 401 {
            // The same caller gets no socket either.
            let socket = client.get("/api/v1/ws", token.as_deref()).await.unwrap();
            assert!((400..500).contains(&socket.status), "{name}: {socket:?}");
            // Health can be asked without a token, but not with a bad one (S1.1).
            if token.is_some() {
                let health = client.get("/api/v1/health", token.as_deref()).await.unwrap();
                assert_eq!(health.status, 401, "{name}: {health:?}");
            }
        }
    }
    assert_eq!(state(&server, &token).await, before);
}

#[tokio::test]
async fn anothers_notification_is_not_there() {
    let server = Server::start().await;
    let owner = server
        .token(&[
            "--user",
            "u1",
            "--tenant",
            "t1",
            "--scope",
            "notifications:write service",
        ])
        .await;
    let mut client = server.public().await;
    let body = json!({"to":{"user":"u1"},"title":"t","content":"c"});
    let id = client
        .post("/api/v1/notifications", Some(&owner), &body)
        .await
        .unwrap()
        .json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let before = state(&server, &owner).await;
    for stranger in [
        &[
            "--user",
            "u1",
            "--tenant",
            "t2",
            "--scope",
            "notifications:write notifications:admin",
        ][..],
        &["--user", "u2", "--tenant", "t1", "--scope", "notifications:write"],
    ] {
        let token = server.token(stranger).await;
        for (method, path) in [
            (Method::GET, format!("/api/v1/notifications/{id}")),
            (Method::GET, format!("/api/v1/notifications/{id}/status")),
            (Method::PUT, format!("/api/v1/notifications/{id}/read")),
            (Method::DELETE, format!("/api/v1/notifications/{id}")),
            (Method::GET, "/api/v1/notifications/not-an-id".to_owned()),
        ] {
            let answer = client
                .send(method.clone(), &path, Some(&token), Bytes::new())
                .await
                .unwrap();
            assert_eq!(answer.status, 404, "{method} {path} as {stranger:?}: {answer:?}");
            answer.problem();
        }
        assert_eq!(state(&server, &token).await.0, json!([]));
    }
    assert_eq!(state(&server, &owner).await, before);
}
