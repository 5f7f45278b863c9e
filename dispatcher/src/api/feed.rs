//! The change feed, and waiting for it.

use std::time::Duration;

use axum::{Json, extract::State};
use common::http::{Caller, Problem};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::QueryOf, problems::store_problem, reader::seen, state::ApiState, view::NotificationView,
};
use crate::{
    model::{Change, Changes, Cursor, Micros, ReaderKeys},
    store::ChangesResult,
};

/// The longest that a poll waits.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Changes of one answer at the most.
const MAX_LIMIT: u32 = 1000;
/// Changes of an answer where the caller names no limit.
const DEFAULT_LIMIT: u32 = 100;

/// How long a poll waits where nothing has happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wait(Duration);

impl Wait {
    pub(crate) fn at_most(time: Duration) -> Self {
        Self(time.min(MAX_WAIT))
    }

    pub(crate) fn from_query(seconds: Option<u32>) -> Self {
        Self(Duration::from_secs(seconds.unwrap_or_default().into()).min(MAX_WAIT))
    }
}

/// Reads a cursor of the query.
pub(crate) fn cursor(text: &str) -> Result<Cursor, Problem> {
    Cursor::decode(text).map_err(|error| {
        Problem::invalid(
            "invalid_cursor",
            "after",
            format!("{error}; leave `after` out to begin at the present"),
        )
    })
}

/// What happened after a cursor, of the wanted kinds; waits where nothing has, for as long as the caller's credential is good.
/// The reader has been touched.
pub(crate) async fn wait_for(
    state: &ApiState,
    caller: &Caller,
    reader: &ReaderKeys,
    after: &Cursor,
    wait: Wait,
    limit: u32,
    wanted: impl Fn(&Change) -> bool,
) -> Result<Changes, Problem> {
    let deadline = Instant::now() + wait.0;
    let mut after = after.clone();
    // Subscribed before the first look, so that what is committed in between wakes.
    let mut watch = state.store().watch(reader);
    loop {
        let mut found = match state
            .store()
            .changes(reader, Some(&after), limit)
            .await
            .map_err(store_problem)?
        {
            ChangesResult::Changes(changes) => changes,
            ChangesResult::Resync => return Err(resync()),
        };
        found.changes.retain(|change| wanted(change));
        if !found.changes.is_empty() {
            return Ok(found);
        }
        if found.more {
            after = found.cursor;
            continue;
        }
        tokio::select! {
            () = watch.changed() => after = found.cursor,
            () = tokio::time::sleep_until(deadline) => return Ok(found),
            () = state.closing.cancelled() => return Ok(found),
            ended = state.credentials.ended(caller) => return Err(ended.into()),
        }
    }
}

pub(crate) fn resync() -> Problem {
    Problem::new(
        StatusCode::GONE,
        "resync",
        "the cursor is older than what is kept; read the inbox again and go on from its cursor",
    )
    .field("after")
}

/// Since when, and how long to wait.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct FeedQuery {
    /// A cursor of an earlier answer. Without it the answer holds no changes and the cursor of the present.
    after: Option<String>,
    /// Seconds to wait where nothing has happened, up to 60.
    wait: Option<u32>,
    /// At most so many, up to 1000. Default 100.
    limit: Option<u32>,
}

/// A part of the change feed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FeedAnswer {
    /// In an order that applies.
    changes: Vec<ChangeView>,
    /// For the next call's `after`.
    cursor: String,
    /// There is more right now.
    more: bool,
}

/// One change.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum ChangeView {
    /// It arrived, or became visible.
    Upsert {
        /// Its id.
        id: String,
        /// What is said.
        notification: Box<NotificationView>,
    },
    /// The reader's state of it changed.
    State {
        /// Its id.
        id: String,
        /// Whether it is read.
        is_read: bool,
        /// When.
        read_at: Option<String>,
        /// When it was put away.
        archived_at: Option<String>,
        /// Until when it is put off.
        #[serde(skip_serializing_if = "Option::is_none")]
        snoozed_until: Option<String>,
    },
    /// It is gone for the reader.
    Delete {
        /// Its id.
        id: String,
    },
    /// Everything before is read.
    ReadAll {
        /// When.
        at: String,
    },
}

impl ChangeView {
    fn of(change: &Change, user: &str) -> Self {
        match change {
            Change::Upsert(item) => Self::Upsert {
                id: item.id.to_string(),
                notification: Box::new(NotificationView::item(item, user)),
            },
            Change::State(item) => Self::State {
                id: item.id.to_string(),
                is_read: item.is_read,
                read_at: item.read_at.map(Micros::rfc3339),
                archived_at: item.archived_at.map(Micros::rfc3339),
                snoozed_until: item.snoozed_until.map(Micros::rfc3339),
            },
            Change::Delete(id) => Self::Delete { id: id.to_string() },
            Change::ReadAll(at) => Self::ReadAll { at: at.rfc3339() },
        }
    }
}

/// Follow the inbox
///
/// Everything that happened in the caller's inbox after a cursor. 410 with the code `resync` when the cursor is too old.
#[utoipa::path(
    get, path = "/api/v1/inbox/changes", tag = "inbox", params(FeedQuery),
    responses((status = 200, body = FeedAnswer), (status = 410, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn changes(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(query): QueryOf<FeedQuery>,
) -> Result<Json<FeedAnswer>, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid(
            "invalid_query",
            "limit",
            format!("from 1 to {MAX_LIMIT}"),
        ));
    }
    let after = query.after.as_deref().map(cursor).transpose()?;
    let reader = seen(&state, &caller).await?;
    let found = match &after {
        Some(after) => {
            wait_for(
                &state,
                &caller,
                &reader,
                after,
                Wait::from_query(query.wait),
                limit,
                |_| true,
            )
            .await?
        }
        None => match state
            .store()
            .changes(&reader, None, limit)
            .await
            .map_err(store_problem)?
        {
            ChangesResult::Changes(changes) => changes,
            ChangesResult::Resync => return Err(resync()),
        },
    };
    Ok(Json(FeedAnswer {
        changes: found
            .changes
            .iter()
            .map(|change| ChangeView::of(change, reader.user.as_str()))
            .collect(),
        cursor: found.cursor.encode(),
        more: found.more,
    }))
}
