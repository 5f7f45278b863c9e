//! No credential reaches outside its tenant or its scopes: every route of the contract, with what others own, by callers with any scopes.
//!
//! The contract says which scope a route needs (`Needs the scope …`), so a route that is added is tried, too.

use std::{collections::BTreeSet, time::Duration};

use common::{patience::eventually, token::SCOPES};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

use crate::support::{
    client::Client,
    server::{Home, Server},
    socket::{Socket, refusal_status},
};

/// What is in everything that belongs to the other tenant.
const MARK: &str = "belongs-to-acme";

/// Callers that are tried.
const CALLERS: usize = 24;

struct Route {
    method: String,
    path: String,
    /// The scope that its description demands.
    needs: Option<String>,
    /// On the internal listener.
    internal: bool,
}

/// Every operation of both listeners' contracts.
async fn routes(server: &Server) -> Vec<Route> {
    let mut all = Vec::new();
    for (mut client, internal) in [(server.public().await, false), (server.internal().await, true)] {
        let document = client.get("/openapi.json", None).await.unwrap().json();
        all.extend(routes_of(&document, internal));
    }
    assert!(
        all.iter()
            .any(|route| route.internal && route.path == "/api/v1/publish")
    );
    all
}

fn routes_of(document: &Value, internal: bool) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !["get", "post", "put", "delete", "patch"].contains(&method.as_str()) {
                continue;
            }
            let said = operation["description"]
                .as_str()
                .unwrap_or_default()
                .replace('\n', " ");
            let needs = said
                .split_once("Needs the scope `")
                .and_then(|(_, rest)| rest.split_once('`'))
                // Where the scope is one way among others, no route needs it.
                .filter(|(_, then)| !then.starts_with(", or"))
                .map(|(scope, _)| scope.to_owned());
            routes.push(Route {
                method: method.to_uppercase(),
                path: path.clone(),
                needs,
                internal,
            });
        }
    }
    routes
}

/// What the tenant `acme` has, made by its own service: ids by the part of the path that they stand in.
struct Owned {
    ids: Vec<(&'static str, String)>,
    token: String,
}

impl Owned {
    async fn make(server: &Server) -> Self {
        let scopes: Vec<&str> = SCOPES
            .into_iter()
            .filter(|scope| *scope != "platform:admin")
            .collect();
        let token = server
            .token(&[
                "--user",
                "owner",
                "--tenant",
                "acme",
                "--scope",
                &scopes.join(" "),
            ])
            .await;
        let mut client = server.public().await;
        let mut made = async |path: &str, body: Value| {
            let answer = client.post(path, Some(&token), &body).await.unwrap();
            assert!(answer.status < 300, "{path}: {answer:?}");
            let answer = answer.json();
            let id = answer.get("id").or_else(|| answer.get("name"));
            id.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let notification = json!({ "to": { "user": "owner" }, "title": MARK, "content": MARK });
        let now = made("/api/v1/notifications", notification.clone()).await;
        let mut later = notification.clone();
        later["delay"] = json!(86_400);
        later["channels"] = json!(["email"]);
        later["recipients"] = json!(["belongs-to-acme@example.com"]);
        let later = made("/api/v1/notifications", later).await;
        let schedule = made(
            "/api/v1/schedules",
            json!({ "name": MARK, "every": "24h", "notification": notification }),
        )
        .await;
        let template = json!({ "name": "acme_only", "subject": MARK, "content": MARK });
        made("/api/v1/templates", template).await;
        let key = made("/api/v1/keys", json!({ "name": MARK, "scopes": ["metrics"] })).await;
        let mut put = server.public().await;
        let contact = json!({ "email": "belongs-to-acme@example.com" }).to_string();
        let answer = put
            .send(
                http::Method::PUT,
                "/api/v1/contacts/owner",
                Some(&token),
                contact.into(),
            )
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        Self {
            ids: vec![
                ("/notifications/", now),
                ("/notifications/", later),
                ("/schedules/", schedule),
                ("/templates/", "acme_only".to_owned()),
                ("/keys/", key),
                ("/contacts/", "owner".to_owned()),
            ],
            token,
        }
    }

    /// The path with each thing that may be meant by it.
    fn paths(&self, path: &str) -> Vec<String> {
        let Some((before, rest)) = path.split_once('{') else {
            return vec![path.to_owned()];
        };
        let after = rest.split_once('}').map_or("", |(_, after)| after);
        let fitting = self.ids.iter().filter(|(part, _)| before.ends_with(part));
        let mut paths: Vec<String> = fitting.map(|(_, id)| format!("{before}{id}{after}")).collect();
        if paths.is_empty() {
            paths.extend(self.ids.iter().map(|(_, id)| format!("{before}{id}{after}")));
        }
        paths.into_iter().flat_map(|path| self.paths(&path)).collect()
    }

    /// All that the owner sees of it.
    async fn state(&self, server: &Server) -> Vec<Value> {
        let mut client = server.public().await;
        let mut state = Vec::new();
        for path in [
            "/api/v1/notifications?limit=200",
            "/api/v1/notifications/unread-count",
            "/api/v1/notifications/history?limit=200",
            "/api/v1/schedules",
            "/api/v1/templates",
            "/api/v1/keys",
            "/api/v1/contacts/owner",
            "/api/v1/queue/pauses",
            "/api/v1/dead-letters",
        ] {
            let answer = client.get(path, Some(&self.token)).await.unwrap();
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            state.push(answer.json());
        }
        state
    }
}

/// Bodies that mean something to one route or another, each with what is the other tenant's.
fn bodies(owned: &Owned) -> Vec<Value> {
    let ids: Vec<&str> = owned.ids.iter().take(2).map(|(_, id)| id.as_str()).collect();
    vec![
        json!({}),
        json!({ "tenant_id": "acme", "to": { "user": "owner" }, "title": "T", "content": "C", "data": 1 }),
        json!({ "to": { "user": "owner" }, "title": "T", "content": "C" }),
        json!({ "to": { "everyone": true }, "title": "T", "content": "C" }),
        json!({ "to": { "user": "owner" }, "data": "hello" }),
        json!({ "to": { "everyone": true }, "data": "hello" }),
        json!({ "ids": ids }),
        json!({ "notification_ids": ids }),
        json!({ "ids": ids, "state": "read" }),
        json!({ "all_tenants": true }),
        json!({ "tenant": "acme", "name": "n", "scopes": ["metrics"] }),
    ]
}

/// Who calls: a tenant other than the owner's, scopes, and whether it is a token or a key.
fn caller() -> impl Strategy<Value = (BTreeSet<String>, bool)> {
    let own: Vec<String> = SCOPES
        .into_iter()
        .filter(|scope| *scope != "platform:admin")
        .map(str::to_owned)
        .collect();
    let all: BTreeSet<String> = own.iter().cloned().collect();
    (
        prop_oneof![
            3 => prop::collection::btree_set(prop::sample::select(own), 0..5),
            1 => Just(all),
        ],
        any::<bool>(),
    )
}

async fn credential(server: &Server, scopes: &BTreeSet<String>, by_key: bool) -> String {
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
    if !by_key || scopes.is_empty() {
        let scope = if scopes.is_empty() {
            "none".to_owned()
        } else {
            scopes.join(" ")
        };
        return server
            .token(&["--user", "owner", "--tenant", "stranger", "--scope", &scope])
            .await;
    }
    let platform = server
        .token(&["--user", "root", "--scope", "platform:admin"])
        .await;
    let body = json!({ "name": "stranger", "tenant": "stranger", "scopes": scopes });
    let made = server
        .public()
        .await
        .post("/api/v1/keys", Some(&platform), &body)
        .await
        .unwrap();
    made.json()["key"]
        .as_str()
        .unwrap_or_else(|| panic!("{made:?}"))
        .to_owned()
}

#[tokio::test]
async fn s4_10_no_credential_reaches_outside_its_tenant_or_scope() {
    // No rate, and no guard, comes before the answers that count here.
    let home = Home::new()
        .set("CARILLON_LIMITS__USER_REQUESTS_PER_MINUTE", "1000000")
        .set("CARILLON_AUTH__FAILURES", "0");
    let server = home.start().await;
    let owned = Owned::make(&server).await;
    let mut ears = Socket::open(server.home.public, &owned.token).await;
    let settled = async || {
        let state = owned.state(&server).await;
        (!json!(state).to_string().contains("pending")).then_some(state)
    };
    let before = eventually(
        "what the owner sent has its end",
        Duration::from_secs(20),
        settled,
    )
    .await;
    let routes = routes(&server).await;
    assert!(routes.len() > 60 && routes.iter().filter(|route| route.needs.is_some()).count() > 20);
    let mut runner = TestRunner::deterministic();
    let mut refused = 0;
    for _ in 0..CALLERS {
        let (scopes, by_key) = caller().new_tree(&mut runner).unwrap().current();
        let credential = credential(&server, &scopes, by_key).await;
        for route in &routes {
            // They wait for what does not come.
            if ["/api/v1/sse", "/api/v1/poll", "/api/v1/control/trace"].contains(&route.path.as_str()) {
                continue;
            }
            let body = prop::sample::select(bodies(&owned))
                .new_tree(&mut runner)
                .unwrap()
                .current();
            for path in owned.paths(&route.path) {
                let mut client = if route.internal {
                    server.internal().await
                } else {
                    server.public().await
                };
                let method = route.method.parse().unwrap();
                let text = if route.method == "GET" {
                    String::new()
                } else {
                    body.to_string()
                };
                let answer = client
                    .send(method, &path, Some(&credential), text.into())
                    .await
                    .unwrap();
                let what = format!("{} {path} by {scopes:?} with {body}: {answer:?}", route.method);
                assert!(answer.status < 500, "{what}");
                let said = String::from_utf8_lossy(&answer.body);
                assert!(!said.contains(MARK), "{what}");
                if let Some(needs) = &route.needs
                    && !scopes.contains(needs)
                {
                    // Some look at the body first.
                    assert!(answer.status >= 400, "needs {needs}: {what}");
                    refused += usize::from(answer.status == 403);
                }
            }
        }
        // A socket gets nothing of the other tenant's, and may name neither it nor its users.
        let mut socket = Socket::open(server.home.public, &credential).await;
        socket
            .send(&json!({ "type": "subscribe", "topic": "acme:u:owner" }))
            .await;
        let publish = json!({ "to": { "any_of": [{ "user": "owner" }, { "tenant": true }, { "topic": "acme:u:owner" }] }, "data": MARK });
        let published = server
            .internal()
            .await
            .post("/api/v1/publish", Some(&owned.token), &publish)
            .await
            .unwrap();
        assert_eq!(published.status, 200, "{published:?}");
        let heard = json!(socket.until_pong().await).to_string();
        assert!(!heard.contains(MARK), "{heard}");
        for query in ["tenant_id=acme", "user_id=other"] {
            assert_eq!(
                refusal_status(server.home.public, &credential, query).await,
                403,
                "{query}"
            );
        }
    }
    assert!(refused > 100, "{refused}");
    // Nothing of the owner's has changed, and no frame has come but its own.
    assert_eq!(owned.state(&server).await, before);
    for frame in ears.until_pong().await {
        assert_eq!(frame["data"], MARK, "{frame}");
    }
    let mut client = Client::connect(server.home.internal).await.unwrap();
    let none = client.get("/api/v1/websocket/stats", Some("ck_")).await.unwrap();
    assert_eq!(none.status, 401);
}
