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
