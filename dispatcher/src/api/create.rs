//! Creating notifications: the canonical route and those of the seed systems.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    http::{JsonBody, Problem},
    token::Identity,
};
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
use crate::model::{Accepted, IdempotencyKey, Micros, NewNotification, overall_status};

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
    Sender(caller): Sender,
    headers: HeaderMap,
    JsonBody(body, raw): JsonBody<NotificationBody>,
) -> Result<Response, Problem> {
    let request = Request {
        route: "notifications",
        status: StatusCode::CREATED,
        headers: &headers,
        raw: &raw,
    };
    accept(&state, &caller, body, request, |plan, status| {
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
pub(crate) async fn send(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    headers: HeaderMap,
    JsonBody(body, raw): JsonBody<NotificationBody>,
) -> Result<Response, Problem> {
    let request = Request {
        route: "notifications/send",
        status: StatusCode::OK,
        headers: &headers,
        raw: &raw,
    };
    accept(&state, &caller, body, request, |plan, status| {
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
    Sender(caller): Sender,
    headers: HeaderMap,
    JsonBody(body, raw): JsonBody<NotificationBody>,
) -> Result<Response, Problem> {
    if body.channels.is_none() && body.channel.is_none() && body.channel_type.is_none() {
        return Err(Problem::invalid(
            "missing_field",
            "channels",
            "name the channels to send by",
        ));
    }
    let request = Request {
        route: "notifications/multi-channel",
        status: StatusCode::CREATED,
        headers: &headers,
        raw: &raw,
    };
    accept(&state, &caller, body, request, |plan, status| {
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
    Sender(caller): Sender,
    headers: HeaderMap,
    JsonBody(body, raw): JsonBody<NotificationBody>,
) -> Result<Response, Problem> {
    if body.template.is_none() && body.template_name.is_none() && body.template_id.is_none() {
        return Err(Problem::invalid(
            "missing_field",
            "template_name",
            "name the template to send with",
        ));
    }
    let request = Request {
        route: "notifications/template",
        status: StatusCode::CREATED,
        headers: &headers,
        raw: &raw,
    };
    accept(&state, &caller, body, request, |plan, status| {
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

/// What of a request decides its answer, beside its parsed body.
struct Request<'a> {
    route: &'static str,
    status: StatusCode,
    headers: &'a HeaderMap,
    raw: &'a Bytes,
}

/// Checks, plans, stores, answers. The answer is made before storing, as it is stored with the idempotency keys.
async fn accept(
    state: &ApiState,
    caller: &Identity,
    body: NotificationBody,
    request: Request<'_>,
    respond: impl FnOnce(&Plan, &'static str) -> String,
) -> Result<Response, Problem> {
    let header_key = header_key(request.headers)?;
    let draft = draft::draft(body, caller, Micros::now())?;
    let body_key = draft.idempotency_key.clone();
    let mut plan = plan(state, caller, draft).await?;
    let response = respond(&plan, status_of(&plan.notification));
    let key = |credential: &str, key: String| IdempotencyKey {
        credential: credential.to_owned(),
        route: request.route,
        key,
        request_hash: Sha256::digest(request.raw).to_vec(),
        status: request.status.as_u16(),
        response: response.clone(),
    };
    let mismatched = if header_key.is_some() {
        "Idempotency-Key"
    } else {
        "idempotency_key"
    };
    plan.notification
        .idempotency
        .extend(header_key.map(|text| key(caller.user.as_str(), text)));
    plan.notification
        .idempotency
        .extend(body_key.map(|text| key("", text)));

    let accepted = state
        .service
        .accept(vec![plan.notification])
        .await
        .map_err(store_problem)?;
    match accepted.into_iter().next() {
        Some(Accepted::New) => Ok(json(request.status, response)),
        Some(Accepted::Repeat { status, response }) => {
            let status = StatusCode::from_u16(status).unwrap_or(request.status);
            let mut repeated = json(status, response);
            repeated.headers_mut().insert(
                HeaderName::from_static("idempotency-replayed"),
                HeaderValue::from_static("true"),
            );
            Ok(repeated)
        }
        Some(Accepted::Mismatch) => Err(Problem::invalid(
            "idempotency_mismatch",
            mismatched,
            "this key was used for another body within 24 hours; use a new key for a new notification",
        )),
        None => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the store gave no answer",
        )),
    }
}

fn status_of(new: &NewNotification) -> &'static str {
    let scheduled = new.visible_at > new.created_at;
    if new.job.is_some() {
        return if scheduled { "scheduled" } else { "pending" };
    }
    overall_status(new.deliveries.iter().map(|delivery| delivery.state), scheduled)
}

fn header_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else {
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
