//! gRPC through its service, on a real store: the generated client in the same process.

mod calls;
mod reach;
mod watch;

use std::{sync::Arc, time::Duration};

use axum::{Extension, Router};
use common::{
    config::{AuthConfig, GrpcConfig, Span},
    credential::Credentials,
    http::Authenticator,
    token::Verifier,
};
use dispatcher::api::grpc;
use proto::v1::{SendNotificationRequest, notification_service_client::NotificationServiceClient};
use secrecy::SecretString;
use tonic::{Request, Status, metadata::MetadataValue, service::Routes};
use tonic_types::StatusExt;

use crate::{
    api::{Api, SECRET, Who},
    support::quick,
};

type Client = NotificationServiceClient<Router>;

/// A dispatcher of its own with a client.
struct Grpc {
    api: Api,
    client: Client,
}

fn config() -> GrpcConfig {
    let ms = |ms| Span(Duration::from_millis(ms));
    GrpcConfig {
        max_streams: 100,
        max_calls: 100,
        max_watches: 100,
        user_watches: 2,
        heartbeat: ms(50),
        keepalive: ms(1000),
        keepalive_timeout: ms(1000),
    }
}

impl Grpc {
    async fn new() -> Self {
        Self::of(config()).await
    }

    async fn of(config: GrpcConfig) -> Self {
        let api = Api::new().await;
        let state = Api::state(&quick(), &api.running, api.closing.clone());
        let secret = SecretString::from(SECRET);
        let verifier = Verifier::new(&AuthConfig::default(), Some(&secret)).unwrap();
        let router = Routes::new(grpc(&state, &config))
            .into_axum_router()
            .layer(Extension(Authenticator(Arc::new(Credentials::tokens(verifier)))));
        Self {
            api,
            client: NotificationServiceClient::new(router),
        }
    }

    /// Sends to a user of `t1`; its id.
    async fn send(&self, user: &str, title: &str) -> String {
        let request = by(&Who::service(), to(user, title));
        let sent = self.client.clone().send_notification(request).await.unwrap();
        sent.into_inner().id
    }
}

fn to(user: &str, title: &str) -> SendNotificationRequest {
    SendNotificationRequest {
        user_id: Some(user.to_owned()),
        title: Some(title.to_owned()),
        content: Some("c".to_owned()),
        ..SendNotificationRequest::default()
    }
}

/// A call by a caller.
fn by<T>(who: &Who, message: T) -> Request<T> {
    with_token(&who.token(), message)
}

fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// Code of the status, code of the problem, field.
fn refusal(status: &Status) -> (tonic::Code, String, Option<String>) {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    let violation = details
        .bad_request()
        .and_then(|request| request.field_violations.first());
    (
        status.code(),
        reason.unwrap_or_default(),
        violation.map(|violation| violation.field.clone()),
    )
}
