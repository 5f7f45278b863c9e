//! How much may wait.

use serde_json::{Value, json};

use super::{Api, Who};
use crate::support::{eventually, quick, smtp::SmtpServer};

const CREATE: &str = "/api/v1/notifications";

/// A dispatcher with a mail server, and so much room in its queue.
async fn with_room(all: u64, tenant: u64) -> (SmtpServer, Api) {
    let mails = SmtpServer::friendly().await;
    let mut config = mails.configure(quick());
    config.limits.queued_max = all;
    config.limits.queued_max_per_tenant = tenant;
    let api = Api::start(config).await;
    (mails, api)
}

/// An email that waits for a day.
fn waiting() -> Value {
    json!({ "recipient": "a@example.com", "channel": "email", "title": "T", "content": "C", "delay": "24h" })
}

#[tokio::test]
async fn a_full_queue_is_429_and_stores_nothing() {
    let (_mails, api) = with_room(3, 3).await;
    for _ in 0..3 {
        api.created(&waiting()).await;
    }
    let refused = api.post(&Who::service(), CREATE, &waiting()).await;
    assert_eq!(refused.problem(), (429, "queue_full".to_owned(), None));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(api.stored().await, 3);
    // What does not wait is taken.
    api.created(&json!({ "user_id": "u1", "title": "T", "content": "C" }))
        .await;
    // A key that was refused is not used up.
    let mut keyed = waiting();
    keyed["idempotency_key"] = "k".into();
    for _ in 0..2 {
        let refused = api.post(&Who::service(), CREATE, &keyed).await;
        assert_eq!(refused.problem().1, "queue_full");
    }
}

#[tokio::test]
async fn a_tenants_bound_is_no_others() {
    let (_mails, api) = with_room(5, 2).await;
    let refused = async |tenant: &str| {
        let who = Who::service().tenant(tenant);
        let mut taken = 0;
        loop {
            let answer = api.post(&who, CREATE, &waiting()).await;
            if answer.status == 429 {
                return (taken, answer.problem().1, answer.json()["detail"].to_string());
            }
            answer.expect(201);
            taken += 1;
        }
    };
    for (tenant, room, whose) in [
        ("t1", 2, "of this tenant"),
        ("t2", 2, "of this tenant"),
        ("t3", 1, "deliveries wait"),
    ] {
        let (taken, code, detail) = refused(tenant).await;
        assert_eq!((taken, code.as_str()), (room, "queue_full"), "{tenant}");
        assert!(detail.contains(whose), "{detail}");
    }
}

/// A process that begins with a queue that others filled counts it first.
#[tokio::test]
async fn what_was_there_before_counts() {
    let mails = SmtpServer::friendly().await;
    let mut config = mails.configure(quick());
    config.limits.queued_max = 2;
    config.limits.queued_max_per_tenant = 2;
    let api = Api::start(config).await;
    let later = std::time::Duration::from_secs(3600);
    let waits = || crate::support::later(crate::support::email("a@example.com"), later);
    let mut all = vec![waits(), waits()];
    for new in &mut all {
        new.deliveries[0].due_at = new.visible_at;
    }
    api.world.stored(all).await;
    let refused = api.post(&Who::service(), CREATE, &waiting()).await;
    assert_eq!(refused.problem().1, "queue_full");
}

#[tokio::test]
async fn there_is_room_again_when_something_has_gone() {
    let (_mails, api) = with_room(1, 1).await;
    let made = api.created(&waiting()).await;
    let refused = api.post(&Who::service(), CREATE, &waiting()).await;
    assert_eq!(refused.problem().1, "queue_full");
    let admin = Who::user("admin").scope("notifications:admin");
    let path = format!("{CREATE}/{}?for=all", made["id"].as_str().unwrap());
    api.delete(&admin, &path).await.expect(200);
    eventually("room", async || {
        let answer = api.post(&Who::service(), CREATE, &waiting()).await;
        (answer.status == 201).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_many_at_once_no_more_are_taken_than_there_is_room() {
    let (_mails, api) = with_room(10, 10).await;
    let (service, waiting) = (Who::service(), waiting());
    let tries = (0..40).map(|_| api.post(&service, CREATE, &waiting));
    let answers = futures_util::future::join_all(tries).await;
    let taken = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(taken, 10, "{answers:?}");
    assert_eq!(api.stored().await, 10);
}

#[tokio::test]
async fn of_a_bulk_what_finds_room_is_taken() {
    let (_mails, api) = with_room(2, 2).await;
    let body = json!({ "notifications": vec![waiting(); 3] });
    let answer = api
        .post(&Who::service(), "/api/v1/notifications/bulk", &body)
        .await
        .expect(200);
    assert_eq!((&answer["created"], &answer["failed"]), (&json!(2), &json!(1)));
    let problem = &answer["results"][2]["problem"];
    assert_eq!(
        (&problem["code"], &problem["status"]),
        (&json!("queue_full"), &json!(429))
    );
    assert_eq!(api.stored().await, 2);
}
