//! The way of one request that creates: its keys, its draft, its plan, room in the queue, the store, the answer.

use axum::{
    extract::{self, FromRequest, FromRequestParts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    http::{Caller, JsonBody, Problem},
    token::Identity,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    body::NotificationBody,
    budget::Budget,
    draft,
    dry_run::{self, DryRunQuery},
    extract::{QueryOf, Sender},
    plan::{Plan, plan},
    problems::{accept_problem, store_problem},
    state::ApiState,
};
use crate::model::{Accepted, Chain, IdempotencyKey, Micros, NewNotification, overall_status};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest idempotency key of the header, in bytes.
const MAX_KEY: usize = 255;

/// The status of what waits for the database.
pub(super) const SPOOLED: &str = "spooled";

/// The route under which business keys are kept: they are the tenant's, whichever way a notification comes.
const ANY_ROUTE: &str = "";

/// A request to create, from a caller who may. Its scope is looked at before its body.
pub(crate) struct Submission {
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) body: NotificationBody,
    pub(super) raw: Bytes,
    pub(super) dry_run: bool,
}

impl<S: Send + Sync> FromRequest<S> for Submission {
    type Rejection = Problem;

    async fn from_request(request: extract::Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Sender(caller) = Sender::from_request_parts(&mut parts, state).await?;
        let QueryOf(query) = QueryOf::<DryRunQuery>::from_request_parts(&mut parts, state).await?;
        let headers = parts.headers.clone();
        let request = extract::Request::from_parts(parts, body);
        let JsonBody(body, raw) = JsonBody::<NotificationBody>::from_request(request, state).await?;
        Ok(Self {
            caller,
            headers,
            dry_run: query.dry_run || body.dry_run.unwrap_or_default(),
            body,
            raw,
        })
    }
}

/// An answer before it is one of HTTP or gRPC.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// JSON.
    pub(super) body: String,
    /// It was given before, to a request with the same key.
    pub(super) replayed: bool,
    /// What is left of the caller's, where the request took more than one of it.
    pub(super) budget: Option<Budget>,
}

impl Answered {
    pub(super) fn new(status: StatusCode, body: String) -> Self {
        Self {
            status,
            body,
            replayed: false,
            budget: None,
        }
    }
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            self.body,
        )
            .into_response();
        if self.replayed {
            response.headers_mut().insert(
                HeaderName::from_static("idempotency-replayed"),
                HeaderValue::from_static("true"),
            );
        }
        if let Some(budget) = self.budget {
            response.extensions_mut().insert(budget);
        }
        response
    }
}

/// What a route adds to an answer.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) name: &'static str,
    pub(super) status: StatusCode,
}

/// Checks, plans, stores, answers. The answer is made before storing, as it is stored with the idempotency keys.
pub(super) async fn accept(
    state: &ApiState,
    submission: Submission,
    route: Route,
    respond: impl Fn(&Plan, &'static str) -> String,
) -> Result<Answered, Problem> {
    let Submission {
        caller,
        headers,
        body,
        raw,
        dry_run,
    } = submission;
    if dry_run {
        let draft = draft::draft(body, &caller, Micros::now())?;
        let plan = plan(state, &caller, draft).await?;
        return Ok(dry_run::answered(&plan));
    }
    let of_header = request_key(&headers, &caller, route, &raw)?;
    // By which of the two a request is told of a mismatch.
    let field = if of_header.is_some() {
        "Idempotency-Key"
    } else {
        "idempotency_key"
    };
    let _under_way = begin(state, &caller, of_header.as_ref())?;
    let mut keys: Vec<_> = of_header
        .into_iter()
        .chain(business_key(&body, route.status))
        .collect();
    // A repeat is one whatever has become of its times, its template and its target meanwhile.
    let known = state
        .service
        .answered(&caller.tenant, &keys)
        .await
        .map_err(store_problem)?;
    if let Some(known) = known {
        return told(known, route.status, field, String::new());
    }
    let draft = draft::draft(body, &caller, Micros::now())?;
    let mut plan = plan(state, &caller, draft).await?;
    let room = state.capacity().take(&plan.notification).await?;
    let response = respond(&plan, status_of(&plan.notification));
    for key in &mut keys {
        key.response.clone_from(&response);
    }
    // While the database is away it is the same notification, but that it waits.
    let waits = state
        .service
        .spool()
        .map(|_| respond(&plan, SPOOLED))
        .unwrap_or_default();
    plan.notification.idempotency = keys;
    let spooled = waits.clone();
    let accepted = state
        .service
        .accept_or_spool(vec![plan.notification], move |all| {
            for key in all.iter_mut().flat_map(|new| &mut new.idempotency) {
                key.status = StatusCode::ACCEPTED.as_u16();
                key.response.clone_from(&spooled);
            }
        })
        .await
        .map_err(accept_problem)?;
    let Some(accepted) = accepted.into_iter().next() else {
        return Err(no_answer());
    };
    match accepted {
        Accepted::New => room.keep(),
        Accepted::Spooled => {
            room.keep();
            return Ok(Answered::new(StatusCode::ACCEPTED, waits));
        }
        Accepted::Repeat { .. } | Accepted::Mismatch => {}
    }
    told(accepted, route.status, field, response)
}

/// Holds the request's own key while it is at work.
pub(super) fn begin(
    state: &ApiState,
    caller: &Identity,
    key: Option<&IdempotencyKey>,
) -> Result<Option<super::under_way::Held>, Problem> {
    key.map(|key| state.under_way().begin(&caller.tenant, key))
        .transpose()
}

/// The key of the header, without the answer that will be kept under it. It is the caller's, on this route.
pub(super) fn request_key(
    headers: &HeaderMap,
    caller: &Identity,
    route: Route,
    raw: &[u8],
) -> Result<Option<IdempotencyKey>, Problem> {
    Ok(header_key(headers)?.map(|key| IdempotencyKey {
        credential: caller.user.as_str().to_owned(),
        route: route.name.into(),
        key,
        request_hash: Sha256::digest(raw).to_vec(),
        status: route.status.as_u16(),
        response: String::new(),
    }))
}

/// The key of the body, without the answer that will be kept under it. It is the tenant's, and its body is compared by what it
/// says: also another route, a bulk or another order of its fields is a repeat.
pub(super) fn business_key(body: &NotificationBody, status: StatusCode) -> Option<IdempotencyKey> {
    // A draft of the body checks its key; one that is refused is known to nobody.
    let key = body.idempotency_key.clone()?;
    Some(IdempotencyKey {
        credential: String::new(),
        route: ANY_ROUTE.into(),
        key,
        request_hash: Sha256::digest(answer(body)).to_vec(),
        status: status.as_u16(),
        response: String::new(),
    })
}

/// The store's judgement as an answer; `fresh` is that of a new one, and `field` holds the key.
pub(super) fn told(
    accepted: Accepted,
    status: StatusCode,
    field: &str,
    fresh: String,
) -> Result<Answered, Problem> {
    match accepted {
        Accepted::New | Accepted::Spooled => Ok(Answered::new(status, fresh)),
        Accepted::Repeat {
            status: first,
            response,
        } => {
            let status = StatusCode::from_u16(first).unwrap_or(status);
            Ok(Answered {
                replayed: true,
                ..Answered::new(status, response)
            })
        }
        Accepted::Mismatch => Err(mismatch(field)),
    }
}

/// 422: the key in `field` was used for something else.
pub(super) fn mismatch(field: impl Into<String>) -> Problem {
    Problem::invalid(
        "idempotency_mismatch",
        field,
        "this key was used for another body within 24 hours; use a new key for a new notification",
    )
}

/// 500: a promise of the store is broken.
pub(super) fn no_answer() -> Problem {
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the store gave no answer",
    )
}

/// What the deliveries of a new notification amount to.
pub(super) fn status_of(new: &NewNotification) -> &'static str {
    let states = new.deliveries.iter().map(|delivery| delivery.state);
    let open = new.job.is_some() || new.chains.iter().any(Chain::is_open);
    overall_status(states, open, new.visible_at > new.created_at)
}

/// Texts, numbers and maps with text keys always serialise.
pub(super) fn answer(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
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
