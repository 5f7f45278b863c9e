//! Until when a caller waits (`grpc-timeout`).

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::http::Problem;

/// When the caller goes away. In the extensions of calls that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Instant);

impl Deadline {
    /// Reads `grpc-timeout`: up to eight digits and a unit.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn of(metadata: &HeaderMap, now: Instant) -> Result<Option<Self>, Problem> {
        let Some(value) = metadata.get("grpc-timeout") else {
            return Ok(None);
        };
        let wait = value.to_str().ok().and_then(timeout).ok_or_else(|| {
            Problem::invalid(
                "invalid_value",
                "grpc-timeout",
                "up to 8 digits and one of the units H, M, S, m, u, n",
            )
        })?;
        // Nobody waits for as long as the clock cannot tell.
        Ok(now.checked_add(wait).map(Self))
    }
}

fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// 504: the deadline passed. What was handed to the store by then goes on.
#[must_use]
pub fn deadline_exceeded() -> Problem {
    Problem::new(
        StatusCode::GATEWAY_TIMEOUT,
        "deadline_exceeded",
        "the deadline passed before there was an answer; what changes something may have been done: repeat it with the same \
         idempotency key, or look",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        for (text, expected) in [
            ("1H", Some(Duration::from_hours(1))),
            ("2M", Some(Duration::from_mins(2))),
            ("30S", Some(Duration::from_secs(30))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("123456789S", None),
            ("1\u{e4}", None),
        ] {
            assert_eq!(timeout(text), expected, "{text}");
        }
    }
}
