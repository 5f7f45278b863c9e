//! What a receiver's answer means.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use crate::model::{Micros, Outcome};

/// The class of an answer (Standard Webhooks, and RFC 9110 section 15).
pub(super) fn outcome(status: StatusCode, headers: &HeaderMap, now: Micros) -> Outcome {
    match status {
        _ if status.is_success() => Outcome::Delivered,
        // Where it leads was judged by nobody.
        _ if status.is_redirection() => Outcome::Rejected,
        StatusCode::GONE => Outcome::RecipientInvalid,
        StatusCode::PAYLOAD_TOO_LARGE => Outcome::Rejected,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            retry_after(headers, now).map_or(Outcome::Retry, |until| Outcome::Throttled { until })
        }
        // Also 401, 404 and the like: a receiver that is being rolled out or mended says them for a while.
        _ => Outcome::Retry,
    }
}

/// The header `Retry-After` (RFC 9110 section 10.2.3): seconds, which some give as a fraction, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Micros) -> Option<Micros> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds)
            .ok()
            .map(|pause| now.plus(pause));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Micros(0).plus(since).max(now))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples.
    const DATE: Micros = Micros(784_111_777_000_000);

    fn with(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))])
    }

    fn class(status: u16, headers: &HeaderMap) -> Outcome {
        outcome(StatusCode::from_u16(status).unwrap(), headers, DATE)
    }

    #[test]
    fn answers_have_their_classes() {
        let none = HeaderMap::new();
        for (status, expected) in [
            (200, Outcome::Delivered),
            (202, Outcome::Delivered),
            (204, Outcome::Delivered),
            (299, Outcome::Delivered),
            (301, Outcome::Rejected),
            (304, Outcome::Rejected),
            (307, Outcome::Rejected),
            (400, Outcome::Retry),
            (401, Outcome::Retry),
            (404, Outcome::Retry),
            (408, Outcome::Retry),
            (410, Outcome::RecipientInvalid),
            (413, Outcome::Rejected),
            (429, Outcome::Retry),
            (500, Outcome::Retry),
            (503, Outcome::Retry),
            (504, Outcome::Retry),
        ] {
            assert_eq!(class(status, &none), expected, "{status}");
        }
        let until = DATE.plus(Duration::from_secs(7));
        for status in [429, 503] {
            assert_eq!(class(status, &with("7")), Outcome::Throttled { until });
        }
        assert_eq!(class(500, &with("7")), Outcome::Retry);
    }

    #[test]
    fn a_wish_to_wait_is_seconds_or_a_date() {
        let second = Duration::from_secs(1);
        for (text, expected) in [
            ("0", Some(DATE)),
            (" 1 ", Some(DATE.plus(second))),
            ("1.5", Some(DATE.plus(second * 3 / 2))),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Some(DATE.plus(second))),
            ("Sunday, 06-Nov-94 08:49:38 GMT", Some(DATE.plus(second))),
            // It is over already.
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(DATE)),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("soon", None),
            ("", None),
            ("1e300", None),
        ] {
            assert_eq!(retry_after(&with(text), DATE), expected, "{text}");
        }
    }
}
