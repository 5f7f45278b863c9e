//! The publish API: what it answers, and what it refuses.

use serde_json::json;

use crate::support::{TestHub, call, publisher, token};

#[tokio::test]
async fn the_answer_says_where_it_went() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let answer = hub.publish(&json!({"to":{"user":"u1"},"data":{"a":1}})).await;
    assert_eq!(
        (&answer["topic"], &answer["offset"], &answer["nodes"]),
        (&json!("user:u1"), &json!(1), &json!(1))
    );
    let frame = client.expect("message").await;
    assert_eq!(frame["id"], answer["id"]);
    let position = format!("{}:1:", answer["epoch"].as_str().unwrap());
    assert!(frame["position"].as_str().unwrap().starts_with(&position));

    let answer = hub
        .publish(&json!({"to":{"users":["u1","u2","u1"]},"data":1}))
        .await;
    let topics: Vec<_> = answer["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| &topic["topic"])
        .collect();
    assert_eq!(topics, ["user:u1", "user:u2"]);
    assert_eq!(client.expect("message").await["id"], answer["id"]);
    // One member of a list is still a list.
    assert!(hub.publish(&json!({"to":{"users":["u1"]},"data":1})).await["topics"].is_array());
}

#[tokio::test]
async fn data_and_type_arrive_as_they_were_given() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let data = "{ \"b\" : 1.500, \"a\":\"\\u00e4\\/\",\n\"n\":12345678901234567890123 , \"b\":null}";
    let body = format!(r#"{{"to":{{"user":"u1"}},"type":"price.update","data":{data}}}"#);
    let answer = call(hub.internal, "POST", "/api/v1/publish", &publisher(), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let crate::support::Frame::Text(text) = client.frame().await else {
        panic!("no text")
    };
    assert!(text.starts_with(r#"{"type":"price.update","id":""#), "{text}");
    assert!(
        text.contains(&format!(r#""data":{data},"topic":"user","position":""#)),
        "{text}"
    );
    for data in ["null", "0", "\"text\"", "[1,2]", "false"] {
        let body = format!(r#"{{"to":{{"user":"u1"}},"data":{data}}}"#);
        assert_eq!(
            call(hub.internal, "POST", "/api/v1/publish", &publisher(), &body)
                .await
                .status,
            200
        );
        assert_eq!(client.expect("message").await["data"].to_string(), data);
    }
}

#[tokio::test]
async fn without_history_there_is_no_position() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let answer = hub
        .publish(&json!({"to":{"user":"u1"},"data":1,"history":false}))
        .await;
    assert_eq!((answer.get("offset"), answer.get("epoch")), (None, None));
    assert_eq!(client.expect("message").await.get("position"), None);
    let answer = hub.publish(&json!({"to":{"user":"u1"},"data":2})).await;
    assert_eq!(answer["offset"], 1, "it took no offset");
}

#[tokio::test]
async fn a_key_gives_the_first_result_again() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let body = json!({"to":{"user":"u1"},"data":1,"idempotency_key":"k"});
    let first = hub.publish(&body).await;
    let again = hub
        .publish(&json!({"to":{"user":"u1"},"data":2,"idempotency_key":"k"}))
        .await;
    assert_eq!(first, again);
    // What was missing is sent.
    let more = hub
        .publish(&json!({"to":{"users":["u1","u2"]},"data":1,"idempotency_key":"k"}))
        .await;
    assert_eq!(
        (
            &more["id"],
            &more["topics"][0]["offset"],
            &more["topics"][1]["offset"]
        ),
        (&first["id"], &json!(1), &json!(1))
    );
    // Another credential's key is another.
    let other = token("other", |new| new.scopes = vec!["publish".to_owned()]);
    let answer = hub.post("/api/v1/publish", &other, &body).await;
    assert_ne!(answer.body["id"], first["id"]);
    assert_eq!(answer.body["offset"], 2);
    assert_eq!(client.expect("message").await["id"], first["id"]);
    assert_eq!(client.expect("message").await["id"], answer.body["id"]);
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn a_key_does_not_take_members_of_one_topic_for_repeats() {
    let hub = TestHub::start().await;
    let mut first = hub
        .connect(&token("u1", |new| new.roles = vec!["b".to_owned()]))
        .await;
    let to =
        json!({"any_of":[{"all_of":[{"user":"u1"},{"role":"a"}]},{"all_of":[{"user":"u1"},{"role":"b"}]}]});
    let body = json!({"to":to,"data":1,"idempotency_key":"k"});
    let answer = hub.publish(&body).await;
    assert_eq!(hub.publish(&body).await, answer);
    assert_eq!(first.expect("message").await["id"], answer["id"]);
    assert!(first.until_pong().await.is_empty());
}

#[tokio::test]
async fn what_has_expired_is_not_delivered() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let start = client.position("user");
    hub.publish(&json!({"to":{"user":"u1"},"data":"late","ttl_ms":0}))
        .await;
    hub.publish(&json!({"to":{"user":"u1"},"data":"in time","ttl_ms":600_000}))
        .await;
    assert!(client.until_data("in time").await.is_empty());
    // Nor is it replayed.
    let mut again = hub.user("u1").await;
    again
        .send(&json!({"type":"resume","positions":{"user":start}}))
        .await;
    assert!(again.until_data("in time").await.is_empty());
    assert_eq!(again.expect("recovered").await["count"], 1);
}

#[tokio::test]
async fn scopes_are_needed() {
    let hub = TestHub::start().await;
    let body = json!({"to":{"tenant":true},"data":1,"message":1});
    for path in [
        "/api/v1/publish",
        "/api/v1/publish/batch",
        "/api/v1/websocket/broadcast",
    ] {
        hub.post(path, "", &body).await.problem(401, "token_missing");
        let valid = match path {
            "/api/v1/publish" => json!({"to":{"tenant":true},"data":1}),
            "/api/v1/publish/batch" => json!({"messages":[]}),
            _ => json!({"message":1}),
        };
        hub.post(path, &token("u1", |_| ()), &valid)
            .await
            .problem(403, "scope_missing");
    }
    let admin = token("root", |new| new.scopes = vec!["platform:admin".to_owned()]);
    for to in [
        json!({"everyone":true}),
        json!({"all_of":[{"role":"r"},{"everyone":true}]}),
        json!({"any_of":[{"role":"r"},{"everyone":true}]}),
        json!({"any_of":[{"role":"r"},{"all_of":[{"store":"s"},{"everyone":true}]}]}),
    ] {
        let body = json!({"to":to,"data":1});
        let answer = hub.post("/api/v1/publish", &publisher(), &body).await;
        assert_eq!(answer.problem(403, "scope_missing"), Some("to"));
        assert_eq!(hub.post("/api/v1/publish", &admin, &body).await.status, 200);
    }
    // Neither path is on the public listener.
    let answer = call(hub.public, "POST", "/api/v1/publish", &publisher(), "{}").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn bad_bodies_name_the_field() {
    let hub = TestHub::with(|setup| setup.config.max_publish = common::config::Bytes(2048)).await;
    let user = json!({"user":"u1"});
    for (body, status, code, field) in [
        (json!({}), 422, "missing_field", Some("to")),
        (json!({"to":user}), 422, "missing_field", Some("data")),
        (json!({"to":user,"data":1,"x":1}), 422, "unknown_field", Some("x")),
        (
            json!({"to":{"user":"u1","x":1},"data":1}),
            422,
            "unknown_field",
            Some("to.x"),
        ),
        (
            json!({"to":{"user":1},"data":1}),
            422,
            "invalid_value",
            Some("to.user"),
        ),
        (
            json!({"to":{"user":""},"data":1}),
            422,
            "invalid_value",
            Some("to"),
        ),
        (
            json!({"to":{"user":"a","role":"b"},"data":1}),
            422,
            "invalid_value",
            Some("to"),
        ),
        (
            json!({"to":{"tenant":false},"data":1}),
            422,
            "invalid_value",
            Some("to"),
        ),
        (
            json!({"to":{"any_of":[]},"data":1}),
            422,
            "invalid_value",
            Some("to"),
        ),
        (json!({"to":["u1"],"data":1}), 422, "invalid_value", Some("to")),
        (
            json!({"to":{"tenant":true,"except":{"users":vec!["x"; 1001]}},"data":1}),
            422,
            "invalid_value",
            Some("to.except.users"),
        ),
        (
            json!({"to":{"tenant":true,"except":{"users":vec!["x"; 600]}},"data":1,"except":{"users":vec!["y"; 401]}}),
            422,
            "invalid_value",
            Some("except.users"),
        ),
        (
            json!({"to":{"any_of":[{"all_of":vec![json!({"user":"x"}); 600]},{"all_of":vec![json!({"user":"x"}); 401]}]},"data":1}),
            422,
            "invalid_value",
            Some("to"),
        ),
        (
            json!({"to":user,"data":1,"except":["u1"]}),
            422,
            "invalid_value",
            Some("except"),
        ),
        (
            json!({"to":user,"data":1,"except":{"who":"u1"}}),
            422,
            "unknown_field",
            Some("except.who"),
        ),
        (
            json!({"to":user,"data":1,"priority":"urgentest"}),
            422,
            "invalid_value",
            Some("priority"),
        ),
        (
            json!({"to":user,"data":1,"ttl_ms":-1}),
            422,
            "invalid_value",
            Some("ttl_ms"),
        ),
        (
            json!({"to":user,"data":1,"history":"no"}),
            422,
            "invalid_value",
            Some("history"),
        ),
        (
            json!({"to":user,"data":1,"idempotency_key":""}),
            422,
            "invalid_value",
            Some("idempotency_key"),
        ),
        (
            json!({"to":user,"data":1,"type":"a b"}),
            422,
            "invalid_value",
            Some("type"),
        ),
        (
            json!({"to":user,"data":1,"type":"notification"}),
            422,
            "reserved_type",
            Some("type"),
        ),
        (
            json!({"to":user,"data":1,"type":"welcome"}),
            422,
            "reserved_type",
            Some("type"),
        ),
        (
            json!({"to":user,"data":"x".repeat(2048)}),
            413,
            "body_too_large",
            Some("data"),
        ),
        (json!([user, 1]), 422, "invalid_value", None),
    ] {
        let answer = hub.post("/api/v1/publish", &publisher(), &body).await;
        assert_eq!(answer.problem(status, code), field, "{body}: {answer:?}");
    }
    let huge = json!({"to":user,"data":"x".repeat(1024 * 1024)});
    hub.post("/api/v1/publish", &publisher(), &huge)
        .await
        .problem(413, "body_too_large");
    let answer = call(hub.internal, "POST", "/api/v1/publish", &publisher(), "{").await;
    answer.problem(400, "not_json");
    assert_eq!(hub.metric("hub_published_total"), 0.0);
}

#[tokio::test]
async fn a_batch_has_a_result_for_each() {
    let hub = TestHub::start().await;
    let mut client = hub.user("u1").await;
    let body = json!({"messages":[
        {"to":{"user":"u1"},"data":1},
        {"to":{"everyone":true},"data":2},
        {"to":{"users":["u1","u2"]},"data":3},
        {"to":{"user":"u1"},"data":4,"type":"error"},
        {"to":{"user":"u1"},"data":5},
    ]});
    let answer = hub.post("/api/v1/publish/batch", &publisher(), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.body["results"].as_array().unwrap();
    assert_eq!(results.len(), 5);
    assert_eq!(results[0]["offset"], 1);
    assert_eq!(
        (&results[1]["status"], &results[1]["code"]),
        (&json!(403), &json!("scope_missing"))
    );
    assert_eq!(results[2]["topics"][0]["offset"], 2);
    assert_eq!(
        (&results[3]["code"], &results[3]["field"]),
        (&json!("reserved_type"), &json!("type"))
    );
    assert_eq!(results[4]["offset"], 3);
    for data in [1, 3, 5] {
        assert_eq!(client.expect("message").await["data"], data);
    }
    // A batch that cannot be read is refused whole.
    for (body, field) in [
        (
            json!({"messages":[{"to":{"user":"u1"},"data":1},{"to":{"user":"u1"}}]}),
            "messages[1].data",
        ),
        (json!({"messages":[[{"user":"u1"},1]]}), "messages[0]"),
        (json!({"messages":[], "x":1}), "x"),
    ] {
        let answer = hub.post("/api/v1/publish/batch", &publisher(), &body).await;
        assert_eq!(answer.status, 422);
        assert_eq!(answer.body["field"], field, "{answer:?}");
    }
    let many = json!({"messages": vec![json!({"to":{"user":"u2"},"data":1}); 1001]});
    assert_eq!(
        hub.post("/api/v1/publish/batch", &publisher(), &many)
            .await
            .problem(422, "too_many"),
        Some("messages")
    );
    // A batch is larger than one publish may be.
    let large = json!({"messages": vec![json!({"to":{"user":"u2"},"data":"x".repeat(200_000)}); 8]});
    assert_eq!(
        hub.post("/api/v1/publish/batch", &publisher(), &large)
            .await
            .status,
        200
    );
    assert!(client.until_pong().await.is_empty());
}

#[tokio::test]
async fn broadcast_and_stats_answer_on_both_listeners() {
    let hub = TestHub::start().await;
    let mut first = hub.user("u1").await;
    let mut second = hub.user("u1").await;
    let mut seeds = hub.seeds("/api/v1/websocket/connect", &token("u2", |_| ())).await;
    let mut foreign = hub
        .connect(&token("u1", |new| new.tenant = Some("t2".to_owned())))
        .await;
    for (address, body) in [
        (hub.public, json!({"message":"hello"})),
        (hub.internal, json!({"data":"hello","type":"news"})),
        (hub.public, json!({"content":"hello"})),
    ] {
        let answer = call(
            address,
            "POST",
            "/api/v1/websocket/broadcast",
            &publisher(),
            &body.to_string(),
        )
        .await;
        assert_eq!(
            (answer.status, &answer.body["topic"]),
            (200, &json!("tenant")),
            "{answer:?}"
        );
        for client in [&mut first, &mut second, &mut seeds] {
            assert_eq!(client.json().await["data"], "hello");
        }
    }
    let body = json!({"message":1,"channel":"public.a"});
    let answer = call(
        hub.public,
        "POST",
        "/api/v1/websocket/broadcast",
        &publisher(),
        &body.to_string(),
    )
    .await;
    assert_eq!(answer.body["topic"], "topic:public.a");
    assert!(foreign.until_pong().await.is_empty());

    for address in [hub.public, hub.internal] {
        let stats = call(
            address,
            "GET",
            "/api/v1/websocket/stats",
            &token("u1", |_| ()),
            "",
        )
        .await;
        assert_eq!(
            (&stats.body["connections"], &stats.body["users_online"]),
            (&json!(3), &json!(2))
        );
        assert_eq!(
            stats.body.get("node_connections"),
            None,
            "a tenant learns nothing of the node"
        );
        let admin = token("root", |new| new.scopes = vec!["platform:admin".to_owned()]);
        let stats = call(address, "GET", "/api/v1/websocket/stats", &admin, "").await;
        assert_eq!(stats.body["node_connections"], 4);
        call(address, "GET", "/api/v1/websocket/stats", "", "")
            .await
            .problem(401, "token_missing");
    }
}

#[tokio::test]
async fn the_openapi_document_says_what_is_taken() {
    let node = TestHub::start().await;
    let (_, document) = hub::http::internal(&node.hub).split_for_parts();
    let document = serde_json::to_value(&document).unwrap();
    let operation = |path: &str| document["paths"][path]["post"].clone();
    let parameters = operation("/api/v1/publish/stream")["parameters"].clone();
    let results = &parameters[0];
    assert_eq!(
        (&results["name"], &results["in"]),
        (&json!("results"), &json!("query"))
    );
    assert_ne!(results["required"], true);
    for path in [
        "publish",
        "publish/batch",
        "publish/stream",
        "websocket/broadcast",
    ] {
        let operation = operation(&format!("/api/v1/{path}"));
        assert!(operation["responses"]["503"].is_object(), "{path}");
    }
    // Any JSON, not only objects.
    for (body, field) in [("PublishBody", "data"), ("BroadcastBody", "message")] {
        let field = &document["components"]["schemas"][body]["properties"][field];
        assert!(
            field.is_object() && field.get("type").is_none(),
            "{body}: {field}"
        );
    }
}
