//! The REST API through its router, on a real store.

mod audit;
mod bad_input;
mod beyond;
mod bulk;
mod bulk_actions;
mod capacity;
mod collapse;
mod condition;
mod contacts;
mod contract;
mod dead_letters;
mod dry_run;
mod feed;
mod history;
mod idempotency;
mod inbox;
mod keys;
mod limits;
mod operate;
mod pauses;
mod places;
mod plan;
mod records;
mod rules;
mod schedules;
mod settings;
mod templates;
mod unstorable;

use std::sync::Arc;

use axum::{Router, body::Body};
use common::{
    config::AuthConfig,
    credential::{CredentialMetrics, Credentials, Guard, Keys},
    ids::TenantId,
    token::{NewToken, Verifier, mint},
};
use dispatcher::{
    api::{ApiConfig, ApiState, Live, LiveStats, router},
    config::DispatcherConfig,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use secrecy::SecretString;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::support::{Outbox, Running, World, quick, smtp::SmtpServer};

pub(crate) const SECRET: &str = "a secret of the tests, long enough for HS256";

/// A router on a dispatcher of its own.
pub(crate) struct Api {
    router: Router,
    pub(crate) world: World,
    /// Keeps the dispatcher at work.
    pub(crate) running: Running,
    pub(crate) closing: CancellationToken,
    /// The group by which it reads topics.
    pub(crate) kafka_group: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    /// Status, code and field of a problem.
    pub(crate) fn problem(&self) -> (u16, String, Option<String>) {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{}",
            self.text
        );
        let problem = self.json();
        for field in ["type", "title", "detail"] {
            assert!(
                problem[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field}: {problem}"
            );
        }
        assert_eq!(problem["status"], self.status.as_u16());
        let field = problem["field"].as_str().map(str::to_owned);
        (
            self.status.as_u16(),
            problem["code"].as_str().unwrap().to_owned(),
            field,
        )
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The JSON of an answer that has to have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }
}

/// Who calls: by a token that is made for each call, or by an API key.
#[derive(Debug, Clone)]
pub(crate) struct Who(NewToken, Option<String>);

impl Who {
    /// An end user of tenant `t1`.
    pub(crate) fn user(name: &str) -> Self {
        let new = NewToken {
            user: name.to_owned(),
            tenant: Some("t1".to_owned()),
            ..NewToken::default()
        };
        Self(new, None)
    }

    /// Who has this API key, or something else that is shown.
    pub(crate) fn showing(text: &str) -> Self {
        Self(NewToken::default(), Some(text.to_owned()))
    }

    /// A service of tenant `t1` that may create.
    pub(crate) fn service() -> Self {
        Self::user("service").scope("notifications:write service")
    }

    pub(crate) fn scope(mut self, scope: &str) -> Self {
        self.0.scopes.push(scope.to_owned());
        self
    }

    pub(crate) fn role(mut self, role: &str) -> Self {
        self.0.roles.push(role.to_owned());
        self
    }

    pub(crate) fn store(mut self, store: &str) -> Self {
        self.0.stores.push(store.to_owned());
        self
    }

    pub(crate) fn tenant(mut self, tenant: &str) -> Self {
        self.0.tenant = Some(tenant.to_owned());
        self
    }

    pub(crate) fn token(&self) -> String {
        if let Some(shown) = &self.1 {
            return shown.clone();
        }
        mint(&self.0, &SecretString::from(SECRET)).unwrap()
    }
}

impl Api {
    pub(crate) async fn new() -> Self {
        Self::start(quick()).await
    }

    pub(crate) async fn start(config: DispatcherConfig) -> Self {
        Self::on(World::new().await, config).await
    }

    /// On a world that the test has made.
    pub(crate) async fn on(world: World, config: DispatcherConfig) -> Self {
        let running = world.start(config.clone()).await;
        Self::around(world, running, &config)
    }

    /// With emails that the test ends, `room` of them at once.
    pub(crate) async fn with_outbox(config: DispatcherConfig, room: usize) -> (Outbox, Self) {
        let world = World::new().await;
        let (running, outbox) = world.start_outbox(config.clone(), room).await;
        (outbox, Self::around(world, running, &config))
    }

    fn around(world: World, running: Running, config: &DispatcherConfig) -> Self {
        let closing = CancellationToken::new();
        let state = Self::state(config, &running, closing.clone());
        running.dispatcher.run_schedules(&state);
        running.dispatcher.run_events(&state, config);
        Self {
            router: router(&state),
            world,
            running,
            closing,
            kafka_group: config.kafka.group_id.clone(),
        }
    }

    /// Stops the dispatcher, and gives what outlives it.
    pub(crate) async fn stop(self) -> World {
        self.running.stop().await;
        self.world
    }

    /// What the API of a dispatcher stands on.
    pub(crate) fn state(
        config: &DispatcherConfig,
        running: &Running,
        closing: CancellationToken,
    ) -> ApiState {
        let secret = SecretString::from(SECRET);
        let keyring = running.service.keyring();
        let auth = AuthConfig {
            default_tenant: Some(TenantId::new("t1").unwrap()),
            ..AuthConfig::default()
        };
        ApiState::new(ApiConfig {
            credentials: Arc::new(
                Credentials::tokens(Verifier::new(&auth, Some(&secret)).unwrap())
                    .with_keys(Keys::start(
                        Arc::new(keyring.clone()),
                        auth.api_key_grace.0,
                        Some(keyring.uses()),
                        CredentialMetrics::default(),
                    ))
                    .guarded(Guard::new(auth.failures, auth.failures_window.0)),
            ),
            service: running.service.clone(),
            limits: config.limits.clone(),
            strategy: config.strategy.clone(),
            schedules: config.schedules.clone(),
            realtime_lease: config.queue.lease.0,
            live: LiveStats::new(|_| {
                std::future::ready(Live {
                    connections: 3,
                    users_online: 2,
                })
            }),
            closing,
        })
    }

    /// With a mail server that takes everything.
    pub(crate) async fn with_mails() -> (SmtpServer, Self) {
        let mails = SmtpServer::friendly().await;
        let api = Self::start(mails.configure(quick())).await;
        (mails, api)
    }

    /// Sends a request.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, who: &Who, path: &str) -> Answer {
        self.send(request("GET", path, who).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn put(&self, who: &Who, path: &str) -> Answer {
        self.send(request("PUT", path, who).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn delete(&self, who: &Who, path: &str) -> Answer {
        self.send(request("DELETE", path, who).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn post(&self, who: &Who, path: &str, body: &Value) -> Answer {
        self.json("POST", who, path, &body.to_string()).await
    }

    pub(crate) async fn json(&self, method: &str, who: &Who, path: &str, body: &str) -> Answer {
        let request = request(method, path, who).header("content-type", "application/json");
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    /// Creates a notification as a service, and gives its id.
    pub(crate) async fn create(&self, body: &Value) -> String {
        let who = Who::service().scope("notifications:broadcast");
        let created = self.post(&who, "/api/v1/notifications", body).await.expect(201);
        created["id"].as_str().unwrap().to_owned()
    }

    /// The answer to a service that creates a notification.
    pub(crate) async fn created(&self, body: &Value) -> Value {
        self.post(&Who::service(), "/api/v1/notifications", body)
            .await
            .expect(201)
    }

    /// Puts one user's contact.
    pub(crate) async fn put_contact(&self, user: &str, contact: &Value) {
        let who = Who::user("admin").scope("contacts:write");
        let path = format!("/api/v1/contacts/{user}");
        self.json("PUT", &who, &path, &contact.to_string())
            .await
            .expect(200);
    }

    /// What became of a notification, as this one sees it.
    pub(crate) async fn status(&self, who: &Who, id: &str) -> Value {
        let path = format!("/api/v1/notifications/{id}/status");
        self.get(who, &path).await.expect(200)
    }

    /// The titles of a user's list, newest first.
    pub(crate) async fn titles(&self, who: &Who) -> Vec<String> {
        let list = self.get(who, "/api/v1/notifications?limit=200").await.expect(200);
        list.as_array()
            .unwrap()
            .iter()
            .map(|item| item["title"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) async fn unread(&self, who: &Who) -> u64 {
        let answer = self
            .get(who, "/api/v1/notifications/unread-count")
            .await
            .expect(200);
        answer["unread_count"].as_u64().unwrap()
    }

    /// Notifications that the tenant `t1` has ever stored.
    pub(crate) async fn stored(&self) -> u64 {
        self.world
            .store
            .stats(&crate::support::tenant())
            .await
            .unwrap()
            .created
    }
}

pub(crate) fn request(method: &str, path: &str, who: &Who) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", who.token()))
}
