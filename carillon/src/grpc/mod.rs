//! What the gRPC listener answers: notifications and inboxes, publishing, health, and the contract by reflection.

mod enter;
mod health;
mod observed;
mod publish;

use std::sync::Arc;

use axum::{
    Extension, Router, middleware,
    response::{IntoResponse, Response},
};
use common::{
    config::{GrpcConfig, ServerConfig},
    grpc::status,
    http::{Authenticator, Http2, Problem, TrustedProxies},
};
use dispatcher::api::ApiState;
use hub::http::Publisher;
use proto::v1::publish_service_server::PublishServiceServer;
use tonic::{Status, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tower_http::catch_panic::CatchPanicLayer;

use self::{enter::Desk, health::Health, publish::Publishing};
use crate::routes::{self, LATER};

/// Bounds of the listener's connections.
pub(crate) fn http2(config: &GrpcConfig) -> Http2 {
    Http2 {
        max_streams: config.max_streams,
        keepalive: config.keepalive.0,
        keepalive_timeout: config.keepalive_timeout.0,
    }
}

/// All services.
///
/// # Errors
/// Never with a contract that was compiled.
pub(crate) fn router(
    parts: &routes::Parts,
    api: &ApiState,
    publisher: Publisher,
    config: &GrpcConfig,
    server: &ServerConfig,
) -> anyhow::Result<Router> {
    let most = publisher.max_body();
    let publishing = PublishServiceServer::new(Publishing(publisher)).max_decoding_message_size(most);
    let health = HealthServer::new(Health::new(parts));
    let services = Routes::new(dispatcher::api::grpc(api, config))
        .add_service(publishing)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        // Older clients ask by this name.
        .add_service(reflection().build_v1alpha()?);
    let desk = Desk::new(config, &parts.metrics);
    Ok(services
        .into_axum_router()
        .layer(Extension(Authenticator(Arc::clone(&parts.credentials))))
        .layer(Extension(TrustedProxies(
            server.trusted_proxies.as_slice().into(),
        )))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(desk, enter::enter)))
}

/// Of a process that waits for its database.
pub(crate) fn waiting() -> Router {
    let later = async || {
        told(Problem::unavailable(
            "the database is not there yet; try again",
            LATER,
        ))
    };
    Router::new().fallback(later)
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::CONTRACT)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// A bug of ours.
fn panicked(reason: Box<dyn std::any::Any + Send + 'static>) -> Response {
    told(routes::fault(reason))
}

/// A problem as an answer without a message.
fn told(problem: Problem) -> Response {
    answer(&status(problem))
}

fn answer(status: &Status) -> Response {
    status.clone().into_http::<axum::body::Body>().into_response()
}
