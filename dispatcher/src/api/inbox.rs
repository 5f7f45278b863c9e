//! A reader's own inbox: list, count, read, delete.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::{
    http::{Caller, JsonBody, Problem, parse_query},
    ids::NotificationId,
    token::Identity,
};
use http::{HeaderName, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{IdOf, OptionalBody, QueryOf},
    feed, history, operate,
    problems::{no_notification, store_problem},
    reader::seen,
    state::ApiState,
    view::NotificationView,
    words::parse_kind,
};
use crate::{
    model::{Change, Cursor, ListFilter},
    store::{ChangesResult, Mark},
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
                    && query.is_read.is_none_or(|is_read| item.is_read == is_read)
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
        is_read: query.is_read,
        kind: kind.map(|kind| kind.as_str().to_owned()),
        category: query.category,
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

/// What was done.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Done {
    success: bool,
    /// For people.
    message: String,
    /// How many changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// The caller's unread count after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread_count: Option<u64>,
}

impl Done {
    pub(crate) fn one(message: &str) -> Self {
        Self {
            success: true,
            message: message.to_owned(),
            count: None,
            unread_count: None,
        }
    }

    fn read(count: u64, unread: u64) -> Self {
        Self {
            success: true,
            message: format!("已标记{count}条通知为已读"),
            count: Some(count),
            unread_count: Some(unread),
        }
    }
}

/// Mark one as read
#[utoipa::path(
    put, path = "/api/v1/notifications/{id}/read", tag = "inbox",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(crate) async fn mark_read(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
) -> Result<Json<Done>, Problem> {
    let unread = mark_one(&state, &caller, id, Mark::Read).await?;
    Ok(Json(Done {
        unread_count: Some(unread),
        ..Done::one("已标记为已读")
    }))
}

/// Acknowledge one
///
/// It counts as read too, and ends an escalation that waits for `acknowledged`.
#[utoipa::path(
    put, path = "/api/v1/notifications/{id}/acknowledge", tag = "inbox",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(crate) async fn acknowledge(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
) -> Result<Json<Done>, Problem> {
    let unread = mark_one(&state, &caller, id, Mark::Acknowledged).await?;
    Ok(Json(Done {
        unread_count: Some(unread),
        ..Done::one("已确认")
    }))
}

/// Marks one that the caller sees; the unread count after it.
async fn mark_one(
    state: &ApiState,
    caller: &Identity,
    id: NotificationId,
    mark: Mark,
) -> Result<u64, Problem> {
    let reader = seen(state, caller).await?;
    let marked = state
        .service
        .mark(&reader, vec![id], mark)
        .await
        .map_err(store_problem)?;
    // Nothing changed: it was so already, or it is not there for this reader.
    if marked.changed.is_empty()
        && state
            .store()
            .item(&reader, id)
            .await
            .map_err(store_problem)?
            .is_none()
    {
        return Err(no_notification());
    }
    Ok(marked.unread)
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

/// Up to where; in the query, or as a JSON body.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReadAllQuery {
    /// A cursor of the change feed. Default: all there is now.
    up_to: Option<String>,
}

/// Mark all as read
#[utoipa::path(
    put, path = "/api/v1/notifications/read-all", tag = "inbox", params(ReadAllQuery),
    responses((status = 200, body = Done), (status = 422, body = Problem))
)]
pub(crate) async fn read_all(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(query): QueryOf<ReadAllQuery>,
    OptionalBody(body): OptionalBody<ReadAllQuery>,
) -> Result<Json<Done>, Problem> {
    let up_to = body
        .up_to
        .or(query.up_to)
        .map(|text| {
            Cursor::decode(&text)
                .map_err(|error| Problem::invalid("invalid_cursor", "up_to", error.to_string()))
        })
        .transpose()?;
    let reader = seen(&state, &caller).await?;
    let read = state
        .service
        .mark_all_read(&reader, up_to.as_ref())
        .await
        .map_err(store_problem)?;
    Ok(Json(Done::read(read.count, read.unread)))
}

/// Which notifications.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkIds {
    /// Their ids, at most `limits.bulk_items` (1000). Those that the caller does not see are passed over.
    #[serde(alias = "notification_ids")]
    ids: Vec<String>,
}

/// Mark several as read
#[utoipa::path(
    put, path = "/api/v1/notifications/bulk-read", tag = "inbox", request_body = BulkIds,
    responses((status = 200, body = Done), (status = 422, body = Problem))
)]
pub(crate) async fn bulk_read(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body, _): JsonBody<BulkIds>,
) -> Result<Json<Done>, Problem> {
    let most = state.limits.bulk_items;
    if body.ids.len() > most {
        return Err(Problem::invalid("too_many", "ids", format!("at most {most} ids")));
    }
    // A text that is no id names nothing, like an id that is not there.
    let ids: Vec<NotificationId> = body.ids.iter().filter_map(|id| id.parse().ok()).collect();
    let reader = seen(&state, &caller).await?;
    let marked = state
        .service
        .mark(&reader, ids, Mark::Read)
        .await
        .map_err(store_problem)?;
    Ok(Json(Done::read(marked.changed.len() as u64, marked.unread)))
}

/// For whom.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQuery {
    /// `all`: withdraw it for everyone; needs the scope `notifications:admin`. Default: for the caller alone.
    #[serde(rename = "for")]
    #[param(rename = "for")]
    whom: Option<String>,
}

/// Delete a notification
///
/// For the caller alone; its sender takes a scheduled one back before its time. With `?for=all` it is withdrawn for everyone, and what was not sent yet is not sent.
#[utoipa::path(
    delete, path = "/api/v1/notifications/{id}", tag = "inbox", params(DeleteQuery, ("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = Done), (status = 403, body = Problem), (status = 404, body = Problem))
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
    QueryOf(query): QueryOf<DeleteQuery>,
) -> Result<Json<Done>, Problem> {
    match query.whom.as_deref() {
        None | Some("me") => {
            if let Err(unseen) = mark_one(&state, &caller, id, Mark::Deleted).await {
                // Not in the caller's inbox: a sender takes back what it scheduled.
                if unseen.status != StatusCode::NOT_FOUND {
                    return Err(unseen);
                }
                operate::delete_scheduled(&state, &caller, id).await?;
            }
            Ok(Json(Done::one("通知已删除")))
        }
        Some("all") => {
            caller.require("notifications:admin")?;
            if state
                .service
                .withdraw(&caller.tenant, id)
                .await
                .map_err(store_problem)?
            {
                Ok(Json(Done::one("通知已撤回")))
            } else {
                Err(no_notification())
            }
        }
        Some(_) => Err(Problem::invalid("invalid_query", "for", "`me` or `all`")),
    }
}
