//! Creating many notifications by one request: each stands for itself, and all of the good ones are one transaction.

use axum::extract::{self, FromRequest, FromRequestParts, State};
use bytes::Bytes;
use common::http::{BodyLimit, Caller, JsonText, Problem, parse_body, parse_json, refuse_nul};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    accept::{
        Answered, Route, SPOOLED, answer, begin, business_key, mismatch, no_answer, request_key, status_of,
        told,
    },
    body::NotificationBody,
    bulk_answer::{BulkAnswer, What},
    draft::{self, Draft},
    dry_run::{DryRun, DryRunQuery},
    extract::{QueryOf, Sender},
    limits::{Refusal, charge},
    plan::{Plan, plan_all},
    problems::{accept_problem, store_problem},
    state::ApiState,
    view::NotificationView,
};
use crate::{
    capacity::Room,
    model::{Accepted, IdempotencyKey, Micros, NewNotification},
};

/// Many notifications.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkBody<'a> {
    /// At most `limits.bulk_items` (1000), each as in `POST /api/v1/notifications`.
    #[serde(borrow)]
    #[schema(value_type = Vec<NotificationBody>)]
    notifications: Vec<&'a RawValue>,
    /// Answers what would be done with each, and does nothing; like `?dry_run=true`.
    #[serde(default)]
    dry_run: Option<bool>,
}

/// A request for many, from a caller who may; its body is as long as these may be.
pub(crate) struct BulkSubmission {
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) raw: Bytes,
    pub(super) dry_run: bool,
}

impl FromRequest<ApiState> for BulkSubmission {
    type Rejection = Problem;

    async fn from_request(request: extract::Request, state: &ApiState) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Sender(caller) = Sender::from_request_parts(&mut parts, state).await?;
        let QueryOf(query) = QueryOf::<DryRunQuery>::from_request_parts(&mut parts, state).await?;
        let headers = parts.headers.clone();
        parts.extensions.insert(BodyLimit(state.limits.bulk_body_bytes.0));
        let request = extract::Request::from_parts(parts, body);
        let JsonText(raw) = JsonText::from_request(request, state).await?;
        Ok(Self {
            caller,
            headers,
            raw,
            dry_run: query.dry_run,
        })
    }
}

/// Create many notifications
///
/// Each item stands for itself: a bad one hurts no other, and its result says what is wrong with it. An item with an
/// `idempotency_key` that is known is a repeat. The body may be the bare array as well. Ten items cost as much of the
/// caller's budget as one request. Needs the scope `notifications:write`.
#[utoipa::path(
    post, path = "/api/v1/notifications/bulk", tag = "notifications", request_body = BulkBody<'_>,
    params(
        DryRunQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "The same key with the same body has the same answer, for 24 hours"),
    ),
    responses((status = 200, body = BulkAnswer), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(crate) async fn bulk(
    State(state): State<ApiState>,
    mut submission: BulkSubmission,
) -> Result<Answered, Refusal> {
    let mut spare = Vec::new();
    let raw = submission.raw.clone();
    let (items, prefix) = if raw.trim_ascii_start().first() == Some(&b'[') {
        (parse_json::<Vec<&RawValue>>(&raw)?, "")
    } else {
        (items(&mut submission, &raw, &mut spare)?, FIELD)
    };
    let route = Route {
        name: "notifications/bulk",
        status: StatusCode::OK,
    };
    accept_all(&state, &submission, &items, prefix, route).await
}

/// Where the items stand.
pub(super) const FIELD: &str = "notifications";

/// The items of a request's body, each still unread. What the body says beside them is said of the request.
pub(super) fn items<'de>(
    submission: &mut BulkSubmission,
    raw: &'de [u8],
    spare: &'de mut Vec<u8>,
) -> Result<Vec<&'de RawValue>, Problem> {
    let body = parse_body::<BulkBody<'de>>(raw, spare)?;
    submission.dry_run |= body.dry_run.unwrap_or_default();
    Ok(body.notifications)
}

/// An item whose body could be read.
struct Item {
    index: usize,
    /// Of its body.
    key: Option<IdempotencyKey>,
}

/// Checks, plans and stores every item, and answers what became of each. `prefix` is the field that holds them.
pub(super) async fn accept_all(
    state: &ApiState,
    submission: &BulkSubmission,
    bodies: &[&RawValue],
    prefix: &str,
    route: Route,
) -> Result<Answered, Refusal> {
    let BulkSubmission {
        caller,
        headers,
        raw,
        dry_run,
    } = submission;
    bounded(state, bodies.len(), prefix)?;
    let budget = charge(state, caller, bodies.len(), prefix)?;
    let of_request = if *dry_run {
        None
    } else {
        request_key(headers, caller, route, raw)?
    };
    let _under_way = begin(state, caller, of_request.as_ref())?;
    if let Some(key) = &of_request {
        let known = state
            .service
            .answered(&caller.tenant, std::slice::from_ref(key))
            .await
            .map_err(store_problem)?;
        if let Some(known) = known {
            return Ok(told(known, route.status, "Idempotency-Key", String::new())?);
        }
    }
    let (items, drafts) = read(caller, bodies, prefix, *dry_run);
    let plans = plan_all(state, caller, drafts).await?;
    let mut results: Vec<Option<What>> = (0..bodies.len()).map(|_| None).collect();
    let mut good = Vec::with_capacity(items.len());
    for (item, plan) in items.into_iter().zip(plans) {
        let index = item.index;
        let admitted = match plan {
            Ok(plan) if *dry_run => {
                let plan = Box::new(DryRun::of(&plan));
                results[index] = Some(What::Planned { plan });
                continue;
            }
            Ok(plan) => state
                .capacity()
                .take(&plan.notification)
                .await
                .map(|room| (plan, room)),
            Err(problem) => Err(problem),
        };
        match admitted {
            Ok((plan, room)) => good.push(Good { item, plan, room }),
            Err(problem) => results[index] = Some(refused(state, caller, item, problem, prefix).await?),
        }
    }
    if let Some(repeated) = store(state, caller, good, of_request, &mut results, prefix).await? {
        return Ok(told(repeated, route.status, "Idempotency-Key", String::new())?);
    }
    let results: Vec<What> = results.into_iter().flatten().collect();
    let waits = results.iter().any(What::waits);
    let status = if waits { StatusCode::ACCEPTED } else { route.status };
    Ok(Answered {
        budget,
        ..Answered::new(status, answer(&BulkAnswer::of(results)))
    })
}

fn bounded(state: &ApiState, number: usize, prefix: &str) -> Result<(), Problem> {
    let most = state.limits.bulk_items;
    let field = if prefix.is_empty() { FIELD } else { prefix };
    match number {
        0 => Err(Problem::invalid(
            "invalid_value",
            field,
            "holds nothing to create",
        )),
        _ if number > most => Err(Problem::invalid(
            "too_many",
            field,
            format!("{number} items, and at most {most} are taken at once"),
        )),
        _ => Ok(()),
    }
}

/// Reads every body for itself; `dry_run` is the request's.
fn read(
    caller: &Caller,
    bodies: &[&RawValue],
    prefix: &str,
    dry_run: bool,
) -> (Vec<Item>, Vec<Result<Draft, Problem>>) {
    let now = Micros::now();
    bodies
        .iter()
        .enumerate()
        .map(|(index, body)| {
            let mut spare = Vec::new();
            let body = body.get().as_bytes();
            let body = refuse_nul(body)
                .and_then(|()| parse_body::<NotificationBody>(body, &mut spare))
                .and_then(|body| meant(body, dry_run));
            let key = body
                .as_ref()
                .ok()
                .and_then(|body| business_key(body, StatusCode::CREATED));
            let draft = body
                .and_then(|body| draft::draft(body, caller, now))
                .map_err(|problem| at(problem, prefix, index));
            (Item { index, key }, draft)
        })
        .unzip()
}

/// Refuses an item that is for a dry run among others that are meant.
fn meant(body: NotificationBody, dry_run: bool) -> Result<NotificationBody, Problem> {
    if body.dry_run == Some(true) && !dry_run {
        return Err(Problem::invalid(
            "not_here",
            "dry_run",
            "a request is a dry run as a whole: ask for it with `?dry_run=true`",
        ));
    }
    Ok(body)
}

/// A problem with the place of its item before its field.
pub(super) fn at(mut problem: Problem, prefix: &str, index: usize) -> Problem {
    let item = format!("{prefix}[{index}]");
    problem.field = Some(match problem.field {
        Some(field) => format!("{item}.{field}"),
        None => item,
    });
    problem
}

/// What a refused item is told: also that it is a repeat, whatever has become of its times or its template meanwhile.
async fn refused(
    state: &ApiState,
    caller: &Caller,
    item: Item,
    problem: Problem,
    prefix: &str,
) -> Result<What, Problem> {
    if let Some(key) = item.key
        && let Some(known) = state
            .service
            .answered(&caller.tenant, &[key])
            .await
            .map_err(store_problem)?
    {
        return Ok(what(known, None, prefix, item.index));
    }
    let problem = match &problem.field {
        Some(field) if field.starts_with(&format!("{prefix}[")) => problem,
        _ => at(problem, prefix, item.index),
    };
    Ok(What::refused(problem))
}

/// An item that can be stored.
struct Good {
    item: Item,
    plan: Plan,
    room: Room,
}

/// Stores the good ones together and files their results. Some: the whole request is a repeat of one that another process
/// had at work at the same time.
async fn store(
    state: &ApiState,
    caller: &Caller,
    good: Vec<Good>,
    of_request: Option<IdempotencyKey>,
    results: &mut [Option<What>],
    prefix: &str,
) -> Result<Option<Accepted>, Problem> {
    if good.is_empty() {
        return Ok(None);
    }
    let mut notifications: Vec<NewNotification> = Vec::with_capacity(good.len());
    let mut kept = Vec::with_capacity(good.len());
    for Good { item, plan, room } in good {
        let mut new = plan.notification;
        let status = status_of(&new);
        if let Some(mut key) = item.key {
            key.response = answer(&NotificationView::created(&new, status));
            new.idempotency.push(key);
        }
        results[item.index] = Some(What::Created {
            id: new.id.to_string(),
            status,
        });
        kept.push((item.index, room));
        notifications.push(new);
    }
    if let Some(key) = &of_request {
        keep_answer(&mut notifications, key, results);
    }
    let foretold: Vec<_> = results.to_vec();
    let places: Vec<usize> = kept.iter().map(|(index, _)| *index).collect();
    let accepted = state
        .service
        .accept_or_spool(notifications, move |all| respell(all, &places, &foretold))
        .await
        .map_err(accept_problem)?;
    if accepted.len() != kept.len() {
        return Err(no_answer());
    }
    if of_request.is_some()
        && let Some(repeated) = accepted.iter().find(|one| is_of_request(one))
    {
        return Ok(Some(repeated.clone()));
    }
    // The answer was kept with the first that is new.
    let (mut foretold, mut spooled) = (accepted.first() == Some(&Accepted::New), false);
    for ((index, room), accepted) in kept.into_iter().zip(accepted) {
        if accepted == Accepted::New {
            room.keep();
        } else if accepted == Accepted::Spooled {
            room.keep();
            results[index].as_mut().into_iter().for_each(What::wait);
            spooled = true;
        } else {
            foretold = false;
            let fresh = results[index].take();
            results[index] = Some(what(accepted, fresh, prefix, index));
        }
    }
    if let Some(mut key) = of_request
        && !foretold
        && !spooled
    {
        key.response = answer(&BulkAnswer::of(results.iter().flatten().cloned().collect()));
        // A transaction of its own: what the store finds of the items' keys would have to be put into words within the one that
        // accepts, which every notification passes, and only where keys of the body were used before does it differ. What is
        // stored is stored; after a crash in between, a repeat of this request is told what was foretold, in which such an
        // item is created under an id that does not exist, and its own key still tells the right one.
        if let Err(error) = state.store().amend_answer(&caller.tenant, key).await {
            tracing::warn!(%error, "the answer to repeats of a bulk request is not what became of its items");
        }
    }
    Ok(None)
}

/// What the keys repeat of notifications that wait for the database.
fn respell(all: &mut [NewNotification], places: &[usize], foretold: &[Option<What>]) {
    let mut results = foretold.to_vec();
    for index in places {
        if let Some(Some(what)) = results.get_mut(*index) {
            what.wait();
        }
    }
    let whole = answer(&BulkAnswer::of(results.into_iter().flatten().collect()));
    for new in all {
        let alone = answer(&NotificationView::created(new, SPOOLED));
        for key in &mut new.idempotency {
            key.status = StatusCode::ACCEPTED.as_u16();
            if key.response.starts_with(WHOLE) {
                key.response.clone_from(&whole);
            } else if key.credential.is_empty() {
                key.response.clone_from(&alone);
            }
        }
    }
}

/// Whether the store judged by the request's key, under which a whole answer is kept, and not by an item's.
fn is_of_request(accepted: &Accepted) -> bool {
    matches!(accepted, Accepted::Repeat { response, .. } if response.starts_with(WHOLE))
}

/// How a whole answer begins.
const WHOLE: &str = "{\"total\":";

/// Puts the request's key on every notification, and the whole answer on the first of them.
fn keep_answer(notifications: &mut [NewNotification], key: &IdempotencyKey, results: &[Option<What>]) {
    let whole = answer(&BulkAnswer::of(results.iter().flatten().cloned().collect()));
    for (number, new) in notifications.iter_mut().enumerate() {
        let mut key = key.clone();
        if number == 0 {
            key.response.clone_from(&whole);
        }
        new.idempotency.insert(0, key);
    }
}

/// The store's judgement of one; `fresh` is what a new one is told.
fn what(accepted: Accepted, fresh: Option<What>, prefix: &str, index: usize) -> What {
    /// Every answer to a single creation has it.
    #[derive(Deserialize)]
    struct Known {
        id: String,
    }
    match accepted {
        Accepted::New | Accepted::Spooled => fresh.unwrap_or_else(|| What::refused(no_answer())),
        Accepted::Repeat { response, .. } => match serde_json::from_str::<Known>(&response) {
            Ok(known) => What::Repeat { id: known.id },
            Err(_) => What::refused(no_answer()),
        },
        Accepted::Mismatch => What::refused(mismatch(format!("{prefix}[{index}].idempotency_key"))),
    }
}
