//! Every request against its caller's budget.

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use common::http::{Caller, Problem};
use http::{HeaderName, HeaderValue, StatusCode};

use super::{budget::Budget, state::ApiState};

/// Counts every request that carries a good token. One without is refused by its route, if that needs one.
pub(crate) async fn limit(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let budget = match Caller::from_request_parts(&mut parts, &state).await {
        Ok(caller) => state.rate_limits().check(&caller),
        Err(_) => return next.run(Request::from_parts(parts, body)).await,
    };
    let mut response = if budget.refused {
        refusal(&budget).into_response()
    } else {
        next.run(Request::from_parts(parts, body)).await
    };
    // A request for many items has taken more than one.
    let budget = response.extensions().get::<Budget>().copied().unwrap_or(budget);
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

/// Takes from the caller's budget what a request for many items costs more than one.
///
/// # Errors
/// The answer: 429 with the budget, or 422 where no budget would ever do.
pub(crate) fn charge(
    state: &ApiState,
    caller: &Caller,
    items: usize,
    field: &str,
) -> Result<Option<Budget>, Box<Response>> {
    let most = state.rate_limits().items_max(caller);
    if items > most {
        let detail = format!("this token's budget is spent by {most} items at once; send fewer");
        return Err(Box::new(
            Problem::invalid("too_many", field, detail).into_response(),
        ));
    }
    match state.rate_limits().charge(caller, items) {
        Some(budget) if budget.refused => {
            let mut response = refusal(&budget).into_response();
            response.extensions_mut().insert(budget);
            Err(Box::new(response))
        }
        budget => Ok(budget),
    }
}

fn refusal(budget: &Budget) -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "rate_limited",
        format!(
            "this token may ask {} times in a {}; wait as `Retry-After` says",
            budget.limit, budget.period
        ),
    )
    .retry_after(budget.reset)
}
