//! Which nodes there are, and how much they have.

use axum::{Json, extract::State};
use common::{
    http::{Caller, Problem},
    target::Target,
};
use http::Uri;
use serde::Serialize;

use super::{READ_TIME, ask, body::scope, node, tenant};
use crate::{
    Hub,
    nodes::{
        Known,
        announcement::Figures,
        asking::Asked,
        desk::{Deed, Found},
    },
};

/// The nodes of the cluster.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Nodes {
    /// The node that answers first, then the others by their ids.
    nodes: Vec<NodeInfo>,
    /// False: a node may be missing, or be about to disappear. This node has just begun, does not hear the bus, or has not
    /// heard another for longer than it should.
    complete: bool,
}

/// One node.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct NodeInfo {
    /// Its id, new at each start.
    node: String,
    /// Version of the program.
    version: String,
    /// `hub.region`.
    region: String,
    /// When it started (RFC 3339).
    #[schema(value_type = String)]
    started_at: jiff::Timestamp,
    /// Its bus works.
    ready: bool,
    /// It stops, and takes no new sessions.
    draining: bool,
    /// How long ago it was heard of, in milliseconds.
    heard_ms: u64,
    /// Its load, of all tenants, as it announced; only for platform administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<Figures>,
}

impl NodeInfo {
    fn new(known: Known, platform: bool) -> Self {
        let Known { node, said, silence } = known;
        Self {
            node: node.to_string(),
            version: said.version,
            region: said.region,
            started_at: said.started_at,
            ready: said.ready,
            draining: said.draining,
            heard_ms: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
            load: platform.then_some(said.figures),
        }
    }
}

/// What is connected to the cluster.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ClusterStats {
    /// Open sessions of the tenant.
    connections: usize,
    /// Users of the tenant with at least one session. Who has sessions on two nodes counts twice.
    users_online: usize,
    /// Load of all nodes and tenants together; only for platform administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<Figures>,
    /// The same by node.
    by_node: Vec<StatsOfNode>,
    /// Nodes that had to answer.
    nodes: usize,
    /// False: not every node answered in time.
    complete: bool,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct StatsOfNode {
    /// The node's id.
    node: String,
    /// Open sessions of the tenant.
    connections: usize,
    /// Users of the tenant with at least one session there.
    users_online: usize,
    /// Load of the node, of all tenants; only for platform administrators.
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<Figures>,
}

/// Nodes of the cluster
///
/// As they announce themselves. Who ends is gone at once, who dies within 10 seconds. Scope `control`.
#[utoipa::path(get, path = "/api/v1/control/nodes", tag = "control", security(("bearer" = [])),
    responses((status = 200, body = Nodes), (status = 401, body = Problem), (status = 403, body = Problem)))]
pub(super) async fn list_nodes(State(hub): State<Hub>, caller: Caller) -> Result<Json<Nodes>, Problem> {
    caller.require("control")?;
    let platform = caller.has_scope("platform:admin");
    let (nodes, complete) = hub.inner.nodes.all();
    let nodes = nodes.into_iter().map(|known| NodeInfo::new(known, platform));
    Ok(Json(Nodes {
        nodes: nodes.collect(),
        complete,
    }))
}

/// What is connected, on all nodes
///
/// Of the caller's tenant; for platform administrators with the load of the nodes. Scope `control`.
#[utoipa::path(get, path = "/api/v1/control/stats", tag = "control", security(("bearer" = [])),
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = ClusterStats), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn cluster_stats(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<ClusterStats>, Problem> {
    let scope = scope(&uri)?;
    let asked = Asked {
        tenant: tenant(&caller, scope.tenant.as_deref())?,
        all_tenants: false,
        to: Target::Tenant.into(),
        session: None,
        node: node(&hub, scope.node.as_deref())?,
    };
    let platform = caller.has_scope("platform:admin");
    let gathered = ask(&hub, asked, Deed::Stats, READ_TIME).await?;
    let mut stats = ClusterStats {
        connections: 0,
        users_online: 0,
        load: None,
        by_node: Vec::new(),
        nodes: gathered.nodes,
        complete: gathered.complete,
    };
    let mut load = Figures::default();
    for (node, found) in gathered.found {
        let Found::Stats(its) = found else { continue };
        stats.connections += its.connections;
        stats.users_online += its.users;
        load.add(&its.figures);
        stats.by_node.push(StatsOfNode {
            node: node.to_string(),
            connections: its.connections,
            users_online: its.users,
            load: platform.then_some(its.figures),
        });
    }
    stats.load = platform.then_some(load);
    stats.by_node.sort_unstable_by(|a, b| a.node.cmp(&b.node));
    Ok(Json(stats))
}
