//! One dead letter goes again: as it was, corrected, or as a new delivery.

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::Problem,
    ids::{DeliveryId, NotificationId},
    token::Identity,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    address::{self, Addresses},
    dead_letters::no_dead_letter,
    extract::{DeliveryOf, Operator, OptionalBody},
    operate::redriven,
    plan::rendered,
    problems::store_problem,
    references::find,
    state::ApiState,
    words::check_title,
};
use crate::model::{
    Accepted, Channel, Content, DeadLetter, DeliveryState, IdempotencyKey, Micros, NewDelivery,
    NewNotification, Redrive, Strategy,
};

/// Corrections of a dead letter. What is not named stays as it is.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReplayBody {
    /// Where to.
    address: Option<String>,
    /// Headline.
    title: Option<String>,
    /// The text.
    content: Option<String>,
    /// HTML for email. A new text without it is sent as text alone.
    html: Option<String>,
    /// Values for the template that it was made with: it is rendered anew, with the template as it is now.
    #[schema(value_type = Option<Object>)]
    variables: Option<Map<String, Value>>,
    /// A new delivery, of a new notification to this recipient alone, so that receivers that know the old id take it as
    /// another one. Default: the delivery keeps its id.
    new_id: bool,
}

/// What goes again.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReplayView {
    /// The delivery's id.
    #[schema(value_type = String, format = "uuid")]
    id: DeliveryId,
    /// Its notification.
    #[schema(value_type = String, format = "uuid")]
    notification_id: NotificationId,
    /// `pending`.
    status: &'static str,
}

/// Replay a dead letter
///
/// It goes again at once, under its id and with as many attempts as a new one, to another address or with another content
/// where the body says so. Of two replays at the same time one is done and the other is 404. 409 where its notification
/// was cancelled or has expired. Needs the scope `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/{id}/replay", tag = "queue", request_body = Option<ReplayBody>,
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 200, body = ReplayView), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn replay(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    origin: Origin,
    DeliveryOf(id): DeliveryOf,
    OptionalBody(body): OptionalBody<ReplayBody>,
) -> Result<Json<ReplayView>, Problem> {
    let (letter, _) = state
        .store()
        .dead_letter(&caller.tenant, id)
        .await
        .map_err(store_problem)?
        .ok_or_else(no_dead_letter)?;
    let address = body
        .address
        .as_deref()
        .map(|text| fitting(&state, &letter, text))
        .transpose()?;
    let content = corrected(&state, &caller, &letter, &body).await?;
    if letter.expires_at.is_some_and(|at| at <= Micros::now()) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "nothing_to_retry",
            "the notification's time (`expires_at`) has passed; create a new notification",
        ));
    }
    if address.is_none() && letter.address.is_none() {
        return Err(Problem::invalid(
            "missing_field",
            "address",
            "it died because there was no address; name one",
        ));
    }
    if body.new_id {
        return anew(&state, &origin, letter, address, content).await;
    }
    let redrive = Redrive {
        deliveries: vec![(id, state.service.operations().attempts(letter.channel))],
        // The same address is no correction.
        address: address.filter(|address| letter.address.as_ref() != Some(address)),
        content,
    };
    if redriven(&state, redrive, &origin).await?.is_empty() {
        return Err(gone(&state, &caller, id).await?);
    }
    Ok(Json(ReplayView {
        id,
        notification_id: letter.notification,
        status: "pending",
    }))
}

/// Why it did not go: somebody was faster, or its notification will not be sent any more.
async fn gone(state: &ApiState, caller: &Identity, id: DeliveryId) -> Result<Problem, Problem> {
    let is_there = state
        .store()
        .dead_letter(&caller.tenant, id)
        .await
        .map_err(store_problem)?
        .is_some();
    Ok(if is_there {
        Problem::new(
            StatusCode::CONFLICT,
            "nothing_to_retry",
            "its notification was cancelled or withdrawn; replay it with `\"new_id\": true`, or create a new one",
        )
    } else {
        no_dead_letter()
    })
}

fn fitting(state: &ApiState, letter: &DeadLetter, text: &str) -> Result<String, Problem> {
    let mut checked = Addresses::default();
    checked.give("address", text)?;
    let address = checked.given.pop().map(|given| given.address).unwrap_or_default();
    if !address::fits(letter.channel, &address) {
        return Err(Problem::invalid(
            "invalid_address",
            "address",
            format!("is no address of the channel {}", letter.channel.as_str()),
        ));
    }
    if letter.channel == Channel::Webhook {
        let judged = state.service.check_webhook(&address);
        judged.map_err(|why| address::no_webhook("address", why))?;
    }
    Ok(address)
}

/// The corrected content; none: it stays.
async fn corrected(
    state: &ApiState,
    caller: &Identity,
    letter: &DeadLetter,
    body: &ReplayBody,
) -> Result<Option<Content>, Problem> {
    let mut content = letter.content.clone();
    if let Some(variables) = &body.variables {
        let Some(name) = &content.template else {
            return Err(Problem::invalid(
                "conflict",
                "variables",
                "it was made without a template; correct title and content",
            ));
        };
        let template = find(state, caller, name).await?.ok_or_else(|| {
            Problem::invalid(
                "unknown_template",
                "variables",
                format!("its template `{name}` is gone; correct title and content"),
            )
        })?;
        let text = rendered(state, &template, "variables", variables)?;
        (content.title, content.content, content.html) = (text.title, text.content, text.html);
    }
    for (field, text) in [("title", &body.title), ("content", &body.content)] {
        if text.as_ref().is_some_and(String::is_empty) {
            return Err(Problem::invalid("missing_field", field, "cannot be empty"));
        }
    }
    if let Some(title) = &body.title {
        check_title("title", title)?;
        content.title.clone_from(title);
    }
    if let Some(text) = &body.content {
        content.content.clone_from(text);
        content.html = None;
    }
    if body.html.is_some() {
        content.html.clone_from(&body.html);
    }
    Ok((content != letter.content).then_some(content))
}

/// As a new notification to this recipient alone; the dead letter is discarded after it. A repeat of the call finds the
/// first one's by the dead letter's id and time.
async fn anew(
    state: &ApiState,
    by: &Origin,
    letter: DeadLetter,
    address: Option<String>,
    content: Option<Content>,
) -> Result<Json<ReplayView>, Problem> {
    let now = Micros::now();
    let id = DeliveryId::generate();
    let mut new = NewNotification {
        id: NotificationId::generate(),
        tenant: by.tenant.clone(),
        sender: by.user.as_str().to_owned(),
        audience: None,
        content: content.unwrap_or(letter.content),
        lane: letter.lane,
        strategy: Strategy::All,
        channels: vec![letter.channel.as_str().to_owned()],
        inbox: Vec::new(),
        deliveries: vec![NewDelivery {
            id,
            channel: letter.channel,
            user: letter.user,
            address: address.or(letter.address),
            state: DeliveryState::Pending,
            reason: None,
            due_at: now,
            lease_until: None,
            max_attempts: state.service.max_attempts(letter.channel),
        }],
        job: None,
        chains: Vec::new(),
        created_at: now,
        visible_at: now,
        expires_at: letter.expires_at,
        idempotency: Vec::new(),
    };
    let view = ReplayView {
        id,
        notification_id: new.id,
        status: "pending",
    };
    let key = format!("{} {}", letter.id, letter.died_at.0);
    new.idempotency = vec![IdempotencyKey {
        credential: by.credential_id.clone(),
        route: "dead-letters/replay".into(),
        request_hash: Sha256::digest(key.as_bytes()).to_vec(),
        key,
        status: StatusCode::OK.as_u16(),
        response: format!("{} {}", view.id, view.notification_id),
    }];
    let accepted = state.service.accept(vec![new]).await.map_err(store_problem)?;
    let view = match accepted.into_iter().next() {
        Some(Accepted::Repeat { response, .. }) => {
            let ids = response.split_once(' ');
            let ids = ids.and_then(|(id, notification)| Some((id.parse().ok()?, notification.parse().ok()?)));
            let (id, notification_id) = ids.ok_or_else(no_dead_letter)?;
            ReplayView {
                id,
                notification_id,
                status: "pending",
            }
        }
        _ => view,
    };
    state
        .service
        .operations()
        .discard(&by.tenant, vec![letter.id], by)
        .await
        .map_err(store_problem)?;
    Ok(Json(view))
}
