//! Chains of channels: failover and escalation through the API, and what holds when things happen at once.

mod escalate;
mod failover;
mod races;

use serde_json::{Value, json};

use crate::{
    api::{Api, Who},
    support::eventually,
};

/// The only chain of a notification, as its sender sees it.
async fn chain(api: &Api, id: &str) -> Value {
    let chains = api.status(&Who::service(), id).await["chains"].clone();
    assert_eq!(chains.as_array().unwrap().len(), 1, "{chains}");
    chains[0].clone()
}

/// Waits until the chain has ended.
async fn ended(api: &Api, id: &str) -> Value {
    eventually("the chain has ended", async || {
        let chain = chain(api, id).await;
        (chain["state"] != "open").then_some(chain)
    })
    .await
}

/// Channel, state and reason of each step.
fn steps(chain: &Value) -> Vec<(String, String, Value)> {
    chain["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            (
                step["channel"].as_str().unwrap().to_owned(),
                step["state"].as_str().unwrap().to_owned(),
                step["reason"].clone(),
            )
        })
        .collect()
}

fn step(channel: &str, state: &str, reason: &str) -> (String, String, Value) {
    let reason = if reason.is_empty() {
        Value::Null
    } else {
        json!(reason)
    };
    (channel.to_owned(), state.to_owned(), reason)
}
