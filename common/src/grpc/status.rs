//! Problems as gRPC statuses, with what programs need in the details (google.rpc.ErrorInfo and others).

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::http::Problem;

/// `domain` of `ErrorInfo`; `reason` is the problem's code.
const DOMAIN: &str = "carillon";

/// The one mapping from problems to statuses.
#[must_use]
pub fn status(problem: Problem) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(
        problem.code,
        DOMAIN,
        [("http_status".to_owned(), problem.status.as_u16().to_string())],
    );
    if let Some(after) = problem.retry_after {
        details.set_retry_info(Some(after));
    }
    if problem.status == StatusCode::TOO_MANY_REQUESTS {
        details.add_quota_failure_violation("caller", problem.detail.as_str());
    }
    if let Some(field) = problem.field {
        details.add_bad_request_violation(field, problem.detail.as_str());
    }
    Status::with_error_details(code(problem.status), problem.detail, details)
}

fn code(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::NotFound,
        // What was asked stands against something that is under way or there.
        StatusCode::CONFLICT => Code::Aborted,
        // Of cursors: they point to what is no longer kept.
        StatusCode::GONE => Code::OutOfRange,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        other if other.is_client_error() => Code::FailedPrecondition,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn s3_2_a_problem_keeps_its_code_its_field_and_its_time() {
        let problem = Problem::invalid("invalid_value", "to.user", "a name has 1 to 256 bytes");
        let told = status(problem);
        assert_eq!(told.code(), Code::InvalidArgument);
        assert_eq!(told.message(), "a name has 1 to 256 bytes");
        let details = told.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("invalid_value", DOMAIN)
        );
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "to.user");
        assert!(details.retry_info().is_none() && details.quota_failure().is_none());

        let limit = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "wait")
            .retry_after(Duration::from_millis(1500));
        let told = status(limit);
        assert_eq!(told.code(), Code::ResourceExhausted);
        let details = told.get_error_details();
        let wait = details.retry_info().unwrap().retry_delay;
        assert_eq!(wait, Some(Duration::from_millis(1500)));
        assert_eq!(details.quota_failure().unwrap().violations[0].description, "wait");
    }

    #[test]
    fn every_status_of_http_has_its_code() {
        for (number, expected) in [
            (400, Code::InvalidArgument),
            (401, Code::Unauthenticated),
            (403, Code::PermissionDenied),
            (404, Code::NotFound),
            (405, Code::FailedPrecondition),
            (409, Code::Aborted),
            (410, Code::OutOfRange),
            (413, Code::ResourceExhausted),
            (422, Code::InvalidArgument),
            (429, Code::ResourceExhausted),
            (500, Code::Internal),
            (501, Code::Unimplemented),
            (503, Code::Unavailable),
            (504, Code::DeadlineExceeded),
        ] {
            assert_eq!(code(StatusCode::from_u16(number).unwrap()), expected, "{number}");
        }
    }
}
