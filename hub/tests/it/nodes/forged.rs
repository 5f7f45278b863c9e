//! No target expression of one tenant reaches another's sessions, whatever the names are, on whichever node they are.

use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

use super::cluster_with;
use crate::support::{Client, TestHub, token};

/// Names made of what keys are made of.
fn forged() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "t1", "t2", ":", "%3A", "%", "{", "}", "*", "u", "r", "s", "t", "a", "e", "n", "\u{1}", ":e", ":n",
        "t1:a", "t1:u:", "ü", " ",
    ]);
    prop::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

/// Names of one session, and what somebody of another tenant says.
#[derive(Debug, Clone)]
struct Case {
    user: String,
    role: String,
    store: String,
    topic: String,
    to: Value,
}

fn case() -> impl Strategy<Value = Case> {
    let simple = |name: String, other: String| {
        prop::sample::select(vec![
            json!({"user":name}),
            json!({"role":name}),
            json!({"store":name}),
            json!({"topic":name}),
            json!({"users":[name, other]}),
            json!({"tenant":true}),
        ])
    };
    // Half of the time the very names, else others that look like keys.
    (
        forged(),
        forged(),
        forged(),
        forged(),
        forged(),
        any::<bool>(),
        0..3,
    )
        .prop_flat_map(move |(user, role, store, topic, other, same, form)| {
            let names = if same {
                vec![user.clone(), role.clone(), store.clone(), topic.clone()]
            } else {
                vec![
                    other.clone(),
                    format!("t1:u:{user}"),
                    format!("t1:r:{role}"),
                    format!("t1:s:{store}"),
                    format!("t1%3At%3A{topic}"),
                ]
            };
            let one = prop::sample::select(names.clone()).prop_flat_map({
                let other = other.clone();
                move |name| simple(name, other.clone())
            });
            let two = prop::sample::select(names).prop_flat_map(move |name| simple(name, other.clone()));
            (one, two).prop_map(move |(one, two)| {
                let plain = |to: &Value| to.get("users").is_none();
                let to = match form {
                    1 if plain(&one) && plain(&two) => json!({"all_of":[one, two]}),
                    2 if plain(&one) && plain(&two) => json!({"any_of":[one, two]}),
                    _ => one,
                };
                Case {
                    user: user.clone(),
                    role: role.clone(),
                    store: store.clone(),
                    topic: topic.clone(),
                    to,
                }
            })
        })
}

async fn victim(hub: &TestHub, case: &Case) -> Client {
    let token = token(&case.user, |new| {
        new.roles = vec![case.role.clone()];
        new.stores = vec![case.store.clone()];
    });
    let mut client = hub.connect(&token).await;
    client.send(&json!({"type":"subscribe","topic":case.topic})).await;
    client.expect("subscribed").await;
    client
}

fn caller(tenant: &str) -> String {
    token("service", |new| {
        new.tenant = Some(tenant.to_owned());
        new.scopes = vec!["publish".to_owned(), "control".to_owned()];
    })
}

#[test]
fn no_expression_of_one_tenant_reaches_another_s_sessions() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hubs = runtime.block_on(cluster_with(2, &super::bus(), |setup| {
        setup.public_topics = vec!["*".to_owned()];
    }));
    let mut config = ProptestConfig::with_cases(96);
    // What was found is written below by hand; files beside the sources are not.
    config.failure_persistence = None;
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&case(), |case| {
        runtime.block_on(async {
            let mut victims = [victim(&hubs[0], &case).await, victim(&hubs[1], &case).await];
            for (at, hub) in hubs.iter().enumerate() {
                let body = json!({"to":case.to});
                let answer = hub.post("/api/v1/control/presence", &caller("t2"), &body).await;
                prop_assert_eq!(&answer.body["sessions"], &json!(0), "{:?}", answer);
                let answer = hub.post("/api/v1/control/sessions", &caller("t2"), &body).await;
                prop_assert_eq!(&answer.body["sessions"], &json!([]), "{:?}", answer);
                for order in ["disconnect", "refresh"] {
                    let answer = hub
                        .post(&format!("/api/v1/control/{order}"), &caller("t2"), &body)
                        .await;
                    prop_assert_eq!(&answer.body["sessions"], &json!(0), "{:?}", answer);
                    prop_assert_eq!(&answer.body["complete"], &json!(true), "{:?}", answer);
                }
                let take_out = json!({"to":case.to,"topic":case.topic});
                let answer = hub
                    .post("/api/v1/control/unsubscribe", &caller("t2"), &take_out)
                    .await;
                prop_assert_eq!(&answer.body["sessions"], &json!(0), "{:?}", answer);
                let publish = json!({"to":case.to,"data":at});
                let answer = hub.post("/api/v1/publish", &caller("t2"), &publish).await;
                prop_assert_eq!(answer.status, 200, "{:?}", answer);
            }
            for client in &mut victims {
                prop_assert!(client.until_pong().await.is_empty());
            }
            // The same by its own tenant reaches both sessions, on both nodes, or, by a name of nobody's, none: the target is good.
            let body = json!({"to":{"user":case.user}});
            let answer = hubs[0]
                .post("/api/v1/control/disconnect", &caller("t1"), &body)
                .await;
            prop_assert_eq!(&answer.body["sessions"], &json!(2), "{:?}", answer);
            for client in victims {
                prop_assert_eq!(client.closed().await.0, Some(4003));
            }
            Ok(())
        })
    });
    outcome.unwrap();
    drop(hubs);
}
