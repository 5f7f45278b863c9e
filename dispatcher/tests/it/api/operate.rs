//! Cancel, retry, change: what a sender does after the acceptance.

use dispatcher::model::{Channel, Outcome};
use serde_json::{Value, json};

use super::{Answer, Api, Who};
use crate::support::{Outbox, quick};

/// With room for two emails of any lane.
async fn mails() -> (Outbox, Api) {
    let mut config = quick();
    config.queue.critical_reserved = 0.0;
    Api::with_outbox(config, 2).await
}

fn path(id: &str, what: &str) -> String {
    format!("/api/v1/notifications/{id}{what}")
}

async fn act(api: &Api, who: &Who, id: &str, what: &str) -> Answer {
    api.post(who, &path(id, what), &json!({})).await
}

async fn put(api: &Api, id: &str, body: &Value) -> Answer {
    api.json("PUT", &Who::service(), &path(id, ""), &body.to_string())
        .await
}

fn to(addresses: &[&str]) -> Value {
    json!({ "title": "T", "content": "C", "channel": "email", "recipients": addresses })
}

/// Waits until the notification says this word of itself.
async fn until(api: &Api, id: &str, status: &str) -> Value {
    crate::support::eventually(status, async || {
        let found = api.status(&Who::service(), id).await;
        (found["status"] == status).then_some(found)
    })
    .await
}

#[tokio::test]
async fn cancel_says_of_each_delivery_whether_it_was_in_time() {
    let (mut sent, api) = mails().await;
    let addresses = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];
    let id = api.create(&to(&addresses)).await;
    // One is gone, two are on the way, one waits for room.
    let gone = sent.deliver().await;
    let mut way = sent.hold(2).await;
    let cancelled = act(&api, &Who::service(), &id, "/cancel").await.expect(200);
    assert_eq!(cancelled["status"], "partly_cancelled");
    assert_eq!(
        (&cancelled["stopped"], &cancelled["fan_out_stopped"]),
        (&json!(1), &json!(false))
    );
    let fates: Vec<_> = cancelled["deliveries"].as_array().unwrap().iter().collect();
    assert_eq!(fates.len(), 4);
    for fate in fates {
        let id = fate["id"].as_str().unwrap();
        if way.iter().any(|one| one.delivery.id.to_string() == id) {
            assert_eq!(fate["fate"], "on_the_way");
        } else if gone.id.to_string() != id {
            assert_eq!(
                (&fate["fate"], &fate["state"]),
                (&json!("stopped"), &json!("cancelled"))
            );
        }
    }
    // What was on the way is not tried again.
    way.remove(0).end(Outcome::Retry);
    way.remove(0).end(Outcome::Delivered);
    let states = until(&api, &id, "sent").await;
    let states: Vec<_> = states["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states.iter().filter(|state| **state == "cancelled").count(),
        2,
        "{states:?}"
    );
    assert!(sent.is_empty());
}

#[tokio::test]
async fn cancel_too_late_and_by_others() {
    let (mut sent, api) = mails().await;
    let id = api.create(&to(&["a@example.com"])).await;
    sent.deliver().await;
    until(&api, &id, "sent").await;
    let late = act(&api, &Who::service(), &id, "/cancel").await.expect(200);
    assert_eq!(
        (&late["status"], &late["stopped"]),
        (&json!("too_late"), &json!(0))
    );
    for (who, status) in [
        (Who::user("another").scope("notifications:write"), 404),
        (Who::service().tenant("t2"), 404),
        (Who::user("service"), 403),
        (
            Who::user("admin").scope("notifications:write notifications:admin"),
            200,
        ),
    ] {
        let answer = act(&api, &who, &id, "/cancel").await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    }
    let unknown = act(&api, &Who::service(), "no-id", "/cancel").await;
    assert_eq!(unknown.problem().0, 404);
}

#[tokio::test]
async fn retry_sends_what_is_dead_under_its_id() {
    let (mut sent, api) = mails().await;
    let id = api.create(&to(&["a@example.com", "b@example.com"])).await;
    let dead = sent.next("the first").await.end(Outcome::Rejected).id;
    let fine = sent.deliver().await.id;
    until(&api, &id, "sent").await;
    let retried = act(&api, &Who::service(), &id, "/retry").await.expect(200);
    assert_eq!(
        (&retried["retried"], &retried["status"]),
        (&json!([dead]), &json!("pending"))
    );
    assert_eq!(retried["not_retried"][0]["id"], json!(fine));
    let again = sent.deliver().await;
    assert_eq!((again.id, again.attempts), (dead, 1));
    crate::support::eventually("both are delivered", async || {
        let status = api.status(&Who::service(), &id).await;
        let all = status["deliveries"].as_array().unwrap();
        all.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
    let nothing = act(&api, &Who::service(), &id, "/retry").await;
    assert_eq!(nothing.problem(), (409, "nothing_to_retry".to_owned(), None));
}

#[tokio::test]
async fn retry_of_named_deliveries() {
    let (mut sent, api) = mails().await;
    let id = api.create(&to(&["a@example.com", "b@example.com"])).await;
    let first = sent.next("the first").await.end(Outcome::Rejected).id;
    sent.next("the second").await.end(Outcome::Rejected);
    until(&api, &id, "failed").await;
    let body = |ids: Value| json!({ "deliveries": ids });
    for (ids, field) in [
        (json!([]), "deliveries"),
        (json!(["x"]), "deliveries[0]"),
        (
            json!([first, "0198aaaa-0000-7000-8000-000000000000"]),
            "deliveries[1]",
        ),
    ] {
        let refused = api.post(&Who::service(), &path(&id, "/retry"), &body(ids)).await;
        assert_eq!(refused.problem().2.as_deref(), Some(field));
    }
    assert!(sent.is_empty(), "a refused call changes nothing");
    let retried = api
        .post(&Who::service(), &path(&id, "/retry"), &body(json!([first])))
        .await
        .expect(200);
    assert_eq!(retried["retried"], json!([first]));
    assert_eq!(sent.deliver().await.id, first);
}

#[tokio::test]
async fn a_scheduled_one_is_changed_before_its_time() {
    let (mut sent, api) = mails().await;
    let mut body = to(&["a@example.com"]);
    body["schedule_at"] = json!("2099-01-01T00:00:00Z");
    let refused = api.post(&Who::service(), "/api/v1/notifications", &body).await;
    assert_eq!(refused.problem().0, 422, "too far ahead");
    body["schedule_at"] = json!(null);
    body["delay"] = json!("1h");
    let made = api.created(&body).await;
    let id = made["id"].as_str().unwrap();
    // What is not named stays.
    let changed = put(&api, id, &json!({ "title": "T2", "priority": "high" }))
        .await
        .expect(200);
    assert_eq!(
        (&changed["title"], &changed["content"], &changed["priority"]),
        (&json!("T2"), &json!("C"), &json!("high"))
    );
    assert_eq!(changed["scheduled_at"], made["scheduled_at"]);
    assert_eq!(
        (&changed["id"], &changed["created_at"]),
        (&made["id"], &made["created_at"])
    );
    let view = api.get(&Who::service(), &path(id, "")).await.expect(200);
    assert_eq!(
        (&view["title"], &view["status"]),
        (&json!("T2"), &json!("scheduled"))
    );
    assert_eq!(view["deliveries"][0]["address"], "a@example.com");
    assert_eq!(api.stored().await, 1);
    // Nonsense changes nothing.
    let refused = put(&api, id, &json!({ "channels": ["pigeon"] })).await;
    assert_eq!(refused.problem().1, "unknown_channel");
    let refused = put(&api, id, &json!({ "idempotency_key": "k" })).await;
    assert_eq!(refused.problem().2.as_deref(), Some("idempotency_key"));
    // To another address, at once.
    put(&api, id, &json!({ "recipient": "b@example.com", "delay": 0 }))
        .await
        .expect(200);
    let mail = sent.deliver().await;
    assert_eq!(mail.address.as_deref(), Some("b@example.com"));
    assert_eq!(mail.content.title, "T2");
    until(&api, id, "sent").await;
    let late = put(&api, id, &json!({ "title": "T3" })).await;
    assert_eq!(late.problem(), (409, "already_due".to_owned(), None));
}

#[tokio::test]
async fn a_change_lays_out_channels_and_target_anew() {
    let (sent, api) = mails().await;
    let made = api
        .created(&json!({ "user_id": "u1", "title": "T", "content": "C", "channels": ["in_app", "email"], "recipient": "a@example.com", "delay": "1h" }))
        .await;
    let id = made["id"].as_str().unwrap();
    put(
        &api,
        id,
        &json!({ "channels": ["in_app"], "user_id": "u2", "delay": 0 }),
    )
    .await
    .expect(200);
    let reader = Who::user("u2");
    crate::support::eventually("the other user's inbox has it", async || {
        (api.titles(&reader).await == ["T"]).then_some(())
    })
    .await;
    assert!(api.titles(&Who::user("u1")).await.is_empty());
    let status = api.status(&Who::service(), id).await;
    assert_eq!(status["deliveries"].as_array().unwrap().len(), 1);
    assert!(sent.is_empty());
}

/// The addresses of a scheduled one's deliveries by email, by their first letters: those of groups are masked.
async fn addresses(api: &Api, id: &str) -> Vec<Option<char>> {
    let view = api.get(&Who::service(), &path(id, "")).await.expect(200);
    let deliveries = view["deliveries"].as_array().unwrap().iter();
    deliveries
        .filter(|one| one["channel"] == "email")
        .map(|one| one["address"].as_str().and_then(|address| address.chars().next()))
        .collect()
}

#[tokio::test]
async fn a_change_keeps_the_addresses_until_others_are_named() {
    let (_sent, api) = mails().await;
    let body = |target: Value| {
        let mut body = json!({ "title": "T", "content": "C", "channels": ["in_app", "email"], "recipient": "a@example.com", "delay": 600 });
        body.as_object_mut()
            .unwrap()
            .extend(target.as_object().unwrap().clone());
        body
    };
    for (target, change, kept) in [
        (
            json!({ "user_id": "d1" }),
            json!({ "to": { "user": "d1" } }),
            true,
        ),
        (json!({ "user_id": "d1" }), json!({ "title": "T2" }), true),
        (json!({ "user_ids": ["d1"] }), json!({ "user_ids": ["d1"] }), true),
        (json!({ "role": "r" }), json!({ "title": "T2" }), true),
        (json!({ "role": "r" }), json!({ "role": "s" }), true),
        (
            json!({ "user_ids": ["d1", "d2"] }),
            json!({ "user_id": "d1" }),
            true,
        ),
        (
            json!({ "user_id": "d1" }),
            json!({ "metadata": { "n": 1 } }),
            true,
        ),
        // It may be the first one's own.
        (json!({ "user_id": "d1" }), json!({ "user_id": "d2" }), false),
    ] {
        let id = api.create(&body(target.clone())).await;
        assert_eq!(addresses(&api, &id).await, [Some('a')]);
        put(&api, &id, &change).await.expect(200);
        let now = addresses(&api, &id).await;
        let wanted = kept.then_some('a');
        assert_eq!(now, [wanted], "{target} {change}");
    }
    for change in [
        json!({ "recipient": "b@example.com" }),
        json!({ "user_id": "d1", "recipients": ["b@example.com"] }),
        json!({ "metadata": { "email": "b@example.com" } }),
    ] {
        let id = api.create(&body(json!({ "user_id": "d1" }))).await;
        put(&api, &id, &change).await.expect(200);
        assert_eq!(addresses(&api, &id).await, [Some('b')], "{change}");
    }
    // One that no channel takes any more is none that was named wrongly.
    let id = api.create(&body(json!({ "user_id": "d1" }))).await;
    put(&api, &id, &json!({ "channels": ["in_app"] }))
        .await
        .expect(200);
    assert!(addresses(&api, &id).await.is_empty());
}

#[tokio::test]
async fn a_sender_deletes_what_it_scheduled_and_no_more() {
    let (mut sent, api) = mails().await;
    let mut body = to(&["a@example.com"]);
    body["delay"] = json!("1h");
    let id = api.create(&body).await;
    let foreign = api.delete(&Who::user("another"), &path(&id, "")).await;
    assert_eq!(foreign.problem().0, 404);
    api.delete(&Who::service(), &path(&id, "")).await.expect(200);
    assert_eq!(api.status(&Who::service(), &id).await["status"], "cancelled");
    let refused = put(&api, &id, &json!({ "delay": 0 })).await;
    assert_eq!(refused.problem(), (409, "cancelled".to_owned(), None));
    let id = api.create(&to(&["a@example.com"])).await;
    let one = sent.next("the mail").await;
    let late = api.delete(&Who::service(), &path(&id, "")).await;
    assert_eq!(late.problem(), (409, "already_due".to_owned(), None));
    assert_eq!(one.delivery.channel, Channel::Email);
    one.end(Outcome::Delivered);
}

#[tokio::test]
async fn cancel_ends_a_chain_and_a_change_of_one_names_its_strategy() {
    let (sent, api) = mails().await;
    let chain = json!({
        "user_id": "u1", "title": "T", "content": "C", "strategy": "escalate", "recipient": "a@example.com",
        "steps": [{ "channel": "in_app" }, { "channel": "email", "after": 1 }],
    });
    let id = api.create(&chain).await;
    let cancelled = act(&api, &Who::service(), &id, "/cancel").await.expect(200);
    assert_eq!(cancelled["status"], "partly_cancelled", "the row is visible");
    assert_eq!(cancelled["steps_stopped"], 1, "{cancelled}");
    let view = api.get(&Who::service(), &path(&id, "")).await.expect(200);
    assert_eq!(view["chains"][0]["state"], "cancelled", "{view}");
    assert_eq!(view["chains"][0]["steps"][1]["state"], "cancelled", "{view}");

    let mut scheduled = chain.clone();
    scheduled["delay"] = json!("1h");
    let id = api.create(&scheduled).await;
    let refused = put(&api, &id, &json!({ "title": "T2" })).await;
    assert_eq!(
        refused.problem(),
        (422, "missing_field".to_owned(), Some("strategy".to_owned()))
    );
    let mut whole = chain;
    whole["title"] = json!("T2");
    whole["delay"] = json!("2h");
    put(&api, &id, &whole).await.expect(200);
    let view = api.get(&Who::service(), &path(&id, "")).await.expect(200);
    assert_eq!(
        (&view["title"], view["chains"].as_array().unwrap().len()),
        (&json!("T2"), 1)
    );
    assert!(sent.is_empty());
}
