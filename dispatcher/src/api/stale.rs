//! Answers that a replica gave while the primary was away say so.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

pub(crate) use crate::store::stale::allowed;

/// In answers that may lack what was written last.
const STALE: HeaderName = HeaderName::from_static("x-carillon-stale");

/// What only reads may be answered by a replica.
pub(crate) async fn tell(request: Request, next: Next) -> Response {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return next.run(request).await;
    }
    let (mut response, stale) = allowed(next.run(request)).await;
    if stale {
        mark(response.headers_mut());
    }
    response
}

/// Says so.
pub(crate) fn mark(headers: &mut HeaderMap) {
    headers.insert(STALE, HeaderValue::from_static("replica"));
}
