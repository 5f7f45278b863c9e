//! Every request against its caller's budget.

use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use common::http::{Caller, Problem};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

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
    tell(&budget, response.headers_mut());
    response
}

/// Says what is left of a budget.
pub(crate) fn tell(budget: &Budget, headers: &mut HeaderMap) {
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
}

/// Takes from the caller's budget what a request for many items costs more than one.
///
/// # Errors
/// 429 with the budget, or 422 where no budget would ever do.
pub(crate) fn charge(
    state: &ApiState,
    caller: &Caller,
    items: usize,
    field: &str,
) -> Result<Option<Budget>, Refusal> {
    let most = state.rate_limits().items_max(caller);
    if items > most {
        let detail = format!("this token's budget is spent by {most} items at once; send fewer");
        return Err(Problem::invalid("too_many", field, detail).into());
    }
    match state.rate_limits().charge(caller, items) {
        Some(budget) if budget.refused => Err(Refusal::over(budget)),
        budget => Ok(budget),
    }
}

/// Why a request is refused, with the budget where that is why.
#[derive(Debug)]
pub(crate) struct Refusal(Box<(Problem, Option<Budget>)>);

impl Refusal {
    /// A budget that is spent.
    pub(crate) fn over(budget: Budget) -> Self {
        Self(Box::new((refusal(&budget), Some(budget))))
    }

    /// What is told.
    pub(crate) fn into_parts(self) -> (Problem, Option<Budget>) {
        *self.0
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new((problem, None)))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (problem, budget) = self.into_parts();
        let mut response = problem.into_response();
        if let Some(budget) = budget {
            response.extensions_mut().insert(budget);
        }
        response
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
