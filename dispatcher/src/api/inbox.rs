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
    words::parse_kind,
};
use crate::{
    model::{Change, Cursor, ListFilter, Place},
    store::ChangesResult,
};

/// Where a caller of the list goes on with `after`.
pub(crate) const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// Rows of one list at the most.
const MAX_LIMIT: u32 = 200;
/// Rows of a list that names no limit.
const DEFAULT_LIMIT: u32 = 20;

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
    /// `unread`, `read`, `archived`, `snoozed` or `all`. Without it, what lies in the inbox, read or not.
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
    let kind = match (query.kind, query.kind_alias) {
        (Some(kind), _) => Some(parse_kind("kind", &kind)?),
        (None, Some(kind)) => Some(parse_kind("type", &kind)?),
        (None, None) => None,
    };
    let (place, of_state) = place(query.state.as_deref())?;
    if let (Some(given), Some(meant)) = (query.is_read, of_state)
        && given != meant
    {
        return Err(Problem::invalid("conflict", "is_read", "`state` says otherwise"));
    }
    let is_read = query.is_read.or(of_state);
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid(
            "invalid_query",
            "limit",
            format!("from 1 to {MAX_LIMIT}"),
        ));
    }
    let reader = seen(&state, &caller).await?;
    let user = reader.user.as_str();
    if let Some(after) = &query.after {
        let after = feed::cursor(after)?;
        let changes = feed::wait_for(&state, &reader, &after, feed::Wait::from_query(query.wait), limit, |change| {
            matches!(change, Change::Upsert(item)
                if kind.is_none_or(|kind| item.content.kind == kind)
                    && is_read.is_none_or(|is_read| item.is_read == is_read)
                    && match place {
                        Place::Inbox => item.archived_at.is_none() && item.snoozed_until.is_none(),
                        Place::Archived => item.archived_at.is_some(),
                        Place::Snoozed => item.snoozed_until.is_some(),
                        Place::All => true,
                    }
                    && query.group_key.as_ref().is_none_or(|group| item.content.group_key.as_ref() == Some(group))
                    && query.category.as_ref().is_none_or(|category| item.content.category.as_ref() == Some(category)))
        })
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
    let filter = ListFilter {
        is_read,
        kind: kind.map(|kind| kind.as_str().to_owned()),
        category: query.category,
        group_key: query.group_key,
        place,
        limit,
        offset: query.offset.unwrap_or_default(),
    };
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

/// Where to look, and whether only for what is read or unread.
fn place(state: Option<&str>) -> Result<(Place, Option<bool>), Problem> {
    Ok(match state {
        None => (Place::Inbox, None),
        Some("unread") => (Place::Inbox, Some(false)),
        Some("read") => (Place::Inbox, Some(true)),
        Some("archived") => (Place::Archived, None),
        Some("snoozed") => (Place::Snoozed, None),
        Some("all") => (Place::All, None),
        Some(_) => {
            return Err(Problem::invalid(
                "invalid_query",
                "state",
                "one of `unread`, `read`, `archived`, `snoozed`, `all`",
            ));
        }
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
