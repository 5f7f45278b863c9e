//! What was sent: the list for senders and operators, and sums over it.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use common::{
    http::{Caller, Problem, parse_query},
    ids::{Name, NotificationId},
};
use http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{QueryOf, Sender},
    inbox::NEXT_CURSOR,
    problems::store_problem,
    state::ApiState,
    times,
    view::NotificationView,
    words::{parse_kind, short},
};
use crate::model::{Channel, DeliveryState, Micros, SentFilter};

/// Rows of one page at the most.
const MAX_LIMIT: u32 = 200;
/// Rows of a page that names no limit.
const DEFAULT_LIMIT: u32 = 50;
/// The time of sums that name none.
const DAY: Duration = Duration::from_hours(24);

/// What deliveries amount to.
const STATUSES: [&str; 6] = ["scheduled", "pending", "sent", "failed", "cancelled", "skipped"];

/// Which notifications were sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// `all` of the tenant, with the scope `notifications:admin`, or `sent`: the caller's own. Default: as much as the caller may
    /// see.
    #[serde(rename = "for")]
    #[param(rename = "for")]
    #[schema(rename = "for")]
    whose: Option<String>,
    /// `scheduled`, `pending`, `sent`, `failed`, `cancelled` or `skipped`.
    status: Option<String>,
    /// With a delivery by this channel.
    channel: Option<String>,
    /// With a delivery for this user; with `channel`, by that channel.
    #[serde(alias = "user")]
    user_id: Option<String>,
    /// Of this sender: a token's `sub`.
    sender: Option<String>,
    /// Of this `source`.
    source: Option<String>,
    /// Of this kind.
    kind: Option<String>,
    /// Of this kind.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    #[schema(rename = "type")]
    kind_alias: Option<String>,
    /// Of this category.
    category: Option<String>,
    /// With this in title or text.
    q: Option<String>,
    /// Accepted then or later, RFC 3339.
    since: Option<String>,
    /// Accepted before, RFC 3339.
    until: Option<String>,
    /// At most so many, up to 200. Default 50.
    limit: Option<u32>,
    /// Goes on where a page before ended: its `X-Next-Cursor`.
    after: Option<String>,
}

/// Whether a list asks for what was sent, not for the caller's inbox.
pub(super) fn is_meant(uri: &Uri) -> bool {
    uri.query()
        .is_some_and(|query| query.split('&').any(|pair| pair.starts_with("for=")))
}

/// Search what was sent
///
/// Newest first. Operators (`notifications:admin`) see all of the tenant, others what they sent themselves. A request looks at
/// a bounded number of notifications: a page may be short, or empty, and there is more as long as it has `X-Next-Cursor`.
#[utoipa::path(
    get, path = "/api/v1/notifications/history", tag = "notifications", params(HistoryQuery),
    responses(
        (status = 200, body = Vec<NotificationView>, headers(("X-Next-Cursor" = String, description = "For `after`; left out on the last page"))),
        (status = 422, body = Problem),
    )
)]
pub(crate) async fn history(
    State(state): State<ApiState>,
    caller: Caller,
    QueryOf(query): QueryOf<HistoryQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::invalid(
            "invalid_query",
            "limit",
            format!("from 1 to {MAX_LIMIT}"),
        ));
    }
    let after = query
        .after
        .as_deref()
        .map(|text| {
            text.parse::<NotificationId>()
                .map_err(|_| Problem::invalid("invalid_cursor", "after", "take it from `X-Next-Cursor`"))
        })
        .transpose()?;
    let filter = filter(query, &caller)?;
    let page = state
        .store()
        .sent(&caller.tenant, &filter, after, limit)
        .await
        .map_err(store_problem)?;
    let views: Vec<_> = page
        .notifications
        .iter()
        .map(|(notification, status)| NotificationView::stored(notification, word(status), None))
        .collect();
    let mut response = Json(views).into_response();
    if let Some(next) = page.next
        && let Ok(value) = HeaderValue::from_str(&next.to_string())
    {
        response.headers_mut().insert(NEXT_CURSOR, value);
    }
    Ok(response)
}

/// The same for a list that asks `?for=`.
pub(super) async fn of_list(state: ApiState, caller: Caller, uri: &Uri) -> Result<Response, Problem> {
    let query = parse_query(uri)?;
    history(State(state), caller, QueryOf(query)).await
}

/// The ids that a filter fits, the newest first, at most so many, and whether there are more. `statuses` are looked for where
/// it names none.
pub(super) async fn ids(
    state: &ApiState,
    caller: &Caller,
    query: HistoryQuery,
    statuses: &[&'static str],
    most: usize,
) -> Result<(Vec<NotificationId>, bool), Problem> {
    for (field, given) in [
        ("filter.limit", query.limit.is_some()),
        ("filter.after", query.after.is_some()),
    ] {
        if given {
            return Err(Problem::invalid(
                "invalid_value",
                field,
                "leave it out: the newest that fit are taken, and `more` says whether there are others",
            ));
        }
    }
    let filter = filter(query, caller).map_err(|mut problem| {
        problem.field = problem.field.map(|field| format!("filter.{field}"));
        problem
    })?;
    let wanted: Vec<_> = match filter.status {
        Some(status) => vec![status],
        None => statuses.to_vec(),
    };
    let mut ids = Vec::new();
    for status in wanted {
        let filter = SentFilter {
            status: Some(status),
            ..filter.clone()
        };
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let left = u32::try_from(most - ids.len())
                .unwrap_or(MAX_LIMIT)
                .min(MAX_LIMIT);
            if left == 0 {
                return Ok((ids, true));
            }
            let page = state
                .store()
                .sent(&caller.tenant, &filter, after, left)
                .await
                .map_err(store_problem)?;
            ids.extend(page.notifications.iter().map(|(one, _)| one.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if after.is_some() {
            return Ok((ids, true));
        }
    }
    Ok((ids, false))
}

/// Pages that one request looks through.
const MAX_PAGES: usize = 20;

fn word(status: &str) -> &'static str {
    STATUSES
        .into_iter()
        .find(|known| *known == status)
        .unwrap_or("pending")
}

fn filter(query: HistoryQuery, caller: &Caller) -> Result<SentFilter, Problem> {
    let admin = caller.has_scope("notifications:admin");
    let own = match query.whose.as_deref() {
        None => !admin,
        Some("sent") => true,
        Some("all") if admin => false,
        Some("all") => return Err(Problem::scope_missing("notifications:admin").field("for")),
        Some(_) => return Err(Problem::invalid("invalid_query", "for", "`all` or `sent`")),
    };
    let me = caller.user.as_str();
    let sender = match query.sender {
        Some(sender) if own && sender != me => {
            return Err(Problem::scope_missing("notifications:admin").field("sender"));
        }
        None if own => Some(me.to_owned()),
        sender => sender,
    };
    let status = query
        .status
        .map(|status| {
            STATUSES
                .into_iter()
                .find(|known| *known == status)
                .ok_or_else(|| {
                    Problem::invalid(
                        "invalid_query",
                        "status",
                        format!("one of {}", STATUSES.join(", ")),
                    )
                })
        })
        .transpose()?;
    let channel = query
        .channel
        .map(|name| {
            name.parse::<Channel>()
                .map_err(|error| Problem::invalid("unknown_channel", "channel", error.to_string()))
        })
        .transpose()?;
    let user = query
        .user_id
        .map(|name| {
            Name::new(&name).map_err(|error| Problem::invalid("invalid_name", "user_id", error.to_string()))
        })
        .transpose()?;
    let kind = match (query.kind, query.kind_alias) {
        (Some(kind), _) => Some(parse_kind("kind", &kind)?),
        (None, Some(kind)) => Some(parse_kind("type", &kind)?),
        (None, None) => None,
    };
    let time = |field, text: Option<String>| text.map(|text| times::time(field, &text)).transpose();
    Ok(SentFilter {
        sender,
        kind,
        category: short("category", query.category)?,
        source: short("source", query.source)?,
        text: short("q", query.q)?,
        channel,
        user,
        since: time("since", query.since)?,
        until: time("until", query.until)?,
        status,
    })
}

/// The time that sums are made over.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct SumsQuery {
    /// From then on, RFC 3339. Default: a day before `until`.
    since: Option<String>,
    /// Before that, RFC 3339. Default: now.
    until: Option<String>,
}

/// What became of the deliveries of a time.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SumsView {
    /// Looked at from here.
    since: String,
    /// To here.
    until: String,
    /// False: there were more than 50,000 notifications, and `since` says how far back the newest of them reach.
    complete: bool,
    /// Notifications accepted.
    notifications: u64,
    /// Their deliveries.
    #[serde(flatten)]
    all: Sum,
    /// By channel.
    channels: BTreeMap<&'static str, Sum>,
}

/// Deliveries by what became of them.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Sum {
    /// All.
    deliveries: u64,
    /// A channel took them.
    sent: u64,
    /// Dead or expired.
    failed: u64,
    /// On their way, or to come.
    pending: u64,
    /// Cancelled before they were sent.
    cancelled: u64,
    /// Nobody was online, or policy said no.
    skipped: u64,
    /// `sent` of `sent` and `failed`; null where there is neither.
    success_rate: Option<f64>,
}

impl Sum {
    fn add(&mut self, state: DeliveryState, number: u64) {
        self.deliveries += number;
        match state {
            DeliveryState::Delivered => self.sent += number,
            DeliveryState::Dead | DeliveryState::Expired => self.failed += number,
            DeliveryState::Pending | DeliveryState::Running => self.pending += number,
            DeliveryState::Cancelled => self.cancelled += number,
            DeliveryState::Skipped | DeliveryState::Suppressed => self.skipped += number,
        }
        let ended = self.sent + self.failed;
        #[allow(clippy::cast_precision_loss, reason = "a share for people")]
        let rate = (ended > 0).then(|| self.sent as f64 / ended as f64);
        self.success_rate = rate;
    }
}

/// Get sums over what was sent
///
/// Of the tenant, over at most the newest 50,000 notifications of the time: how many deliveries were sent and failed, in all
/// and by channel. Needs the scope `notifications:write`.
#[utoipa::path(
    get, path = "/api/v1/stats", tag = "notifications", params(SumsQuery),
    responses((status = 200, body = SumsView), (status = 422, body = Problem))
)]
pub(crate) async fn sums(
    State(state): State<ApiState>,
    Sender(caller): Sender,
    QueryOf(query): QueryOf<SumsQuery>,
) -> Result<Json<SumsView>, Problem> {
    let time = |field, text: Option<String>| text.map(|text| times::time(field, &text)).transpose();
    // An id of this millisecond is not yet before it.
    let until = time("until", query.until)?.unwrap_or_else(|| Micros::now().plus(Duration::from_millis(1)));
    let since = time("since", query.since)?.unwrap_or_else(|| until.minus(DAY));
    if since >= until {
        return Err(Problem::invalid(
            "invalid_time",
            "since",
            "it is not before `until`",
        ));
    }
    let sums = state
        .store()
        .sums(&caller.tenant, since, until)
        .await
        .map_err(store_problem)?;
    let mut all = Sum::default();
    let mut channels: BTreeMap<&'static str, Sum> = BTreeMap::new();
    for (channel, delivery_state, number) in sums.deliveries {
        all.add(delivery_state, number);
        channels
            .entry(channel.as_str())
            .or_default()
            .add(delivery_state, number);
    }
    let reached = if sums.complete {
        since
    } else {
        sums.since.unwrap_or(since)
    };
    Ok(Json(SumsView {
        since: reached.rfc3339(),
        until: until.rfc3339(),
        complete: sums.complete,
        notifications: sums.notifications,
        all,
        channels,
    }))
}
