//! Sessions by target: a page of them, or how many.

use axum::{Json, extract::State};
use common::http::{Caller, JsonBody, Problem};
use http::Uri;
use serde::Serialize;

use super::{
    Count, READ_TIME, ask, asked,
    body::{PageBody, PageOf, Scope, SelectBody, Wanted, names, scope},
    tenant,
};
use crate::{
    Hub,
    nodes::desk::{Deed, Found},
    worker::control::{Described, SessionInfo},
};

/// A page of sessions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Sessions {
    /// In the order of their arrival.
    sessions: Vec<SessionInfo>,
    /// Nodes that had to answer.
    nodes: usize,
    /// False: not everything answered in time, and sessions may be missing.
    complete: bool,
    /// There is more: give this as `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Sessions by names
///
/// Without a name those of the tenant. Several names mean sessions that fit all of them. Scope `control`.
#[utoipa::path(get, path = "/api/v1/control/sessions", tag = "control", security(("bearer" = [])),
    params(("user" = Option<String>, Query, description = "Sessions of a user"),
        ("role" = Option<String>, Query, description = "Sessions with a role"),
        ("store" = Option<String>, Query, description = "Sessions with a store"),
        ("topic" = Option<String>, Query, description = "Sessions that subscribed to a topic"),
        ("everyone" = Option<bool>, Query, description = "Sessions of all tenants; platform administrators"),
        ("session" = Option<String>, Query, description = "Only this session"),
        ("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node"),
        ("limit" = Option<usize>, Query, description = "1 to 1,000; default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = Sessions), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn find_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Sessions>, Problem> {
    let (scope, wanted, page) = names(&uri)?;
    list(&hub, &caller, &scope, wanted, page).await
}

/// Sessions by a target
///
/// Any target of a publish, with expressions and `except`. Scope `control`.
#[utoipa::path(post, path = "/api/v1/control/sessions", tag = "control", security(("bearer" = [])), request_body = PageBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = Sessions), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn select_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
    JsonBody(body, _): JsonBody<PageBody>,
) -> Result<Json<Sessions>, Problem> {
    let (wanted, page) = body.into_parts();
    list(&hub, &caller, &scope(&uri)?, wanted, page).await
}

/// How many sessions, by names
#[utoipa::path(get, path = "/api/v1/control/sessions/count", tag = "control", security(("bearer" = [])),
    params(("user" = Option<String>, Query, description = "Sessions of a user"),
        ("role" = Option<String>, Query, description = "Sessions with a role"),
        ("store" = Option<String>, Query, description = "Sessions with a store"),
        ("topic" = Option<String>, Query, description = "Sessions that subscribed to a topic"),
        ("everyone" = Option<bool>, Query, description = "Sessions of all tenants; platform administrators"),
        ("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = Count), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn count_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Count>, Problem> {
    let (scope, wanted, _) = names(&uri)?;
    count(&hub, &caller, &scope, wanted).await
}

/// How many sessions, by a target
#[utoipa::path(post, path = "/api/v1/control/sessions/count", tag = "control", security(("bearer" = [])),
    request_body = SelectBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = Count), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn count_selected_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
    JsonBody(body, _): JsonBody<SelectBody>,
) -> Result<Json<Count>, Problem> {
    count(&hub, &caller, &scope(&uri)?, body.wanted()).await
}

async fn count(hub: &Hub, caller: &Caller, scope: &Scope, wanted: Wanted) -> Result<Json<Count>, Problem> {
    let tenant = tenant(caller, scope.tenant.as_deref())?;
    let asked = asked(hub, caller, &tenant, scope, wanted)?;
    Ok(Json(Count::new(&ask(hub, asked, Deed::Count, READ_TIME).await?)))
}

async fn list(
    hub: &Hub,
    caller: &Caller,
    scope: &Scope,
    wanted: Wanted,
    page: PageOf,
) -> Result<Json<Sessions>, Problem> {
    let tenant = tenant(caller, scope.tenant.as_deref())?;
    let page = page.page(cursor)?;
    let asked = asked(hub, caller, &tenant, scope, wanted)?;
    let limit = page.limit;
    let gathered = ask(hub, asked, Deed::List(page), READ_TIME).await?;
    let parts = gathered.found.into_iter().filter_map(|(_, found)| match found {
        Found::Page(described) => Some(described),
        _ => None,
    });
    let described = Described::merged(parts, limit);
    Ok(Json(Sessions {
        sessions: described.sessions,
        nodes: gathered.nodes,
        complete: gathered.complete,
        next: described.until.map(|until| until.to_string()),
    }))
}

/// A cursor is the id of a session.
fn cursor(text: &str) -> Option<Box<str>> {
    let is_id = text.len() == 32
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_id.then(|| text.into())
}
