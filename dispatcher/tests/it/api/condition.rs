//! Health in detail and in numbers.

use serde_json::json;

use super::{Api, Who};
use crate::support::{quick, smtp::SmtpServer};

#[tokio::test]
async fn health_in_detail_is_told_part_by_part() {
    let mails = SmtpServer::friendly().await;
    let mut config = mails.configure(quick());
    config.limits.queued_max = 10;
    let api = Api::start(config).await;
    let who = Who::user("u1");
    let health = api.get(&who, "/api/v1/health/detailed").await.expect(200);
    assert_eq!(
        (&health["status"], &health["service"]),
        (&json!("healthy"), &json!("carillon"))
    );
    let parts = &health["components"];
    assert_eq!(parts["database"]["status"], "healthy");
    assert!(parts["database"]["latency_ms"].is_u64());
    assert_eq!(
        (&parts["queue"]["waiting"], &parts["queue"]["limit"]),
        (&json!(0), &json!(10))
    );
    assert_eq!(parts["queue"]["lanes"]["critical"]["waiting"], 0);
    assert_eq!(parts["bus"]["status"], "healthy");
    assert_eq!(parts["channels"]["email"]["status"], "healthy");
    assert_eq!(parts["channels"]["sms"]["status"], "not_configured");
    assert_eq!(parts["websocket"], json!({ "connections": 3, "users_online": 2 }));
    for _ in 0..9 {
        let body = json!({ "recipient": "a@example.com", "channel": "email", "title": "T", "content": "C", "delay": "24h" });
        api.created(&body).await;
    }
    let crowded = api.get(&who, "/api/v1/health/detailed").await.expect(200);
    assert_eq!(crowded["status"], "degraded");
    assert_eq!(crowded["components"]["queue"]["lanes"]["medium"]["waiting"], 9);
    api.world.store.close().await;
    let down = api.get(&who, "/api/v1/health/detailed").await;
    assert_eq!(down.expect(503)["status"], "unhealthy");
    let nobody = http::Request::get("/api/v1/health/detailed");
    let nobody = api.send(nobody.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(nobody.problem().0, 401);
}

#[tokio::test]
async fn health_names_what_is_paused_for_the_caller() {
    let api = Api::new().await;
    let path = "/api/v1/queue/pauses";
    let operator = Who::user("op").scope("notifications:admin platform:admin");
    let body = json!({ "channel": "email", "reason": "the provider is down" });
    api.post(&operator, path, &body).await.expect(200);
    let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let body = json!({ "all_tenants": true, "until": until });
    api.post(&operator, path, &body).await.expect(200);
    let pauses = async |who: Who| {
        let health = api.get(&who, "/api/v1/health/detailed").await.expect(200);
        assert_eq!(health["status"], "healthy", "somebody wants it");
        health["components"]["queue"]["pauses"].clone()
    };
    let told = pauses(Who::user("u1")).await;
    let told = told.as_array().unwrap();
    let of = |all: bool| told.iter().find(|one| one["all_tenants"] == all).unwrap();
    assert_eq!(told.len(), 2);
    assert_eq!(of(false)["channel"], "email");
    assert_eq!(of(false).get("until"), None);
    assert_eq!(of(true).get("channel"), None);
    assert!(of(true)["until"].is_string());
    for one in told {
        // Whoever has a token may ask.
        assert_eq!((one.get("reason"), one.get("paused_by")), (None, None));
    }
    let foreign = pauses(Who::user("u1").tenant("t2")).await;
    assert_eq!(foreign, json!([of(true)]));
    let query = format!("{path}?all_tenants=true");
    assert_eq!(api.delete(&operator, &query).await.status.as_u16() / 100, 2);
    assert_eq!(pauses(Who::user("u1").tenant("t2")).await, json!([]));
}

#[tokio::test]
async fn numbers_need_their_scope() {
    let api = Api::new().await;
    api.created(&json!({ "user_id": "u1", "title": "T", "content": "C" }))
        .await;
    let path = "/api/v1/health/metrics";
    let refused = api.get(&Who::user("u1"), path).await;
    assert_eq!(refused.problem().1, "scope_missing");
    let numbers = api
        .get(&Who::user("ops").scope("metrics"), path)
        .await
        .expect(200);
    assert_eq!(numbers["notifications"]["created"], 1);
    assert_eq!(numbers["notifications"]["sent_by_channel"]["in_app"], 1);
    assert!(numbers["process"]["pid"].is_u64() && numbers["uptime_seconds"].is_u64());
    assert_eq!(numbers["queue"]["high"]["waiting"], 0);
}
