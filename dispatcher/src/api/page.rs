//! The inbox in pages, with groups folded where they are asked for so.

use axum::{Json, extract::State};
use common::http::{Caller, Problem};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::QueryOf, problems::store_problem, reader::seen, state::ApiState, view::NotificationView,
    wanted::Wanted,
};
use crate::{
    model::{InboxPage, InboxRow, ListFilter, ReaderKeys, WalkCursor},
    store::ChangesResult,
};

/// What of the inbox, and from where on.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// `unread`, `read`, `unseen`, `seen`, `archived`, `snoozed` or `all`. Without it, what lies in the inbox, read or not.
    state: Option<String>,
    /// Only this kind.
    kind: Option<String>,
    /// Only this category.
    category: Option<String>,
    /// Only this group.
    group_key: Option<String>,
    /// `group`: of each group only the newest, with the group's sums.
    fold: Option<String>,
    /// At most so many, up to 200. Default 20.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// A part of the inbox.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PageAnswer {
    /// Newest first.
    notifications: Vec<RowView>,
    /// For the next page's `after`. Missing on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// With the first page: where to go on with `GET /api/v1/inbox/changes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// One row.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RowView {
    #[serde(flatten)]
    notification: NotificationView,
    /// With `fold`: how many of its group are asked for, among the newest thousand of each role, store and so on; 1 where it
    /// has no group.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// With `fold`: how many of these are unread.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
}

impl RowView {
    fn of(row: &InboxRow, folds: bool, user: &str) -> Self {
        Self {
            notification: NotificationView::item(&row.item, user),
            count: folds.then_some(row.group.count),
            unread: folds.then_some(row.group.unread),
        }
    }
}

/// Page through the inbox
///
/// Newest first. Pages neither repeat nor miss anything of the inbox as it was at the first one; what arrives meanwhile is in the change feed. A page looks at ten thousand rows at the most: where a filter fits few, it may be short or empty and still have a `next`.
#[utoipa::path(
    get, path = "/api/v1/inbox", tag = "inbox", params(PageQuery),
    responses((status = 200, body = PageAnswer), (status = 401, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn page(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(query): QueryOf<PageQuery>,
) -> Result<Json<PageAnswer>, Problem> {
    let mut filter = Wanted {
        kind: query.kind,
        kind_alias: None,
        category: query.category,
        group_key: query.group_key,
        state: query.state,
        limit: query.limit,
    }
    .filter()?;
    filter.fold = match query.fold.as_deref() {
        None => false,
        Some("group") => true,
        Some(_) => return Err(Problem::invalid("invalid_query", "fold", "only `group`")),
    };
    let from = query.after.as_deref().map(walked).transpose()?;
    let reader = seen(&state, &caller).await?;
    let (page, cursor) = turn(&state, &reader, &filter, from.as_ref()).await?;
    Ok(Json(PageAnswer {
        notifications: page
            .rows
            .iter()
            .map(|row| RowView::of(row, filter.fold, reader.user.as_str()))
            .collect(),
        next: page.next.as_ref().map(WalkCursor::encode),
        cursor,
    }))
}

/// A page, and with the first one the feed's cursor.
pub(super) async fn turn(
    state: &ApiState,
    reader: &ReaderKeys,
    filter: &ListFilter,
    from: Option<&WalkCursor>,
) -> Result<(InboxPage, Option<String>), Problem> {
    // Taken before the page, so that what arrives in between comes again rather than never.
    let cursor = match from {
        Some(_) => None,
        None => match state.store().changes(reader, None, 0).await {
            Ok(ChangesResult::Changes(changes)) => Some(changes.cursor.encode()),
            Ok(ChangesResult::Resync) => None,
            Err(error) => return Err(store_problem(error)),
        },
    };
    let page = state.store().page(reader, filter, from).await;
    Ok((page.map_err(store_problem)?, cursor))
}

pub(super) fn walked(text: &str) -> Result<WalkCursor, Problem> {
    WalkCursor::decode(text).map_err(|error| {
        Problem::invalid(
            "invalid_cursor",
            "after",
            format!("{error}; leave `after` out to begin at the top"),
        )
    })
}
