//! A reader's own inbox: list and count.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::http::{Caller, Problem, parse_query};
use http::{HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    feed, history, problems::store_problem, reader::seen, state::ApiState, view::NotificationView,
    wanted::Wanted,
};
use crate::{
    model::{Change, Cursor},
    store::ChangesResult,
};

/// Where a caller of the list goes on with `after`.
pub(crate) const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// Which notifications.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only read or only unread.
    #[serde(deserialize_with = "truth")]
    is_read: Option<bool>,
    /// At most so many, up to 200. Default 20.
    limit: Option<u32>,
    /// So many are passed over.
    offset: Option<u32>,
    /// Only this kind.
    kind: Option<String>,
    /// Only this kind.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    kind_alias: Option<String>,
    /// Only this category.
    category: Option<String>,
    /// Only this group.
    group_key: Option<String>,
    /// `unread`, `read`, `unseen`, `seen`, `archived`, `snoozed` or `all`. Without it, what lies in the inbox, read or not.
    state: Option<String>,
    /// Instead of pages: what arrived after this cursor, oldest first.
    after: Option<String>,
    /// With `after`: seconds to wait for something to arrive, up to 60.
    wait: Option<u32>,
}

/// List notifications
///
/// Newest first. With `?for=sent` or `?for=all` it is `GET /api/v1/notifications/history`. With `after`, what arrived since, oldest first; the header `X-Next-Cursor` says where to go on.
#[utoipa::path(
    get, path = "/api/v1/notifications", tag = "inbox", params(ListQuery),
    responses(
        (status = 200, body = Vec<NotificationView>, headers(("X-Next-Cursor" = String, description = "For `after`"))),
        (status = 401, body = Problem), (status = 410, body = Problem), (status = 422, body = Problem),
    )
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    if history::is_meant(&uri) {
        return history::of_list(state, caller, &uri).await;
    }
    let query: ListQuery = parse_query(&uri)?;
    let mut filter = Wanted {
        kind: query.kind,
        kind_alias: query.kind_alias,
        category: query.category,
        group_key: query.group_key,
        state: query.state,
        limit: query.limit,
    }
    .filter()?;
    if let (Some(given), Some(meant)) = (query.is_read, filter.is_read)
        && given != meant
    {
        return Err(Problem::invalid("conflict", "is_read", "`state` says otherwise"));
    }
    filter.is_read = query.is_read.or(filter.is_read);
    filter.offset = query.offset.unwrap_or_default();
    let reader = seen(&state, &caller).await?;
    let user = reader.user.as_str();
    if let Some(after) = &query.after {
        let after = feed::cursor(after)?;
        let wait = feed::Wait::from_query(query.wait);
        let changes = feed::wait_for(
            &state,
            &caller,
            &reader,
            &after,
            wait,
            filter.limit,
            |change| matches!(change, Change::Upsert(item) if filter.fits(item)),
        )
        .await?;
        let items: Vec<NotificationView> = changes
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Upsert(item) => Some(NotificationView::item(item, user)),
                _ => None,
            })
            .collect();
        return Ok(with_cursor(Json(items).into_response(), &changes.cursor));
    }
    // Taken before the list, so that what arrives in between comes again rather than never.
    let now = state
        .store()
        .changes(&reader, None, 0)
        .await
        .map_err(store_problem)?;
    let items = state
        .store()
        .list(&reader, &filter)
        .await
        .map_err(store_problem)?;
    let items: Vec<NotificationView> = items
        .iter()
        .map(|item| NotificationView::item(item, user))
        .collect();
    let response = Json(items).into_response();
    Ok(match now {
        ChangesResult::Changes(changes) => with_cursor(response, &changes.cursor),
        ChangesResult::Resync => response,
    })
}

fn with_cursor(mut response: Response, cursor: &Cursor) -> Response {
    // A cursor's text is base64.
    if let Ok(value) = HeaderValue::from_str(&cursor.encode()) {
        response.headers_mut().insert(NEXT_CURSOR, value);
    }
    response
}

/// How many are unread.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct UnreadCount {
    /// Exact.
    unread_count: u64,
}

/// Count unread notifications
#[utoipa::path(get, path = "/api/v1/notifications/unread-count", tag = "inbox", responses((status = 200, body = UnreadCount)))]
pub(crate) async fn unread_count(
    State(state): State<ApiState>,
    caller: Caller,
) -> Result<Json<UnreadCount>, Problem> {
    let reader = seen(&state, &caller).await?;
    let unread_count = state.store().unread_count(&reader).await.map_err(store_problem)?;
    Ok(Json(UnreadCount { unread_count }))
}

/// `true` and `false` as query strings of several languages write them: Python's clients send `False`.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(serde::de::Error::custom(
            "provided string was not `true` or `false`",
        )),
    }
}
