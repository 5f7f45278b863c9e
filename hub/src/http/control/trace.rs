//! A live trace as lines of JSON.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use common::{
    audit::Origin,
    http::{Caller, Problem, parse_query},
    ids::Name,
    topic::TopicKey,
};
use futures_util::stream;
use http::{StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{body::name, record, tenant};
use crate::{
    Hub,
    nodes::Told,
    trace::{Line, Next, Subject, Tracing},
};

/// A line comes at least so often, so that a reader that has gone is noticed.
const ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceQuery {
    user: Option<String>,
    topic: Option<String>,
    tenant: Option<String>,
    payload: Option<bool>,
    seconds: Option<u32>,
}

/// Follow a user or a topic
///
/// Lines of JSON: what was published, to which sessions of which node it went, and why not. With both `user` and `topic`:
/// what becomes of the topic's messages for that user. Scope `control`.
#[utoipa::path(get, path = "/api/v1/control/trace", tag = "control", security(("bearer" = [])),
    params(("user" = Option<String>, Query, description = "A user"),
        ("topic" = Option<String>, Query, description = "A topic, by its bare name"),
        ("payload" = Option<bool>, Query, description = "Show what was published, too"),
        ("seconds" = Option<u32>, Query, description = "Ends after so long; `hub.trace_time` at the most"),
        ("tenant" = Option<String>, Query, description = "Another tenant; platform administrators")),
    responses((status = 200, description = "One JSON object a line", content_type = "application/x-ndjson"),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn trace(
    State(hub): State<Hub>,
    caller: Caller,
    origin: Origin,
    uri: Uri,
) -> Result<Response, Problem> {
    let query: TraceQuery = parse_query(&uri)?;
    let tenant = tenant(&caller, query.tenant.as_deref())?;
    let user = query.user.as_deref().map(|user| name("user", user)).transpose()?;
    let topic = query
        .topic
        .as_deref()
        .map(|topic| name("topic", topic))
        .transpose()?;
    if user.is_none() && topic.is_none() {
        let detail = "name a user, a topic, or both";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "no_target", detail).field("user"));
    }
    let most = hub.inner.shared.config.trace_time.0;
    let time = query
        .seconds
        .map_or(most, |seconds| Duration::from_secs(u64::from(seconds)));
    if time > most || time.is_zero() {
        let detail = format!("1 to {} seconds (hub.trace_time)", most.as_secs());
        return Err(Problem::invalid("invalid_value", "seconds", detail));
    }
    let payload = query.payload == Some(true);
    let said = json!({
        "user": user.as_ref().map(Name::as_str),
        "topic": topic.as_ref().map(Name::as_str),
        "payload": payload,
        "seconds": time.as_secs(),
    });
    let entry = origin
        .did("session.trace", "sessions", "*")
        .of(Some(tenant.clone()));
    record(&hub, entry.after(&said)).await?;
    let user = user.map(|user| TopicKey::user(&tenant, &user));
    let subject = Subject {
        worker: user.as_ref().map_or(0, |user| hub.inner.registry.home(user)),
        topic: topic.map(|topic| TopicKey::topic(&tenant, &topic)),
        user,
    };
    let Some(tracing) = hub.inner.shared.traces.begin(subject, payload).await else {
        return Err(Problem::unavailable(
            "as many traces run as may run at once (hub.traces)",
            Duration::from_secs(5),
        ));
    };
    tracing::info!(by = %caller.user, %tenant, payload, "a trace began");
    let until = jiff::Timestamp::now()
        .checked_add(time)
        .unwrap_or(jiff::Timestamp::MAX);
    let ends = Instant::now() + time;
    let tail = Tail {
        _told: hub.inner.nodes.tell_trace(&tracing, payload, ends),
        tracing,
        until: ends,
        first: Some(Line::begin(hub.node().as_str(), until).to_bytes()),
        ended: false,
    };
    let lines = stream::unfold(tail, async |mut tail: Tail| {
        let line = tail.next().await?;
        Some((Ok::<_, Infallible>(line), tail))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// The rest of an answer. Whoever drops it ends the trace.
struct Tail {
    tracing: Tracing,
    /// The other nodes are told when it goes.
    _told: Told,
    until: Instant,
    first: Option<Bytes>,
    ended: bool,
}

impl Tail {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.ended {
            return None;
        }
        let alive = Instant::now() + ALIVE;
        let line = match timeout_at(alive.min(self.until), self.tracing.next()).await {
            Ok(Next::Lines(lines)) => return Some(lines),
            Ok(Next::Stopping) => Line::end("stopping"),
            Err(_) if Instant::now() < self.until => return Some(Line::event("alive").to_bytes()),
            Err(_) => Line::end("time"),
        };
        self.ended = true;
        Some(line.to_bytes())
    }
}
