//! Rules: which events become notifications, and which.

mod book;

use std::sync::Arc;

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{JsonBody, Problem},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub(crate) use self::book::{Book, Rules};
use super::{
    dry_run::DryRun,
    events,
    extract::{RuleWriter, Segment},
    problems::store_problem,
    state::ApiState,
};
use crate::{
    events::{InvalidRule, Rule, value},
    model::{EventRule, RuleBody, RuleVersion},
    store::RuleWritten,
};

/// A rule as answers show it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RuleView {
    /// Unique in the tenant.
    name: String,
    /// From 1; 0 for one that every tenant has.
    version: u32,
    /// `tenant`, or `configuration` for one that every tenant has: a rule of the same name takes its place.
    origin: &'static str,
    /// The type of the events that it is about.
    event: String,
    /// A condition.
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    /// The notification.
    #[schema(value_type = Object)]
    notification: Map<String, Value>,
    /// Whether it is on.
    enabled: bool,
}

impl From<&EventRule> for RuleView {
    fn from(rule: &EventRule) -> Self {
        let body = rule.body.clone();
        Self {
            name: rule.name.clone(),
            version: rule.version,
            origin: if rule.version == 0 {
                "configuration"
            } else {
                "tenant"
            },
            event: body.event,
            when: body.when,
            notification: body.notification,
            enabled: body.enabled,
        }
    }
}

/// A rule as it was written once.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RuleVersionView {
    /// From 1.
    version: u32,
    /// What it said; null: it was deleted.
    rule: Option<RuleBody>,
    /// Who wrote it.
    author: String,
    /// When, RFC 3339.
    created_at: String,
}

impl From<RuleVersion> for RuleVersionView {
    fn from(version: RuleVersion) -> Self {
        Self {
            version: version.version,
            rule: version.body,
            author: version.author,
            created_at: version.created_at.rfc3339(),
        }
    }
}

/// List rules
///
/// The tenant's own, and those of the configuration that it has not replaced. Needs the scope `rules:write`.
#[utoipa::path(get, path = "/api/v1/rules", tag = "rules", responses((status = 200, body = Vec<RuleView>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    RuleWriter(caller): RuleWriter,
) -> Result<Json<Vec<RuleView>>, Problem> {
    let rules = state
        .rules()
        .now(&state.service, &caller.tenant)
        .await
        .map_err(store_problem)?;
    Ok(Json(rules.iter().map(|rule| rule.said().into()).collect()))
}

/// Get a rule
#[utoipa::path(
    get, path = "/api/v1/rules/{name}", tag = "rules",
    params(("name" = String, Path, description = "The rule's name")),
    responses((status = 200, body = RuleView), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    RuleWriter(caller): RuleWriter,
    Segment(name): Segment,
) -> Result<Json<RuleView>, Problem> {
    let rules = state
        .rules()
        .now(&state.service, &caller.tenant)
        .await
        .map_err(store_problem)?;
    let found = rules.iter().find(|rule| rule.name() == name);
    found.map(|rule| Json(rule.said().into())).ok_or_else(none)
}

/// Create or replace a rule
///
/// Each change is a new version; the last 50 are kept. It holds on every dispatcher within a second, for events that come then.
/// Needs the scope `rules:write`.
#[utoipa::path(
    put, path = "/api/v1/rules/{name}", tag = "rules", request_body = RuleBody,
    params(("name" = String, Path, description = "1 to 64 characters of A-Z a-z 0-9 . _ -")),
    responses(
        (status = 200, body = RuleView, description = "A new version"), (status = 201, body = RuleView),
        (status = 409, body = Problem), (status = 422, body = Problem),
    )
)]
pub(crate) async fn put(
    State(state): State<ApiState>,
    RuleWriter(caller): RuleWriter,
    origin: Origin,
    Segment(name): Segment,
    JsonBody(body, _): JsonBody<RuleBody>,
) -> Result<(StatusCode, Json<RuleView>), Problem> {
    check_name(&name)?;
    checked(&state, &name, body.clone())?;
    let most = state.service.settings().current().config.rules.per_tenant;
    let written = state
        .store()
        .put_rule(&caller.tenant, &name, body, most, &origin)
        .await
        .map_err(store_problem)?;
    let RuleWritten::Stored(version, there) = written else {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "too_many_rules",
            format!("a tenant has at most {most} rules; delete some that are not needed"),
        ));
    };
    state.rules().forget(&caller.tenant);
    let status = if there {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let rule = EventRule {
        name: version.name,
        version: version.version,
        body: version.body.ok_or_else(none)?,
    };
    Ok((status, Json((&rule).into())))
}

/// Delete a rule
///
/// One of the configuration with this name holds again; to switch that off, put one of its name that is not `enabled`.
/// Needs the scope `rules:write`.
#[utoipa::path(
    delete, path = "/api/v1/rules/{name}", tag = "rules",
    params(("name" = String, Path, description = "The rule's name")),
    responses((status = 204), (status = 404, body = Problem))
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    RuleWriter(caller): RuleWriter,
    origin: Origin,
    Segment(name): Segment,
) -> Result<StatusCode, Problem> {
    let deleted = state
        .store()
        .delete_rule(&caller.tenant, &name, &origin)
        .await
        .map_err(store_problem)?;
    state.rules().forget(&caller.tenant);
    deleted.then_some(StatusCode::NO_CONTENT).ok_or_else(none)
}

/// List a rule's versions
///
/// The newest first, also of a rule that was deleted. Needs the scope `rules:write`.
#[utoipa::path(
    get, path = "/api/v1/rules/{name}/versions", tag = "rules",
    params(("name" = String, Path, description = "The rule's name")),
    responses((status = 200, body = Vec<RuleVersionView>), (status = 404, body = Problem))
)]
pub(crate) async fn versions(
    State(state): State<ApiState>,
    RuleWriter(caller): RuleWriter,
    Segment(name): Segment,
) -> Result<Json<Vec<RuleVersionView>>, Problem> {
    let found = state
        .service
        .read(state.store().rule_versions(&caller.tenant, &name))
        .await
        .map_err(store_problem)?;
    if found.is_empty() {
        return Err(none());
    }
    Ok(Json(found.into_iter().map(RuleVersionView::from).collect()))
}

/// An event to try rules on.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleTest {
    /// As a message of a topic has it: a body with `event_type`, or a CloudEvent 1.0 in JSON.
    #[schema(value_type = Object)]
    event: Value,
    /// The rule to try; without one all that the tenant has.
    #[serde(default)]
    rule: Option<RuleBody>,
}

/// What rules would make of an event.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RuleTested {
    /// Its type.
    event_type: String,
    /// Its name, which with its source tells it from others.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    /// Its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// What it would become; nothing, where no rule applies.
    notifications: Vec<RuleOutcome>,
}

/// What a rule would make.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RuleOutcome {
    /// The rule's name; absent: the event is the notification itself (`carillon.notification`).
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    /// As for a dry run of `POST /api/v1/notifications`.
    notification: DryRun,
}

/// Try rules on an event
///
/// Nothing is stored or sent. 422 says why nothing could be made, and `field` where. Needs the scope `rules:write`.
#[utoipa::path(
    post, path = "/api/v1/rules/test", tag = "rules", request_body = RuleTest,
    responses((status = 200, body = RuleTested), (status = 422, body = Problem))
)]
pub(crate) async fn test(
    State(state): State<ApiState>,
    RuleWriter(caller): RuleWriter,
    JsonBody(request, _): JsonBody<RuleTest>,
) -> Result<Json<RuleTested>, Problem> {
    let event = value(request.event)
        .map_err(|unreadable| Problem::invalid(unreadable.code, "event", unreadable.detail))?;
    let rules = match request.rule {
        Some(body) => Rules::from([Arc::new(checked(&state, "test", body)?)]),
        None => state
            .rules()
            .now(&state.service, &caller.tenant)
            .await
            .map_err(store_problem)?,
    };
    let planned = events::plan_by(&state, &caller.tenant, &rules, &[&event]).await?;
    let made = planned.into_iter().next().unwrap_or_else(|| Ok(Vec::new()));
    let made = made.map_err(|refusal| match refusal.rule {
        Some(rule) => {
            let mut problem = *refusal.problem;
            problem.detail = format!("rule `{rule}`: {}", problem.detail);
            problem
        }
        None => *refusal.problem,
    })?;
    Ok(Json(RuleTested {
        event_type: event.kind,
        event_id: event.id,
        source: event.source,
        notifications: made
            .into_iter()
            .map(|made| RuleOutcome {
                rule: made.rule,
                version: made.version,
                notification: DryRun::of(&made.plan),
            })
            .collect(),
    }))
}

/// A rule that can be used: its expressions compile, and its notification has no field that there is not.
fn checked(state: &ApiState, name: &str, body: RuleBody) -> Result<Rule, Problem> {
    let fields: Map<String, Value> = body
        .notification
        .keys()
        .map(|field| (field.clone(), Value::Null))
        .collect();
    for taken in ["idempotency_key", "dry_run", "tenant_id"] {
        if fields.contains_key(taken) {
            return Err(Problem::invalid(
                "not_of_a_rule",
                format!("notification.{taken}"),
                "an event is taken in once, by its own name and for its own tenant; leave it out",
            ));
        }
    }
    events::read(Value::Object(fields).to_string().as_bytes()).map_err(|mut problem| {
        problem.field = problem.field.map(|field| format!("notification.{field}"));
        problem
    })?;
    let rule = EventRule {
        name: name.to_owned(),
        version: 1,
        body,
    };
    state
        .rules()
        .compile(rule)
        .map_err(|InvalidRule { field, detail }| Problem::invalid("invalid_rule", field, detail))
}

fn check_name(name: &str) -> Result<(), Problem> {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if fits {
        return Ok(());
    }
    Err(Problem::invalid(
        "invalid_name",
        "name",
        "a rule's name has 1 to 64 characters of A-Z a-z 0-9 . _ -",
    ))
}

fn none() -> Problem {
    Problem::not_found("there is no such rule for you")
}
