//! Where a notification lies for its reader: put off, put away, in pages, folded.

use serde_json::{Value, json};

use super::{Api, Who};

#[tokio::test]
async fn one_is_put_off_and_comes_back() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let id = api
        .create(&json!({ "user_id": "u1", "title": "later", "content": "C", "group_key": "g" }))
        .await;
    let path = |verb: &str| format!("/api/v1/notifications/{id}/{verb}");
    let list = async |query: &str| {
        let found = api
            .get(&who, &format!("/api/v1/notifications?{query}"))
            .await
            .expect(200);
        found.as_array().unwrap().len()
    };
    let put = async |verb: &str, body: &str| api.json("PUT", &who, &path(verb), body).await;
    for (body, code, field) in [
        ("{}", "missing_field", "until"),
        (r#"{"until":"2020-01-01T00:00:00Z"}"#, "invalid_time", "until"),
        (r#"{"for":0}"#, "invalid_time", "for"),
        (r#"{"for":"soon"}"#, "invalid_value", "for"),
        (
            r#"{"for":"1h","until":"2099-01-01T00:00:00Z"}"#,
            "conflict",
            "for",
        ),
        (r#"{"till":1}"#, "unknown_field", "till"),
    ] {
        let refused = put("snooze", body).await.problem();
        assert_eq!(
            (refused.0, refused.1.as_str(), refused.2.as_deref()),
            (422, code, Some(field)),
            "{body}"
        );
    }
    assert_eq!(api.unread(&who).await, 1, "a refusal changes nothing");
    let away = put("snooze", r#"{"for":"1h"}"#).await.expect(200);
    assert_eq!(away["unread_count"], 0);
    assert_eq!(
        (
            list("").await,
            list("state=snoozed").await,
            list("state=all").await
        ),
        (0, 1, 1)
    );
    put("unsnooze", "").await.expect(200);
    assert_eq!(
        (
            list("").await,
            list("state=unread").await,
            list("state=snoozed").await
        ),
        (1, 1, 0)
    );
    put("archive", "").await.expect(200);
    assert_eq!((list("").await, list("state=archived&group_key=g").await), (0, 1));
    put("unarchive", "").await.expect(200);
    assert_eq!(
        (
            list("group_key=g").await,
            list("group_key=h").await,
            list("state=read").await
        ),
        (1, 0, 0)
    );
    let stranger = api
        .json("PUT", &Who::user("u2"), &path("snooze"), r#"{"for":1}"#)
        .await;
    assert_eq!(stranger.problem().0, 404);

    put("snooze", r#"{"for":0.3}"#).await.expect(200);
    assert_eq!((list("").await, api.unread(&who).await), (0, 0));
    let present = api.get(&who, "/api/v1/inbox/changes").await.expect(200);
    let follow = format!(
        "/api/v1/inbox/changes?wait=30&after={}",
        present["cursor"].as_str().unwrap()
    );
    let change = api.get(&who, &follow).await.expect(200)["changes"][0].clone();
    assert_eq!(
        (&change["op"], &change["id"], &change["is_read"]),
        (&json!("state"), &json!(id), &json!(false))
    );
    assert!(change["snoozed_until"].is_null());
    assert_eq!((list("state=unread").await, api.unread(&who).await), (1, 1));
}

#[tokio::test]
async fn the_inbox_comes_in_pages_with_groups_folded() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let mut ids = Vec::new();
    for number in 0..9 {
        let mut body = json!({ "user_id": "u1", "title": format!("n{number}"), "content": "C", "kind": "alert", "category": "c" });
        if number % 3 > 0 {
            body["group_key"] = json!(format!("g{}", number % 3));
        }
        ids.push(api.create(&body).await);
    }
    let titles = |page: &Value| -> Vec<String> {
        let rows = page["notifications"].as_array().unwrap();
        rows.iter()
            .map(|row| row["title"].as_str().unwrap().to_owned())
            .collect()
    };
    api.put(&who, &format!("/api/v1/notifications/{}/read", ids[8]))
        .await
        .expect(200);
    let first = api
        .get(&who, "/api/v1/inbox?limit=4&state=unread")
        .await
        .expect(200);
    assert_eq!(titles(&first), ["n7", "n6", "n5", "n4"]);
    assert!(first["notifications"][0].get("count").is_none());
    // The first page says where to follow what comes.
    let cursor = first["cursor"].as_str().unwrap();
    let news = api
        .get(&who, &format!("/api/v1/inbox/changes?after={cursor}"))
        .await
        .expect(200);
    assert_eq!(news["changes"], json!([]));
    let next = first["next"].as_str().unwrap();
    let last = api
        .get(&who, &format!("/api/v1/inbox?limit=4&state=unread&after={next}"))
        .await
        .expect(200);
    assert_eq!(titles(&last), ["n3", "n2", "n1", "n0"]);
    assert!(last.get("next").is_none() && last.get("cursor").is_none());

    let folded = api
        .get(&who, "/api/v1/inbox?fold=group&kind=alert&category=c&limit=3")
        .await
        .expect(200);
    assert_eq!(titles(&folded), ["n8", "n7", "n6"]);
    let sums: Vec<_> = folded["notifications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["count"].as_u64(), row["unread"].as_u64()))
        .collect();
    assert_eq!(sums, [(Some(3), Some(2)), (Some(3), Some(3)), (Some(1), Some(1))]);
    let next = folded["next"].as_str().unwrap();
    let rest = api
        .get(&who, &format!("/api/v1/inbox?fold=group&limit=3&after={next}"))
        .await
        .expect(200);
    assert_eq!(titles(&rest), ["n3", "n0"]);
    let group = api
        .get(&who, "/api/v1/inbox?group_key=g1&state=all")
        .await
        .expect(200);
    assert_eq!(titles(&group), ["n7", "n4", "n1"]);
    let other = api.get(&Who::user("u2"), "/api/v1/inbox").await.expect(200);
    assert_eq!(other["notifications"], json!([]));
    // Another reader's cursor shows nothing of that reader's.
    let other = api
        .get(&Who::user("u2"), &format!("/api/v1/inbox?after={next}"))
        .await
        .expect(200);
    assert_eq!(other["notifications"], json!([]));
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_named() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let feed = api.get(&who, "/api/v1/inbox/changes").await.expect(200);
    let feed = format!("after={}", feed["cursor"].as_str().unwrap());
    let long = format!("group_key={}", "g".repeat(300));
    for (query, code, field) in [
        ("state=lost", "invalid_query", "state"),
        ("kind=loud", "unknown_kind", "kind"),
        ("limit=0", "invalid_query", "limit"),
        ("limit=201", "invalid_query", "limit"),
        ("category=%00", "invalid_query", "category"),
        ("group_key=", "invalid_value", "group_key"),
        (&long, "too_long", "group_key"),
        ("fold=kind", "invalid_query", "fold"),
        ("after=x", "invalid_cursor", "after"),
        (&feed, "invalid_cursor", "after"),
        ("page=2", "invalid_query", "page"),
    ] {
        let refused = api.get(&who, &format!("/api/v1/inbox?{query}")).await.problem();
        assert_eq!((refused.0, refused.1.as_str()), (422, code), "{query}");
        assert_eq!(refused.2.as_deref(), Some(field), "{query}");
        if !["fold", "after", "page"].contains(&field) {
            let refused = api
                .get(&who, &format!("/api/v1/notifications?{query}"))
                .await
                .problem();
            assert_eq!((refused.0, refused.2.as_deref()), (422, Some(field)), "{query}");
        }
    }
    let refused = api
        .get(&who, "/api/v1/notifications?state=read&is_read=false")
        .await
        .problem();
    assert_eq!(refused.2.as_deref(), Some("is_read"));
}

#[tokio::test]
async fn several_are_marked_at_once() {
    let api = Api::new().await;
    let who = Who::user("u1");
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(
            api.create(&json!({ "user_id": "u1", "title": "T", "content": "C" }))
                .await,
        );
    }
    let put = async |body: &Value| {
        api.json("PUT", &who, "/api/v1/inbox/marks", &body.to_string())
            .await
    };
    let list = async |state: &str| {
        let page = api
            .get(&who, &format!("/api/v1/inbox?state={state}"))
            .await
            .expect(200);
        page["notifications"].as_array().unwrap().len()
    };
    for (mark, state, found, unread) in [
        ("delivered", "unseen", 3, 3),
        ("seen", "seen", 2, 3),
        ("read", "read", 2, 1),
        ("unread", "unread", 3, 3),
        ("acknowledged", "read", 2, 1),
        ("archived", "archived", 2, 1),
        ("unarchived", "archived", 0, 1),
        ("snoozed", "snoozed", 2, 1),
        ("unsnoozed", "snoozed", 0, 1),
        ("deleted", "all", 1, 1),
    ] {
        let mut body = json!({ "mark": mark, "ids": [ids[0], ids[1], "unknown"] });
        if mark == "snoozed" {
            body["for"] = json!("1h");
        }
        let marked = put(&body).await.expect(200);
        assert_eq!(
            (&marked["count"], &marked["unread_count"]),
            (&json!(2), &json!(unread)),
            "{mark}"
        );
        assert_eq!(list(state).await, found, "{mark}");
    }
    for (body, field) in [
        (json!({ "ids": [], "mark": "lost" }), "mark"),
        (
            json!({ "ids": [], "mark": "read", "until": "2099-01-01T00:00:00Z" }),
            "until",
        ),
        (json!({ "ids": [], "mark": "snoozed" }), "until"),
        (json!({ "ids": vec!["x"; 1001], "mark": "read" }), "ids"),
    ] {
        let refused = put(&body).await.problem();
        assert_eq!((refused.0, refused.2.as_deref()), (422, Some(field)));
    }
}
