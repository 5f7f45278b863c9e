//! Reading and marking an inbox.

use common::http::{Problem, refuse_nul_in};
use proto::v1::{
    GetUnreadCountRequest, GetUnreadCountResponse, GetUserNotificationsRequest, GetUserNotificationsResponse,
    MarkAsReadRequest, MarkAsReadResponse,
};

use super::{
    super::{
        marks::{mark_seen, several},
        page::{turn, walked},
        problems::{no_notification, store_problem},
        state::ApiState,
        wanted::Wanted,
    },
    call::Call,
    view::notification,
    whose::whose,
};
use crate::{
    model::{Cursor, WalkCursor},
    store::Mark,
};

/// A page of an inbox.
pub(super) async fn list(
    state: &ApiState,
    call: Call,
    request: GetUserNotificationsRequest,
) -> Result<GetUserNotificationsResponse, Problem> {
    for (field, text) in [("category", &request.category), ("group_key", &request.group_key)] {
        refuse_nul_in(field, text.as_deref().unwrap_or_default())?;
    }
    let filter = Wanted {
        kind: request.kind,
        kind_alias: None,
        category: request.category,
        group_key: request.group_key,
        state: request.state,
        limit: request.limit,
    }
    .filter()?;
    let from = request.cursor.as_deref().map(walked).transpose();
    let from = from.map_err(|problem| problem.field("cursor"))?;
    let whose = whose(
        state,
        &call.caller,
        request.tenant_id.as_deref(),
        request.user_id.as_deref(),
    )
    .await?;
    let (page, watch_cursor) = turn(state, &whose.reader, &filter, from.as_ref()).await?;
    let user = whose.reader.user.as_str();
    Ok(GetUserNotificationsResponse {
        notifications: page
            .rows
            .iter()
            .map(|row| notification(&row.item, user))
            .collect(),
        next_cursor: page.next.as_ref().map(WalkCursor::encode),
        watch_cursor,
    })
}

/// How many are unread.
pub(super) async fn unread(
    state: &ApiState,
    call: Call,
    request: GetUnreadCountRequest,
) -> Result<GetUnreadCountResponse, Problem> {
    let whose = whose(
        state,
        &call.caller,
        request.tenant_id.as_deref(),
        request.user_id.as_deref(),
    )
    .await?;
    let unread_count = state.store().unread_count(&whose.reader).await;
    Ok(GetUnreadCountResponse {
        unread_count: unread_count.map_err(store_problem)?,
    })
}

/// Marks as read.
pub(super) async fn mark(
    state: &ApiState,
    call: Call,
    request: MarkAsReadRequest,
) -> Result<MarkAsReadResponse, Problem> {
    let conflict = |field: &str, detail| Err(Problem::invalid("conflict", field, detail));
    match (request.all, request.notification_ids.is_empty()) {
        (true, false) => return conflict("notification_ids", "`all` names them all already"),
        (false, true) => {
            let detail = "name the notifications, or say `all`";
            return Err(Problem::invalid("missing_field", "notification_ids", detail));
        }
        (false, false) if request.up_to.is_some() => return conflict("up_to", "only with `all`"),
        _ => {}
    }
    let ids =
        several(state, &request.notification_ids).map_err(|problem| problem.field("notification_ids"))?;
    let up_to = request.up_to.as_deref().map(Cursor::decode).transpose();
    let up_to = up_to.map_err(|error| Problem::invalid("invalid_cursor", "up_to", error.to_string()))?;
    let whose = whose(
        state,
        &call.caller,
        request.tenant_id.as_deref(),
        request.user_id.as_deref(),
    )
    .await?;
    let reader = &whose.reader;
    if request.all {
        whose.begin(state).await?;
        let read = state.service.mark_all_read(reader, up_to.as_ref()).await;
        let read = read.map_err(store_problem)?;
        return Ok(MarkAsReadResponse {
            count: read.count,
            unread_count: read.unread,
        });
    }
    let marked = match (request.notification_ids.len(), ids.as_slice()) {
        // A text that is no id names nothing.
        (1, []) => return Err(no_notification()),
        (1, [id]) => {
            whose.begin(state).await?;
            mark_seen(state, reader, *id, Mark::Read).await?
        }
        _ => {
            whose.begin(state).await?;
            state
                .service
                .mark(reader, ids, Mark::Read)
                .await
                .map_err(store_problem)?
        }
    };
    Ok(MarkAsReadResponse {
        count: marked.changed.len() as u64,
        unread_count: marked.unread,
    })
}
