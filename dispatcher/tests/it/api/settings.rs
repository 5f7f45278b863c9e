//! Settings at run time: changed at one dispatcher, taken on by all, and never to what cannot be.

use dispatcher::model::{Channel, Outcome};
use serde_json::{Value, json};

use super::{Api, Who};
use crate::support::{World, eventually, quick};

const REQUESTS: &str = "/api/v1/settings/limits.user_requests_per_minute";

fn root() -> Who {
    Who::user("root").scope("platform:admin")
}

async fn put(api: &Api, path: &str, value: Value) -> super::Answer {
    let body = json!({ "value": value }).to_string();
    api.json("PUT", &root(), path, &body).await
}

/// The requests a minute that a dispatcher grants a user.
async fn granted(api: &Api, user: &str) -> String {
    let answer = api
        .get(&Who::user(user), "/api/v1/notifications/unread-count")
        .await;
    answer.header("ratelimit-limit").unwrap().to_owned()
}

#[tokio::test]
async fn s4_7_a_setting_is_kept_in_the_database_and_holds_at_every_dispatcher() {
    let world = World::new().await;
    let beside = world.beside().await;
    let here = Api::on(world, quick()).await;
    let there = Api::on(beside, quick()).await;
    let before = granted(&there, "u1").await;
    let made = put(&here, REQUESTS, json!(7)).await.expect(200);
    assert_eq!(
        (
            &made["value"],
            &made["source"],
            &made["version"],
            &made["changed_by"]
        ),
        (&json!(7), &json!("database"), &json!(1), &json!("root"))
    );
    assert_eq!(granted(&here, "u2").await, "7", "here at once");
    eventually("it holds there", async || {
        (granted(&there, "u2").await == "7").then_some(())
    })
    .await;

    // What cannot be is refused, and what held holds on.
    for bad in [json!(0), json!("many"), json!(null), json!({ "a": 1 })] {
        let refused = put(&here, REQUESTS, bad.clone()).await;
        assert_eq!(
            refused.problem(),
            (422, "invalid_setting".to_owned(), Some("value".to_owned())),
            "{bad}"
        );
    }
    assert_eq!(granted(&here, "u3").await, "7");

    // Nobody's change is lost.
    let stale = json!({ "value": 8, "version": 0 }).to_string();
    let refused = here.json("PUT", &root(), REQUESTS, &stale).await;
    assert_eq!(refused.problem().0, 409);

    put(&there, REQUESTS, json!(9)).await.expect(200);
    eventually("it holds here", async || {
        (granted(&here, "u4").await == "9").then_some(())
    })
    .await;
    let rolled = here
        .post(&root(), &format!("{REQUESTS}/rollback"), &json!({ "version": 1 }))
        .await
        .expect(200);
    assert_eq!((&rolled["value"], &rolled["version"]), (&json!(7), &json!(3)));
    here.delete(&root(), REQUESTS).await.expect(200);
    assert_eq!(here.delete(&root(), REQUESTS).await.problem().0, 404);
    assert_eq!(
        granted(&here, "u5").await,
        before,
        "what the file says holds again"
    );
    let versions = here
        .get(&root(), &format!("{REQUESTS}/versions"))
        .await
        .expect(200);
    let values: Vec<&Value> = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["value"])
        .collect();
    assert_eq!(values, [&json!(null), &json!(7), &json!(9), &json!(7)]);

    let log = here
        .get(&root(), "/api/v1/audit?all_tenants=true&action=setting")
        .await
        .expect(200);
    let changes: Vec<(&Value, &Value)> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (&entry["before"], &entry["after"]))
        .collect();
    let (none, seven, nine) = (json!(null), json!(7), json!(9));
    assert_eq!(
        changes,
        [(&seven, &none), (&nine, &seven), (&seven, &nine), (&none, &seven)]
    );
}

#[tokio::test]
async fn s4_7_only_the_platform_changes_settings_and_only_those_that_can_be() {
    let api = Api::new().await;
    let body = json!({ "value": 5 }).to_string();
    let operator = Who::user("op").scope("notifications:admin");
    assert_eq!(api.json("PUT", &operator, REQUESTS, &body).await.problem().0, 403);
    assert_eq!(api.get(&operator, "/api/v1/settings").await.problem().0, 403);
    for key in ["auth.secret", "database.url", "nothing", "channels.in_app.retry"] {
        let path = format!("/api/v1/settings/{key}");
        assert_eq!(put(&api, &path, json!(5)).await.problem().0, 404, "{key}");
    }
    let unknown = api
        .post(&root(), &format!("{REQUESTS}/rollback"), &json!({ "version": 4 }))
        .await;
    assert_eq!(unknown.problem().0, 422);
    assert_eq!(
        api.get(&root(), "/api/v1/settings").await.expect(200)["settings"],
        json!([])
    );
}

#[tokio::test]
async fn s3_13_retries_and_bounds_change_without_a_restart() {
    let (mut sent, api) = Api::with_outbox(quick(), 2).await;
    let mail = json!({ "title": "T", "content": "C", "channel": "email", "recipient": "a@example.com" });
    let retry = json!({ "pauses": ["1h"], "max_attempts": 1 });
    put(&api, "/api/v1/settings/channels.email.retry", retry)
        .await
        .expect(200);
    let id = api.create(&mail).await;
    sent.next("the mail").await.end(Outcome::Retry);
    let dead = eventually("one attempt is all", async || {
        let status = api.status(&Who::service(), &id).await;
        (status["deliveries"][0]["state"] == "dead").then_some(status)
    })
    .await;
    assert_eq!(dead["deliveries"][0]["channel"], Channel::Email.as_str());
    put(&api, "/api/v1/settings/limits.queued_max", json!(1))
        .await
        .expect(200);
    let paused = Who::user("op").scope("notifications:admin");
    api.post(&paused, "/api/v1/queue/pauses", &json!({}))
        .await
        .expect(200);
    let answer = |body: Value| {
        let api = &api;
        async move {
            api.post(&Who::service(), "/api/v1/notifications/bulk", &body)
                .await
        }
    };
    let two = json!({ "notifications": [mail, mail, mail] });
    let bulk = answer(two).await.expect(200);
    let text = bulk.to_string();
    assert!(text.contains("queue_full"), "{text}");
    put(&api, "/api/v1/settings/limits.queued_max", json!(1000))
        .await
        .expect(200);
    api.created(&mail).await;
}
