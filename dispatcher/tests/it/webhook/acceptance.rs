//! URLs that no webhook goes to are refused where they come in.

use serde_json::{Value, json};

use crate::{
    api::{Answer, Api, Who},
    support::{
        eventually,
        hooks::{HookServer, Reply, SECRET, configure},
        quick,
    },
};

const BAD: [&str; 9] = [
    "ftp://example.com/",
    "https://",
    "https://user:secret@example.com/",
    "https://example.com:8443/",
    "http://example.com/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://[::ffff:169.254.169.254]/",
    "nonsense",
];

fn anybody() -> Who {
    Who::service().scope("contacts:write notifications:admin")
}

async fn guarded() -> Api {
    let mut config = quick();
    config.webhook.secrets = vec![SECRET.into()];
    Api::start(config).await
}

fn assert_refused(answer: &Answer, field: &str, what: &str) {
    let expected = (422, "invalid_address".to_owned(), Some(field.to_owned()));
    assert_eq!(answer.problem(), expected, "{what}");
}

/// A body of this channel with an address in this field.
fn to(field: &str, address: &str) -> Value {
    let mut body = json!({ "user_id": "u", "title": "T", "content": "C", "channels": ["webhook"] });
    match field.split_once('.') {
        Some((outer, inner)) => body[outer] = json!({ inner: address }),
        None if field == "recipients[1]" => body["recipients"] = json!(["https://example.com/", address]),
        None => body[field] = json!(address),
    }
    body
}

#[tokio::test]
async fn bad_urls_are_refused_with_their_field_and_nothing_is_stored() {
    let api = guarded().await;
    for url in BAD {
        for field in ["recipient", "target", "recipients[1]", "metadata.webhook_url"] {
            let answer = api
                .post(&anybody(), "/api/v1/notifications", &to(field, url))
                .await;
            assert_refused(&answer, field, url);
        }
        let body = json!({ "webhook_url": url });
        let answer = api
            .json("PUT", &anybody(), "/api/v1/contacts/u", &body.to_string())
            .await;
        assert_refused(&answer, "webhook_url", url);
        let notification = to("recipient", url);
        let body = json!({ "every": "1h", "notification": notification });
        let answer = api.post(&anybody(), "/api/v1/schedules", &body).await;
        assert_refused(&answer, "notification.recipient", url);
        let body = json!({ "notifications": [to("recipient", "https://example.com/"), notification] });
        let path = "/api/v1/notifications/bulk?dry_run=true";
        let results = api.post(&anybody(), path, &body).await.expect(200)["results"].clone();
        assert_eq!(results[0]["result"], "planned", "{url}");
        assert_eq!(
            (&results[1]["problem"]["code"], &results[1]["problem"]["field"]),
            (&json!("invalid_address"), &json!("notifications[1].recipient")),
            "{url}"
        );
    }
    assert_eq!(api.stored().await, 0);
}

#[tokio::test]
async fn addresses_of_other_channels_are_no_bad_urls() {
    let api = guarded().await;
    let mut body = to("recipient", "a@example.com");
    body["channels"] = json!(["webhook", "email"]);
    body["metadata"] = json!({ "webhook_url": "https://example.com/" });
    api.created(&body).await;
    // Without webhooks nobody judges.
    let api = Api::new().await;
    let made = api.created(&to("recipient", "https://127.0.0.1/")).await;
    assert_eq!(made["status"], "failed");
}

#[tokio::test]
async fn a_dead_letter_is_corrected_to_a_url_that_is_called() {
    let mut server =
        HookServer::start(|call| Reply::Status(if call.line.contains("gone") { 410 } else { 200 })).await;
    let mut config = configure();
    config.webhook.hosts = vec!["127.0.0.1".parse().unwrap()];
    let api = Api::start(config).await;
    api.create(&to("recipient", &server.url("/gone"))).await;
    assert_eq!(server.call().await.line, "POST /gone HTTP/1.1");
    let dead = eventually("it is dead", async || {
        let list = api.get(&anybody(), "/api/v1/dead-letters").await.expect(200);
        list["dead_letters"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let path = format!("/api/v1/dead-letters/{dead}/replay");
    for url in [
        "https://user@127.0.0.1/",
        "https://elsewhere.example/",
        "nonsense",
    ] {
        let answer = api.post(&anybody(), &path, &json!({ "address": url })).await;
        assert_refused(&answer, "address", url);
    }
    let body = json!({ "address": server.url("/right") });
    api.post(&anybody(), &path, &body).await.expect(200);
    assert_eq!(server.call().await.line, "POST /right HTTP/1.1");
}
