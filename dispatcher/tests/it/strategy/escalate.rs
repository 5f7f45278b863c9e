//! The next step in its time, unless a receipt came first.

use common::{ids::NotificationId, receipts::Receipt};
use dispatcher::model::Micros;
use serde_json::{Value, json};

use super::{chain, ended, step, steps};
use crate::{
    api::{Api, Who},
    support::{eventually, session},
};

/// In the inbox and on the screen, and in a while by email.
fn body(after: f64, unless: &str) -> Value {
    json!({
        "user_id": "u1", "title": "T", "content": "C", "strategy": "escalate", "stop_on": unless,
        "steps": [{ "channel": "in_app" }, { "channel": "realtime" }, { "channel": "email", "after": after }],
        "metadata": { "email": "u1@example.com" },
    })
}

#[tokio::test]
async fn what_nobody_reads_comes_by_email() {
    let (mut mails, api) = Api::with_mails().await;
    let id = api.create(&body(0.2, "read")).await;
    let waiting = chain(&api, &id).await;
    assert_eq!(steps(&waiting)[0], step("in_app", "delivered", ""));
    assert_eq!(api.status(&Who::service(), &id).await["status"], "pending");
    assert_eq!(mails.mail().await.to, "u1@example.com");
    let chain = ended(&api, &id).await;
    assert_eq!(chain["state"], "exhausted", "it was sent, and is not read");
    assert_eq!(steps(&chain)[2], step("email", "delivered", ""));
    assert!(mails.further_mails().is_empty());
}

#[tokio::test]
async fn a_cancel_tells_of_the_steps_that_it_stopped() {
    let (mut mails, api) = Api::with_mails().await;
    let id = api.create(&body(3600.0, "read")).await;
    let path = format!("/api/v1/notifications/{id}/cancel");
    let answer = api.json("POST", &Who::service(), &path, "").await.expect(200);
    assert_eq!(answer["status"], "partly_cancelled", "{answer}");
    assert_eq!(answer["steps_stopped"], 1, "{answer}");
    let again = api.json("POST", &Who::service(), &path, "").await.expect(200);
    assert_eq!(again["steps_stopped"], 0, "{again}");
    assert!(mails.further_mails().is_empty());
}

#[tokio::test]
async fn reading_anywhere_cancels_what_is_pending() {
    let (mut mails, api) = Api::with_mails().await;
    let me = Who::user("u1");
    let ways = [
        "read",
        "acknowledge",
        "read-all",
        "bulk-read",
        "archive",
        "socket",
        "socket all",
    ];
    for way in ways {
        let id = api.create(&body(3600.0, "read")).await;
        let due = chain(&api, &id).await["steps"][2]["due_at"].clone();
        assert!(due.is_string(), "{way}: it says when");
        let notification: NotificationId = id.parse().unwrap();
        match way {
            "read" | "acknowledge" => {
                let path = format!("/api/v1/notifications/{id}/{way}");
                api.put(&me, &path).await.expect(200);
            }
            "read-all" => drop(api.put(&me, "/api/v1/notifications/read-all").await.expect(200)),
            "bulk-read" => {
                let body = json!({ "notification_ids": [id] });
                let body = body.to_string();
                api.json("PUT", &me, "/api/v1/notifications/bulk-read", &body)
                    .await
                    .expect(200);
            }
            "archive" => drop(
                api.delete(&me, &format!("/api/v1/notifications/{id}"))
                    .await
                    .expect(200),
            ),
            "socket" => {
                let receipt = Receipt::Read {
                    reader: session("u1"),
                    ids: vec![notification.into()],
                };
                api.running.receive(receipt).await;
            }
            _ => {
                let receipt = Receipt::ReadAll {
                    reader: session("u1"),
                    at_ms: Micros::now().0 / 1000,
                };
                api.running.receive(receipt).await;
            }
        }
        let state = eventually(&format!("{way} cancels the email"), async || {
            let chain = chain(&api, &id).await;
            (steps(&chain)[2].1 == "cancelled").then_some(chain)
        })
        .await;
        let reason = &steps(&state)[2].2;
        assert!(
            reason == "read" || (way == "acknowledge" && reason == "acknowledged"),
            "{way}: {reason}"
        );
    }
    assert!(mails.further_mails().is_empty());
}

#[tokio::test]
async fn only_the_chains_own_user_counts() {
    let (_mails, api) = Api::with_mails().await;
    let id = api.create(&body(3600.0, "read")).await;
    let other = Who::user("u2");
    api.put(&other, "/api/v1/notifications/read-all").await;
    let receipt = Receipt::Read {
        reader: session("u2"),
        ids: vec![id.parse::<NotificationId>().unwrap().into()],
    };
    api.running.receive(receipt).await;
    // Of the same stream, and behind it.
    let own = api.create(&body(3600.0, "read")).await;
    let receipt = Receipt::Read {
        reader: session("u1"),
        ids: vec![own.parse::<NotificationId>().unwrap().into()],
    };
    api.running.receive(receipt).await;
    eventually("the second is read", async || {
        (steps(&chain(&api, &own).await)[2].1 == "cancelled").then_some(())
    })
    .await;
    assert_eq!(steps(&chain(&api, &id).await)[2].1, "pending");
}

#[tokio::test]
async fn a_step_waits_for_what_it_says() {
    let (mut mails, api) = Api::with_mails().await;
    // A device has it: enough for `delivered`, and not for `acknowledged`.
    let id = api.create(&body(3600.0, "delivered")).await;
    api.running
        .delivered("u1", id.parse::<NotificationId>().unwrap())
        .await;
    let chain = ended(&api, &id).await;
    assert_eq!(
        (&chain["state"], &chain["reached"]),
        (&json!("done"), &json!("delivered"))
    );
    let id = api.create(&body(0.2, "acknowledged")).await;
    api.put(&Who::user("u1"), &format!("/api/v1/notifications/{id}/read"))
        .await
        .expect(200);
    assert_eq!(mails.mail().await.to, "u1@example.com");
    let chain = ended(&api, &id).await;
    assert_eq!(
        (&chain["state"], &chain["reached"]),
        (&json!("exhausted"), &json!("read"))
    );
}

#[tokio::test]
async fn nobody_to_give_receipts_is_refused() {
    let api = Api::new().await;
    let body = json!({ "user_id": "u1", "title": "T", "content": "C", "strategy": "escalate", "channels": ["email"] });
    let answer = api.post(&Who::service(), "/api/v1/notifications", &body).await;
    assert_eq!(
        answer.problem(),
        (422, "no_receipts".to_owned(), Some("channels".to_owned()))
    );
    assert_eq!(api.stored().await, 0);
}
