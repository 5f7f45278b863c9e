//! The change feed and the thin form of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Api, Who};
use crate::support::soon;

const FEED: &str = "/api/v1/inbox/changes";

fn ops(answer: &Value) -> Vec<String> {
    answer["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["op"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_feed_tells_everything_once() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let start = api.get(&who, FEED).await.expect(200);
    assert!(ops(&start).is_empty());
    let mut cursor = start["cursor"].as_str().unwrap().to_owned();
    let id = api
        .create(&json!({ "user_id": "u1", "title": "T", "content": "C" }))
        .await;
    let path = format!("/api/v1/notifications/{id}");
    let mut next = async |expected: &[&str]| {
        let answer = api.get(&who, &format!("{FEED}?after={cursor}")).await.expect(200);
        assert_eq!(ops(&answer), expected);
        cursor = answer["cursor"].as_str().unwrap().to_owned();
        answer
    };
    let arrived = next(&["upsert"]).await;
    assert_eq!(arrived["changes"][0]["id"], id);
    assert_eq!(arrived["changes"][0]["notification"]["title"], "T");
    next(&[]).await;
    api.put(&who, &format!("{path}/read")).await.expect(200);
    let read = next(&["state"]).await;
    assert_eq!(read["changes"][0]["is_read"], true);
    api.delete(&who, &path).await.expect(200);
    assert_eq!(next(&["delete"]).await["changes"][0]["id"], id);
    api.put(&who, "/api/v1/notifications/read-all").await.expect(200);
    let id = api
        .create(&json!({ "user_id": "u1", "title": "T2", "content": "C" }))
        .await;
    api.put(&who, "/api/v1/notifications/read-all").await.expect(200);
    let last = api.get(&who, &format!("{FEED}?after={cursor}")).await.expect(200);
    for change in ["upsert", "read_all"] {
        assert!(ops(&last).contains(&change.to_owned()), "{last}");
    }
    let upsert = last["changes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|change| change["op"] == "upsert")
        .unwrap();
    // It carries the state at hand, so the order of the two does not matter.
    assert_eq!(
        (&upsert["id"], &upsert["notification"]["is_read"]),
        (&json!(id), &json!(true))
    );
}

#[tokio::test]
async fn a_poll_waits_and_is_woken() {
    let api = Api::new().await;
    let who = Who::user("u1").role("cook");
    let start = api.get(&who, FEED).await.expect(200);
    let mut cursor = start["cursor"].as_str().unwrap().to_owned();
    for body in [
        json!({ "user_id": "u1", "title": "to the user", "content": "C" }),
        json!({ "role": "cook", "title": "to the role", "content": "C" }),
    ] {
        let path = format!("{FEED}?after={cursor}&wait=60");
        let (answer, _) = soon("the poll is woken", async {
            tokio::join!(api.get(&who, &path), api.create(&body))
        })
        .await;
        let answer = answer.expect(200);
        assert_eq!(answer["changes"][0]["notification"]["title"], body["title"]);
        answer["cursor"].as_str().unwrap().clone_into(&mut cursor);
    }
}

#[tokio::test]
async fn a_poll_ends_with_the_process() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let start = api.get(&who, FEED).await.expect(200);
    let path = format!("{FEED}?after={}&wait=60", start["cursor"].as_str().unwrap());
    let (answer, ()) = soon("the poll ends", async {
        tokio::join!(api.get(&who, &path), async { api.closing.cancel() })
    })
    .await;
    assert!(ops(&answer.expect(200)).is_empty());
    assert_eq!(api.get(&who, "/ready").await.status, 503);
}

#[tokio::test]
async fn the_thin_form_is_the_array_and_a_header() {
    let api = Api::new().await;
    let who = Who::user("u1");
    api.create(&json!({ "user_id": "u1", "title": "before", "content": "C" }))
        .await;
    let list = api.get(&who, "/api/v1/notifications").await;
    let cursor = list.header("x-next-cursor").unwrap().to_owned();
    let path = format!("/api/v1/notifications?after={cursor}&wait=60");
    let body = json!({ "user_id": "u1", "title": "after", "content": "C" });
    let (answer, _) = soon("the poll is woken", async {
        tokio::join!(api.get(&who, &path), api.create(&body))
    })
    .await;
    let items = answer.expect(200);
    assert_eq!(items.as_array().unwrap().len(), 1);
    assert_eq!(items[0]["title"], "after");
    let cursor = answer.header("x-next-cursor").unwrap();
    let path = format!("/api/v1/notifications?after={cursor}");
    let empty = tokio::time::timeout(Duration::from_secs(10), api.get(&who, &path))
        .await
        .unwrap();
    assert_eq!(empty.expect(200), json!([]));
}

#[tokio::test]
async fn a_cursor_of_elsewhere_is_refused() {
    let api = Api::new().await;
    let answer = api.get(&Who::user("u1"), &format!("{FEED}?after=nonsense")).await;
    assert_eq!(
        answer.problem(),
        (422, "invalid_cursor".to_owned(), Some("after".to_owned()))
    );
    assert_eq!(
        api.get(&Who::user("u1"), &format!("{FEED}?limit=0"))
            .await
            .problem()
            .2
            .as_deref(),
        Some("limit")
    );
}
