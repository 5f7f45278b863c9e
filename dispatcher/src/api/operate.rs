//! What a sender does with a notification after it was accepted: cancel it, try it again, change it before its time.

use std::collections::HashSet;

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{JsonBody, Problem},
    ids::{DeliveryId, NotificationId},
    token::Identity,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    body::NotificationBody,
    draft::{Draft, draft},
    extract::{IdOf, OptionalBody, Sender},
    plan::plan,
    problems::{no_notification, store_problem},
    revise,
    state::ApiState,
    view::NotificationView,
};
use crate::{
    model::{
        CancelFate, Candidate, Delivery, DeliveryState, Micros, Notification, Redrive, RedriveResult,
        Replaced, overall_status,
    },
    operations::Retried,
};

/// Most deliveries that one retry names.
const MAX_NAMED: usize = 1000;

/// The caller's own notification, or any of the tenant for its administrators. What the caller may not change is not there.
pub(super) async fn owned(
    state: &ApiState,
    caller: &Identity,
    id: NotificationId,
) -> Result<(Notification, Vec<Delivery>), Problem> {
    state
        .store()
        .notification(&caller.tenant, id)
        .await
        .map_err(store_problem)?
        .filter(|(stored, _)| {
            stored.sender == caller.user.as_str() || caller.has_scope("notifications:admin")
        })
        .ok_or_else(no_notification)
}

/// What cancelling did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CancelView {
    /// The notification's id.
    #[schema(format = "uuid")]
    id: String,
    /// `cancelled`: nothing of it goes out, or went out; `partly_cancelled`: a part was stopped, the rest had gone or is on the
    /// way; `too_late`: nothing was left to stop.
    status: &'static str,
    /// Deliveries that were stopped by this call.
    stopped: u64,
    /// Those that a worker has: they may still go out, and are not tried again if they do not.
    on_the_way: u64,
    /// Those that had their end before.
    ended: u64,
    /// Whether a group's fan-out was stopped that would have made more.
    fan_out_stopped: bool,
    /// Steps of a strategy that had not begun and were stopped.
    steps_stopped: u64,
    /// Each of them; the first 2,000.
    deliveries: Vec<FateView>,
}

/// One delivery after the cancelling.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FateView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    id: DeliveryId,
    /// By what.
    channel: &'static str,
    /// For whom.
    user_id: Option<String>,
    /// `stopped`, `on_the_way` or `ended`.
    fate: &'static str,
    /// Its state now.
    state: &'static str,
    /// Why.
    reason: Option<String>,
}

/// Cancel a notification
///
/// Stops what has not begun, also before its scheduled time, and says of every delivery whether that was in time. What a
/// worker has at this moment may still go out; it is not tried again. Rows of the inbox that are visible stay: withdraw
/// them with `DELETE …?for=all`. Needs the scope `notifications:write`; of others' notifications `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/notifications/{id}/cancel", tag = "notifications",
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = CancelView), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn cancel(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    IdOf(id): IdOf,
) -> Result<Json<CancelView>, Problem> {
    owned(&state, &caller, id).await?;
    let cancelled = state
        .service
        .operations()
        .cancel(&caller.tenant, id, &origin)
        .await
        .map_err(store_problem)?
        .ok_or_else(no_notification)?;
    let gone = cancelled.on_the_way > 0 || cancelled.delivered > 0;
    let stopped = cancelled.cancelled > 0
        || cancelled.never_visible
        || cancelled.fan_out_stopped
        || cancelled.steps_stopped > 0;
    Ok(Json(CancelView {
        id: id.to_string(),
        status: match (stopped, gone) {
            (true, false) => "cancelled",
            (true, true) => "partly_cancelled",
            (false, _) => "too_late",
        },
        stopped: cancelled.stopped,
        on_the_way: cancelled.on_the_way,
        ended: cancelled.ended,
        fan_out_stopped: cancelled.fan_out_stopped,
        steps_stopped: cancelled.steps_stopped,
        deliveries: cancelled
            .deliveries
            .iter()
            .map(|(delivery, fate)| FateView {
                id: delivery.id,
                channel: delivery.channel.as_str(),
                user_id: delivery.user.as_ref().map(|user| user.as_str().to_owned()),
                fate: match fate {
                    CancelFate::Stopped => "stopped",
                    CancelFate::OnTheWay => "on_the_way",
                    CancelFate::Ended => "ended",
                },
                state: delivery.state.as_str(),
                reason: delivery.reason.clone(),
            })
            .collect(),
    }))
}

/// Which deliveries to try again.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetryBody {
    /// Their ids, at most 1000. Default: all that are dead, the first 10,000.
    deliveries: Option<Vec<String>>,
}

/// What is tried again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RetryView {
    /// The notification's id.
    #[schema(format = "uuid")]
    id: String,
    /// `pending`.
    status: &'static str,
    /// Deliveries that go again, under their ids.
    #[schema(value_type = Vec<String>)]
    retried: Vec<DeliveryId>,
    /// The others that were named, or the first of all, with the state that they are in.
    not_retried: Vec<NotRetried>,
    /// So many are not sent again by one call, and there may be more that are dead: ask again.
    more: bool,
}

/// A delivery that is not tried again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct NotRetried {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    id: DeliveryId,
    /// Its state.
    state: &'static str,
    /// Why it is in it.
    reason: Option<String>,
}

/// Retry a notification
///
/// Its dead deliveries go again at once, with as many attempts as new ones, under their ids, so that receivers that have
/// them already know them again. 409 where there is none: the answer says why. Needs the scope `notifications:write`; of
/// others' notifications `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/notifications/{id}/retry", tag = "notifications", request_body = Option<RetryBody>,
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = RetryView), (status = 404, body = Problem), (status = 409, body = Problem))
)]
pub(crate) async fn retry(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    IdOf(id): IdOf,
    OptionalBody(body): OptionalBody<RetryBody>,
) -> Result<Json<RetryView>, Problem> {
    let (stored, deliveries) = owned(&state, &caller, id).await?;
    let named = body.deliveries.map(|ids| named(&ids)).transpose()?;
    let (wanted, retried) = match &named {
        Some(named) => retry_named(&state, &origin, id, named).await?,
        None => {
            let retried = state
                .service
                .operations()
                .retry(&caller.tenant, id, &origin)
                .await
                .map_err(store_problem)?;
            (deliveries.into_iter().map(candidate).collect(), retried)
        }
    };
    if retried.deliveries.is_empty() {
        return Err(nothing_to_retry(&stored, &wanted));
    }
    let again: HashSet<DeliveryId> = retried.deliveries.iter().copied().collect();
    Ok(Json(RetryView {
        id: id.to_string(),
        status: "pending",
        not_retried: wanted
            .into_iter()
            .filter(|one| !again.contains(&one.id))
            .map(|one| NotRetried {
                id: one.id,
                state: one.state.as_str(),
                reason: one.reason,
            })
            .collect(),
        retried: retried.deliveries,
        more: retried.more,
    }))
}

fn candidate(delivery: Delivery) -> Candidate {
    Candidate {
        id: delivery.id,
        channel: delivery.channel,
        state: delivery.state,
        reason: delivery.reason,
    }
}

/// All of them or, where one is not the notification's, none.
async fn retry_named(
    state: &ApiState,
    by: &Origin,
    id: NotificationId,
    named: &[DeliveryId],
) -> Result<(Vec<Candidate>, Retried), Problem> {
    let found = state.store().named_of(id, named).await.map_err(store_problem)?;
    let known: HashSet<DeliveryId> = found.iter().map(|one| one.id).collect();
    if let Some(unknown) = named.iter().position(|id| !known.contains(id)) {
        return Err(Problem::invalid(
            "invalid_value",
            format!("deliveries[{unknown}]"),
            "the notification has no such delivery",
        ));
    }
    let deliveries = state
        .service
        .operations()
        .retry_these(&by.tenant, &found, by)
        .await
        .map_err(store_problem)?;
    let retried = Retried {
        deliveries,
        more: false,
    };
    Ok((found, retried))
}

fn named(ids: &[String]) -> Result<Vec<DeliveryId>, Problem> {
    if ids.is_empty() || ids.len() > MAX_NAMED {
        return Err(Problem::invalid(
            "invalid_value",
            "deliveries",
            format!("names 1 to {MAX_NAMED} deliveries; leave it out for all that are dead"),
        ));
    }
    ids.iter()
        .enumerate()
        .map(|(index, id)| {
            id.parse().map_err(|_| {
                Problem::invalid(
                    "invalid_value",
                    format!("deliveries[{index}]"),
                    "is not the id of a delivery",
                )
            })
        })
        .collect()
}

/// Redrives, and says what goes again.
pub(super) async fn redriven(
    state: &ApiState,
    redrive: Redrive,
    by: &Origin,
) -> Result<Vec<DeliveryId>, Problem> {
    let result = state
        .service
        .operations()
        .redrive(&by.tenant, redrive, by)
        .await
        .map_err(store_problem)?;
    match result {
        RedriveResult::Redriven(all) => Ok(all.into_iter().map(|one| one.id).collect()),
        RedriveResult::AddressTaken => Err(Problem::new(
            StatusCode::CONFLICT,
            "address_taken",
            "the notification has another delivery by this channel to this address",
        )
        .field("address")),
    }
}

fn nothing_to_retry(stored: &Notification, wanted: &[Candidate]) -> Problem {
    let expired = stored.expires_at.is_some_and(|at| at <= Micros::now());
    let detail = if stored.withdrawn {
        "it was withdrawn; create a new notification".to_owned()
    } else if expired {
        "its time (`expires_at`) has passed; create a new notification".to_owned()
    } else if wanted.iter().any(|one| !one.state.is_terminal()) {
        "it is still being tried; nothing of it is dead".to_owned()
    } else if wanted.iter().any(|one| one.state == DeliveryState::Cancelled) {
        "it was cancelled; create a new notification".to_owned()
    } else if wanted.iter().any(|one| one.state == DeliveryState::Dead) {
        "nothing of it that is dead can be sent again; create a new notification".to_owned()
    } else {
        "no delivery of it is dead".to_owned()
    };
    Problem::new(StatusCode::CONFLICT, "nothing_to_retry", detail)
}

/// Change a scheduled notification
///
/// Before its time everything can be changed: content, time, target, channels. What the body does not name stays as it
/// is; a template or another target lays it out anew, and the addresses that a single user had do not go over to another
/// target. From its time on it is 409. The id stays. Needs the scope
/// `notifications:write`; of others' notifications `notifications:admin`.
#[utoipa::path(
    put, path = "/api/v1/notifications/{id}", tag = "notifications", request_body = NotificationBody,
    params(("id" = String, Path, description = "The notification's id")),
    responses((status = 200, body = NotificationView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn update(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    origin: Origin,
    IdOf(id): IdOf,
    JsonBody(body, _): JsonBody<NotificationBody>,
) -> Result<Json<NotificationView>, Problem> {
    let (stored, deliveries) = owned(&state, &caller, id).await?;
    let now = Micros::now();
    if stored.withdrawn {
        return Err(not_changed(Replaced::Cancelled));
    }
    if stored.visible_at <= now {
        return Err(not_changed(Replaced::Due));
    }
    let revision = revise::revise(body, &stored, &deliveries)?;
    let mut draft = draft(revision.body, &caller, now)?;
    draft.addresses.kept = revision.keeps_addresses;
    keep_time(&mut draft, &stored, revision.moved, now);
    let mut new = plan(&state, &caller, draft).await?.notification;
    new.id = id;
    new.sender.clone_from(&stored.sender);
    new.created_at = stored.created_at;
    if revision.keeps_text {
        new.content.template.clone_from(&stored.content.template);
    }
    let status = overall_status(
        new.deliveries.iter().map(|one| one.state),
        new.job.is_some(),
        true,
    );
    let view = NotificationView::created(&new, status);
    match state
        .service
        .operations()
        .replace(&caller.tenant, new, &origin)
        .await
        .map_err(store_problem)?
    {
        Replaced::Done => Ok(Json(view)),
        Replaced::Unknown => Err(no_notification()),
        refused => Err(not_changed(refused)),
    }
}

/// The stored time to the microsecond where it is not changed; what is moved to the past is due at once, and still takes
/// the way of the scheduled.
fn keep_time(draft: &mut Draft, stored: &Notification, moved: bool, now: Micros) {
    if !moved {
        draft.visible_at = stored.visible_at;
    }
    draft.visible_at = draft.visible_at.max(Micros(now.0 + 1));
}

fn not_changed(why: Replaced) -> Problem {
    match why {
        Replaced::Cancelled => Problem::new(
            StatusCode::CONFLICT,
            "cancelled",
            "it was cancelled; create a new notification",
        ),
        _ => Problem::new(
            StatusCode::CONFLICT,
            "already_due",
            "its time has come, so it is being sent or was; only a scheduled notification can be changed, before its time",
        ),
    }
}

/// Takes back what was scheduled and is not visible yet. For who may: 409 where its time has come.
pub(super) async fn delete_scheduled(
    state: &ApiState,
    caller: &Identity,
    id: NotificationId,
    by: &Origin,
) -> Result<(), Problem> {
    let (stored, _) = owned(state, caller, id).await?;
    if stored.withdrawn {
        return Err(no_notification());
    }
    if stored.visible_at <= Micros::now() {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "already_due",
            "its time has come; `POST …/cancel` stops what was not sent yet, and `DELETE …?for=all` withdraws it for everyone",
        ));
    }
    state
        .service
        .withdraw(&caller.tenant, id, by)
        .await
        .map_err(store_problem)?
        .then_some(())
        .ok_or_else(no_notification)
}
