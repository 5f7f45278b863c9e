//! Cancel and retry where a notification has more deliveries than one answer shows.

use std::time::Duration;

use common::ids::DeliveryId;
use dispatcher::model::{Channel, DeliveryState, Lane, Micros, NewDelivery, NewNotification};
use serde_json::json;

use super::{Api, Who};
use crate::support::{Outbox, eventually, later, name, notification, quick};

/// As many as are shown, and some more.
const SHOWN: usize = 2001;

fn delivery(number: usize, channel: Channel, state: DeliveryState, due_at: Micros) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::generate(),
        channel,
        user: Some(name(&format!("u{number}"))),
        address: (channel == Channel::Email).then(|| format!("u{number}@example.org")),
        state,
        reason: (state == DeliveryState::Dead).then(|| "rejected".into()),
        due_at,
        lease_until: None,
        max_attempts: 3,
    }
}

/// Rows of inboxes first, then emails.
fn batch(first: DeliveryState, emails: usize, state: DeliveryState, due_at: Micros) -> NewNotification {
    let mut new = NewNotification {
        sender: "service".to_owned(),
        lane: Lane::Low,
        ..notification("u")
    };
    new.deliveries = (0..SHOWN)
        .map(|number| delivery(number, Channel::InApp, first, due_at))
        .chain((0..emails).map(|number| delivery(number, Channel::Email, state, due_at)))
        .collect();
    new
}

async fn api() -> (Outbox, Api) {
    Api::with_outbox(quick(), 8).await
}

async fn store(api: &Api, new: NewNotification) -> String {
    api.world.stored(vec![new]).await.remove(0).to_string()
}

fn path(id: &str, what: &str) -> String {
    format!("/api/v1/notifications/{id}/{what}")
}

#[tokio::test]
async fn retry_finds_what_is_dead_beyond_those_that_are_shown() {
    let (mut sent, api) = api().await;
    let new = batch(DeliveryState::Delivered, 3, DeliveryState::Dead, Micros::now());
    let mut dead: Vec<_> = new.deliveries[SHOWN..].iter().map(|one| one.id).collect();
    let id = store(&api, new).await;
    let one = json!({ "deliveries": [dead[1]] });
    let retried = api
        .post(&Who::service(), &path(&id, "retry"), &one)
        .await
        .expect(200);
    assert_eq!(retried["retried"], json!([dead.remove(1)]));
    sent.deliver().await;
    let retried = api
        .post(&Who::service(), &path(&id, "retry"), &json!({}))
        .await
        .expect(200);
    let mut again: Vec<DeliveryId> = serde_json::from_value(retried["retried"].clone()).unwrap();
    again.sort_unstable();
    assert_eq!((again, &retried["more"]), (dead.clone(), &json!(false)));
    let mut mails = [sent.deliver().await.id, sent.deliver().await.id];
    mails.sort_unstable();
    assert_eq!(mails.to_vec(), dead);
    let nothing = eventually("nothing waits", async || {
        let answer = api.post(&Who::service(), &path(&id, "retry"), &json!({})).await;
        answer
            .text
            .contains("no delivery of it is dead")
            .then_some(answer)
    })
    .await;
    assert_eq!(nothing.problem().1, "nothing_to_retry");
}

#[tokio::test]
async fn cancel_counts_also_those_that_are_not_shown() {
    let (sent, api) = api().await;
    let due = Micros::now().plus(Duration::from_secs(3600));
    let id = store(
        &api,
        batch(DeliveryState::Delivered, 5, DeliveryState::Pending, due),
    )
    .await;
    let cancelled = api
        .post(&Who::service(), &path(&id, "cancel"), &json!({}))
        .await
        .expect(200);
    let numbers = ["status", "stopped", "on_the_way", "ended"].map(|field| cancelled[field].clone());
    assert_eq!(
        numbers,
        [json!("partly_cancelled"), json!(5), json!(0), json!(SHOWN)]
    );
    assert_eq!(cancelled["deliveries"].as_array().unwrap().len(), 2000);
    let again = api
        .post(&Who::service(), &path(&id, "cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&again["stopped"], &again["ended"]),
        (&json!(0), &json!(SHOWN + 5))
    );
    // What was delivered of it is beyond the first ones here, and all of those were stopped.
    let other = later(
        batch(DeliveryState::Pending, 1, DeliveryState::Delivered, due),
        Duration::from_secs(3600),
    );
    let id = store(&api, other).await;
    let cancelled = api
        .post(&Who::service(), &path(&id, "cancel"), &json!({}))
        .await
        .expect(200);
    assert_eq!(
        (&cancelled["status"], &cancelled["stopped"], &cancelled["ended"]),
        (&json!("partly_cancelled"), &json!(SHOWN), &json!(1))
    );
    assert!(sent.is_empty());
}
