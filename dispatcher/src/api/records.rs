//! What became of a notification, and the tenant's sums.

use axum::{Json, extract::State};
use common::{
    http::{Caller, Problem},
    ids::NotificationId,
    token::Identity,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    chain_view::ChainView,
    extract::IdOf,
    problems::{no_notification, store_problem},
    reader::seen,
    state::ApiState,
    view::{DeliveryView, Detail, NotificationView},
};
use crate::model::{Chain, Delivery, InboxItem, Micros, Notification, overall_status};

/// What a caller may know of a notification.
enum Seen {
    /// Its sender, or an administrator of the tenant; with the own inbox row, if there is one.
    Whole {
        stored: Box<Notification>,
        deliveries: Vec<Delivery>,
        item: Option<Box<InboxItem>>,
        detail: Detail,
    },
    /// A reader whose inbox holds it.
    Own {
        item: Box<InboxItem>,
        chains: Vec<Chain>,
        deliveries: Vec<Delivery>,
    },
}

/// Looks a notification up for a caller. What the caller may not see is not there.
async fn look_up(state: &ApiState, caller: &Identity, id: NotificationId) -> Result<Seen, Problem> {
    let reader = seen(state, caller).await?;
    let item = state
        .store()
        .item(&reader, id)
        .await
        .map_err(store_problem)?
        .map(Box::new);
    let stored = state
        .store()
        .notification(&caller.tenant, id)
        .await
        .map_err(store_problem)?;
    match (stored, item) {
        (Some((stored, deliveries)), item)
            if caller.has_scope("notifications:admin") || stored.sender == caller.user.as_str() =>
        {
            let reads_contacts =
                caller.has_scope("notifications:admin") || caller.has_scope("contacts:write");
            let detail = if reads_contacts {
                Detail::Full
            } else {
                Detail::Sender
            };
            Ok(Seen::Whole {
                stored: Box::new(stored),
                deliveries,
                item,
                detail,
            })
        }
        (stored, Some(item)) => {
            let (mut chains, mut deliveries) = stored
                .map(|(stored, deliveries)| (stored.chains, deliveries))
                .unwrap_or_default();
            deliveries.retain(|delivery| delivery.user.as_ref() == Some(&caller.user));
            chains.retain(|chain| chain.user.as_ref() == Some(&caller.user));
            Ok(Seen::Own {
                item,
                chains,
                deliveries,
            })
        }
        _ => Err(no_notification()),
    }
}

fn status_of(stored: &Notification, deliveries: &[Delivery]) -> &'static str {
    let scheduled = stored.visible_at > Micros::now();
    overall_status(
        deliveries.iter().map(|delivery| delivery.state),
        stored.open,
        scheduled,
    )
}

fn views(deliveries: &[Delivery], detail: Detail) -> Vec<DeliveryView> {
    deliveries
        .iter()
        .map(|delivery| DeliveryView::of(delivery, detail))
        .collect()
}

/// Get a notification
///
/// Its sender and administrators see all deliveries and attempts, a reader its own view; for others it is not there.
#[utoipa::path(
    get, path = "/api/v1/notifications/{id}", tag = "notifications",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = NotificationView), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
) -> Result<Json<NotificationView>, Problem> {
    Ok(Json(match look_up(&state, &caller, id).await? {
        Seen::Whole {
            stored,
            deliveries,
            item,
            detail,
        } => {
            let status = status_of(&stored, &deliveries);
            let view = NotificationView::stored(&stored, status, Some(views(&deliveries, detail)));
            match item {
                Some(item) => view.with_state(&item),
                None => view,
            }
        }
        Seen::Own { item, .. } => NotificationView::item(&item, caller.user.as_str()),
    }))
}

/// Where a notification stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct StatusView {
    /// Its id.
    #[schema(format = "uuid")]
    id: String,
    /// What its deliveries amount to: `scheduled`, `pending`, `sent`, `failed`, `cancelled`, `skipped`.
    status: &'static str,
    /// When it was accepted.
    created_at: String,
    /// Whether the caller has read it, where the caller's inbox holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_read: Option<bool>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_at: Option<String>,
    /// With `failover` and `escalate` one for each recipient; a reader sees its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chains: Vec<ChainView>,
    /// One for each recipient and channel; a reader sees its own.
    deliveries: Vec<DeliveryView>,
}

/// Get a notification's status
///
/// With every delivery and every attempt at it, for the sender and administrators.
#[utoipa::path(
    get, path = "/api/v1/notifications/{id}/status", tag = "notifications",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = StatusView), (status = 404, body = Problem))
)]
pub(crate) async fn status(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
) -> Result<Json<StatusView>, Problem> {
    let read = |item: Option<&InboxItem>| {
        (
            item.map(|item| item.is_read),
            item.and_then(|item| item.read_at).map(Micros::rfc3339),
        )
    };
    Ok(Json(match look_up(&state, &caller, id).await? {
        Seen::Whole {
            stored,
            deliveries,
            item,
            detail,
        } => {
            let (is_read, read_at) = read(item.as_deref());
            StatusView {
                id: stored.id.to_string(),
                status: if stored.withdrawn {
                    "cancelled"
                } else {
                    status_of(&stored, &deliveries)
                },
                created_at: stored.created_at.rfc3339(),
                is_read,
                read_at,
                chains: stored.chains.iter().map(ChainView::of).collect(),
                deliveries: views(&deliveries, detail),
            }
        }
        Seen::Own {
            item,
            chains,
            deliveries,
        } => {
            let (is_read, read_at) = read(Some(&item));
            StatusView {
                id: item.id.to_string(),
                // It is in the inbox, so it has come.
                status: "sent",
                created_at: item.created_at.rfc3339(),
                is_read,
                read_at,
                chains: chains.iter().map(ChainView::of).collect(),
                deliveries: views(&deliveries, Detail::Reader),
            }
        }
    }))
}

/// Sums of the caller's tenant.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct StatsView {
    /// Open sockets; in a cluster, on the hubs that say so in time.
    connections: u64,
    /// Users with at least one; in a cluster, in sum over the hubs.
    users_online: u64,
    /// Notifications accepted.
    created: u64,
    /// Deliveries that a channel took.
    sent: u64,
    /// Deliveries that are dead or expired.
    failed: u64,
    /// What the tenant's users together have not read; rows of expressions (`all_of`, `any_of`, `except`, role with store)
    /// are not counted.
    unread: u64,
}

/// Get statistics
#[utoipa::path(get, path = "/api/v1/notifications/stats", tag = "notifications", responses((status = 200, body = StatsView)))]
pub(crate) async fn stats(State(state): State<ApiState>, caller: Caller) -> Result<Json<StatsView>, Problem> {
    let sums = state.store().stats(&caller.tenant).await.map_err(store_problem)?;
    let live = state.live.of(&caller.tenant).await;
    Ok(Json(StatsView {
        connections: live.connections,
        users_online: live.users_online,
        created: sums.created,
        sent: sums.sent,
        failed: sums.failed,
        unread: sums.unread,
    }))
}
