//! Whom a publish reaches.

use serde_json::{Value, json};

use crate::support::{Client, TestHub, token};

/// Three people: a manager of store 12, a manager of store 13, and a clerk of store 12.
struct People {
    hub: TestHub,
    all: Vec<(&'static str, Client)>,
}

async fn people() -> People {
    let hub = TestHub::start().await;
    let mut all = Vec::new();
    for (user, role, store) in [
        ("ann", "manager", "12"),
        ("bob", "manager", "13"),
        ("cid", "clerk", "12"),
    ] {
        let token = token(user, |new| {
            new.roles = vec![role.to_owned()];
            new.stores = vec![store.to_owned()];
        });
        all.push((user, hub.connect(&token).await));
    }
    let ann = &mut all[0].1;
    ann.send(&json!({"type":"subscribe","topic":"public.a"})).await;
    ann.expect("subscribed").await;
    People { hub, all }
}

impl People {
    /// Publishes, and answers who got it and how often, as `ann ann cid`.
    async fn reached(&mut self, body: Value) -> String {
        let answer = self.hub.publish(&body).await;
        let mut reached = Vec::new();
        for (user, client) in &mut self.all {
            for frame in client.until_pong().await {
                assert_eq!(frame["id"], answer["id"]);
                reached.push(*user);
            }
        }
        reached.join(" ")
    }
}

#[tokio::test]
async fn every_target_reaches_whom_it_names() {
    let mut people = people().await;
    for (to, reached) in [
        (json!({"user":"ann"}), "ann"),
        (json!({"users":["ann","cid","nobody"]}), "ann cid"),
        (json!({"role":"manager"}), "ann bob"),
        (json!({"store":"12"}), "ann cid"),
        (json!({"topic":"public.a"}), "ann"),
        (json!({"tenant":true}), "ann bob cid"),
        (json!({"all_of":[{"role":"manager"},{"store":"12"}]}), "ann"),
        (json!({"all_of":[{"role":"manager"},{"role":"clerk"}]}), ""),
        (
            json!({"all_of":[{"tenant":true},{"topic":"public.a"},{"user":"ann"}]}),
            "ann",
        ),
        (json!({"all_of":[{"user":"bob"},{"store":"12"}]}), ""),
        // Within ten seconds of joining both copies go; clients drop the repeat by its id.
        (
            json!({"any_of":[{"role":"manager"},{"store":"12"}]}),
            "ann ann bob cid",
        ),
        (json!({"any_of":[{"role":"clerk"},{"store":"13"}]}), "bob cid"),
        (
            json!({"any_of":[{"role":"clerk"},{"all_of":[{"role":"manager"},{"store":"13"}]}]}),
            "bob cid",
        ),
        (json!({"any_of":[{"role":"clerk"},{"role":"clerk"}]}), "cid"),
    ] {
        assert_eq!(people.reached(json!({"to":to,"data":1})).await, reached, "{to}");
    }
}

#[tokio::test]
async fn whoever_is_excepted_is_left_out() {
    let mut people = people().await;
    let session = people.all[1].1.session().to_owned();
    for (body, reached) in [
        (
            json!({"to":{"tenant":true,"except":{"user":"ann"}},"data":1}),
            "bob cid",
        ),
        (
            json!({"to":{"tenant":true},"except":{"user":"ann"},"data":1}),
            "bob cid",
        ),
        (
            json!({"to":{"tenant":true},"except":{"users":["ann","cid"]},"data":1}),
            "bob",
        ),
        (
            json!({"to":{"tenant":true},"except":{"session":session},"data":1}),
            "ann cid",
        ),
        (
            json!({"to":{"tenant":true,"except":{"session":session}},"except":{"user":"ann"},"data":1}),
            "cid",
        ),
        (json!({"to":{"user":"ann"},"except":{"user":"ann"},"data":1}), ""),
    ] {
        assert_eq!(people.reached(body.clone()).await, reached, "{body}");
    }
}

#[tokio::test]
async fn filters_hold_in_a_replay() {
    let People { hub, all } = people().await;
    let ann = token("ann", |new| {
        new.roles = vec!["manager".to_owned()];
        new.stores = vec!["12".to_owned()];
    });
    let positions = all[0].1.welcome["positions"].clone();
    for (to, data) in [
        (json!({"all_of":[{"role":"manager"},{"store":"13"}]}), "not hers"),
        (json!({"all_of":[{"role":"manager"},{"store":"12"}]}), "hers"),
        (json!({"store":"12","except":{"user":"ann"}}), "not for her"),
        (json!({"any_of":[{"role":"manager"},{"store":"12"}]}), "once"),
    ] {
        hub.publish(&json!({"to":to,"data":data})).await;
    }
    let mut client = hub.connect(&ann).await;
    client.send(&json!({"type":"resume","positions":positions})).await;
    let frames = client.until_pong_and("recovered").await;
    let mut data: Vec<_> = frames
        .iter()
        .map(|frame| frame["data"].as_str().unwrap())
        .collect();
    data.sort_unstable();
    assert_eq!(
        data,
        ["hers", "once"],
        "the later member's copy is held back where both topics are replayed"
    );

    // Only the later member's topic is named, so its copy is all there is.
    let mut client = hub.connect(&ann).await;
    client
        .send(&json!({"type":"resume","positions":{"store:12":positions["store:12"]}}))
        .await;
    let frames = client.until_pong_and("recovered").await;
    let mut data: Vec<_> = frames
        .iter()
        .map(|frame| frame["data"].as_str().unwrap())
        .collect();
    data.sort_unstable();
    // `all_of` goes by the store's topic.
    assert_eq!(data, ["hers", "once"]);
}
