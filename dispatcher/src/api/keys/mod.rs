//! API keys of services.

mod body;

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{Caller, JsonBody, Problem},
    ids::TenantId,
    token::{Identity, KeyId, NewKey, NoRandomness},
};
use http::StatusCode;
use serde::Deserialize;

pub(crate) use self::body::{KeyBody, KeyList, KeyShown, KeyView, RotateBody};
use super::{
    extract::{KeyWriter, OptionalBody, QueryOf, Segment},
    problems::store_problem,
    state::ApiState,
};
use crate::model::{ApiKey, KeyFilter, KeyRotated, KeyState, Micros, NewApiKey};

/// Keys of one page.
const MAX_PAGE: u32 = 200;

/// Create an API key
///
/// Its text is in this answer and in no other. A key can do no more than its maker: each of its scopes, also those of its
/// role, has to be one of the caller's. A repeat makes another key. Needs the scope `keys:write`; for another tenant also
/// `platform:admin`.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "keys", request_body = KeyBody,
    responses((status = 201, body = KeyShown), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn create(
    State(state): State<ApiState>,
    KeyWriter(caller): KeyWriter,
    origin: Origin,
    JsonBody(body, _): JsonBody<KeyBody>,
) -> Result<(StatusCode, Json<KeyShown>), Problem> {
    let now = Micros::now();
    let secret = NewKey::generate().map_err(no_randomness)?;
    let key = body.key(&caller, secret.id, now)?;
    may_give(&caller, &key)?;
    let most = state.limits.keys_per_tenant;
    let made = state
        .service
        .keyring()
        .create(
            NewApiKey {
                key: key.clone(),
                hash: secret.hash,
                most,
            },
            &origin,
        )
        .await
        .map_err(store_problem)?;
    if !made.made {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "too_many_keys",
            format!("a tenant has at most {most} API keys that count; revoke some"),
        ));
    }
    tracing::info!(key = %key.id, tenant = %key.tenant, by = %caller.user, "an API key was made");
    Ok((StatusCode::CREATED, Json(KeyShown::new(&key, &secret, now))))
}

/// What to list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ListQuery {
    limit: Option<u32>,
    after: Option<String>,
    state: Option<String>,
    tenant: Option<String>,
}

/// List API keys
///
/// Without their secrets, in the order of their ids. Needs the scope `keys:write`.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 200; default 50"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("state" = Option<String>, Query, description = "`active`, `expired` or `revoked`"),
        ("tenant" = Option<String>, Query, description = "Another tenant's: needs the scope `platform:admin`")
    ),
    responses((status = 200, body = KeyList), (status = 403, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    KeyWriter(caller): KeyWriter,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<KeyList>, Problem> {
    let limit = query.limit.unwrap_or(50);
    if !(1..=MAX_PAGE).contains(&limit) {
        let detail = format!("1 to {MAX_PAGE}");
        return Err(Problem::invalid("invalid_value", "limit", detail));
    }
    let states = "one of `active`, `expired`, `revoked`";
    let wanted = match query.state.as_deref() {
        None => None,
        Some(word) => {
            Some(KeyState::parse(word).ok_or_else(|| Problem::invalid("invalid_value", "state", states))?)
        }
    };
    let after: Option<KeyId> = match query.after.as_deref() {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Problem::invalid("invalid_value", "after", "give `next` of the page before"))?,
        ),
    };
    let filter = KeyFilter {
        tenant: Some(body::tenant(&caller, query.tenant.as_deref())?),
        state: wanted,
    };
    let found = state
        .store()
        .keys(&filter, after.as_ref(), limit)
        .await
        .map_err(store_problem)?;
    let is_full = found.len() >= limit as usize;
    let next = found.last().filter(|_| is_full).map(|last| last.id.to_string());
    let now = Micros::now();
    Ok(Json(KeyList {
        keys: found.iter().map(|key| KeyView::of(key, now)).collect(),
        next,
    }))
}

/// Get an API key
///
/// Without its secret. Needs the scope `keys:write`.
#[utoipa::path(
    get, path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, body = KeyView), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    KeyWriter(caller): KeyWriter,
    Segment(id): Segment,
) -> Result<Json<KeyView>, Problem> {
    let key = find(&state, &caller, &id).await?;
    Ok(Json(KeyView::of(&key, Micros::now())))
}

/// Give an API key another secret
///
/// The new text is in this answer and in no other. The secret before it counts for `overlap_seconds` more, so that nobody who
/// uses it fails meanwhile; one before that ends now. Who has the new secret can do what the key can: each of its scopes has
/// to be one of the caller's. Needs the scope `keys:write`.
#[utoipa::path(
    post, path = "/api/v1/keys/{id}/rotate", tag = "keys", request_body = RotateBody,
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, body = KeyShown), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn rotate(
    State(state): State<ApiState>,
    KeyWriter(caller): KeyWriter,
    origin: Origin,
    Segment(id): Segment,
    OptionalBody(body): OptionalBody<RotateBody>,
) -> Result<Json<KeyShown>, Problem> {
    let overlap = body.overlap()?;
    let key = find(&state, &caller, &id).await?;
    may_give(&caller, &key)?;
    let secret = NewKey::next(key.id).map_err(no_randomness)?;
    let now = Micros::now();
    let rotated = state
        .service
        .keyring()
        .rotate(reach(&caller), key.id, secret.hash, now.plus(overlap), &origin)
        .await
        .map_err(store_problem)?;
    match rotated {
        KeyRotated::Done(key) => {
            tracing::info!(key = %key.id, tenant = %key.tenant, by = %caller.user, "an API key has another secret");
            Ok(Json(KeyShown::new(&key, &secret, now)))
        }
        KeyRotated::Ended(state) => Err(Problem::new(
            StatusCode::CONFLICT,
            "key_ended",
            format!("the key is {}; make another one", state.as_str()),
        )),
        KeyRotated::None => Err(no_key()),
    }
}

/// Revoke an API key
///
/// It stops within a second on every node, with everything that is open by it. It cannot be taken up again. Repeating changes
/// nothing. Needs the scope `keys:write`.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key's id")),
    responses((status = 200, body = KeyView), (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    KeyWriter(caller): KeyWriter,
    origin: Origin,
    Segment(id): Segment,
) -> Result<Json<KeyView>, Problem> {
    let id = id.parse().map_err(|_| no_key())?;
    let revoked = state
        .service
        .keyring()
        .revoke(reach(&caller), id, &origin)
        .await
        .map_err(store_problem)?
        .ok_or_else(no_key)?;
    tracing::info!(key = %id, tenant = %revoked.tenant, by = %caller.user, "an API key was revoked");
    Ok(Json(KeyView::of(&revoked, Micros::now())))
}

async fn find(state: &ApiState, caller: &Caller, id: &str) -> Result<ApiKey, Problem> {
    let id = id.parse().map_err(|_| no_key())?;
    state
        .store()
        .key(reach(caller).as_ref(), &id)
        .await
        .map_err(store_problem)?
        .ok_or_else(no_key)
}

/// Whose keys the caller reaches; none: every tenant's.
fn reach(caller: &Identity) -> Option<TenantId> {
    (!caller.has_scope("platform:admin")).then(|| caller.tenant.clone())
}

/// Whether the caller may have what the key can do.
fn may_give(caller: &Caller, key: &ApiKey) -> Result<(), Problem> {
    for scope in key.all_scopes() {
        let field = if key.scopes.contains(&scope) {
            "scopes"
        } else {
            "role"
        };
        caller.require(&scope).map_err(|problem| problem.field(field))?;
    }
    Ok(())
}

fn no_key() -> Problem {
    Problem::not_found("there is no such API key for you")
}

fn no_randomness(error: NoRandomness) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
}
