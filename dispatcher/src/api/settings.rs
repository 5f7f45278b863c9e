//! Settings at run time: read, changed, put back.

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{JsonBody, Problem},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    extract::{PlatformAdmin, Segment},
    problems::store_problem,
    state::ApiState,
};
use crate::{
    model::{SettingChange, SettingVersion},
    settings::{Given, Refused, Source, is_changeable},
};

/// A setting as it holds in the process that answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SettingView {
    /// Its name in the configuration.
    key: String,
    /// What holds; none: nothing is set.
    value: Option<Value>,
    /// What held if nobody had set anything.
    default: Option<Value>,
    /// `default`, `file`, `environment` or `database`.
    source: &'static str,
    /// How often it was changed at run time.
    version: i64,
    /// Who changed it last.
    changed_by: Option<String>,
    /// When.
    changed_at: Option<String>,
}

impl SettingView {
    fn of(key: &str, given: Option<&Given>, changed: Option<&SettingVersion>) -> Self {
        Self {
            key: key.to_owned(),
            value: given.and_then(|given| given.value.clone()),
            default: given.and_then(|given| given.default.clone()),
            source: given.map_or(Source::Default, |given| given.source).as_str(),
            version: changed.map_or(0, |changed| changed.version),
            changed_by: changed.map(|changed| changed.changed_by.clone()),
            changed_at: changed.map(|changed| changed.changed_at.rfc3339()),
        }
    }
}

/// All settings that can be changed while processes run.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SettingsView {
    /// By key.
    settings: Vec<SettingView>,
}

/// A version of a setting.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VersionView {
    /// From 1.
    version: i64,
    /// What it said; none: it was deleted, and the file held again.
    value: Option<Value>,
    /// By whom.
    changed_by: String,
    /// When.
    changed_at: String,
}

/// The versions of a setting.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct VersionsView {
    /// The newest first, at most a hundred.
    versions: Vec<VersionView>,
}

/// What is to hold.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SettingBody {
    /// As in the configuration: `100`, `[8, 4, 2, 1]`, `"info,hub=debug"`.
    value: Value,
    /// Only where this is its version now, so that nobody's change is lost; 0: it was never changed.
    #[serde(default)]
    version: Option<i64>,
}

/// To which version.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackBody {
    /// One of `GET /api/v1/settings/{key}/versions`.
    version: i64,
}

fn known(key: String) -> Result<String, Problem> {
    if is_changeable(&key) {
        return Ok(key);
    }
    Err(Problem::not_found(
        "this is no setting that can be changed while processes run; GET /api/v1/settings lists those that can",
    ))
}

fn refused(refused: Refused) -> Problem {
    match refused {
        Refused::Invalid(error) => Problem::invalid(
            "invalid_setting",
            "value",
            format!("{error}; what held before holds on"),
        ),
        Refused::Stale => Problem::new(
            StatusCode::CONFLICT,
            "changed_meanwhile",
            "it has another version now; read it again",
        )
        .field("version"),
        Refused::Store(error) => store_problem(error),
    }
}

/// The newest first.
async fn versions_of(state: &ApiState, key: &str) -> Result<Vec<SettingVersion>, Problem> {
    state.store().setting_versions(key).await.map_err(store_problem)
}

async fn shown(state: &ApiState, key: &str) -> Result<Json<SettingView>, Problem> {
    let changed = state.store().settings().await.map_err(store_problem)?;
    let effective = state.service.settings().current();
    let changed = changed.iter().find(|one| one.key == key);
    Ok(Json(SettingView::of(key, effective.given.get(key), changed)))
}

/// List settings
///
/// What can be changed while processes run, as it holds here, and who set it. Needs the scope `platform:admin`.
#[utoipa::path(get, path = "/api/v1/settings", tag = "settings", responses((status = 200, body = SettingsView)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    _admin: PlatformAdmin,
) -> Result<Json<SettingsView>, Problem> {
    let changed = state.store().settings().await.map_err(store_problem)?;
    let effective = state.service.settings().current();
    let view = |(key, given): (&String, &Given)| {
        let changed = changed.iter().find(|one| one.key == *key);
        SettingView::of(key, Some(given), changed)
    };
    Ok(Json(SettingsView {
        settings: effective.given.iter().map(view).collect(),
    }))
}

/// Get a setting
///
/// Needs the scope `platform:admin`.
#[utoipa::path(
    get, path = "/api/v1/settings/{key}", tag = "settings",
    params(("key" = String, Path, description = "For example `limits.queued_max`, `channels.email.retry`")),
    responses((status = 200, body = SettingView), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    _admin: PlatformAdmin,
    Segment(key): Segment,
) -> Result<Json<SettingView>, Problem> {
    shown(&state, &known(key)?).await
}

/// Change a setting
///
/// It is checked as at the start: what cannot be is refused, and what held holds on. It holds here when this is answered, and
/// within a second at every dispatcher; over what the file and the environment say. Needs the scope `platform:admin`.
#[utoipa::path(
    put, path = "/api/v1/settings/{key}", tag = "settings", request_body = SettingBody,
    params(("key" = String, Path, description = "For example `limits.queued_max`, `channels.email.retry`")),
    responses(
        (status = 200, body = SettingView), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)
    )
)]
pub(crate) async fn put(
    State(state): State<ApiState>,
    _admin: PlatformAdmin,
    origin: Origin,
    Segment(key): Segment,
    JsonBody(body, _): JsonBody<SettingBody>,
) -> Result<Json<SettingView>, Problem> {
    let change = SettingChange {
        key: known(key)?,
        value: Some(body.value),
        expected: body.version,
    };
    changed(&state, change, &origin).await
}

async fn changed(state: &ApiState, change: SettingChange, by: &Origin) -> Result<Json<SettingView>, Problem> {
    let key = change.key.clone();
    state
        .service
        .settings()
        .change(change, by)
        .await
        .map_err(refused)?;
    tracing::info!(by = %by.user, key, "a setting was changed");
    shown(state, &key).await
}

/// Delete a setting
///
/// What the file and the environment say holds again. Needs the scope `platform:admin`.
#[utoipa::path(
    delete, path = "/api/v1/settings/{key}", tag = "settings",
    params(("key" = String, Path, description = "For example `limits.queued_max`, `channels.email.retry`")),
    responses((status = 200, body = SettingView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn delete(
    State(state): State<ApiState>,
    _admin: PlatformAdmin,
    origin: Origin,
    Segment(key): Segment,
) -> Result<Json<SettingView>, Problem> {
    let key = known(key)?;
    let versions = versions_of(&state, &key).await?;
    if versions.first().is_none_or(|newest| newest.value.is_none()) {
        return Err(Problem::not_found("it is not changed: the file's value holds"));
    }
    let change = SettingChange {
        key,
        value: None,
        expected: None,
    };
    changed(&state, change, &origin).await
}

/// List a setting's versions
///
/// Needs the scope `platform:admin`.
#[utoipa::path(
    get, path = "/api/v1/settings/{key}/versions", tag = "settings",
    params(("key" = String, Path, description = "For example `limits.queued_max`, `channels.email.retry`")),
    responses((status = 200, body = VersionsView), (status = 404, body = Problem))
)]
pub(crate) async fn versions(
    State(state): State<ApiState>,
    _admin: PlatformAdmin,
    Segment(key): Segment,
) -> Result<Json<VersionsView>, Problem> {
    let versions = versions_of(&state, &known(key)?).await?;
    let view = |one: SettingVersion| VersionView {
        version: one.version,
        value: one.value,
        changed_by: one.changed_by,
        changed_at: one.changed_at.rfc3339(),
    };
    Ok(Json(VersionsView {
        versions: versions.into_iter().map(view).collect(),
    }))
}

/// Roll a setting back
///
/// What an earlier version said holds again, as a new version. Needs the scope `platform:admin`.
#[utoipa::path(
    post, path = "/api/v1/settings/{key}/rollback", tag = "settings", request_body = RollbackBody,
    params(("key" = String, Path, description = "For example `limits.queued_max`, `channels.email.retry`")),
    responses((status = 200, body = SettingView), (status = 404, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn rollback(
    State(state): State<ApiState>,
    _admin: PlatformAdmin,
    origin: Origin,
    Segment(key): Segment,
    JsonBody(body, _): JsonBody<RollbackBody>,
) -> Result<Json<SettingView>, Problem> {
    let key = known(key)?;
    let versions = versions_of(&state, &key).await?;
    let Some(meant) = versions.into_iter().find(|one| one.version == body.version) else {
        return Err(Problem::invalid(
            "unknown_version",
            "version",
            "it has no such version; GET …/versions lists those that are kept",
        ));
    };
    let change = SettingChange {
        key,
        value: meant.value,
        expected: None,
    };
    changed(&state, change, &origin).await
}
