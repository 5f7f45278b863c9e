//! `GET /api/v1/websocket/stats` (S0.5): the caller's tenant on this node.

use axum::{Json, extract::State};
use common::http::{Caller, Problem};
use serde::Serialize;

use crate::Hub;

/// What is connected.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Stats {
    /// This node.
    node: String,
    /// Open sessions of the caller's tenant.
    connections: usize,
    /// Users of the tenant with at least one session.
    users_online: usize,
    /// Open sessions of this node; only for platform administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_connections: Option<usize>,
    /// Topics with members on this node; only for platform administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_topics: Option<usize>,
}

/// Connections of the caller's tenant on this node.
#[utoipa::path(get, path = "/api/v1/websocket/stats", tag = "sockets", security(("bearer" = [])),
    responses((status = 200, body = Stats), (status = 401, body = Problem)))]
pub(super) async fn stats(State(hub): State<Hub>, caller: Caller) -> Json<Stats> {
    let tenant = hub.tenant_count(&caller.tenant);
    let platform = caller.has_scope("platform:admin");
    Json(Stats {
        node: hub.node().to_string(),
        connections: tenant.connections,
        users_online: tenant.users,
        node_connections: platform.then(|| hub.inner.connections.total()),
        node_topics: platform.then(|| hub.inner.registry.topics()),
    })
}
