//! A reader's own: list, count, read, delete; and nobody else's.

use serde_json::json;

use super::{Api, Who};

#[tokio::test]
async fn users_see_and_change_only_their_own() {
    let api = Api::new().await;
    let (u1, u2) = (Who::user("u1"), Who::user("u2"));
    let id = api
        .create(&json!({ "user_id": "u1", "title": "for u1", "content": "C" }))
        .await;
    assert_eq!(api.titles(&u1).await, ["for u1"]);
    assert!(api.titles(&u2).await.is_empty());
    assert!(api.titles(&Who::user("u1").tenant("t2")).await.is_empty());
    for who in [u2, Who::user("u1").tenant("t2")] {
        for (method, path) in [("GET", ""), ("GET", "/status"), ("PUT", "/read"), ("DELETE", "")] {
            let path = format!("/api/v1/notifications/{id}{path}");
            let answer = api.json(method, &who, &path, "").await;
            assert_eq!(answer.problem().0, 404, "{method} {path}");
        }
    }
    assert_eq!(api.unread(&u1).await, 1);
    assert_eq!(
        api.get(&u1, &format!("/api/v1/notifications/{id}"))
            .await
            .expect(200)["title"],
        "for u1"
    );
}

#[tokio::test]
async fn groups_are_read_by_the_keys_of_the_token() {
    let api = Api::new().await;
    api.create(&json!({ "role": "cook", "title": "role", "content": "C" }))
        .await;
    api.create(&json!({ "store_id": "s1", "title": "store", "content": "C" }))
        .await;
    api.create(&json!({ "role": "cook", "store_id": "s1", "title": "both", "content": "C" }))
        .await;
    api.create(&json!({ "message": "M", "title": "tenant" })).await;
    api.create(&json!({ "to": { "any_of": [{ "role": "cook" }, { "store": "s1" }] }, "title": "any", "content": "C" })).await;
    let cases = [
        (Who::user("a").role("cook"), vec!["any", "tenant", "role"]),
        (Who::user("b").store("s1"), vec!["any", "tenant", "store"]),
        (
            Who::user("c").role("cook").store("s1"),
            vec!["any", "tenant", "both", "store", "role"],
        ),
        (Who::user("d").role("waiter"), vec!["tenant"]),
        (Who::user("a").role("cook").tenant("t2"), vec![]),
    ];
    for (who, titles) in cases {
        let mut seen = api.titles(&who).await;
        let mut expected = titles.clone();
        seen.sort();
        expected.sort_unstable();
        assert_eq!(seen, expected);
        assert_eq!(api.unread(&who).await, titles.len() as u64);
    }
}

#[tokio::test]
async fn reading_and_deleting() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(api.create(&json!({ "user_id": "u1", "title": format!("n{n}"), "content": "C", "kind": if n == 0 { "alert" } else { "info" }, "category": "a" })).await);
    }
    let path = |id: &str, rest: &str| format!("/api/v1/notifications/{id}{rest}");
    let read = api.put(&who, &path(&ids[0], "/read")).await.expect(200);
    assert_eq!(read["unread_count"], 4);
    api.put(&who, &path(&ids[0], "/read")).await.expect(200);
    assert_eq!(api.unread(&who).await, 4);

    let body = json!({ "ids": [ids[1], ids[2], "notif-1", "5e9e2c1a-0000-4000-8000-000000000000"] });
    let bulk = api
        .json("PUT", &who, "/api/v1/notifications/bulk-read", &body.to_string())
        .await
        .expect(200);
    assert_eq!(
        (bulk["count"].clone(), bulk["message"].clone()),
        (json!(2), json!("已标记2条通知为已读"))
    );

    for (query, count) in [
        ("is_read=true", 3),
        ("is_read=True", 3),
        ("is_read=0", 2),
        ("is_read=false", 2),
        ("kind=alert", 1),
        ("type=info", 4),
        ("category=a", 5),
        ("category=b", 0),
        ("limit=2", 2),
        ("limit=3&offset=3", 2),
    ] {
        let list = api
            .get(&who, &format!("/api/v1/notifications?{query}"))
            .await
            .expect(200);
        assert_eq!(list.as_array().unwrap().len(), count, "{query}");
    }
    let item = api.get(&who, &path(&ids[1], "")).await.expect(200);
    assert_eq!(item["is_read"], true);
    assert!(item["read_at"].is_string());

    api.delete(&who, &path(&ids[4], "")).await.expect(200);
    assert_eq!(api.delete(&who, &path(&ids[4], "")).await.status, 404);
    assert_eq!(api.unread(&who).await, 1);
    let all = api.put(&who, "/api/v1/notifications/read-all").await.expect(200);
    assert_eq!(all["count"], 1);
    assert_eq!(api.unread(&who).await, 0);
}

#[tokio::test]
async fn withdrawing_needs_the_scope_and_takes_it_from_all() {
    let api = Api::new().await;
    let id = api
        .create(&json!({ "to": { "users": ["u1", "u2"] }, "title": "T", "content": "C" }))
        .await;
    let path = format!("/api/v1/notifications/{id}?for=all");
    assert_eq!(
        api.delete(&Who::user("u1"), &path).await.problem().1,
        "scope_missing"
    );
    assert_eq!(
        api.delete(
            &Who::user("admin").tenant("t2").scope("notifications:admin"),
            &path
        )
        .await
        .status,
        404
    );
    api.delete(&Who::user("admin").scope("notifications:admin"), &path)
        .await
        .expect(200);
    for user in ["u1", "u2"] {
        assert!(api.titles(&Who::user(user)).await.is_empty());
        assert_eq!(api.unread(&Who::user(user)).await, 0);
    }
}

#[tokio::test]
async fn content_passes_unchanged() {
    let api = Api::new().await;
    let text = "<script>alert('x')</script> & \"quotes\" \u{1F514} 张三\n'); DROP TABLE notifications;--";
    let body = json!({ "user_id": "u1", "title": text, "content": text, "data": { "k\u{1}": text } });
    api.create(&body).await;
    let list = api
        .get(&Who::user("u1"), "/api/v1/notifications")
        .await
        .expect(200);
    assert_eq!(list[0]["title"], text);
    assert_eq!(list[0]["message"], text);
    assert_eq!(list[0]["extra_data"], body["data"]);
}

#[tokio::test]
async fn forged_names_reach_nobody_else() {
    let api = Api::new().await;
    for name in ["t1:r:admin", "}", "*", "%", "admin*", "u1:"] {
        api.create(&json!({ "user_id": name, "title": name, "content": "C" }))
            .await;
        api.create(&json!({ "role": name, "title": name, "content": "C" }))
            .await;
    }
    for who in [
        Who::user("u1").role("admin"),
        Who::user("admin"),
        Who::user("r:admin"),
    ] {
        assert!(api.titles(&who).await.is_empty());
    }
    assert_eq!(api.titles(&Who::user("}")).await, ["}"]);
}
