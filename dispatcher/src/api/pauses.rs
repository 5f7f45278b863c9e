//! Pauses of the queue.

use std::time::Duration;

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{JsonBody, Problem},
    ids::TenantId,
    token::Identity,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{Operator, QueryOf},
    problems::store_problem,
    state::ApiState,
    times,
    words::short,
};
use crate::model::{Channel, Micros, Pause};

/// The farthest end of a pause.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// What to pause.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PauseBody {
    /// By what. Default: every channel that leaves this system.
    channel: Option<String>,
    /// Of all tenants: needs the scope `platform:admin`. Default: of the caller's own.
    all_tenants: bool,
    /// For people, at most 256 bytes.
    reason: Option<String>,
    /// When it ends by itself, RFC 3339. Default: when somebody resumes.
    until: Option<String>,
}

/// Which pause.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ResumeQuery {
    /// By what; without it, the pause of every channel.
    channel: Option<String>,
    /// The pause of all tenants: needs the scope `platform:admin`.
    all_tenants: bool,
}

/// A pause.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PauseView {
    /// By what; none: every channel that leaves this system.
    channel: Option<&'static str>,
    /// Of all tenants.
    all_tenants: bool,
    /// For people.
    reason: Option<String>,
    /// Who said so. Not told of a pause of all tenants.
    paused_by: Option<String>,
    /// Since when.
    paused_at: String,
    /// When it ends by itself.
    until: Option<String>,
}

impl PauseView {
    pub(super) fn of(pause: &Pause) -> Self {
        Self {
            channel: pause.channel.map(Channel::as_str),
            all_tenants: pause.tenant.is_none(),
            reason: pause.reason.clone(),
            paused_by: pause.tenant.as_ref().map(|_| pause.paused_by.clone()),
            paused_at: pause.paused_at.rfc3339(),
            until: pause.ends_at.map(Micros::rfc3339),
        }
    }
}

/// The pauses that hold.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PausesView {
    /// Those of the caller's tenant and those of all.
    pauses: Vec<PauseView>,
}

fn channel_of(name: Option<&str>) -> Result<Option<Channel>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let channel = name
        .parse::<Channel>()
        .map_err(|error| Problem::invalid("unknown_channel", "channel", error.to_string()))?;
    if channel.is_external() {
        Ok(Some(channel))
    } else {
        Err(Problem::invalid(
            "invalid_value",
            "channel",
            "inbox and sockets are not paused: their rows and frames go out with the acceptance",
        ))
    }
}

/// Whose: the caller's tenant, or all.
fn tenant_of(caller: &Identity, all_tenants: bool) -> Result<Option<TenantId>, Problem> {
    if !all_tenants {
        return Ok(Some(caller.tenant.clone()));
    }
    if caller.has_scope("platform:admin") {
        Ok(None)
    } else {
        Err(Problem::scope_missing("platform:admin").field("all_tenants"))
    }
}

/// List pauses
///
/// What is paused for the caller's tenant. Needs the scope `notifications:admin`.
#[utoipa::path(get, path = "/api/v1/queue/pauses", tag = "queue", responses((status = 200, body = PausesView)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Operator(caller): Operator,
) -> Result<Json<PausesView>, Problem> {
    let pauses = state.service.operations().pauses().await.map_err(store_problem)?;
    let mine = pauses
        .holding(Micros::now())
        .filter(|pause| pause.concerns(&caller.tenant));
    Ok(Json(PausesView {
        pauses: mine.map(PauseView::of).collect(),
    }))
}

/// Pause
///
/// Deliveries wait in the queue until somebody resumes: on this node at once, on the others within a second. What is being
/// sent at this moment goes on; what is accepted meanwhile waits too, and expires at its time. A pause of the same
/// deliveries is replaced. Needs the scope `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/queue/pauses", tag = "queue", request_body = PauseBody,
    responses((status = 200, body = PauseView), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn pause(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    origin: Origin,
    JsonBody(body, _): JsonBody<PauseBody>,
) -> Result<Json<PauseView>, Problem> {
    let now = Micros::now();
    let ends_at = body
        .until
        .as_deref()
        .map(|text| times::time("until", text))
        .transpose()?;
    if ends_at.is_some_and(|end| end <= now || end > now.plus(LONGEST)) {
        return Err(Problem::invalid(
            "invalid_time",
            "until",
            "has to lie ahead, by 366 days at the most",
        ));
    }
    let pause = Pause {
        tenant: tenant_of(&caller, body.all_tenants)?,
        channel: channel_of(body.channel.as_deref())?,
        reason: short("reason", body.reason)?,
        paused_by: caller.user.as_str().to_owned(),
        paused_at: now,
        ends_at,
    };
    let view = PauseView::of(&pause);
    tracing::info!(by = %caller.user, tenant = %caller.tenant, channel = view.channel, all = view.all_tenants, "paused");
    state
        .service
        .operations()
        .pause(pause, &origin)
        .await
        .map_err(store_problem)?;
    Ok(Json(view))
}

/// Resume
///
/// Ends the pause of exactly these deliveries; another one that covers them too still holds. 404 where there is none.
/// Needs the scope `notifications:admin`.
#[utoipa::path(
    delete, path = "/api/v1/queue/pauses", tag = "queue", params(ResumeQuery),
    responses((status = 200, body = PausesView), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn resume(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    origin: Origin,
    QueryOf(query): QueryOf<ResumeQuery>,
) -> Result<Json<PausesView>, Problem> {
    let tenant = tenant_of(&caller, query.all_tenants)?;
    let channel = channel_of(query.channel.as_deref())?;
    let resumed = state
        .service
        .operations()
        .resume(tenant, channel, &origin)
        .await
        .map_err(store_problem)?;
    if !resumed {
        return Err(Problem::not_found(
            "exactly this is not paused; GET /api/v1/queue/pauses lists what is",
        ));
    }
    tracing::info!(by = %caller.user, tenant = %caller.tenant, channel = channel.map(Channel::as_str), "resumed");
    list(State(state), Operator(caller)).await
}
