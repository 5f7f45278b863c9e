//! Creating notifications: the canonical route and those of the seed systems.

use axum::extract::State;
use common::http::Problem;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    accept::{Answered, Route, Submission, accept, answer},
    body::NotificationBody,
    dry_run::{DryRun, DryRunQuery},
    plan::Plan,
    state::ApiState,
    view::NotificationView,
};

/// Create a notification
///
/// Answers when notification and deliveries are durable. Needs the scope `notifications:write`.
#[utoipa::path(
    post, path = "/api/v1/notifications", tag = "notifications", request_body = NotificationBody,
    params(
        DryRunQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key with the same body is one notification, for 24 hours"),
    ),
    responses(
        (status = 201, body = NotificationView),
        (status = 200, body = DryRun, description = "For a dry run: what would be done"),
        (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 429, body = Problem), (status = 503, body = Problem),
    )
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    submission: Submission,
) -> Result<Answered, Problem> {
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
pub(crate) async fn send(State(state): State<ApiState>, submission: Submission) -> Result<Answered, Problem> {
    let route = Route {
        name: "notifications/send",
        status: StatusCode::OK,
    };
    accept(&state, submission, route, sent).await
}

/// As [`SentAnswer`].
pub(super) fn sent(plan: &Plan, status: &'static str) -> String {
    answer(&SentAnswer {
        id: plan.notification.id.to_string(),
        status,
        created_at: plan.notification.created_at.rfc3339(),
    })
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
) -> Result<Answered, Problem> {
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
) -> Result<Answered, Problem> {
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
