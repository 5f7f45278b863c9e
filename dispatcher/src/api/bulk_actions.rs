//! What is done to many notifications by one request: cancel, retry, delete.

use std::future::ready;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::{
    audit::Origin,
    http::{Caller, JsonBody, Problem},
    ids::NotificationId,
};
use futures_util::future::{Either, join_all};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    budget::Budget,
    bulk::at,
    extract::{IdOf, OptionalBody, Sender},
    history::{self, HistoryQuery},
    limits::charge,
    marks::Done,
    operate::{self, CancelView, RetryView},
    problems::{no_notification, store_problem},
    reader::seen,
    state::ApiState,
};
use crate::store::Mark;

/// Notifications that are worked on at the same time: the store commits them together.
const TOGETHER: usize = 64;

/// Which notifications.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Chosen {
    /// Their ids, at most `limits.bulk_items` (1000).
    #[serde(alias = "notification_ids")]
    ids: Option<Vec<String>>,
    /// Instead: those that this fits, as in `GET /api/v1/notifications/history`, the newest first, at most
    /// `limits.bulk_items`.
    filter: Option<HistoryQuery>,
    /// All of them: needed where the filter names nothing.
    all: bool,
}

/// What became of each of many.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Acted<T> {
    /// How many were named, or fitted the filter.
    total: usize,
    /// With how many of them something was done.
    done: usize,
    /// The others: their results say why.
    not_done: usize,
    /// The filter fits more: ask again.
    more: bool,
    /// One for each, in order.
    results: Vec<ActedOne<T>>,
}

/// What became of one.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
enum ActedOne<T> {
    /// As the request for this one alone answers.
    Done(T),
    /// It was refused.
    Refused {
        /// As it was named.
        id: String,
        /// What the request for this one alone would have been told.
        problem: Box<Problem>,
    },
}

impl<T> Acted<T> {
    fn of(results: Vec<ActedOne<T>>, more: bool) -> Self {
        let done = results
            .iter()
            .filter(|one| matches!(one, ActedOne::Done(_)))
            .count();
        Self {
            total: results.len(),
            done,
            not_done: results.len() - done,
            more,
            results,
        }
    }
}

/// Notifications as they were named, or as they were found.
struct Found {
    ids: Vec<String>,
    more: bool,
}

/// Looks up whom a request means; `statuses` are those that a filter without one looks for.
async fn find(
    state: &ApiState,
    caller: &Caller,
    chosen: Chosen,
    statuses: &[&'static str],
) -> Result<Found, Problem> {
    let most = state.limits.bulk_items;
    let named = chosen
        .filter
        .as_ref()
        .map(|filter| *filter != HistoryQuery::default());
    if chosen.all && (chosen.ids.is_some() || named == Some(true)) {
        return Err(Problem::invalid(
            "conflict",
            "all",
            "name either `ids`, a `filter`, or `\"all\": true`",
        ));
    }
    let filter = chosen.filter.or_else(|| chosen.all.then(HistoryQuery::default));
    match (chosen.ids, filter) {
        (None, Some(_)) if named != Some(true) && !chosen.all => Err(Problem::invalid(
            "missing_field",
            "filter",
            "name what is meant, or write `\"all\": true`",
        )),
        (Some(_), Some(_)) => Err(Problem::invalid(
            "conflict",
            "filter",
            "name either `ids` or a `filter`",
        )),
        (Some(ids), None) if ids.is_empty() || ids.len() > most => Err(Problem::invalid(
            if ids.is_empty() {
                "invalid_value"
            } else {
                "too_many"
            },
            "ids",
            format!("names 1 to {most} notifications"),
        )),
        (Some(ids), None) => Ok(Found { ids, more: false }),
        (None, Some(filter)) => {
            let (ids, more) = history::ids(state, caller, filter, statuses, most).await?;
            Ok(Found {
                ids: ids.iter().map(ToString::to_string).collect(),
                more,
            })
        }
        (None, None) => Err(Problem::invalid(
            "missing_field",
            "ids",
            "name the notifications by `ids` or by a `filter`",
        )),
    }
}

/// Does the same with each, and answers in order.
async fn each<T, Work>(found: Found, work: impl Fn(NotificationId) -> Work) -> Acted<T>
where
    Work: Future<Output = Result<T, Problem>>,
{
    let mut results = Vec::with_capacity(found.ids.len());
    for chunk in found.ids.chunks(TOGETHER) {
        // A text that is no id names nothing.
        let works = chunk.iter().map(|id| match id.parse::<NotificationId>() {
            Ok(id) => Either::Left(work(id)),
            Err(_) => Either::Right(ready(Err(no_notification()))),
        });
        for (id, outcome) in chunk.iter().zip(join_all(works).await) {
            let index = results.len();
            results.push(match outcome {
                Ok(done) => ActedOne::Done(done),
                Err(problem) => ActedOne::Refused {
                    id: id.clone(),
                    problem: Box::new(at(problem, "ids", index)),
                },
            });
        }
    }
    Acted::of(results, found.more)
}

/// The answer, with what is left of the caller's budget.
fn answered<T: Serialize>(acted: Acted<T>, budget: Option<Budget>) -> Response {
    let mut response = Json(acted).into_response();
    if let Some(budget) = budget {
        response.extensions_mut().insert(budget);
    }
    response
}

/// Cancel many notifications
///
/// By ids or by a filter; without a `status` a filter means `pending` and `scheduled`. Each is answered as by
/// `POST /api/v1/notifications/{id}/cancel`: exactly what was stopped, and what had gone. Needs the scope
/// `notifications:write`; of others' notifications `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/notifications/bulk/cancel", tag = "notifications", request_body = Chosen,
    responses((status = 200, body = Acted<CancelView>), (status = 422, body = Problem))
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    JsonBody(chosen, _): JsonBody<Chosen>,
) -> Result<Response, Problem> {
    let found = find(&state, &caller, chosen, &["pending", "scheduled"]).await?;
    let budget = match charge(&state, &caller, found.ids.len(), "ids") {
        Ok(budget) => budget,
        Err(refused) => return Ok(refused.into_response()),
    };
    let acted = each(found, |id| {
        let cancelled = operate::cancel(
            State(state.clone()),
            Sender(caller.clone()),
            origin.clone(),
            IdOf(id),
        );
        async move { cancelled.await.map(|Json(view)| view) }
    })
    .await;
    Ok(answered(acted, budget))
}

/// Retry many notifications
///
/// By ids or by a filter; without a `status` a filter means `failed`. Each is answered as by
/// `POST /api/v1/notifications/{id}/retry`. Needs the scope `notifications:write`; of others' notifications
/// `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/notifications/bulk/retry", tag = "notifications", request_body = Chosen,
    responses((status = 200, body = Acted<RetryView>), (status = 422, body = Problem))
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    JsonBody(chosen, _): JsonBody<Chosen>,
) -> Result<Response, Problem> {
    let found = find(&state, &caller, chosen, &["failed"]).await?;
    let budget = match charge(&state, &caller, found.ids.len(), "ids") {
        Ok(budget) => budget,
        Err(refused) => return Ok(refused.into_response()),
    };
    let acted = each(found, |id| {
        let all = OptionalBody(operate::RetryBody::default());
        let retried = operate::retry(
            State(state.clone()),
            Sender(caller.clone()),
            origin.clone(),
            IdOf(id),
            all,
        );
        async move { retried.await.map(|Json(view)| view) }
    })
    .await;
    Ok(answered(acted, budget))
}

/// Which of the caller's notifications.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnIds {
    /// Their ids, at most `limits.bulk_items` (1000). Those that the caller does not see are passed over.
    #[serde(alias = "notification_ids")]
    ids: Vec<String>,
}

/// Delete many notifications
///
/// From the caller's own inbox.
#[utoipa::path(
    post, path = "/api/v1/notifications/bulk/delete", tag = "inbox", request_body = OwnIds,
    responses((status = 200, body = Done), (status = 422, body = Problem))
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    caller: Caller,
    JsonBody(body, _): JsonBody<OwnIds>,
) -> Result<Json<Done>, Problem> {
    let most = state.limits.bulk_items;
    if body.ids.len() > most {
        return Err(Problem::invalid("too_many", "ids", format!("at most {most} ids")));
    }
    let ids: Vec<NotificationId> = body.ids.iter().filter_map(|id| id.parse().ok()).collect();
    let reader = seen(&state, &caller).await?;
    let marked = state
        .service
        .mark(&reader, ids, Mark::Deleted)
        .await
        .map_err(store_problem)?;
    let number = marked.changed.len() as u64;
    Ok(Json(Done::many(
        format!("已删除{number}条通知"),
        number,
        marked.unread,
    )))
}
