//! The REST API: who is calling, what they mean, what is answered.
//!
//! In the order of a request's way: `limits` counts it, an extractor reads it, `draft` says what a body means, `plan`
//! lays out what is stored, `view` answers. Handlers lie by noun: `create`, `inbox`, `page`, `marks`, `feed`, `records`,
//! `history`, `jobs`, `schedules`, `rules`, `templates`, `contacts`, `audit`, `keys`, `settings`, `health`, `condition`, `docs`; what creates goes the way of `accept`, many at once
//! that of `bulk`. `grpc` is the same for gRPC.

mod accept;
mod address;
mod arrangement;
mod audit;
mod batch;
mod body;
mod budget;
mod bulk;
mod bulk_actions;
mod bulk_answer;
mod chain_view;
mod chains;
mod condition;
mod contacts;
mod contract;
mod create;
mod dead_letters;
mod docs;
mod draft;
mod dry_run;
mod events;
mod extract;
mod feed;
mod grpc;
mod health;
mod history;
mod inbox;
mod jobs;
mod keys;
mod limits;
mod marks;
mod operate;
mod outage;
mod page;
mod pauses;
mod place;
mod plan;
mod planner;
mod problems;
mod reader;
mod records;
mod references;
mod remembered;
mod replay;
mod revise;
mod rules;
mod schedules;
mod settings;
mod stale;
mod state;
mod templates;
mod times;
mod under_way;
mod view;
mod wanted;
mod words;

use std::sync::Arc;

use axum::{Extension, Router, middleware, routing};
use common::http::{Authenticator, BodyDepth, BodyLimit};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{
    audit::AuditExport,
    body::NotificationBody,
    grpc::{Notifications, grpc},
    health::{HealthView, Readiness, health, readiness, ready},
    problems::{method_not_allowed, not_found},
    state::{ApiConfig, ApiState, Live, LiveStats},
    view::{AttemptView, DeliveryView, NotificationView, SentView},
};
pub(crate) use self::{
    events::{Refusal, plan_events},
    schedules::occurrence,
};

/// The routes with their document, without fallbacks, to be merged with others. `others` documents what the process
/// serves beside them.
///
/// `/live` and `/ready` belong to the process; [`ready`] and [`readiness`] are for it.
pub fn routes(state: &ApiState, others: utoipa::openapi::OpenApi) -> Router {
    let (router, mut document) = documented().split_for_parts();
    document.merge(others);
    router
        .merge(described(&document))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(state.clone(), outage::bound))
        .layer(middleware::from_fn(stale::tell))
        .layer(middleware::from_fn_with_state(state.clone(), limits::limit))
        .layer(Extension(BodyLimit(state.limits.body_bytes.0)))
        .layer(Extension(BodyDepth(state.limits.json_depth)))
        .layer(Extension(Authenticator(Arc::clone(&state.credentials))))
        .with_state(state.clone())
}

/// The document and its page alone, for a process that serves something else.
pub fn contract_routes(served: utoipa::openapi::OpenApi) -> Router {
    let mut document = docs::Document::openapi();
    document.merge(served);
    described(&document).method_not_allowed_fallback(method_not_allowed)
}

fn described<S: Clone + Send + Sync + 'static>(document: &utoipa::openapi::OpenApi) -> Router<S> {
    let json = contract::complete(document);
    let contract = routing::get(move || std::future::ready(docs::contract(json.clone())));
    Router::new()
        .route("/openapi.json", contract)
        .route("/docs", routing::get(docs::page))
}

/// The routes with `/ready` and a fallback: the API alone.
pub fn router(state: &ApiState) -> Router {
    let ready = Router::new()
        .route("/ready", routing::get(ready))
        .with_state(state.clone());
    routes(state, utoipa::openapi::OpenApi::default())
        .merge(ready)
        .fallback(not_found)
}

fn documented() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(docs::Document::openapi())
        .routes(routes!(create::create, inbox::list))
        .routes(routes!(create::send))
        .routes(routes!(create::multi_channel))
        .routes(routes!(create::from_template))
        .routes(routes!(bulk::bulk))
        .routes(routes!(batch::batch))
        .routes(routes!(inbox::unread_count))
        .routes(routes!(marks::read_all))
        .routes(routes!(marks::bulk_read))
        .routes(routes!(templates::list_predefined))
        .routes(routes!(records::stats))
        .routes(routes!(history::history))
        .routes(routes!(history::sums))
        .routes(routes!(jobs::job))
        .routes(routes!(jobs::cancel))
        .routes(routes!(bulk_actions::cancel))
        .routes(routes!(bulk_actions::retry))
        .routes(routes!(bulk_actions::delete))
        .routes(routes!(records::get, operate::update, marks::delete))
        .routes(routes!(operate::cancel))
        .routes(routes!(operate::retry))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::replay_all))
        .routes(routes!(dead_letters::discard_all))
        .routes(routes!(dead_letters::get, dead_letters::discard))
        .routes(routes!(replay::replay))
        .routes(routes!(pauses::list, pauses::pause, pauses::resume))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(settings::list))
        .routes(routes!(settings::get, settings::put, settings::delete))
        .routes(routes!(settings::versions))
        .routes(routes!(settings::rollback))
        .routes(routes!(records::status))
        .routes(routes!(marks::mark_read))
        .routes(routes!(marks::snooze))
        .routes(routes!(marks::unsnooze))
        .routes(routes!(marks::archive))
        .routes(routes!(marks::unarchive))
        .routes(routes!(marks::acknowledge))
        .routes(routes!(marks::mark_several))
        .routes(routes!(page::page))
        .routes(routes!(feed::changes))
        .routes(routes!(templates::create, templates::list))
        .routes(routes!(templates::get))
        .routes(routes!(schedules::create, schedules::list))
        .routes(routes!(schedules::get, schedules::update, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .routes(routes!(schedules::run))
        .routes(routes!(schedules::next))
        .routes(routes!(rules::list))
        .routes(routes!(rules::test))
        .routes(routes!(rules::put, rules::get, rules::delete))
        .routes(routes!(rules::versions))
        .routes(routes!(contacts::put_all))
        .routes(routes!(contacts::put, contacts::get, contacts::delete))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::get, keys::revoke))
        .routes(routes!(keys::rotate))
        .routes(routes!(health::with_token))
        .routes(routes!(condition::detailed))
        .routes(routes!(condition::metrics))
        .routes(routes!(health::health))
}
