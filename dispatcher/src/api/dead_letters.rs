//! Dead letters: what was given up, for operators to look at, correct, send again or discard.

use axum::{Json, extract::State};
use common::{
    audit::Origin,
    http::{JsonBody, Problem},
    ids::{DeliveryId, Name, NotificationId},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    extract::{DeliveryOf, Operator, QueryOf},
    place,
    problems::store_problem,
    state::ApiState,
    times,
    view::AttemptView,
    words::short,
};
use crate::{
    model::{Attempt, Channel, DeadFilter, DeadLetter, DeadPlace, Micros},
    operations::Swept,
};

/// Dead letters of one answer at the most.
const MAX_LIMIT: u32 = 200;
/// Dead letters of an answer where the caller names no limit.
const DEFAULT_LIMIT: u32 = 50;
/// Dead letters that one call by filter touches at the most, and by default.
const MAX_SWEEP: u32 = 10_000;
const DEFAULT_SWEEP: u32 = 1000;

/// Which dead letters; everything that is named has to fit.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FilterBody {
    /// The reason, exactly: `attempts_exhausted`, `rejected`, `recipient_invalid`, `not_configured`, `no_address`, `unknown` …
    reason: Option<String>,
    /// By what.
    channel: Option<String>,
    /// For whom.
    user_id: Option<String>,
    /// Of this notification.
    notification_id: Option<String>,
    /// Given up at this time or later, RFC 3339.
    from: Option<String>,
    /// Given up before this time, RFC 3339.
    to: Option<String>,
    /// A part of title, text or address.
    q: Option<String>,
}

impl FilterBody {
    fn is_empty(&self) -> bool {
        self.reason.is_none()
            && self.channel.is_none()
            && self.user_id.is_none()
            && self.notification_id.is_none()
            && self.from.is_none()
            && self.to.is_none()
            && self.q.is_none()
    }

    fn read(self) -> Result<DeadFilter, Problem> {
        Ok(DeadFilter {
            reason: short("reason", self.reason)?,
            channel: self
                .channel
                .map(|name| {
                    name.parse::<Channel>()
                        .map_err(|error| Problem::invalid("unknown_channel", "channel", error.to_string()))
                })
                .transpose()?,
            user: self
                .user_id
                .map(|user| {
                    Name::new(&user)
                        .map_err(|error| Problem::invalid("invalid_name", "user_id", error.to_string()))
                })
                .transpose()?,
            notification: self
                .notification_id
                .map(|id| {
                    id.parse::<NotificationId>().map_err(|_| {
                        Problem::invalid(
                            "invalid_value",
                            "notification_id",
                            "is not the id of a notification",
                        )
                    })
                })
                .transpose()?,
            from: self.from.map(|text| times::time("from", &text)).transpose()?,
            to: self.to.map(|text| times::time("to", &text)).transpose()?,
            text: short("q", self.q)?,
        })
    }
}

/// Which dead letters to list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// The reason, exactly.
    reason: Option<String>,
    /// By what.
    channel: Option<String>,
    /// For whom.
    user_id: Option<String>,
    /// Of this notification.
    notification_id: Option<String>,
    /// Given up at this time or later, RFC 3339.
    from: Option<String>,
    /// Given up before this time, RFC 3339.
    to: Option<String>,
    /// A part of title, text or address; upper and lower case are one. 10,000 dead letters are looked at for one page.
    q: Option<String>,
    /// `next` of an earlier answer.
    after: Option<String>,
    /// At most so many, up to 200. Default 50.
    limit: Option<u32>,
}

/// A page of dead letters, the newest first.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeadLettersView {
    /// Those that fit.
    dead_letters: Vec<DeadLetterView>,
    /// For the next call's `after`; none: this was the last page. With `q` a page may be short, or empty, before the last.
    next: Option<String>,
}

/// A delivery that was given up.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeadLetterView {
    /// The delivery's id.
    #[schema(value_type = String, format = "uuid")]
    id: DeliveryId,
    /// Its notification.
    #[schema(value_type = String, format = "uuid")]
    notification_id: NotificationId,
    /// By what.
    channel: &'static str,
    /// For whom.
    user_id: Option<String>,
    /// Where to.
    address: Option<String>,
    /// Its lane: `critical`, `high`, `medium` or `low`.
    lane: &'static str,
    /// Why it was given up.
    reason: Option<String>,
    /// Attempts that were begun.
    attempts: u32,
    /// What the provider said last, shortened and masked.
    response: Option<String>,
    /// When it was given up.
    died_at: String,
    /// When the notification was accepted.
    created_at: String,
    /// Not sent after this; a replay then changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// Headline.
    title: String,
    /// The text.
    content: String,
    /// The template that it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<String>,
    /// The attempts, in order; only where a single one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<AttemptView>>,
}

impl DeadLetterView {
    fn of(letter: DeadLetter, attempts: Option<&[Attempt]>) -> Self {
        Self {
            id: letter.id,
            notification_id: letter.notification,
            channel: letter.channel.as_str(),
            user_id: letter.user.map(|user| user.as_str().to_owned()),
            address: letter.address,
            lane: letter.lane.as_str(),
            reason: letter.reason,
            attempts: letter.attempts,
            response: letter.response,
            died_at: letter.died_at.rfc3339(),
            created_at: letter.created_at.rfc3339(),
            expires_at: letter.expires_at.map(Micros::rfc3339),
            title: letter.content.title,
            content: letter.content.content,
            template: letter.content.template,
            history: attempts.map(|attempts| attempts.iter().map(AttemptView::of).collect()),
        }
    }
}

/// List dead letters
///
/// Deliveries that were given up and that nobody has discarded, the newest first. Needs the scope `notifications:admin`.
#[utoipa::path(
    get, path = "/api/v1/dead-letters", tag = "queue", params(ListQuery),
    responses((status = 200, body = DeadLettersView), (status = 422, body = Problem))
)]
pub(crate) async fn list(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    QueryOf(query): QueryOf<ListQuery>,
) -> Result<Json<DeadLettersView>, Problem> {
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
            place::decode(text).map(|(died_at, id)| DeadPlace {
                died_at,
                id: DeliveryId(id),
            })
        })
        .transpose()?;
    let filter = FilterBody {
        reason: query.reason,
        channel: query.channel,
        user_id: query.user_id,
        notification_id: query.notification_id,
        from: query.from,
        to: query.to,
        q: query.q,
    };
    let (letters, next) = state
        .store()
        .dead_letters(&caller.tenant, &filter.read()?, after, limit)
        .await
        .map_err(store_problem)?;
    Ok(Json(DeadLettersView {
        dead_letters: letters
            .into_iter()
            .map(|letter| DeadLetterView::of(letter, None))
            .collect(),
        next: next.map(|next| place::encode(next.died_at, next.id.0)),
    }))
}

/// 404 for a dead letter that does not exist, or not for this caller.
pub(super) fn no_dead_letter() -> Problem {
    Problem::not_found("there is no such dead letter: it may have been sent again, or discarded")
}

/// Get a dead letter
///
/// With its attempts. Needs the scope `notifications:admin`.
#[utoipa::path(
    get, path = "/api/v1/dead-letters/{id}", tag = "queue",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 200, body = DeadLetterView), (status = 404, body = Problem))
)]
pub(crate) async fn get(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    DeliveryOf(id): DeliveryOf,
) -> Result<Json<DeadLetterView>, Problem> {
    let (letter, attempts) = state
        .store()
        .dead_letter(&caller.tenant, id)
        .await
        .map_err(store_problem)?
        .ok_or_else(no_dead_letter)?;
    Ok(Json(DeadLetterView::of(letter, Some(&attempts))))
}

/// Many dead letters.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SweepBody {
    /// Which.
    filter: FilterBody,
    /// All of them: needed where the filter names nothing.
    all: bool,
    /// At most so many, up to 10,000. Default 1000.
    limit: Option<u32>,
}

impl SweepBody {
    fn read(self) -> Result<(DeadFilter, u32), Problem> {
        if self.filter.is_empty() && !self.all {
            return Err(Problem::invalid(
                "missing_field",
                "filter",
                "name what is meant, or write `\"all\": true`",
            ));
        }
        if !self.filter.is_empty() && self.all {
            return Err(Problem::invalid(
                "conflict",
                "all",
                "name either a `filter` or `\"all\": true`",
            ));
        }
        let limit = self.limit.unwrap_or(DEFAULT_SWEEP);
        if !(1..=MAX_SWEEP).contains(&limit) {
            return Err(Problem::invalid(
                "invalid_value",
                "limit",
                format!("from 1 to {MAX_SWEEP}"),
            ));
        }
        let filter = self
            .filter
            .read()
            .map_err(|problem| match problem.field.clone() {
                Some(field) => problem.field(format!("filter.{field}")),
                None => problem,
            })?;
        Ok((filter, limit))
    }
}

/// What became of many dead letters.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct SweptView {
    /// How many were sent again, or discarded.
    count: u64,
    /// The limit was reached, and there may be more: ask again.
    more: bool,
}

impl From<Swept> for SweptView {
    fn from(swept: Swept) -> Self {
        Self {
            count: swept.count,
            more: swept.more,
        }
    }
}

/// Replay dead letters
///
/// Those that fit the filter go again at once, under their ids, with as many attempts as new ones; bounded by `limit`, in
/// steps that are each stored or not. What died after the call began is not meant. Needs the scope `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/replay", tag = "queue", request_body = SweepBody,
    responses((status = 200, body = SweptView), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn replay_all(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    origin: Origin,
    JsonBody(body, _): JsonBody<SweepBody>,
) -> Result<Json<SweptView>, Problem> {
    let (filter, limit) = body.read()?;
    let swept = state
        .service
        .operations()
        .redrive_all(&caller.tenant, &filter, limit, &origin)
        .await
        .map_err(store_problem)?;
    tracing::info!(by = %caller.user, tenant = %caller.tenant, count = swept.count, "dead letters are sent again");
    Ok(Json(swept.into()))
}

/// Discard dead letters
///
/// Those that fit the filter are dead letters no longer; they stay dead, and their notifications show them. Needs the
/// scope `notifications:admin`.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/discard", tag = "queue", request_body = SweepBody,
    responses((status = 200, body = SweptView), (status = 422, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn discard_all(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    origin: Origin,
    JsonBody(body, _): JsonBody<SweepBody>,
) -> Result<Json<SweptView>, Problem> {
    let (filter, limit) = body.read()?;
    let swept = state
        .service
        .operations()
        .discard_all(&caller.tenant, &filter, limit, &origin)
        .await
        .map_err(store_problem)?;
    tracing::info!(by = %caller.user, tenant = %caller.tenant, count = swept.count, "dead letters are discarded");
    Ok(Json(swept.into()))
}

/// Discard a dead letter
///
/// It is a dead letter no longer; it stays dead, and its notification shows it. Needs the scope `notifications:admin`.
#[utoipa::path(
    delete, path = "/api/v1/dead-letters/{id}", tag = "queue",
    params(("id" = String, Path, description = "The delivery's id")),
    responses((status = 200, body = SweptView), (status = 404, body = Problem))
)]
pub(crate) async fn discard(
    State(state): State<ApiState>,
    Operator(caller): Operator,
    origin: Origin,
    DeliveryOf(id): DeliveryOf,
) -> Result<Json<SweptView>, Problem> {
    let count = state
        .service
        .operations()
        .discard(&caller.tenant, vec![id], &origin)
        .await
        .map_err(store_problem)?;
    if count == 0 {
        return Err(no_dead_letter());
    }
    Ok(Json(SweptView { count, more: false }))
}
