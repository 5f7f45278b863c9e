//! How much a token may ask.

use serde_json::json;

use super::{Api, Who};

#[tokio::test]
async fn end_users_have_their_requests_a_minute() {
    let mut config = crate::support::quick();
    config.limits.user_requests_per_minute = 5;
    let api = Api::start(config).await;
    let who = Who::user("u1");
    for left in (0..5).rev() {
        let answer = api.get(&who, "/api/v1/notifications/unread-count").await;
        answer.expect(200);
        assert_eq!(answer.header("ratelimit-limit"), Some("5"));
        assert_eq!(
            answer.header("ratelimit-remaining"),
            Some(left.to_string().as_str())
        );
    }
    let refused = api.get(&who, "/api/v1/notifications/unread-count").await;
    assert_eq!(refused.problem(), (429, "rate_limited".to_owned(), None));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=12).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
    // Nobody else's budget, and not that of services.
    api.get(&Who::user("u2"), "/api/v1/notifications/unread-count")
        .await
        .expect(200);
    api.get(
        &Who::user("u1").tenant("t2"),
        "/api/v1/notifications/unread-count",
    )
    .await
    .expect(200);
    for scope in ["service", "publish", "inbox:any"] {
        let answer = api
            .get(
                &Who::user("u1").scope(scope),
                "/api/v1/notifications/unread-count",
            )
            .await;
        answer.expect(200);
        assert_eq!(answer.header("ratelimit-limit"), Some("10000"), "{scope}");
    }
}

#[tokio::test]
async fn the_default_is_a_hundred_a_minute() {
    let api = Api::new().await;
    let who = Who::user("u1");
    for _ in 0..100 {
        api.get(&who, "/api/v1/health").await.expect(200);
    }
    assert_eq!(api.get(&who, "/api/v1/health").await.status, 429);
}

#[tokio::test]
async fn bulk_calls_are_bounded() {
    let mut config = crate::support::quick();
    config.limits.bulk_items = 2;
    let api = Api::start(config).await;
    let who = Who::user("u1").scope("contacts:write");
    let ids = json!({ "ids": ["a", "b", "c"] });
    let answer = api
        .json("PUT", &who, "/api/v1/notifications/bulk-read", &ids.to_string())
        .await;
    assert_eq!(
        answer.problem(),
        (422, "too_many".to_owned(), Some("ids".to_owned()))
    );
    let contacts = json!({ "contacts": { "a": {}, "b": {}, "c": {} } });
    let answer = api
        .json("PUT", &who, "/api/v1/contacts", &contacts.to_string())
        .await;
    assert_eq!(
        answer.problem(),
        (422, "too_many".to_owned(), Some("contacts".to_owned()))
    );
    let ids = json!({ "notification_ids": ["a", "b"] });
    api.json("PUT", &who, "/api/v1/notifications/bulk-read", &ids.to_string())
        .await
        .expect(200);
}

#[tokio::test]
async fn ten_items_cost_as_much_as_one_request() {
    let mut config = crate::support::quick();
    config.limits.user_requests_per_minute = 5;
    let api = Api::start(config).await;
    let who = Who::user("u1").scope("notifications:write");
    let items = |number: usize| {
        let item = json!({ "user_id": "u2", "title": "T", "content": "C" });
        json!({ "notifications": vec![item; number] })
    };
    const BULK: &str = "/api/v1/notifications/bulk";
    for (number, left) in [(1, "4"), (10, "3"), (11, "1")] {
        let answer = api.post(&who, BULK, &items(number)).await;
        answer.expect(200);
        assert_eq!(answer.header("ratelimit-remaining"), Some(left), "{number}");
    }
    let stored = api.stored().await;
    let refused = api.post(&who, BULK, &items(11)).await;
    assert_eq!(refused.problem(), (429, "rate_limited".to_owned(), None));
    assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
    // Its two grow back in twelve seconds each, also the one that it takes when it comes again.
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((13..=24).contains(&wait), "{wait}");
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("5 times in a minute"), "{detail}");
    // What no wait would ever allow is said as such.
    let fresh = Who::user("u9").scope("notifications:write");
    let never = api.post(&fresh, BULK, &items(51)).await;
    assert_eq!(
        never.problem(),
        (422, "too_many".to_owned(), Some("notifications".to_owned()))
    );
    assert_eq!(api.stored().await, stored);
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_depth() {
    let mut config = crate::support::quick();
    config.limits.body_bytes = common::config::Bytes(2048);
    config.limits.bulk_body_bytes = common::config::Bytes(4096);
    config.limits.json_depth = 8;
    let api = Api::start(config).await;
    let who = Who::service();
    let body = |content: &str, data: &str| {
        format!(r#"{{"user_id":"u1","title":"T","content":"{content}","data":{data}}}"#)
    };
    let long = body(&"x".repeat(3000), "{}");
    let one = api.json("POST", &who, "/api/v1/notifications", &long).await;
    assert_eq!(one.problem(), (413, "body_too_large".to_owned(), None));
    let bulk = format!(r#"{{"notifications":[{long}]}}"#);
    api.json("POST", &who, "/api/v1/notifications/bulk", &bulk)
        .await
        .expect(200);
    let two = format!(r#"{{"notifications":[{long},{long}]}}"#);
    for path in ["/api/v1/notifications/bulk", "/api/v1/notifications/batch"] {
        let refused = api.json("POST", &who, path, &two).await;
        assert_eq!(refused.problem(), (413, "body_too_large".to_owned(), None));
    }
    // Seven in `data` and the body itself.
    let nested = |depth: usize| format!(r#"{}1{}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    for (depth, status) in [(7, 201), (8, 422)] {
        let text = body("C [[[[[[[[[[", &nested(depth));
        let answer = api.json("POST", &who, "/api/v1/notifications", &text).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if status == 422 {
            assert_eq!(answer.problem().1, "too_deep");
        }
    }
    assert_eq!(api.stored().await, 2);
}
