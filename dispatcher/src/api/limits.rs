//! Every request against its caller's budget.

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use common::http::{Caller, Problem};
use http::{HeaderName, HeaderValue, StatusCode};

use super::state::ApiState;

/// Counts every request that carries a good token. One without is refused by its route, if that needs one.
pub(crate) async fn limit(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let budget = match Caller::from_request_parts(&mut parts, &state).await {
        Ok(caller) => state.rate_limits().check(&caller),
        Err(_) => return next.run(Request::from_parts(parts, body)).await,
    };
    let mut response = if budget.refused {
        Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            format!(
                "this token may ask {} times in its period; wait as `Retry-After` says",
                budget.limit
            ),
        )
        .retry_after(budget.reset)
        .into_response()
    } else {
        next.run(Request::from_parts(parts, body)).await
    };
    let headers = response.headers_mut();
    let seconds = budget.reset.as_secs() + u64::from(budget.reset.subsec_nanos() > 0);
    headers.insert(
        HeaderName::from_static("ratelimit-limit"),
        HeaderValue::from(budget.limit),
    );
    headers.insert(
        HeaderName::from_static("ratelimit-remaining"),
        HeaderValue::from(budget.remaining),
    );
    headers.insert(
        HeaderName::from_static("ratelimit-reset"),
        HeaderValue::from(seconds),
    );
    response
}
