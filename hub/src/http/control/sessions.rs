//! Sessions by target: a page of them, or how many.

use std::sync::Arc;

use axum::{Json, extract::State};
use common::http::{Caller, JsonBody, Problem};
use http::Uri;
use serde::Serialize;

use super::{
    Answers, Count, READ_TIME, ask,
    body::{PageBody, PageOf, SelectBody, Wanted, named_tenant, names},
    selection, tenant,
};
use crate::{
    Hub,
    worker::control::{Described, Page, SessionInfo, Task},
};

/// A page of sessions.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Sessions {
    /// In the order of their arrival.
    sessions: Vec<SessionInfo>,
    /// Nodes that were asked.
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
        ("limit" = Option<usize>, Query, description = "1 to 1,000; default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = Sessions), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn find_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Sessions>, Problem> {
    let (named, wanted, page) = names(&uri)?;
    list(&hub, &caller, named, wanted, page).await
}

/// Sessions by a target
///
/// Any target of a publish, with expressions and `except`. Scope `control`.
#[utoipa::path(post, path = "/api/v1/control/sessions", tag = "control", security(("bearer" = [])), request_body = PageBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators")),
    responses((status = 200, body = Sessions), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn select_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
    JsonBody(body, _): JsonBody<PageBody>,
) -> Result<Json<Sessions>, Problem> {
    let (wanted, page) = body.into_parts();
    list(&hub, &caller, named_tenant(&uri)?, wanted, page).await
}

/// How many sessions, by names
#[utoipa::path(get, path = "/api/v1/control/sessions/count", tag = "control", security(("bearer" = [])),
    params(("user" = Option<String>, Query, description = "Sessions of a user"),
        ("role" = Option<String>, Query, description = "Sessions with a role"),
        ("store" = Option<String>, Query, description = "Sessions with a store"),
        ("topic" = Option<String>, Query, description = "Sessions that subscribed to a topic"),
        ("everyone" = Option<bool>, Query, description = "Sessions of all tenants; platform administrators"),
        ("tenant" = Option<String>, Query, description = "Another tenant; platform administrators")),
    responses((status = 200, body = Count), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn count_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Count>, Problem> {
    let (named, wanted, _) = names(&uri)?;
    count(&hub, &caller, named, wanted).await
}

/// How many sessions, by a target
#[utoipa::path(post, path = "/api/v1/control/sessions/count", tag = "control", security(("bearer" = [])),
    request_body = SelectBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators")),
    responses((status = 200, body = Count), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn count_selected_sessions(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
    JsonBody(body, _): JsonBody<SelectBody>,
) -> Result<Json<Count>, Problem> {
    count(&hub, &caller, named_tenant(&uri)?, body.wanted()).await
}

async fn count(
    hub: &Hub,
    caller: &Caller,
    named: Option<String>,
    wanted: Wanted,
) -> Result<Json<Count>, Problem> {
    let tenant = tenant(caller, named.as_deref())?;
    let selection = selection(caller, &tenant, named.as_deref(), wanted)?;
    let answers = ask(hub, selection, READ_TIME, Task::count).await?;
    Ok(Json(Count::new(&answers)))
}

async fn list(
    hub: &Hub,
    caller: &Caller,
    named: Option<String>,
    wanted: Wanted,
    page: PageOf,
) -> Result<Json<Sessions>, Problem> {
    let tenant = tenant(caller, named.as_deref())?;
    let page = page.page(cursor)?;
    let selection = selection(caller, &tenant, named.as_deref(), wanted)?;
    let answers = ask(hub, selection, READ_TIME, |answer| {
        Task::list(page.clone(), answer)
    })
    .await?;
    Ok(Json(merged(answers, &page)))
}

/// A cursor is the id of a session.
fn cursor(text: &str) -> Option<Box<str>> {
    let is_id = text.len() == 32
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_id.then(|| text.into())
}

/// One page of the workers' pages. It ends where one of them has more, as what follows there may come before what the
/// others have.
fn merged(answers: Answers<Described>, page: &Page<Box<str>>) -> Sessions {
    let complete = answers.complete;
    let ends = answers.given.iter().filter_map(|part| part.until.as_ref());
    let end: Option<Arc<str>> = ends.min().cloned();
    let mut sessions: Vec<SessionInfo> = answers.given.into_iter().flat_map(|part| part.sessions).collect();
    sessions.sort_unstable_by(|a, b| a.session.cmp(&b.session));
    let mut next = end.as_ref().map(ToString::to_string);
    if let Some(end) = &end {
        sessions.retain(|info| info.session <= *end);
    }
    if sessions.len() > page.limit {
        sessions.truncate(page.limit);
        next = sessions.last().map(|info| info.session.to_string());
    }
    Sessions {
        sessions,
        nodes: 1,
        complete,
        next,
    }
}
