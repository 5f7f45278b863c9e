//! What a reader does with what lies in its inbox: reads, puts off, puts away, deletes.

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{Caller, JsonBody, Problem},
    ids::NotificationId,
    token::Identity,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{IdOf, OptionalBody, QueryOf},
    operate,
    problems::{no_notification, store_problem},
    reader::seen,
    state::ApiState,
    times,
};
use crate::{
    model::{Cursor, Micros, ReaderKeys},
    store::{Mark, Marked},
};

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
        Self::many(format!("已标记{count}条通知为已读"), count, unread)
    }

    pub(crate) fn many(message: String, count: u64, unread: u64) -> Self {
        Self {
            success: true,
            message,
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

/// Until when to put one off.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SnoozeBody {
    /// RFC 3339 with an offset.
    until: Option<String>,
    /// Instead: for so many seconds, or a duration such as `1h`.
    #[serde(rename = "for")]
    length: Option<Value>,
}

/// Put one off
///
/// It is out of the list and the unread count until then, and comes back by itself, read or unread as it was.
#[utoipa::path(
    put, path = "/api/v1/notifications/{id}/snooze", tag = "inbox", request_body = SnoozeBody,
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = Done), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn snooze(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
    JsonBody(body, _): JsonBody<SnoozeBody>,
) -> Result<Json<Done>, Problem> {
    let until = times::snoozed_until(Micros::now(), body.until.as_deref(), body.length.as_ref())?;
    let unread = mark_one(&state, &caller, id, Mark::Snoozed(until)).await?;
    Ok(Json(Done {
        unread_count: Some(unread),
        ..Done::one("已推迟")
    }))
}

/// Take one back that was put off
#[utoipa::path(
    put, path = "/api/v1/notifications/{id}/unsnooze", tag = "inbox",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(crate) async fn unsnooze(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
) -> Result<Json<Done>, Problem> {
    let unread = mark_one(&state, &caller, id, Mark::Woken(Micros(i64::MAX))).await?;
    Ok(Json(Done {
        unread_count: Some(unread),
        ..Done::one("已取消推迟")
    }))
}

/// Put one away
///
/// It leaves the list and the unread count; `?state=archived` lists it.
#[utoipa::path(
    put, path = "/api/v1/notifications/{id}/archive", tag = "inbox",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(crate) async fn archive(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
) -> Result<Json<Done>, Problem> {
    let unread = mark_one(&state, &caller, id, Mark::Archived).await?;
    Ok(Json(Done {
        unread_count: Some(unread),
        ..Done::one("已归档")
    }))
}

/// Take one back that was put away
#[utoipa::path(
    put, path = "/api/v1/notifications/{id}/unarchive", tag = "inbox",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = Done), (status = 404, body = Problem))
)]
pub(crate) async fn unarchive(
    State(state): State<ApiState>,
    caller: Caller,
    IdOf(id): IdOf,
) -> Result<Json<Done>, Problem> {
    let unread = mark_one(&state, &caller, id, Mark::Unarchived).await?;
    Ok(Json(Done {
        unread_count: Some(unread),
        ..Done::one("已取消归档")
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
    let marked = mark_seen(state, &reader, id, mark).await?;
    Ok(marked.unread)
}

/// Marks one that the reader sees.
pub(super) async fn mark_seen(
    state: &ApiState,
    reader: &ReaderKeys,
    id: NotificationId,
    mark: Mark,
) -> Result<Marked, Problem> {
    let marked = state
        .service
        .mark(reader, vec![id], mark)
        .await
        .map_err(store_problem)?;
    // Nothing changed: it was so already, or it is not there for this reader.
    if marked.changed.is_empty()
        && state
            .store()
            .item(reader, id)
            .await
            .map_err(store_problem)?
            .is_none()
    {
        return Err(no_notification());
    }
    Ok(marked)
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
    let ids = several(&state, &body.ids)?;
    let reader = seen(&state, &caller).await?;
    let marked = state
        .service
        .mark(&reader, ids, Mark::Read)
        .await
        .map_err(store_problem)?;
    Ok(Json(Done::read(marked.changed.len() as u64, marked.unread)))
}

/// What the caller did with which notifications.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MarksBody {
    /// Their ids, at most `limits.bulk_items` (1000). Those that the caller does not see are passed over.
    ids: Vec<String>,
    /// `delivered`, `seen`, `read`, `unread`, `acknowledged`, `archived`, `unarchived`, `snoozed`, `unsnoozed` or `deleted`.
    mark: String,
    /// With `snoozed`: RFC 3339 with an offset.
    #[serde(default)]
    until: Option<String>,
    /// With `snoozed`, instead: for so many seconds, or a duration such as `1h`.
    #[serde(default, rename = "for")]
    length: Option<Value>,
}

impl MarksBody {
    fn mark(&self) -> Result<Mark, Problem> {
        let mark = match self.mark.as_str() {
            "snoozed" => {
                let (until, length) = (self.until.as_deref(), self.length.as_ref());
                return times::snoozed_until(Micros::now(), until, length).map(Mark::Snoozed);
            }
            "delivered" => Mark::Delivered,
            "seen" => Mark::Seen,
            "read" => Mark::Read,
            "unread" => Mark::Unread,
            "acknowledged" => Mark::Acknowledged,
            "archived" => Mark::Archived,
            "unarchived" => Mark::Unarchived,
            "unsnoozed" => Mark::Woken(Micros(i64::MAX)),
            "deleted" => Mark::Deleted,
            _ => {
                return Err(Problem::invalid(
                    "invalid_value",
                    "mark",
                    "one of `delivered`, `seen`, `read`, `unread`, `acknowledged`, `archived`, `unarchived`, \
                     `snoozed`, `unsnoozed`, `deleted`",
                ));
            }
        };
        for (field, is_there) in [("until", self.until.is_some()), ("for", self.length.is_some())] {
            if is_there {
                return Err(Problem::invalid(
                    "conflict",
                    field,
                    "only with the mark `snoozed`",
                ));
            }
        }
        Ok(mark)
    }
}

/// Mark several
#[utoipa::path(
    put, path = "/api/v1/inbox/marks", tag = "inbox", request_body = MarksBody,
    responses((status = 200, body = Done), (status = 422, body = Problem))
)]
pub(crate) async fn mark_several(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body, _): JsonBody<MarksBody>,
) -> Result<Json<Done>, Problem> {
    let mark = body.mark()?;
    let ids = several(&state, &body.ids)?;
    let reader = seen(&state, &caller).await?;
    let marked = state
        .service
        .mark(&reader, ids, mark)
        .await
        .map_err(store_problem)?;
    let count = marked.changed.len() as u64;
    Ok(Json(Done::many(
        format!("已更新{count}条通知"),
        count,
        marked.unread,
    )))
}

/// A text that is no id names nothing, like an id that is not there.
pub(super) fn several(state: &ApiState, ids: &[String]) -> Result<Vec<NotificationId>, Problem> {
    let most = state.limits.bulk_items;
    if ids.len() > most {
        return Err(Problem::invalid("too_many", "ids", format!("at most {most} ids")));
    }
    Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
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
    origin: Origin,
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
                operate::delete_scheduled(&state, &caller, id, &origin).await?;
            }
            Ok(Json(Done::one("通知已删除")))
        }
        Some("all") => {
            caller.require("notifications:admin")?;
            if state
                .service
                .withdraw(&caller.tenant, id, &origin)
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
