//! Who is there: the users behind the sessions of a target.

use std::time::Duration;

use axum::{Json, extract::State};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use common::{
    http::{Caller, JsonBody, Problem},
    topic::{TopicKey, TopicKind},
};
use http::Uri;
use serde::Serialize;

use super::{
    ask, asked,
    body::{PageBody, PageOf, Scope, Wanted, names, scope},
    tenant,
};
use crate::{
    Hub,
    nodes::desk::{Deed, Found},
    worker::control::Counted,
};

/// What is not known after so long is left out.
const DEADLINE: Duration = Duration::from_millis(300);

/// Who is there.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Presence {
    /// A page of users, in the order of their names.
    users: Vec<UserPresence>,
    /// All sessions of the target, not only those of the page.
    sessions: usize,
    /// Nodes that had to answer.
    nodes: usize,
    /// False: not everything answered within 300 ms, and there may be more.
    complete: bool,
    /// There are more users: give this as `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct UserPresence {
    /// The user.
    user: String,
    /// The tenant, where sessions of all tenants were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Sessions of the user that fit the target.
    sessions: usize,
}

/// Who is there, by names
///
/// Of all nodes, within 300 ms. Scope `control`.
#[utoipa::path(get, path = "/api/v1/control/presence", tag = "control", security(("bearer" = [])),
    params(("user" = Option<String>, Query, description = "A user"),
        ("role" = Option<String>, Query, description = "Users with a role"),
        ("store" = Option<String>, Query, description = "Users with a store"),
        ("topic" = Option<String>, Query, description = "Users who subscribed to a topic"),
        ("everyone" = Option<bool>, Query, description = "Users of all tenants; platform administrators"),
        ("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node"),
        ("limit" = Option<usize>, Query, description = "1 to 1,000; default 100"),
        ("after" = Option<String>, Query, description = "`next` of the page before")),
    responses((status = 200, body = Presence), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn find_presence(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Presence>, Problem> {
    let (scope, wanted, page) = names(&uri)?;
    presence(&hub, &caller, &scope, wanted, page).await
}

/// Who is there, by a target
#[utoipa::path(post, path = "/api/v1/control/presence", tag = "control", security(("bearer" = [])), request_body = PageBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = Presence), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn select_presence(
    State(hub): State<Hub>,
    caller: Caller,
    uri: Uri,
    JsonBody(body, _): JsonBody<PageBody>,
) -> Result<Json<Presence>, Problem> {
    let (wanted, page) = body.into_parts();
    presence(&hub, &caller, &scope(&uri)?, wanted, page).await
}

async fn presence(
    hub: &Hub,
    caller: &Caller,
    scope: &Scope,
    wanted: Wanted,
    page: PageOf,
) -> Result<Json<Presence>, Problem> {
    let tenant = tenant(caller, scope.tenant.as_deref())?;
    let page = page.page(read_cursor)?;
    let of_all_tenants = wanted.to.target.reaches_everyone();
    let asked = asked(hub, caller, &tenant, scope, wanted)?;
    let limit = page.limit;
    let gathered = ask(hub, asked, Deed::Presence(page), DEADLINE).await?;
    let parts = gathered.found.into_iter().filter_map(|(_, found)| match found {
        Found::Users(counted) => Some(counted),
        _ => None,
    });
    let counted = Counted::merged(parts, limit);
    let user = |(key, sessions): (TopicKey, usize)| UserPresence {
        user: key.name().unwrap_or_default(),
        tenant: key.tenant_id().filter(|_| of_all_tenants).map(str::to_owned),
        sessions,
    };
    Ok(Json(Presence {
        users: counted.users.into_iter().map(user).collect(),
        sessions: counted.sessions,
        nodes: gathered.nodes,
        complete: gathered.complete,
        next: counted.until.as_ref().map(write_cursor),
    }))
}

fn write_cursor(user: &TopicKey) -> String {
    URL_SAFE_NO_PAD.encode(user.as_str())
}

fn read_cursor(text: &str) -> Option<TopicKey> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let key = TopicKey::parse(std::str::from_utf8(&bytes).ok()?).ok()?;
    (key.kind() == TopicKind::User).then_some(key)
}

#[cfg(test)]
mod tests {
    use common::ids::{Name, TenantId};

    use super::*;

    #[test]
    fn cursors_round_trip_and_nothing_else_is_one() {
        let tenant = TenantId::new("t").unwrap();
        let key = TopicKey::user(&tenant, &Name::new("a:b/ü").unwrap());
        assert_eq!(read_cursor(&write_cursor(&key)), Some(key));
        for bad in ["", "x", "u1", &write_cursor(&TopicKey::tenant(&tenant)), "%%%"] {
            assert_eq!(read_cursor(bad), None, "{bad}");
        }
    }
}
