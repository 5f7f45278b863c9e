//! Schedules: notifications that are made again and again.

mod body;
mod view;

use std::collections::BTreeSet;

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{JsonBody, Problem},
    token::Identity,
};
use http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use self::{
    body::ScheduleRequest,
    view::{NextRun, NextRuns, ScheduleList, ScheduleView},
};
use super::{
    accept::status_of,
    draft,
    extract::{QueryOf, Segment, Sender},
    plan::{self, Plan},
    problems::store_problem,
    state::ApiState,
    view::NotificationView,
};
use crate::{
    capacity::Room,
    model::{Micros, NewNotification, Schedule, ScheduleBody, ScheduleChange, ScheduleState},
    store::StoreError,
};

/// Schedules of one page.
const MAX_PAGE: u32 = 200;
/// Times of one preview.
const MAX_NEXT: usize = 100;

/// Create a schedule
///
/// Its notification is checked and rendered as if it were sent now, but nothing is. Needs the scope `notifications:write`,
/// and what else such a notification needs.
#[utoipa::path(
    post, path = "/api/v1/schedules", tag = "schedules", request_body = ScheduleRequest,
    responses((status = 201, body = ScheduleView), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    JsonBody(request, _): JsonBody<ScheduleRequest>,
) -> Result<(StatusCode, Json<ScheduleView>), Problem> {
    let now = Micros::now();
    let body = checked(&state, &caller, request, now).await?;
    let schedule = Schedule::new(caller.tenant.clone(), body, now);
    let most = state.schedules.per_tenant;
    let made = state
        .store()
        .create_schedule(schedule.clone(), most, &origin)
        .await
        .map_err(stored)?;
    if !made {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "too_many_schedules",
            format!("a tenant has at most {most} schedules; delete some that have ended"),
        ));
    }
    state.service.wake().schedules();
    Ok((StatusCode::CREATED, Json(schedule.into())))
}

/// What to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListQuery {
    limit: Option<u32>,
    after: Option<Uuid>,
    status: Option<String>,
}

/// List schedules
///
/// The caller's own; with the scope `notifications:admin` the tenant's.
#[utoipa::path(
    get, path = "/api/v1/schedules", tag = "schedules",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 200; default 50"),
        ("after" = Option<Uuid>, Query, description = "`next` of the page before"),
        ("status" = Option<String>, Query, description = "`active`, `paused` or `ended`")
    ),
    responses((status = 200, body = ScheduleList))
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<ScheduleList>, Problem> {
    let limit = query.limit.unwrap_or(50);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::invalid(
            "invalid_value",
            "limit",
            format!("1 to {MAX_PAGE}"),
        ));
    }
    let status = match query.status.as_deref() {
        None => None,
        Some(word) => Some(ScheduleState::parse(word).ok_or_else(|| {
            Problem::invalid("invalid_value", "status", "one of `active`, `paused`, `ended`")
        })?),
    };
    let author = (!caller.has_scope("notifications:admin")).then_some(&caller.user);
    let found = state
        .store()
        .schedules(&caller.tenant, author, status, query.after, limit)
        .await
        .map_err(store_problem)?;
    let next = (found.len() >= limit as usize)
        .then(|| found.last().map(|last| last.id.to_string()))
        .flatten();
    Ok(Json(ScheduleList {
        schedules: found.into_iter().map(ScheduleView::from).collect(),
        next,
    }))
}

/// Get a schedule
#[utoipa::path(
    get, path = "/api/v1/schedules/{id}", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    Segment(id): Segment,
) -> Result<Json<ScheduleView>, Problem> {
    Ok(Json(find(&state, &caller, &id).await?.into()))
}

/// Replace a schedule
///
/// From now on it says and does this, in the caller's name. A run that is being made at this moment is made anew or left to
/// the new times. What is paused stays paused; what has ended goes on where the new times allow it.
#[utoipa::path(
    put, path = "/api/v1/schedules/{id}", tag = "schedules", request_body = ScheduleRequest,
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn update(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    Segment(id): Segment,
    JsonBody(request, _): JsonBody<ScheduleRequest>,
) -> Result<Json<ScheduleView>, Problem> {
    let schedule = find(&state, &caller, &id).await?;
    let body = checked(&state, &caller, request, Micros::now()).await?;
    let new = ScheduleChange::Replace(Box::new(body));
    change(&state, &schedule, new, &origin).await
}

/// Delete a schedule
///
/// What it has sent stays.
#[utoipa::path(
    delete, path = "/api/v1/schedules/{id}", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 204), (status = 404, body = Problem))
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    Segment(id): Segment,
) -> Result<StatusCode, Problem> {
    let schedule = find(&state, &caller, &id).await?;
    let deleted = state
        .store()
        .delete_schedule(&caller.tenant, schedule.id, &origin)
        .await
        .map_err(store_problem)?;
    deleted.then_some(StatusCode::NO_CONTENT).ok_or_else(none)
}

/// Pause a schedule
///
/// Nothing is sent until it is resumed, and nothing is made up for then.
#[utoipa::path(
    post, path = "/api/v1/schedules/{id}/pause", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    Segment(id): Segment,
) -> Result<Json<ScheduleView>, Problem> {
    let schedule = going(find(&state, &caller, &id).await?)?;
    change(&state, &schedule, ScheduleChange::Pause, &origin).await
}

/// Resume a schedule
///
/// It goes on with the next of its times.
#[utoipa::path(
    post, path = "/api/v1/schedules/{id}/resume", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 200, body = ScheduleView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    Segment(id): Segment,
) -> Result<Json<ScheduleView>, Problem> {
    let schedule = going(find(&state, &caller, &id).await?)?;
    change(&state, &schedule, ScheduleChange::Resume, &origin).await
}

/// Run a schedule now
///
/// Sends its notification once, beside its times, which stay as they are; also where it is paused. 409
/// where it has ended.
#[utoipa::path(
    post, path = "/api/v1/schedules/{id}/run", tag = "schedules",
    params(("id" = String, Path, description = "The schedule's id")),
    responses((status = 201, body = NotificationView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn run(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    Segment(id): Segment,
) -> Result<(StatusCode, Json<NotificationView>), Problem> {
    let schedule = going(find(&state, &caller, &id).await?)?;
    let plan = planned(&state, &schedule).await?;
    let room = state.capacity().take(&plan.notification).await?;
    let view = NotificationView::created(&plan.notification, status_of(&plan.notification));
    state
        .service
        .accept(vec![plan.notification])
        .await
        .map_err(store_problem)?;
    room.keep();
    Ok((StatusCode::CREATED, Json(view)))
}

/// How many times to show.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NextQuery {
    count: Option<usize>,
}

/// Preview a schedule's next times
#[utoipa::path(
    get, path = "/api/v1/schedules/{id}/next", tag = "schedules",
    params(
        ("id" = String, Path, description = "The schedule's id"),
        ("count" = Option<usize>, Query, description = "1 to 100; default 5")
    ),
    responses((status = 200, body = NextRuns), (status = 404, body = Problem))
)]
pub(crate) async fn next(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    Segment(id): Segment,
    QueryOf(query): QueryOf<NextQuery>,
) -> Result<Json<NextRuns>, Problem> {
    let count = query.count.unwrap_or(5);
    if !(1..=MAX_NEXT).contains(&count) {
        return Err(Problem::invalid(
            "invalid_value",
            "count",
            format!("1 to {MAX_NEXT}"),
        ));
    }
    let schedule = find(&state, &caller, &id).await?;
    let timing = &schedule.body.timing;
    let first = match schedule.state {
        ScheduleState::Active => schedule.next_at,
        ScheduleState::Paused => timing.at_or_after(Micros::now()),
        ScheduleState::Ended => None,
    };
    let left = timing
        .max_runs
        .map_or(u64::MAX, |most| most.saturating_sub(schedule.runs));
    let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
    let times = std::iter::successors(first, |at| timing.after(*at)).take(count);
    Ok(Json(NextRuns {
        status: schedule.state.as_str(),
        next: times.map(|at| NextRun::of(timing, at)).collect(),
    }))
}

/// The notification of an occurrence, as it is to be accepted now, and its room in the queue.
pub(crate) async fn occurrence(
    state: &ApiState,
    schedule: &Schedule,
    at: Micros,
) -> Result<(NewNotification, Room), Problem> {
    let mut notification = planned(state, schedule).await?.notification;
    notification.id = Schedule::notification_id(schedule.id, at);
    let room = state.capacity().take(&notification).await?;
    Ok((notification, room))
}

/// What a schedule would send now, in its author's name.
async fn planned(state: &ApiState, schedule: &Schedule) -> Result<Plan, Problem> {
    let author = Identity {
        tenant: schedule.tenant.clone(),
        user: schedule.body.author.clone(),
        roles: Vec::new(),
        stores: Vec::new(),
        topics: Vec::new(),
        scopes: schedule.body.scopes.iter().cloned().collect::<BTreeSet<_>>(),
        expires_at: i64::MAX,
    };
    let said = body::notification("notification", &schedule.body.notification)?;
    let within = |problem| body::within("notification", problem);
    let draft = draft::draft(said, &author, Micros::now()).map_err(within)?;
    plan::plan(state, &author, draft).await.map_err(within)
}

/// A request's schedule, whose notification could be sent by this caller now.
async fn checked(
    state: &ApiState,
    caller: &Identity,
    request: ScheduleRequest,
    now: Micros,
) -> Result<ScheduleBody, Problem> {
    let (body, said) = body::read(request, caller, now)?;
    let within = |problem| body::within("notification", problem);
    let draft = draft::draft(said, caller, now).map_err(within)?;
    plan::plan(state, caller, draft).await.map_err(within)?;
    Ok(body)
}

async fn change(
    state: &ApiState,
    schedule: &Schedule,
    change: ScheduleChange,
    by: &Origin,
) -> Result<Json<ScheduleView>, Problem> {
    let changed = state
        .store()
        .change_schedule(&schedule.tenant, schedule.id, change, by)
        .await
        .map_err(stored)?
        .ok_or_else(none)?;
    state.service.wake().schedules();
    Ok(Json(changed.into()))
}

/// A schedule of the caller's, or with `notifications:admin` of the tenant. What the caller may not see is not there.
async fn find(state: &ApiState, caller: &Identity, id: &str) -> Result<Schedule, Problem> {
    let id = Uuid::parse_str(id).map_err(|_| none())?;
    state
        .store()
        .schedule(&caller.tenant, id)
        .await
        .map_err(store_problem)?
        .filter(|found| found.body.author == caller.user || caller.has_scope("notifications:admin"))
        .ok_or_else(none)
}

fn going(schedule: Schedule) -> Result<Schedule, Problem> {
    if schedule.state == ScheduleState::Ended {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "ended",
            "it has had its last run; give it another end by PUT, or make a new one",
        ));
    }
    Ok(schedule)
}

fn none() -> Problem {
    Problem::not_found("there is no such schedule for you")
}

/// A taken name is the schedule's.
fn stored(error: StoreError) -> Problem {
    store_problem(match error {
        StoreError::Conflict(_) => StoreError::Conflict("the schedule's name"),
        other => other,
    })
}
