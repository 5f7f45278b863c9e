//! `GET /api/v1/websocket/stats` (S0.5): the caller's tenant on this node.

use axum::{Json, extract::State};
use common::http::{Caller, Problem};
use serde::Serialize;

use crate::{Hub, metrics::HubMetrics};

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
    /// Readers of this node that are too slow; only for platform administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_outbound: Option<Outbound>,
}

/// What waits for slow readers now, and what became of it since the start.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Outbound {
    /// Sessions for which something waits, at the last full second.
    blocked_sessions: i64,
    /// Bytes that wait, at the last full second.
    bytes: i64,
    /// Sessions closed with 4008, by the bound that they were over.
    evicted: Evicted,
    /// Messages dropped by `drop_oldest`.
    dropped_oldest: u64,
    /// Messages that gave way to a newer one with the same key.
    conflated: u64,
    /// Messages whose time passed while they waited.
    expired: u64,
    /// `gap` frames sent.
    gaps: u64,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Evicted {
    bytes: u64,
    frames: u64,
    age: u64,
    stalled: u64,
}

impl Outbound {
    fn of(metrics: &HubMetrics) -> Self {
        Self {
            blocked_sessions: metrics.blocked_sessions.get(),
            bytes: metrics.waiting_bytes.get(),
            evicted: Evicted {
                bytes: metrics.evictions("bytes"),
                frames: metrics.evictions("frames"),
                age: metrics.evictions("age"),
                stalled: metrics.evictions("stalled"),
            },
            dropped_oldest: metrics.dropped_oldest.get(),
            conflated: metrics.conflated.get(),
            expired: metrics.expired.get(),
            gaps: metrics.gaps_told.get(),
        }
    }
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
        node_outbound: platform.then(|| Outbound::of(&hub.inner.shared.metrics)),
    })
}
