//! Many notifications by one request.

use axum::body::Body;
use serde_json::{Value, json};

use super::{Answer, Api, Who, request};

const BULK: &str = "/api/v1/notifications/bulk";
const BATCH: &str = "/api/v1/notifications/batch";

fn item(title: &str) -> Value {
    json!({ "user_id": "u1", "title": title, "content": "C" })
}

async fn keyed(api: &Api, key: &str, body: &Value) -> Answer {
    let request = request("POST", BULK, &Who::service())
        .header("content-type", "application/json")
        .header("idempotency-key", key);
    api.send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

#[tokio::test]
async fn a_bad_item_hurts_no_other_and_is_told_what_is_wrong() {
    let api = Api::new().await;
    let body = json!({ "notifications": [
        item("a"),
        { "user_id": "u1", "title": "b", "content": "C", "kind": "loud" },
        { "user_id": "u1", "titel": "c", "content": "C" },
        { "user_id": "u1", "content": "C" },
        5,
        { "user_id": "u1", "template": "none" },
        { "title": "no target", "content": "C" },
        item("d"),
    ] });
    let answer = api.post(&Who::service(), BULK, &body).await.expect(200);
    assert_eq!(
        (
            &answer["total"],
            &answer["created"],
            &answer["repeated"],
            &answer["failed"]
        ),
        (&json!(8), &json!(2), &json!(0), &json!(6))
    );
    let results = answer["results"].as_array().unwrap();
    for (index, result) in results.iter().enumerate() {
        assert_eq!(result["index"], index);
    }
    for index in [0, 7] {
        assert_eq!(
            (&results[index]["result"], &results[index]["status"]),
            (&json!("created"), &json!("pending"))
        );
        let path = format!("/api/v1/notifications/{}", results[index]["id"].as_str().unwrap());
        api.get(&Who::service(), &path).await.expect(200);
    }
    for (index, code, field) in [
        (1, "unknown_kind", "notifications[1].kind"),
        (2, "unknown_field", "notifications[2].titel"),
        (3, "missing_field", "notifications[3].title"),
        (4, "invalid_value", "notifications[4]"),
        (5, "unknown_template", "notifications[5].template"),
        (6, "no_target", "notifications[6].to"),
    ] {
        let problem = &results[index]["problem"];
        assert_eq!(results[index]["result"], "problem");
        assert_eq!(
            (
                problem["code"].as_str(),
                problem["field"].as_str(),
                &problem["status"]
            ),
            (Some(code), Some(field), &json!(422)),
            "{problem}"
        );
    }
    assert_eq!(api.titles(&Who::user("u1")).await, ["d", "a"]);
}

#[tokio::test]
async fn a_thousand_are_taken_and_one_more_is_refused_whole() {
    let api = Api::new().await;
    let items =
        |number: usize| -> Vec<Value> { (0..number).map(|number| item(&format!("n{number}"))).collect() };
    for (path, number) in [(BULK, 1001), (BATCH, 1001), (BULK, 0)] {
        let refused = api
            .post(&Who::service(), path, &json!({ "notifications": items(number) }))
            .await;
        let code = if number == 0 { "invalid_value" } else { "too_many" };
        assert_eq!(
            refused.problem(),
            (422, code.to_owned(), Some("notifications".to_owned()))
        );
    }
    assert_eq!(api.stored().await, 0);
    let answer = api
        .post(&Who::service(), BULK, &json!({ "notifications": items(1000) }))
        .await
        .expect(200);
    assert_eq!((&answer["created"], &answer["failed"]), (&json!(1000), &json!(0)));
    assert_eq!(api.stored().await, 1000);
    assert_eq!(api.unread(&Who::user("u1")).await, 1000);
}

#[tokio::test]
async fn the_request_needs_the_scope_and_each_item_its_own() {
    let api = Api::new().await;
    let body = json!({ "notifications": [item("a"), { "title": "T", "message": "to all" }] });
    let refused = api.post(&Who::user("u"), BULK, &body).await;
    assert_eq!(refused.problem().1, "scope_missing");
    let answer = api.post(&Who::service(), BULK, &body).await.expect(200);
    assert_eq!(answer["created"], 1);
    let problem = &answer["results"][1]["problem"];
    assert_eq!(
        (&problem["code"], &problem["status"]),
        (&json!("scope_missing"), &json!(403))
    );
    let broadcast = Who::service().scope("notifications:broadcast");
    let answer = api.post(&broadcast, BULK, &body).await.expect(200);
    assert_eq!(answer["created"], 2);
}

#[tokio::test]
async fn items_with_known_keys_are_repeats_also_within_one_request() {
    let api = Api::new().await;
    let with = |title: &str, key: &str| json!({ "user_id": "u1", "title": title, "content": "C", "idempotency_key": key });
    let single = api.created(&with("a", "k1")).await;
    let body = json!({ "notifications": [with("a", "k1"), with("b", "k2"), with("b", "k2"), with("x", "k1"), item("c")] });
    let answer = api.post(&Who::service(), BULK, &body).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    let kinds: Vec<_> = results
        .iter()
        .map(|result| result["result"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["repeat", "created", "repeat", "problem", "created"]);
    assert_eq!(results[0]["id"], single["id"]);
    assert_eq!(results[2]["id"], results[1]["id"]);
    assert_eq!(
        (&results[3]["problem"]["code"], &results[3]["problem"]["field"]),
        (
            &json!("idempotency_mismatch"),
            &json!("notifications[3].idempotency_key")
        )
    );
    assert_eq!(api.stored().await, 3);
    // And alone it is the bulk's.
    let alone = api
        .post(&Who::service(), "/api/v1/notifications", &with("b", "k2"))
        .await;
    assert_eq!(alone.expect(201)["id"], results[1]["id"]);
    assert_eq!(alone.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn the_requests_key_repeats_the_whole_answer() {
    let api = Api::new().await;
    let body = json!({ "notifications": [item("a"), { "user_id": "u1" }, item("b")] });
    let first = keyed(&api, "k", &body).await;
    assert_eq!(first.expect(200)["created"], 2);
    let again = keyed(&api, "k", &body).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let other = keyed(&api, "k", &json!({ "notifications": [item("a")] })).await;
    assert_eq!(
        other.problem(),
        (
            422,
            "idempotency_mismatch".to_owned(),
            Some("Idempotency-Key".to_owned())
        )
    );
    assert_eq!(api.stored().await, 2);
}

#[tokio::test]
async fn what_holds_for_an_object_holds_for_a_bare_array() {
    let api = Api::new().await;
    let body = json!([item("a"), { "user_id": "u1", "content": "C" }]);
    let answer = api.post(&Who::service(), BULK, &body).await.expect(200);
    assert_eq!((&answer["created"], &answer["failed"]), (&json!(1), &json!(1)));
    assert_eq!(answer["results"][1]["problem"]["field"], "[1].title");
}

#[tokio::test]
async fn templates_and_contacts_are_looked_up_for_each() {
    let (mut mails, api) = Api::with_mails().await;
    let writer = Who::service().scope("templates:write");
    for (name, text) in [("one", "1 {{ x }}"), ("two", "2 {{ x }}")] {
        let template = json!({ "name": name, "title": text, "content": text, "channel": "email" });
        api.post(&writer, "/api/v1/templates", &template)
            .await
            .expect(201);
    }
    api.put_contact("u1", &json!({ "email": "u1@example.com" })).await;
    let body = json!({ "notifications": [
        { "user_id": "u1", "template": "one", "variables": { "x": "a" } },
        { "user_id": "u2", "template": "two", "variables": { "x": "b" } },
        { "user_id": "u1", "template": "two", "variables": {} },
    ] });
    let answer = api.post(&Who::service(), BULK, &body).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(
        (&results[0]["status"], &results[1]["status"]),
        (&json!("pending"), &json!("failed")),
        "the second has no address"
    );
    assert_eq!(
        (&results[2]["problem"]["code"], &results[2]["problem"]["field"]),
        (
            &json!("template_variable_missing"),
            &json!("notifications[2].variables.x")
        )
    );
    let mail = mails.mail().await;
    assert_eq!(mail.to, "u1@example.com");
}

#[tokio::test]
async fn a_batch_says_whom_it_is_for() {
    let api = Api::new().await;
    for (body, code, field) in [
        (
            json!({ "title": "T", "content": "C" }),
            "missing_field",
            "user_ids",
        ),
        (
            json!({ "user_ids": [], "title": "T", "content": "C" }),
            "invalid_value",
            "user_ids",
        ),
        (
            json!({ "user_ids": vec!["u"; 1001], "title": "T", "content": "C" }),
            "too_many",
            "user_ids",
        ),
        (
            json!({ "user_ids": ["u", ""], "title": "T", "content": "C" }),
            "invalid_name",
            "user_ids[1]",
        ),
        (
            json!({ "notifications": [item("a")], "user_ids": ["u"] }),
            "unknown_field",
            "user_ids",
        ),
    ] {
        let refused = api.post(&Who::service(), BATCH, &body).await;
        assert_eq!(
            refused.problem(),
            (422, code.to_owned(), Some(field.to_owned())),
            "{body}"
        );
    }
    assert_eq!(api.stored().await, 0);
}
