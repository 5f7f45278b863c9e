//! `grpc.health.v1.Health`: it says what `/ready` says.

use std::time::Duration;

use common::http::Stopping;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server,
};

use crate::routes::{self, Ready};

/// Between two looks of who watches.
const LOOK: Duration = Duration::from_secs(1);

/// The services that there are; the empty name is the whole process.
const SERVICES: [&str; 3] = [
    "",
    "carillon.v1.NotificationService",
    "carillon.v1.PublishService",
];

/// Asks the process.
#[derive(Debug, Clone)]
pub(super) struct Health(Ready);

impl Health {
    pub(super) fn new(parts: &routes::Parts) -> Self {
        Self(Ready::new(parts))
    }

    async fn of(&self, service: &str) -> ServingStatus {
        if !SERVICES.contains(&service) {
            return ServingStatus::ServiceUnknown;
        }
        if self.0.is_ready().await {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        }
    }
}

fn said(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.of(&request.get_ref().service).await {
            ServingStatus::ServiceUnknown => Err(Status::not_found("there is no such service here")),
            status => Ok(Response::new(said(status))),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// Says what changes; ends with the listener, so that nobody is waited for.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let stop = request
            .extensions()
            .get::<Stopping>()
            .map(|stopping| stopping.0.clone());
        let watched = Watched {
            health: self.clone(),
            service: request.into_inner().service,
            last: None,
            stop: stop.unwrap_or_default(),
        };
        let changes = stream::unfold(watched, async |mut watched| {
            let status = watched.next().await?;
            Some((Ok(said(status)), watched))
        });
        Ok(Response::new(changes.boxed()))
    }
}

struct Watched {
    health: Health,
    service: String,
    last: Option<ServingStatus>,
    stop: CancellationToken,
}

impl Watched {
    /// What it is now, when that is not what was said last.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let status = self.health.of(&self.service).await;
            if self.last.replace(status) != Some(status) {
                return Some(status);
            }
            self.stop.run_until_cancelled(tokio::time::sleep(LOOK)).await?;
        }
    }
}
