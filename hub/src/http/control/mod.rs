//! `/api/v1/control`: what operators see of sessions and do to them, on all nodes. Internal listener, scope `control`.

mod body;
mod nodes;
mod orders;
mod presence;
mod sessions;
mod trace;

use std::time::Duration;

use common::{
    audit::AuditEntry,
    http::{Caller, Problem},
    ids::{NodeId, TenantId},
    receipts::Receipt,
};
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::body::{Scope, Wanted};
use crate::{
    Hub,
    nodes::{
        asking::{Asked, Busy, Gathered},
        desk::{Deed, Found},
    },
};

/// Lists and counts are answered with what is known after so long.
const READ_TIME: Duration = Duration::from_secs(2);

/// The same for orders, which are carried out to their end all the same.
const ORDER_TIME: Duration = Duration::from_secs(10);

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(nodes::cluster_stats))
        .routes(routes!(sessions::find_sessions, sessions::select_sessions))
        .routes(routes!(
            sessions::count_sessions,
            sessions::count_selected_sessions
        ))
        .routes(routes!(presence::find_presence, presence::select_presence))
        .routes(routes!(orders::disconnect))
        .routes(routes!(orders::unsubscribe))
        .routes(routes!(orders::refresh))
        .routes(routes!(trace::trace))
}

/// How many sessions were found or told.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Count {
    /// Sessions.
    sessions: usize,
    /// Nodes that had to answer.
    nodes: usize,
    /// False: not everything answered in time, and there may be more.
    complete: bool,
}

impl Count {
    fn new(gathered: &Gathered) -> Self {
        let sessions = gathered.found.iter().map(|(_, found)| match found {
            Found::Sessions(count) => *count,
            _ => 0,
        });
        Self {
            sessions: sessions.sum(),
            nodes: gathered.nodes,
            complete: gathered.complete,
        }
    }
}

/// The tenant that is meant: the caller's own, or for platform administrators the one that is named.
fn tenant(caller: &Caller, named: Option<&str>) -> Result<TenantId, Problem> {
    caller.require("control")?;
    let Some(named) = named else {
        return Ok(caller.tenant.clone());
    };
    let tenant = TenantId::new(named)
        .map_err(|error| Problem::invalid("invalid_value", "tenant", error.to_string()))?;
    if tenant != caller.tenant && !caller.has_scope("platform:admin") {
        return Err(Problem::scope_missing("platform:admin").field("tenant"));
    }
    Ok(tenant)
}

/// The only node that is meant, where one is named.
fn node(hub: &Hub, named: Option<&str>) -> Result<Option<NodeId>, Problem> {
    let Some(named) = named else { return Ok(None) };
    let node =
        NodeId::new(named).map_err(|error| Problem::invalid("invalid_value", "node", error.to_string()))?;
    if hub.inner.nodes.is_known(&node) {
        Ok(Some(node))
    } else {
        let detail = "there is no such node; `GET /api/v1/control/nodes` lists those that are there";
        Err(Problem::invalid("unknown_node", "node", detail))
    }
}

/// Checks whether the caller may mean these, in the tenant.
fn asked(
    hub: &Hub,
    caller: &Caller,
    tenant: &TenantId,
    scope: &Scope,
    wanted: Wanted,
) -> Result<Asked, Problem> {
    let reaches_everyone = wanted.to.target.reaches_everyone();
    if reaches_everyone && !caller.has_scope("platform:admin") {
        return Err(Problem::scope_missing("platform:admin").field(wanted.field));
    }
    let asked = Asked {
        tenant: tenant.clone(),
        all_tenants: reaches_everyone,
        to: wanted.to,
        session: wanted.session,
        node: None,
    };
    if scope.tenant.is_some() && asked.is_of_all_tenants() {
        let detail = "`everyone` means all tenants: leave `tenant` out, or mean its own sessions";
        return Err(Problem::invalid("conflict", "tenant", detail));
    }
    Ok(Asked {
        node: node(hub, scope.node.as_deref())?,
        ..asked
    })
}

/// Puts on record what an operator is about to do to sessions. Nothing is done without it.
async fn record(hub: &Hub, entry: AuditEntry) -> Result<(), Problem> {
    let receipt = Receipt::Audit {
        entry: Box::new(entry),
    };
    if hub.inner.shared.receipts.wait(receipt).await {
        return Ok(());
    }
    Err(Problem::unavailable(
        "this cannot be put on record now, so it is not done; try again",
        Duration::from_secs(5),
    ))
}

/// Asks the nodes, and waits for their answers until the deadline.
async fn ask(hub: &Hub, asked: Asked, deed: Deed, within: Duration) -> Result<Gathered, Problem> {
    hub.inner.nodes.ask(asked, deed, within).await.map_err(|Busy| {
        Problem::unavailable(
            "too many control calls are under way; try again",
            Duration::from_secs(1),
        )
    })
}
