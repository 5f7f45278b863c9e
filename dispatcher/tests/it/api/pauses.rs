//! Pauses over HTTP, and the queue that keeps to them.

use dispatcher::model::Outcome;
use serde_json::json;

use super::{Api, Who};
use crate::support::{by, eventually, quick};

const PATH: &str = "/api/v1/queue/pauses";

fn operator() -> Who {
    Who::user("op").scope("notifications:admin")
}

fn mail() -> serde_json::Value {
    json!({ "title": "T", "content": "C", "channel": "email", "recipient": "a@example.com" })
}

#[tokio::test]
async fn what_is_paused_waits_and_goes_on() {
    let (mut sent, api) = Api::with_outbox(quick(), 2).await;
    let paused = api
        .post(
            &operator(),
            PATH,
            &json!({ "channel": "email", "reason": "provider is down" }),
        )
        .await
        .expect(200);
    assert_eq!(
        (&paused["channel"], &paused["paused_by"]),
        (&json!("email"), &json!("op"))
    );
    assert_eq!(api.world.metrics.pauses.get(), 1);
    let id = api.create(&mail()).await;
    // Another tenant is not concerned, and what comes after the paused one is not behind it.
    let other = Who::service().tenant("t2");
    api.post(&other, "/api/v1/notifications", &mail())
        .await
        .expect(201);
    assert_eq!(sent.deliver().await.tenant.as_str(), "t2");
    assert!(sent.is_empty());
    assert_eq!(api.status(&Who::service(), &id).await["status"], "pending");
    let listed = api.get(&operator(), PATH).await.expect(200);
    assert_eq!(listed["pauses"].as_array().unwrap().len(), 1);
    let foreign = api.get(&operator().tenant("t2"), PATH).await.expect(200);
    assert_eq!(foreign["pauses"], json!([]));
    let not_there = api.delete(&operator(), PATH).await;
    assert_eq!(not_there.problem().0, 404, "exactly this is not paused");
    let left = api
        .delete(&operator(), &format!("{PATH}?channel=email"))
        .await
        .expect(200);
    assert_eq!(left["pauses"], json!([]));
    assert_eq!(sent.deliver().await.notification.to_string(), id);
    assert_eq!(api.world.metrics.pauses.get(), 0);
}

#[tokio::test]
async fn a_pause_of_another_process_holds_here_too() {
    let (mut sent, api) = Api::with_outbox(quick(), 2).await;
    // As another process writes it.
    let pause = dispatcher::model::Pause {
        tenant: None,
        channel: None,
        reason: None,
        paused_by: "other".to_owned(),
        paused_at: dispatcher::model::Micros::now(),
        ends_at: None,
    };
    api.world.store.pause(pause, &by("other")).await.unwrap();
    eventually("it is known", async || {
        (api.world.metrics.pauses.get() == 1).then_some(())
    })
    .await;
    let id = api.create(&mail()).await;
    let listed = api.get(&operator(), PATH).await.expect(200);
    assert_eq!(
        (
            &listed["pauses"][0]["all_tenants"],
            &listed["pauses"][0]["paused_by"]
        ),
        (&json!(true), &json!(null)),
        "who of the platform it was is not told"
    );
    assert!(sent.is_empty());
    api.world.store.resume(None, None, &by("other")).await.unwrap();
    assert_eq!(sent.deliver().await.notification.to_string(), id);
}

#[tokio::test]
async fn what_is_being_sent_ends_and_is_not_tried_again_meanwhile() {
    let (mut sent, api) = Api::with_outbox(quick(), 2).await;
    let id = api.create(&mail()).await;
    let on_the_way = sent.next("the mail").await;
    api.post(&operator(), PATH, &json!({})).await.expect(200);
    on_the_way.end(Outcome::Retry);
    eventually("it waits", async || {
        let status = api.status(&Who::service(), &id).await;
        (status["deliveries"][0]["state"] == "pending").then_some(())
    })
    .await;
    assert!(sent.is_empty());
    api.delete(&operator(), PATH).await.expect(200);
    assert_eq!(sent.deliver().await.attempts, 1);
}

#[tokio::test]
async fn what_is_paused_expires() {
    let (sent, api) = Api::with_outbox(quick(), 2).await;
    api.post(&operator(), PATH, &json!({ "channel": "email" }))
        .await
        .expect(200);
    let mut body = mail();
    let soon = dispatcher::model::Micros::now().plus(std::time::Duration::from_secs(1));
    body["expires_at"] = json!(soon.rfc3339());
    let (expires, stays) = (api.create(&body).await, api.create(&mail()).await);
    eventually("it expires", async || {
        let status = api.status(&Who::service(), &expires).await;
        (status["deliveries"][0]["state"] == "expired").then_some(())
    })
    .await;
    assert_eq!(
        api.status(&Who::service(), &stays).await["deliveries"][0]["state"],
        "pending"
    );
    assert!(sent.is_empty());
}

#[tokio::test]
async fn a_pause_ends_by_itself() {
    let (mut sent, api) = Api::with_outbox(quick(), 2).await;
    let until = dispatcher::model::Micros::now().plus(std::time::Duration::from_millis(1500));
    let body = json!({ "until": until.rfc3339() });
    api.post(&operator(), PATH, &body).await.expect(200);
    api.create(&mail()).await;
    assert!(sent.is_empty());
    sent.deliver().await;
    assert!(
        dispatcher::model::Micros::now().0 >= until.0 - 1000,
        "it was paused until then"
    );
}

#[tokio::test]
async fn bad_pauses_are_refused() {
    let api = Api::new().await;
    for (body, status, field) in [
        (json!({ "channel": "pigeon" }), 422, "channel"),
        (json!({ "channel": "in_app" }), 422, "channel"),
        (json!({ "until": "2000-01-01T00:00:00Z" }), 422, "until"),
        (json!({ "until": "soon" }), 422, "until"),
        (json!({ "all_tenants": true }), 403, "all_tenants"),
        (json!({ "reason": "" }), 422, "reason"),
    ] {
        let (found, _, named) = api.post(&operator(), PATH, &body).await.problem();
        assert_eq!((found, named.as_deref()), (status, Some(field)), "{body}");
    }
    assert_eq!(
        api.post(&Who::service(), PATH, &json!({})).await.problem().1,
        "scope_missing"
    );
    assert!(api.world.store.pauses().await.unwrap().0.is_empty());
    let platform = operator().scope("platform:admin");
    api.post(&platform, PATH, &json!({ "all_tenants": true, "channel": "sms" }))
        .await
        .expect(200);
}
