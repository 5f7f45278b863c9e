//! What operators see of sessions and do to them.

mod disconnect;
mod input;
mod rights;
mod sessions;

use serde_json::Value;

use crate::support::{Answer, Client, TestHub, call, token};

pub(crate) fn operator() -> String {
    token("operator", |new| new.scopes = vec!["control".to_owned()])
}

pub(crate) fn root() -> String {
    token("root", |new| new.scopes = vec!["platform:admin".to_owned()])
}

pub(crate) fn of(tenant: &str, user: &str, role: &str, store: &str) -> String {
    token(user, |new| {
        new.tenant = Some(tenant.to_owned());
        new.roles = vec![role.to_owned()];
        new.stores = vec![store.to_owned()];
    })
}

/// Ann, with two sessions, and bob are managers, cid is a clerk; dan is a manager of another tenant.
pub(crate) async fn people() -> (TestHub, Vec<Client>) {
    let hub = TestHub::start().await;
    let mut clients = Vec::new();
    for (tenant, user, role, store) in [
        ("t1", "ann", "manager", "12"),
        ("t1", "ann", "manager", "12"),
        ("t1", "bob", "manager", "13"),
        ("t1", "cid", "clerk", "12"),
        ("t2", "dan", "manager", "12"),
    ] {
        clients.push(hub.connect(&of(tenant, user, role, store)).await);
    }
    (hub, clients)
}

pub(crate) async fn get(hub: &TestHub, path: &str, token: &str) -> Answer {
    call(hub.internal, "GET", &format!("/api/v1/control/{path}"), token, "").await
}

pub(crate) async fn order(hub: &TestHub, path: &str, body: &Value) -> Answer {
    hub.post(&format!("/api/v1/control/{path}"), &operator(), body)
        .await
}

pub(crate) async fn done(hub: &TestHub, path: &str, body: &Value) -> u64 {
    let answer = order(hub, path, body).await;
    assert_eq!(answer.status, 200, "{body}: {answer:?}");
    assert_eq!(answer.body["complete"], true);
    assert_eq!(answer.body["nodes"], 1);
    answer.body["sessions"].as_u64().unwrap()
}

pub(crate) fn users(answer: &Answer) -> Vec<&str> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let sessions = answer.body["sessions"].as_array().unwrap();
    sessions
        .iter()
        .map(|info| info["user"].as_str().unwrap())
        .collect()
}
