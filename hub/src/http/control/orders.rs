//! What is done to sessions: disconnect, unsubscribe, refresh.

use std::time::Duration;

use axum::{Json, extract::State};
use common::{
    audit::{AuditEntry, Origin},
    http::{Caller, JsonBody, Problem},
    protocol::Close,
    target::Audience,
};
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Count, ORDER_TIME, ask, asked,
    body::{Wanted, name, scope},
    record, tenant,
};
use crate::{
    Hub,
    nodes::{asking::Asked, desk::Deed},
    worker::control::{Advice, Farewell, MAX_TEXT},
};

/// Codes below are the protocol's own, or will be.
const FIRST_FREE_CODE: u16 = 4100;

/// What clients read in a reason. It stands behind the text, where the body's own fields put it.
const HINTS: [&str; 2] = ["reconnect=", "retry_after_ms"];

/// Longest time over which sessions are closed.
const MAX_SPREAD: Duration = Duration::from_secs(600);

/// Longest time in which a newer token may be brought.
const MAX_WITHIN: Duration = Duration::from_secs(60);

/// Longest time after which a client may be asked to come back.
const MAX_RETRY: Duration = Duration::from_secs(24 * 3600);

/// Whom to disconnect, and what they are told.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DisconnectBody {
    /// For whom, as in a publish.
    #[schema(value_type = Object)]
    to: Audience,
    /// Only this session of the target.
    #[serde(default)]
    session: Option<String>,
    /// The close code: 4003 (default), or one of 4100 to 4999, which are yours.
    #[serde(default)]
    code: Option<u16>,
    /// The close reason, up to 80 bytes; default `disconnected`.
    #[serde(default)]
    reason: Option<String>,
    /// Whether clients should come back. Without it they do as the code says, which for 4003 is no.
    #[serde(default)]
    reconnect: Option<bool>,
    /// When they should come back; each is told a time of its own between this and twice as long. Implies `reconnect`.
    #[serde(default)]
    retry_after_ms: Option<u32>,
    /// Sessions are closed in random order spread over this time, up to ten minutes; default at once.
    #[serde(default)]
    spread_ms: Option<u32>,
}

/// Whom to take out of which topic.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnsubscribeBody {
    /// For whom, as in a publish.
    #[schema(value_type = Object)]
    to: Audience,
    /// Only this session of the target.
    #[serde(default)]
    session: Option<String>,
    /// The topic, by its bare name.
    topic: String,
}

/// Whose rights have changed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefreshBody {
    /// For whom, as in a publish.
    #[schema(value_type = Object)]
    to: Audience,
    /// Only this session of the target.
    #[serde(default)]
    session: Option<String>,
    /// In what time a newer token has to come, one second to a minute; default 30 seconds.
    #[serde(default)]
    within_ms: Option<u32>,
}

/// Close sessions
///
/// Answers how many are told. Scope `control`.
#[utoipa::path(post, path = "/api/v1/control/disconnect", tag = "control", security(("bearer" = [])),
    request_body = DisconnectBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = Count), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn disconnect(
    State(hub): State<Hub>,
    caller: Caller,
    origin: Origin,
    uri: Uri,
    JsonBody(body, _): JsonBody<DisconnectBody>,
) -> Result<Json<Count>, Problem> {
    let scope = scope(&uri)?;
    let tenant = tenant(&caller, scope.tenant.as_deref())?;
    let farewell = farewell(&body)?;
    let code = farewell.code;
    let spread = up_to("spread_ms", body.spread_ms.unwrap_or(0), MAX_SPREAD)?;
    let wanted = Wanted::new(body.to, body.session);
    let asked = asked(&hub, &caller, &tenant, &scope, wanted)?;
    let deed = Deed::Disconnect {
        farewell,
        spread_seconds: spread.div_ceil(1000),
    };
    record(&hub, entry(&origin, "session.disconnect", &asked, &deed)).await?;
    let count = Count::new(&ask(&hub, asked, deed, ORDER_TIME).await?);
    tracing::info!(by = %caller.user, %tenant, code, sessions = count.sessions, "sessions are disconnected");
    Ok(Json(count))
}

/// Take sessions out of a topic
///
/// Answers how many had it. They may subscribe again where their token allows it. Scope `control`.
#[utoipa::path(post, path = "/api/v1/control/unsubscribe", tag = "control", security(("bearer" = [])),
    request_body = UnsubscribeBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = Count), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn unsubscribe(
    State(hub): State<Hub>,
    caller: Caller,
    origin: Origin,
    uri: Uri,
    JsonBody(body, _): JsonBody<UnsubscribeBody>,
) -> Result<Json<Count>, Problem> {
    let scope = scope(&uri)?;
    let tenant = tenant(&caller, scope.tenant.as_deref())?;
    let topic = name("topic", &body.topic)?;
    let wanted = Wanted::new(body.to, body.session);
    let asked = asked(&hub, &caller, &tenant, &scope, wanted)?;
    let deed = Deed::Unsubscribe { topic };
    record(&hub, entry(&origin, "session.unsubscribe", &asked, &deed)).await?;
    let count = Count::new(&ask(&hub, asked, deed, ORDER_TIME).await?);
    tracing::info!(by = %caller.user, %tenant, sessions = count.sessions, "sessions are taken out of a topic");
    Ok(Json(count))
}

/// Ask sessions for a newer token
///
/// For when rights have changed. Sessions get `expiring`, and those that do not bring another token in time are closed with
/// 4001. Answers how many are told. Scope `control`.
#[utoipa::path(post, path = "/api/v1/control/refresh", tag = "control", security(("bearer" = [])),
    request_body = RefreshBody,
    params(("tenant" = Option<String>, Query, description = "Another tenant; platform administrators"),
        ("node" = Option<String>, Query, description = "Only this node")),
    responses((status = 200, body = Count), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(super) async fn refresh(
    State(hub): State<Hub>,
    caller: Caller,
    origin: Origin,
    uri: Uri,
    JsonBody(body, _): JsonBody<RefreshBody>,
) -> Result<Json<Count>, Problem> {
    let scope = scope(&uri)?;
    let tenant = tenant(&caller, scope.tenant.as_deref())?;
    let within = up_to("within_ms", body.within_ms.unwrap_or(30_000), MAX_WITHIN)?;
    if within < 1000 {
        return Err(Problem::invalid(
            "invalid_value",
            "within_ms",
            "give at least 1000; `disconnect` closes at once",
        ));
    }
    let wanted = Wanted::new(body.to, body.session);
    let asked = asked(&hub, &caller, &tenant, &scope, wanted)?;
    let deed = Deed::Refresh {
        within_seconds: within.div_ceil(1000),
    };
    record(&hub, entry(&origin, "session.refresh", &asked, &deed)).await?;
    let count = Count::new(&ask(&hub, asked, deed, ORDER_TIME).await?);
    tracing::info!(by = %caller.user, %tenant, sessions = count.sessions, "sessions are asked for a newer token");
    Ok(Json(count))
}

/// What is put on record of an order.
fn entry(by: &Origin, action: &'static str, asked: &Asked, deed: &Deed) -> AuditEntry {
    let target = serde_json::to_value(&asked.to).unwrap_or_default();
    let how = match deed {
        Deed::Disconnect {
            farewell,
            spread_seconds,
        } => json!({ "code": farewell.code, "reason": farewell.text, "spread_seconds": spread_seconds }),
        Deed::Unsubscribe { topic } => json!({ "topic": topic.as_str() }),
        Deed::Refresh { within_seconds } => json!({ "within_seconds": within_seconds }),
        Deed::Count | Deed::List(_) | Deed::Presence(_) | Deed::Stats => Value::Null,
    };
    by.did(action, "sessions", asked.session.as_deref().unwrap_or("*"))
        .of((!asked.is_of_all_tenants()).then(|| asked.tenant.clone()))
        .after(&json!({ "to": target, "how": how }))
}

fn up_to(field: &'static str, ms: u32, most: Duration) -> Result<u32, Problem> {
    if Duration::from_millis(u64::from(ms)) <= most {
        Ok(ms)
    } else {
        let detail = format!("at most {} ms", most.as_millis());
        Err(Problem::invalid("invalid_value", field, detail))
    }
}

fn farewell(body: &DisconnectBody) -> Result<Farewell, Problem> {
    let default = Close::Disconnected;
    let code = body.code.unwrap_or_else(|| default.code());
    if code != default.code() && !(FIRST_FREE_CODE..=4999).contains(&code) {
        let detail = "4003, or 4100 to 4999; the other codes mean something to clients already";
        return Err(Problem::invalid("invalid_value", "code", detail));
    }
    let text = body.reason.as_deref().unwrap_or_else(|| default.text());
    if HINTS.iter().any(|hint| text.contains(hint)) {
        let detail = "say whether and when to come back by `reconnect` and `retry_after_ms`, not in the text";
        return Err(Problem::invalid("invalid_value", "reason", detail));
    }
    if text.len() > MAX_TEXT || text.contains(char::is_control) {
        let detail = format!("at most {MAX_TEXT} bytes without control characters");
        return Err(Problem::invalid("invalid_value", "reason", detail));
    }
    let advice = match (body.reconnect, body.retry_after_ms) {
        (None, None) => Advice::AsTheCode,
        (Some(false), None) => Advice::Never,
        (Some(false), Some(_)) => {
            let detail = "who should not come back needs no time for it";
            return Err(Problem::invalid("conflict", "retry_after_ms", detail));
        }
        (Some(true) | None, after) => {
            Advice::After(up_to("retry_after_ms", after.unwrap_or(1000), MAX_RETRY)?)
        }
    };
    Ok(Farewell {
        code,
        text: text.to_owned(),
        advice,
    })
}
