//! Creating notifications: the canonical route and those of the seed systems.

use axum::{
    extract::{self, FromRequest, FromRequestParts, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::http::{Caller, JsonBody, Problem};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    body::NotificationBody,
    draft,
    extract::Sender,
    plan::{Plan, plan},
    problems::store_problem,
    state::ApiState,
    view::NotificationView,
};
use crate::model::{Accepted, Chain, IdempotencyKey, Micros, NewNotification, overall_status};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest idempotency key of the header, in bytes.
const MAX_KEY: usize = 255;

/// Create a notification
///
/// Answers when notification and deliveries are durable. Needs the scope `notifications:write`.
#[utoipa::path(
    post, path = "/api/v1/notifications", tag = "notifications", request_body = NotificationBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key with the same body is one notification, for 24 hours")),
    responses(
        (status = 201, body = NotificationView),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem),
    )
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    submission: Submission,
) -> Result<Response, Problem> {
    let route = Route {
        name: "notifications",
        status: StatusCode::CREATED,
    };
    accept(&state, submission, route, |plan, status| {
        answer(&NotificationView::created(&plan.notification, status))
    })
    .await
}

/// S3's answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SentAnswer {
    /// The notification's id.
    #[schema(format = "uuid")]
    id: String,
    /// `scheduled`, `pending`, `sent` or `failed`.
    status: &'static str,
    /// RFC 3339.
    created_at: String,
}

/// Send a notification (short answer)
///
/// The same body as `POST /api/v1/notifications`. Needs the scope `notifications:write`.
#[utoipa::path(
    post, path = "/api/v1/notifications/send", tag = "notifications", request_body = NotificationBody,
    responses((status = 200, body = SentAnswer), (status = 422, body = Problem))
)]
pub(crate) async fn send(State(state): State<ApiState>, submission: Submission) -> Result<Response, Problem> {
    let route = Route {
        name: "notifications/send",
        status: StatusCode::OK,
    };
    accept(&state, submission, route, |plan, status| {
        answer(&SentAnswer {
            id: plan.notification.id.to_string(),
            status,
            created_at: plan.notification.created_at.rfc3339(),
        })
    })
    .await
}

/// S1's answer for several channels.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChannelsAnswer {
    /// Whether at least one channel accepted it for sending.
    success: bool,
    /// For people.
    message: &'static str,
    /// The template's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    /// For each channel, by the caller's name for it, whether it was accepted for sending.
    #[schema(value_type = Object)]
    results: Map<String, Value>,
    /// The notification's id.
    #[schema(format = "uuid")]
    id: String,
    /// `scheduled`, `pending`, `sent` or `failed`.
    status: &'static str,
    /// RFC 3339.
    created_at: String,
}

/// Send by several channels
///
/// `results` says for each channel whether it was accepted for sending: `false` where it is not configured or no
/// address fits. Needs the scope `notifications:write`.
#[utoipa::path(
    post, path = "/api/v1/notifications/multi-channel", tag = "notifications", request_body = NotificationBody,
    responses((status = 201, body = ChannelsAnswer), (status = 422, body = Problem))
)]
pub(crate) async fn multi_channel(
    State(state): State<ApiState>,
    submission: Submission,
) -> Result<Response, Problem> {
    let body = &submission.body;
    if body.channels.is_none() && body.channel.is_none() && body.channel_type.is_none() {
        return Err(Problem::invalid(
            "missing_field",
            "channels",
            "name the channels to send by",
        ));
    }
    let route = Route {
        name: "notifications/multi-channel",
        status: StatusCode::CREATED,
    };
    accept(&state, submission, route, |plan, status| {
        channels_answer(plan, status, None, ["通知已发送", "没有渠道接受该通知"])
    })
    .await
}

/// Send with a template
///
/// Needs the scope `notifications:write`.
#[utoipa::path(
    post, path = "/api/v1/notifications/template", tag = "notifications", request_body = NotificationBody,
    responses((status = 201, body = ChannelsAnswer), (status = 422, body = Problem))
)]
pub(crate) async fn from_template(
    State(state): State<ApiState>,
    submission: Submission,
) -> Result<Response, Problem> {
    let body = &submission.body;
    if body.template.is_none() && body.template_name.is_none() && body.template_id.is_none() {
        return Err(Problem::invalid(
            "missing_field",
            "template_name",
            "name the template to send with",
        ));
    }
    let route = Route {
        name: "notifications/template",
        status: StatusCode::CREATED,
    };
    accept(&state, submission, route, |plan, status| {
        let template = plan.notification.content.template.clone();
        channels_answer(
            plan,
            status,
            template,
            ["模板通知已发送", "没有渠道接受该模板通知"],
        )
    })
    .await
}

fn channels_answer(
    plan: &Plan,
    status: &'static str,
    template: Option<String>,
    messages: [&'static str; 2],
) -> String {
    let success = plan.results.iter().any(|(_, accepted)| *accepted);
    answer(&ChannelsAnswer {
        success,
        message: if success { messages[0] } else { messages[1] },
        template,
        results: plan
            .results
            .iter()
            .map(|(name, accepted)| (name.clone(), Value::Bool(*accepted)))
            .collect(),
        id: plan.notification.id.to_string(),
        status,
        created_at: plan.notification.created_at.rfc3339(),
    })
}

/// Texts, numbers and maps with text keys always serialise.
fn answer(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A request to create, from a caller who may. Its scope is looked at before its body.
pub(crate) struct Submission {
    caller: Caller,
    headers: HeaderMap,
    body: NotificationBody,
    raw: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Submission {
    type Rejection = Problem;

    async fn from_request(request: extract::Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Sender(caller) = Sender::from_request_parts(&mut parts, state).await?;
        let headers = parts.headers.clone();
        let request = extract::Request::from_parts(parts, body);
        let JsonBody(body, raw) = JsonBody::from_request(request, state).await?;
        Ok(Self {
            caller,
            headers,
            body,
            raw,
        })
    }
}

/// What a route adds to an answer.
#[derive(Clone, Copy)]
struct Route {
    name: &'static str,
    status: StatusCode,
}

/// Checks, plans, stores, answers. The answer is made before storing, as it is stored with the idempotency keys.
async fn accept(
    state: &ApiState,
    submission: Submission,
    route: Route,
    respond: impl FnOnce(&Plan, &'static str) -> String,
) -> Result<Response, Problem> {
    let mut keys = keys(&submission, route)?;
    let Submission {
        caller,
        headers,
        body,
        ..
    } = submission;
    // By which of the two a request is told of a mismatch.
    let field = if headers.contains_key(IDEMPOTENCY_KEY) {
        "Idempotency-Key"
    } else {
        "idempotency_key"
    };
    // A repeat is one whatever has become of its times, its template and its target meanwhile.
    let known = state
        .store()
        .answered(&caller.tenant, &keys)
        .await
        .map_err(store_problem)?;
    if let Some(known) = known {
        return told(known, route.status, field, String::new());
    }
    let draft = draft::draft(body, &caller, Micros::now())?;
    let mut plan = plan(state, &caller, draft).await?;
    let response = respond(&plan, status_of(&plan.notification));
    for key in &mut keys {
        key.response.clone_from(&response);
    }
    plan.notification.idempotency = keys;
    let accepted = state
        .service
        .accept(vec![plan.notification])
        .await
        .map_err(store_problem)?;
    match accepted.into_iter().next() {
        Some(accepted) => told(accepted, route.status, field, response),
        None => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the store gave no answer",
        )),
    }
}

/// The request's idempotency keys, without the answer that will be kept under them.
fn keys(submission: &Submission, route: Route) -> Result<Vec<IdempotencyKey>, Problem> {
    let header = header_key(&submission.headers)?.map(|key| (submission.caller.user.as_str(), key));
    // A draft of the body checks its key; one that is refused is known to nobody.
    let of_body = submission.body.idempotency_key.clone().map(|key| ("", key));
    let hash = Sha256::digest(&submission.raw);
    Ok(header
        .into_iter()
        .chain(of_body)
        .map(|(credential, key)| IdempotencyKey {
            credential: credential.to_owned(),
            route: route.name,
            key,
            request_hash: hash.to_vec(),
            status: route.status.as_u16(),
            response: String::new(),
        })
        .collect())
}

/// The store's judgement as an answer; `fresh` is that of a new one, and `field` holds the key.
fn told(
    accepted: Accepted,
    status: StatusCode,
    field: &'static str,
    fresh: String,
) -> Result<Response, Problem> {
    match accepted {
        Accepted::New => Ok(json(status, fresh)),
        Accepted::Repeat {
            status: first,
            response,
        } => {
            let mut repeated = json(StatusCode::from_u16(first).unwrap_or(status), response);
            repeated.headers_mut().insert(
                HeaderName::from_static("idempotency-replayed"),
                HeaderValue::from_static("true"),
            );
            Ok(repeated)
        }
        Accepted::Mismatch => Err(Problem::invalid(
            "idempotency_mismatch",
            field,
            "this key was used for another body within 24 hours; use a new key for a new notification",
        )),
    }
}

fn status_of(new: &NewNotification) -> &'static str {
    let states = new.deliveries.iter().map(|delivery| delivery.state);
    let open = new.job.is_some() || new.chains.iter().any(Chain::is_open);
    overall_status(states, open, new.visible_at > new.created_at)
}

fn header_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if (1..=MAX_KEY).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(Problem::invalid(
            "invalid_value",
            "Idempotency-Key",
            format!("the key has 1 to {MAX_KEY} visible ASCII characters"),
        )),
    }
}

fn json(status: StatusCode, body: String) -> Response {
    (
        status,
        [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
        body,
    )
        .into_response()
}
