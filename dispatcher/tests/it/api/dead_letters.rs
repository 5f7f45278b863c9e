//! Dead letters over HTTP.

use dispatcher::model::{Claimed, Outcome};
use serde_json::{Value, json};

use super::{Api, Who};
use crate::support::{Outbox, eventually, quick};

const PATH: &str = "/api/v1/dead-letters";

fn operator() -> Who {
    Who::user("op").scope("notifications:admin")
}

async fn list(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&operator(), &format!("{PATH}?{query}")).await.expect(200);
    page["dead_letters"].as_array().unwrap().clone()
}

/// One that the provider refused.
async fn refused(api: &Api, sent: &mut Outbox, body: &Value) -> Claimed {
    api.created(body).await;
    let delivery = sent.next("an email").await.end(Outcome::Rejected);
    eventually("it is dead", async || {
        let id = delivery.id.to_string();
        list(api, "")
            .await
            .iter()
            .any(|one| one["id"] == id.as_str())
            .then_some(())
    })
    .await;
    delivery
}

fn mail(title: &str, address: &str) -> Value {
    json!({ "title": title, "content": "C", "channel": "email", "recipient": address })
}

#[tokio::test]
async fn they_are_listed_searched_and_shown() {
    let (mut sent, api) = Api::with_outbox(quick(), 4).await;
    let first = refused(&api, &mut sent, &mail("Invoice", "a@example.com")).await;
    let second = refused(&api, &mut sent, &mail("Grüße", "b@example.com")).await;
    let all = list(&api, "").await;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0]["id"], second.id.to_string(), "the newest first");
    assert_eq!(
        (
            &all[0]["title"],
            &all[0]["address"],
            &all[0]["reason"],
            &all[0]["attempts"]
        ),
        (
            &json!("Grüße"),
            &json!("b@example.com"),
            &json!("rejected"),
            &json!(1)
        )
    );
    for (query, count) in [
        ("q=invoice", 1),
        ("q=GR%C3%9C", 1),
        ("channel=email&reason=rejected", 2),
        ("channel=sms", 0),
        ("from=2000-01-01T00:00:00Z", 2),
        ("to=2000-01-01T00:00:00Z", 0),
        (&format!("notification_id={}", first.notification), 1),
    ] {
        assert_eq!(list(&api, query).await.len(), count, "{query}");
    }
    let page = api.get(&operator(), &format!("{PATH}?limit=1")).await.expect(200);
    let next = page["next"].as_str().unwrap();
    let rest = list(&api, &format!("limit=1&after={next}")).await;
    assert_eq!(rest[0]["id"], first.id.to_string());
    let one = api
        .get(&operator(), &format!("{PATH}/{}", first.id))
        .await
        .expect(200);
    assert_eq!(one["history"][0]["outcome"], "rejected");
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("after=x", "after"),
        ("channel=pigeon", "channel"),
        ("from=yesterday", "from"),
        ("notification_id=7", "notification_id"),
    ] {
        let refused = api.get(&operator(), &format!("{PATH}?{query}")).await;
        let (status, _, named) = refused.problem();
        assert_eq!((status, named.as_deref()), (422, Some(field)), "{query}");
    }
}

#[tokio::test]
async fn they_are_for_operators_of_the_tenant() {
    let (mut sent, api) = Api::with_outbox(quick(), 4).await;
    let dead = refused(&api, &mut sent, &mail("T", "a@example.com")).await;
    let one = format!("{PATH}/{}", dead.id);
    assert_eq!(api.get(&Who::service(), PATH).await.problem().1, "scope_missing");
    let foreign = operator().tenant("t2");
    assert_eq!(api.get(&foreign, &one).await.problem().0, 404);
    let replay = api.post(&foreign, &format!("{one}/replay"), &json!({})).await;
    assert_eq!(replay.problem().0, 404);
    assert_eq!(api.delete(&foreign, &one).await.problem().0, 404);
    let swept = api
        .post(&foreign, &format!("{PATH}/replay"), &json!({ "all": true }))
        .await
        .expect(200);
    assert_eq!(swept["count"], 0);
    assert!(sent.is_empty());
}

#[tokio::test]
async fn one_is_corrected_and_replayed_under_its_id() {
    let (mut sent, api) = Api::with_outbox(quick(), 4).await;
    let dead = refused(&api, &mut sent, &mail("T", "a@example.com")).await;
    let replay = format!("{PATH}/{}/replay", dead.id);
    let refused = api
        .post(&operator(), &replay, &json!({ "address": "no address" }))
        .await;
    assert_eq!(
        refused.problem(),
        (422, "invalid_address".to_owned(), Some("address".to_owned()))
    );
    for (correction, code, field) in [
        (json!({ "title": "x".repeat(1025) }), "too_long", "title"),
        (json!({ "title": "" }), "missing_field", "title"),
        (json!({ "content": "" }), "missing_field", "content"),
    ] {
        let refused = api.post(&operator(), &replay, &correction).await;
        assert_eq!(refused.problem(), (422, code.to_owned(), Some(field.to_owned())));
    }
    let refused = api.post(&operator(), &replay, &json!({ "variables": {} })).await;
    assert_eq!(refused.problem().2.as_deref(), Some("variables"));
    let body = json!({ "address": "b@example.com", "title": "T2" });
    let replayed = api.post(&operator(), &replay, &body).await.expect(200);
    assert_eq!(replayed["id"], dead.id.to_string());
    let again = sent.deliver().await;
    assert_eq!(
        (again.id, again.address.as_deref()),
        (dead.id, Some("b@example.com"))
    );
    assert_eq!(
        (again.content.title.as_str(), again.content.content.as_str()),
        ("T2", "C")
    );
    let twice = api.post(&operator(), &replay, &body).await;
    assert_eq!(twice.problem().0, 404);
}

#[tokio::test]
async fn a_template_is_rendered_anew_with_corrected_variables() {
    let (mut sent, api) = Api::with_outbox(quick(), 4).await;
    let template = json!({ "name": "hello", "title": "Hello {{ name }}", "content": "Dear {{ name }}", "channel": "email" });
    api.post(
        &Who::service().scope("templates:write"),
        "/api/v1/templates",
        &template,
    )
    .await
    .expect(201);
    let body = json!({ "template": "hello", "variables": { "name": "Bbo" }, "recipient": "a@example.com" });
    let dead = refused(&api, &mut sent, &body).await;
    let replay = format!("{PATH}/{}/replay", dead.id);
    let lacking = api.post(&operator(), &replay, &json!({ "variables": {} })).await;
    assert_eq!(lacking.problem().2.as_deref(), Some("variables.name"));
    api.post(&operator(), &replay, &json!({ "variables": { "name": "Bob" } }))
        .await
        .expect(200);
    let again = sent.deliver().await;
    assert_eq!(
        (again.content.title.as_str(), again.content.content.as_str()),
        ("Hello Bob", "Dear Bob")
    );
}

#[tokio::test]
async fn a_new_id_is_another_delivery_and_made_once() {
    let (mut sent, api) = Api::with_outbox(quick(), 4).await;
    let dead = refused(&api, &mut sent, &mail("T", "a@example.com")).await;
    let replay = format!("{PATH}/{}/replay", dead.id);
    let body = json!({ "new_id": true });
    let made = api.post(&operator(), &replay, &body).await.expect(200);
    let again = sent.deliver().await;
    assert_ne!(again.id, dead.id);
    assert_eq!(made["id"], again.id.to_string());
    assert_eq!(made["notification_id"], again.notification.to_string());
    assert!(list(&api, "").await.is_empty(), "the old one is discarded");
    assert_eq!(api.post(&operator(), &replay, &body).await.problem().0, 404);
}

#[tokio::test]
async fn many_are_replayed_or_discarded_by_filter_and_in_bounds() {
    let (mut sent, api) = Api::with_outbox(quick(), 4).await;
    for n in 0..3 {
        refused(&api, &mut sent, &mail(&format!("good {n}"), "a@example.com")).await;
    }
    refused(&api, &mut sent, &mail("bad", "a@example.com")).await;
    let post = async |what: &str, body: Value| api.post(&operator(), &format!("{PATH}/{what}"), &body).await;
    for (body, field) in [
        (json!({}), "filter"),
        (json!({ "all": true, "limit": 0 }), "limit"),
        (json!({ "all": true, "filter": { "q": "bad" } }), "all"),
        (json!({ "filter": { "channel": "pigeon" } }), "filter.channel"),
    ] {
        let refused = post("replay", body.clone()).await;
        assert_eq!(refused.problem().2.as_deref(), Some(field), "{body}");
    }
    for broken in [r#"{"#, r#"{"nothing":"#, "[{", "all"] {
        let answer = api
            .json("POST", &operator(), &format!("{PATH}/replay"), broken)
            .await;
        assert_eq!(answer.problem(), (400, "not_json".to_owned(), None), "{broken}");
    }
    let discarded = post("discard", json!({ "filter": { "q": "BAD" } }))
        .await
        .expect(200);
    assert_eq!(discarded, json!({ "count": 1, "more": false }));
    let replayed = post("replay", json!({ "filter": { "q": "good" }, "limit": 2 }))
        .await
        .expect(200);
    assert_eq!(replayed, json!({ "count": 2, "more": true }));
    for _ in 0..2 {
        // They die again, and are not taken again by the same call.
        sent.next("a replayed one").await.end(Outcome::Rejected);
    }
    eventually("all three are dead again", async || {
        (list(&api, "").await.len() == 3).then_some(())
    })
    .await;
    let replayed = post("replay", json!({ "all": true })).await.expect(200);
    assert_eq!(replayed, json!({ "count": 3, "more": false }));
    for _ in 0..3 {
        sent.deliver().await;
    }
    assert_eq!(api.world.metrics.redriven.get(), 5);
}
