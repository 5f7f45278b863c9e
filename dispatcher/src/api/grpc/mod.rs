//! Notifications and inboxes by gRPC: the contract of `proto/`, over what the REST routes stand on.
//!
//! `call` is what every call goes through; `send` creates, by the body that the REST API would have been sent; `whose` says
//! whose inbox is meant, `inbox` reads and marks it, `watch` follows it.

mod body;
mod call;
mod inbox;
mod send;
mod view;
mod watch;
mod whose;

use std::sync::Arc;

use common::config::GrpcConfig;
use proto::v1::{
    GetUnreadCountRequest, GetUnreadCountResponse, GetUserNotificationsRequest, GetUserNotificationsResponse,
    MarkAsReadRequest, MarkAsReadResponse, SendBulkNotificationRequest, SendBulkNotificationResponse,
    SendNotificationRequest, SendNotificationResponse, WatchInboxRequest,
    notification_service_server::{NotificationService, NotificationServiceServer},
};
use tonic::{Request, Response, Status};

use self::{
    call::{call, counted},
    watch::{Places, Watching},
};
use super::{outage::Needs, state::ApiState};

/// Answers the contract's `NotificationService`.
#[derive(Debug, Clone)]
pub struct Notifications {
    state: ApiState,
    places: Arc<Places>,
}

/// The service, to be served by who has a listener; requests carry its `Authenticator`.
#[must_use]
pub fn grpc(state: &ApiState, config: &GrpcConfig) -> NotificationServiceServer<Notifications> {
    let most = state.limits.bulk_body_bytes.0.max(state.limits.body_bytes.0);
    let notifications = Notifications {
        state: state.clone(),
        places: Arc::new(Places::new(config)),
    };
    NotificationServiceServer::new(notifications).max_decoding_message_size(most)
}

#[tonic::async_trait]
impl NotificationService for Notifications {
    async fn send_notification(
        &self,
        request: Request<SendNotificationRequest>,
    ) -> Result<Response<SendNotificationResponse>, Status> {
        call(&self.state, request, Needs::Creates, |call, message| {
            send::one(&self.state, call, message)
        })
        .await
    }

    async fn send_bulk_notification(
        &self,
        request: Request<SendBulkNotificationRequest>,
    ) -> Result<Response<SendBulkNotificationResponse>, Status> {
        call(&self.state, request, Needs::Creates, |call, message| {
            send::many(&self.state, call, message)
        })
        .await
    }

    async fn get_user_notifications(
        &self,
        request: Request<GetUserNotificationsRequest>,
    ) -> Result<Response<GetUserNotificationsResponse>, Status> {
        call(&self.state, request, Needs::Reads, |call, message| {
            counted(inbox::list(&self.state, call, message))
        })
        .await
    }

    async fn mark_as_read(
        &self,
        request: Request<MarkAsReadRequest>,
    ) -> Result<Response<MarkAsReadResponse>, Status> {
        call(&self.state, request, Needs::Changes, |call, message| {
            counted(inbox::mark(&self.state, call, message))
        })
        .await
    }

    async fn get_unread_count(
        &self,
        request: Request<GetUnreadCountRequest>,
    ) -> Result<Response<GetUnreadCountResponse>, Status> {
        call(&self.state, request, Needs::Reads, |call, message| {
            counted(inbox::unread(&self.state, call, message))
        })
        .await
    }

    type WatchInboxStream = Watching;

    async fn watch_inbox(&self, request: Request<WatchInboxRequest>) -> Result<Response<Watching>, Status> {
        call(&self.state, request, Needs::ReadsPrimary, |call, message| {
            counted(watch::begin(&self.state, &self.places, call, message))
        })
        .await
    }
}
